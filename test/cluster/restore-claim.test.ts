/** Restores that run at once, stand still and go on late, and formats beside them. */
import t, { type Test } from 'tap'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { systemClock } from '../../src/base/clock.js'
import { silentLog } from '../../src/base/log.js'
import type { RedisStore } from '../../src/cluster/contract.js'
import { backupVolume } from '../../src/meta/backup/backup.js'
import { restoreVolume } from '../../src/meta/backup/restore.js'
import { openMeta } from '../../src/meta/engine.js'
import { formatVolume, loadVolume, refuseWhileRestored } from '../../src/meta/format.js'
import { VolumeKeys, wideKey } from '../../src/meta/keys.js'
import { bound } from '../helpers/bound-redis.js'
import { failureOf } from '../helpers/chunks.js'
import { describe, walk } from '../helpers/meta-check.js'
import { ROOT, bytes, makeDir, volumesOn } from '../helpers/meta.js'
import { connectPatiently, startRedis } from '../helpers/redis.js'

t.setTimeout(300_000)

const OPTIONS = { version: '0.0.0', clock: systemClock, maxPauseMs: 60_000, onProgress: () => undefined }

const redis = await startRedis(t, { masters: 1 })
const store = await connectPatiently(redis.url('any'))
t.teardown(() => store.close())
const open = volumesOn(t, redis)
const volume = await open()
const { name, partitions } = volume.settings
const keys = new VolumeKeys(name, partitions)
const garbage = keys.partition(3).garbage
const file = join(folderOf(t), 'backup')
const lease = wideKey(name, 'restorer')

{
  const meta = await volume.client({ reaps: false })
  for (let i = 0; i < 5; i++) await makeDir(meta, ROOT, `dir${i}`)
  await volume.close()
  for (const claim of ['one', 'two', 'one']) await store.call('RPUSH', garbage, claim)
  await backupVolume(store, volume.settings, file, OPTIONS)
}

t.beforeEach(async () => {
  await redis.command(0, 'FLUSHALL')
})

function folderOf(t: Test): string {
  const folder = mkdtempSync(join(tmpdir(), 'ringfs-restore-'))
  t.teardown(() => rmSync(folder, { recursive: true, force: true, maxRetries: 50, retryDelay: 100 }))
  return folder
}

const restore = (by: RedisStore = store): Promise<unknown> => restoreVolume(by, name, file, () => undefined)

/** Stands still before it runs `script` for the `nth` time, and goes on when it is told to. */
function standing(script: string, nth = 1): { store: RedisStore; stands: Promise<void>; goOn: () => void } {
  let seen = 0
  const [stands, standsStill] = signal()
  const [going, goOn] = signal()
  const run: RedisStore['run'] = async (one, ...rest) => {
    if (one.name === script && ++seen >= nth) {
      standsStill()
      await going
    }
    return await store.run(one, ...rest)
  }
  return { store: { ...bound(store), run }, stands, goOn }
}

function signal(): readonly [Promise<void>, () => void] {
  let done = (): void => undefined
  const promise = new Promise<void>((resolve) => (done = resolve))
  return [promise, done]
}

for (const [script, nth] of [
  ['restore-claim', 1],
  ['restore-fence', 1],
  ['restore-fence', 2],
  ['restore-write', 1],
  ['restore-write', 12],
  ['restore-fence', partitions + 2],
] as const) {
  t.test(`a restore that stood still before ${script} ${nth} changes nothing once another has done it`, async (t) => {
    const slow = standing(script, nth)
    const late = failureOf(restore(slow.store))
    await slow.stands
    await store.call('DEL', lease)
    await restore()
    const meta = await openMeta(store, await loadVolume(store, name), { log: silentLog, reaps: false })
    t.teardown(() => meta.shutdown())
    for (let i = 0; i < 5; i++) await meta.rmdir(ROOT, bytes(`dir${i}`))
    for (let i = 0; i < 9; i++) await makeDir(meta, ROOT, `new${i}`)
    const before = describe(await walk(meta))
    const counters = await Promise.all(keys.everywhere.map((_, p) => store.call('HGETALL', keys.partition(p).counters)))
    slow.goOn()
    t.equal(await late, script === 'restore-claim' ? 'VOLUME_EXISTS' : 'ALREADY_RUNNING')
    t.strictSame(describe(await walk(meta)), before)
    t.strictSame(
      await Promise.all(keys.everywhere.map((_, p) => store.call('HGETALL', keys.partition(p).counters))),
      counters,
    )
    t.equal(await store.call('EXISTS', wideKey(name, 'restore')), 0)
  })
}

t.test('of two restores at once the one that claimed last makes the volume', async (t) => {
  const first = standing('restore-end')
  const second = standing('restore-end')
  const earlier = failureOf(restore(first.store))
  await first.stands
  await store.call('DEL', lease)
  const later = restore(second.store)
  await second.stands
  first.goOn()
  t.equal(await earlier, 'ALREADY_RUNNING')
  t.equal(await failureOf(loadVolume(store, name)), 'VOLUME_MISSING')
  second.goOn()
  await later
  t.equal((await loadVolume(store, name)).uuid, volume.settings.uuid)
})

t.test('no volume is made while a restore is not done', async (t) => {
  const slow = standing('restore-end')
  const restoring = restore(slow.store)
  await slow.stands
  t.equal(await failureOf(formatVolume(store, name, {})), 'VOLUME_EXISTS')
  t.equal(await failureOf(refuseWhileRestored(store, name)), 'VOLUME_EXISTS')
  t.equal(await failureOf(loadVolume(store, name)), 'VOLUME_MISSING')
  slow.goOn()
  await restoring
  t.equal((await loadVolume(store, name)).uuid, volume.settings.uuid)
})

t.test('a restore whose volume was made just before its claim refuses', async (t) => {
  const slow = standing('restore-claim')
  const late = failureOf(restore(slow.store))
  await slow.stands
  const { uuid } = await formatVolume(store, name, { partitions })
  slow.goOn()
  t.equal(await late, 'VOLUME_EXISTS')
  t.equal((await loadVolume(store, name)).uuid, uuid)
})

t.test('a restore waits for the lease of a killed one, and not for ever', async (t) => {
  await store.call('SET', lease, 'another', 'PX', 60_000)
  t.equal(await failureOf(restoreVolume(store, name, file, () => undefined, { waitMs: 0 })), 'ALREADY_RUNNING')
  t.equal(await store.call('EXISTS', wideKey(name, 'restore')), 0)
  let waits = 0
  const onWait = (): void => {
    if (waits++ === 0) void store.call('DEL', lease)
  }
  await restoreVolume(store, name, file, () => undefined, { waitMs: 60_000, onWait })
  t.ok(waits > 0)
  t.equal(await store.call('EXISTS', lease), 0)
})

t.test('what is sent twice is there once', async (t) => {
  const twice: RedisStore = {
    ...bound(store),
    run: async (...args) => {
      await store.run(...args)
      return await store.run(...args)
    },
  }
  await restore(twice)
  t.strictSame(String(await store.call('LRANGE', garbage, 0, -1)), 'one,two,one')
  t.equal((await loadVolume(store, name)).uuid, volume.settings.uuid)
})

t.test(
  'a restored volume can be backed up and restored, and what a version before began is gone on with',
  async (t) => {
    await restore()
    await backupVolume(store, volume.settings, `${file}.2`, OPTIONS)
    await redis.command(0, 'FLUSHALL')
    // Its fence, "1 closed", is not that of this restore.
    await restoreVolume(store, name, `${file}.2`, () => undefined)
    t.equal(String(await store.call('HGET', keys.partition(0).counters, 'restore')), '1 closed')
    await redis.command(0, 'FLUSHALL')
    const slow = standing('restore-write')
    const late = failureOf(restore(slow.store))
    await slow.stands
    const mark = String(await store.call('GET', wideKey(name, 'restore')))
    await store.call('SET', wideKey(name, 'restore'), mark.slice(0, 64))
    await store.call('DEL', lease, keys.wide('n'))
    for (let p = 0; p < partitions; p++) await store.call('DEL', keys.partition(p).counters)
    await restore()
    slow.goOn()
    t.equal(await late, 'ALREADY_RUNNING')
  },
)
