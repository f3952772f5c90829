/**
 * What changes names, with changes across partitions step by step although one server has all of them: plain, with every reply lost once,
 * and with every request coming again. (The same in one script: meta-one-master, meta-twice, meta-late; both: meta-three-masters.)
 */
import t, { type Test } from 'tap'
import { LossyRedis, type LossMode } from '../helpers/lossy-redis.js'
import { volumesOn, type OpenVolume, type WrapStore } from '../helpers/meta.js'
import { propertyRun } from '../helpers/property.js'
import { startRedis } from '../helpers/redis.js'
import { eventClaims } from './meta-suite-events.js'
import { exchangeClaims } from './meta-suite-exchange.js'
import { nameClaims } from './meta-suite-names.js'
import { raceClaims } from './meta-suite-races.js'
import { renameClaims } from './meta-suite-rename.js'
import { tmpfileClaims } from './meta-suite-tmpfile.js'

const { seed } = propertyRun(t, 1)
const redis = await startRedis(t)
let clients = 0

function inSteps(t: Test, wrap?: WrapStore): OpenVolume {
  const open = volumesOn(t, redis, wrap)
  return async (partitions) => {
    const volume = await open(partitions)
    // A late copy of a refused preparation may succeed: such locks of nobody are to be aborted soon.
    const options = wrap === undefined ? {} : { intentTimeoutMs: 300 }
    return { ...volume, client: (more) => volume.client({ atOnce: false, ...options, ...more }) }
  }
}

function suite(t: Test, mode?: LossMode): void {
  const wrap: WrapStore | undefined =
    mode && ((store) => new LossyRedis(store, { mode, delayMaxMs: 20, seed: seed + ++clients }))
  const open = inSteps(t, wrap)
  for (const claims of [eventClaims, exchangeClaims, nameClaims, raceClaims, renameClaims, tmpfileClaims])
    claims(t, open)
}

suite(t)
suite(t, 'twice')
suite(t, 'late')
