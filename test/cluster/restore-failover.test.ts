/**
 * Redis masters that are replaced, or started again, while a restore runs.
 *
 * Fault model: the connection between a master and its replica breaks, records are written that the master alone knows of, and it dies.
 */
import t, { type Test } from 'tap'
import { silentLog } from '../../src/base/log.js'
import type { RedisStore } from '../../src/cluster/contract.js'
import { backupVolume } from '../../src/meta/backup/backup.js'
import { restoreVolume } from '../../src/meta/backup/restore.js'
import { openMeta } from '../../src/meta/engine.js'
import { loadVolume } from '../../src/meta/format.js'
import { VolumeKeys } from '../../src/meta/keys.js'
import { BACKUP_OPTIONS, backupFile } from '../helpers/backups.js'
import { bound } from '../helpers/bound-redis.js'
import { failureOf } from '../helpers/chunks.js'
import { describe, walk } from '../helpers/meta-check.js'
import { ROOT, makeDir, until, volumesOn } from '../helpers/meta.js'
import { connectPatiently, startRedis } from '../helpers/redis.js'

t.setTimeout(300_000)

const PARTITIONS = 8

const redis = await startRedis(t, { masters: 1, replicas: 1 })
const store = await connectPatiently(redis.url('any'))
t.teardown(() => store.close())
const open = volumesOn(t, redis)
const volume = await open(PARTITIONS, 1)
const { name } = volume.settings
const keys = new VolumeKeys(name, PARTITIONS)
const file = backupFile(t)

const meta = await volume.client({ reaps: false })
for (let i = 0; i < 20; i++) await makeDir(meta, ROOT, `dir${i}`)
const before = describe(await walk(meta))
await volume.close()
await backupVolume(store, volume.settings, file, BACKUP_OPTIONS)

const restore = (by: RedisStore): Promise<unknown> => restoreVolume(by, name, file, () => undefined)

/** From now on the replica gets nothing. */
async function cutReplication(master: number, replica: number): Promise<void> {
  await store.waitReplicas([...keys.everywhere, keys.wide('settings')], 1, 60_000)
  await redis.command(replica, 'CONFIG', 'SET', 'masterauth', 'wrong')
  await until('replication is cut', async () => {
    await redis.command(master, 'CLIENT', 'KILL', 'TYPE', 'replica')
    return String(await redis.command(master, 'INFO', 'replication')).includes('connected_slaves:0')
  })
}

/** The old master comes back as a replica. */
async function failOver(master: number, replica: number): Promise<void> {
  await redis.kill(master)
  await redis.command(replica, 'CLUSTER', 'FAILOVER', 'TAKEOVER')
  await until('the replica is the master', () => redis.isMaster(replica))
  await redis.restart(master)
  await until('the old master follows', async () => {
    return String(await redis.command(master, 'INFO', 'replication')).includes('master_link_status:up')
  })
  await redis.command(replica, 'CONFIG', 'SET', 'masterauth', redis.password)
}

/** Does something before a script is run, or replicas are waited for, for the nth time. */
function disturbed(moments: readonly (readonly [step: string, nth: number, what: () => unknown])[]): RedisStore {
  const seen = new Map<string, number>()
  const step = async (name: string): Promise<void> => {
    const count = (seen.get(name) ?? 0) + 1
    seen.set(name, count)
    for (const [one, nth, what] of moments) if (one === name && nth === count) await what()
  }
  return {
    ...bound(store),
    run: async (script, ...rest) => {
      await step(script.name)
      return await store.run(script, ...rest)
    },
    waitReplicas: async (...args) => {
      await step('wait')
      return await store.waitReplicas(...args)
    },
    syncLocal: async () => {
      await step('sync')
      return await store.syncLocal()
    },
  }
}

async function isWhole(t: Test): Promise<void> {
  const again = await openMeta(store, await loadVolume(store, name), { log: silentLog, reaps: false })
  t.teardown(() => again.shutdown())
  t.strictSame(describe(await walk(again)), before)
}

t.test('a restore whose master was replaced is not done, and done when it is given again', async (t) => {
  await redis.command(0, 'FLUSHALL')
  const losing = disturbed([
    ['restore-write', 12, () => cutReplication(0, 1)],
    ['restore-fence', PARTITIONS + 1, () => failOver(0, 1)],
  ])
  t.equal(await failureOf(restore(losing)), 'NO_QUORUM')
  t.equal(await failureOf(loadVolume(store, name)), 'VOLUME_MISSING')
  await restore(store)
  await isWhole(t)
})

t.test(
  'the settings are there when a restore is done, also if their master was replaced before a replica had them',
  async (t) => {
    await redis.command(1, 'FLUSHALL')
    const steps: string[] = []
    const losing = disturbed([
      ['sync', 1, () => steps.push('sync')],
      ['restore-end', 1, () => cutReplication(1, 0).then(() => steps.push('cut'))],
      ['wait', 3, () => failOver(1, 0).then(() => steps.push('replaced'))],
      ['restore-end', 2, () => steps.push('again')],
      ['wait', 4, () => steps.push('wait')],
      ['sync', 2, () => steps.push('sync')],
    ])
    await restore(losing)
    t.strictSame(steps, ['sync', 'cut', 'replaced', 'again', 'wait', 'sync'])
    await isWhole(t)
  },
)
