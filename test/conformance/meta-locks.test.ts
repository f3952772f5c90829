/** File locks of MetaStore on real Redis: one master; three, with every reply lost once, or a copy of each request late. */
import t from 'tap'
import { LossyRedis, type LossMode } from '../helpers/lossy-redis.js'
import { claim, volumesOn, type WrapStore } from '../helpers/meta.js'
import { propertyRun } from '../helpers/property.js'
import { startRedis, type TestRedis } from '../helpers/redis.js'
import { lockClaims } from './meta-suite-locks.js'

/** Of a client that is to be found dead soon, and of those that are not, though the machine may stand still for a moment. */
const SESSION_TTL_MS = 3_000

function suite(name: string, redis: TestRedis, wrap?: WrapStore): void {
  const open = volumesOn(t, redis, wrap)
  lockClaims((claimed, body) => {
    claim(t, open, `${name}: ${claimed}`, (t, volume) =>
      body(t, { client: () => volume.client({ sessionTtlMs: SESSION_TTL_MS }), kill: (client) => volume.cut(client) }),
    )
  })
}

const { seed } = propertyRun(t, 1)
const lossy =
  (mode: LossMode): WrapStore =>
  (store) =>
    new LossyRedis(store, { mode, seed, delayMaxMs: 10 })

suite('one master', await startRedis(t))
const three = await startRedis(t, { masters: 3 })
suite('every reply lost once', three, lossy('twice'))
suite('late copies', three, lossy('late'))
