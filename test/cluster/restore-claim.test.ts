/** Restores that run at once, stand still and go on late, or are given up, and formats beside them. */
import t, { type Test } from 'tap'
import { renameSync } from 'node:fs'
import { silentLog } from '../../src/base/log.js'
import type { RedisStore } from '../../src/cluster/contract.js'
import { UncountedError } from '../../src/cluster/redis-errors.js'
import { abandonRestore } from '../../src/meta/backup/abandon.js'
import { backupVolume } from '../../src/meta/backup/backup.js'
import { restoreVolume } from '../../src/meta/backup/restore.js'
import { openMeta } from '../../src/meta/engine.js'
import { formatVolume, loadVolume, refuseWhileRestored } from '../../src/meta/format.js'
import { VolumeKeys, wideKey } from '../../src/meta/keys.js'
import { BACKUP_OPTIONS, backupFile } from '../helpers/backups.js'
import { bound } from '../helpers/bound-redis.js'
import { failureOf } from '../helpers/chunks.js'
import { describe, walk } from '../helpers/meta-check.js'
import { ROOT, bytes, makeDir, volumesOn } from '../helpers/meta.js'
import { connectPatiently, startRedis } from '../helpers/redis.js'

t.setTimeout(300_000)

const redis = await startRedis(t, { masters: 1 })
const store = await connectPatiently(redis.url('any'))
t.teardown(() => store.close())
const open = volumesOn(t, redis)
const volume = await open()
const { name, partitions } = volume.settings
const keys = new VolumeKeys(name, partitions)
const garbage = keys.partition(3).garbage
const file = backupFile(t)
const lease = wideKey(name, 'restorer')

{
  const meta = await volume.client({ reaps: false })
  for (let i = 0; i < 5; i++) await makeDir(meta, ROOT, `dir${i}`)
  await volume.close()
  for (const claim of ['one', 'two', 'one']) await store.call('RPUSH', garbage, claim)
  await backupVolume(store, volume.settings, file, BACKUP_OPTIONS)
}

t.beforeEach(async () => {
  await redis.command(0, 'FLUSHALL')
})

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

t.test('a copy of a call that comes behind later ones changes nothing', async (t) => {
  const claims = Array.from({ length: 2500 }, (_, i) => `claim ${i}`)
  await restore()
  await store.call('DEL', garbage)
  await store.call('RPUSH', garbage, ...claims)
  await backupVolume(store, volume.settings, `${file}.long`, BACKUP_OPTIONS)
  await redis.command(0, 'FLUSHALL')
  const earlier: Parameters<RedisStore['run']>[] = []
  const late: RedisStore = {
    ...bound(store),
    run: async (...args) => {
      const reply = await store.run(...args)
      if (args[0].name === 'restore-write' && args[1][0] === garbage) {
        for (const one of earlier) await store.run(...one)
        earlier.push(args)
      }
      return reply
    },
  }
  await restoreVolume(late, name, `${file}.long`, () => undefined)
  t.ok(earlier.length > 2, 'it was written in pieces')
  t.strictSame(String(await store.call('LRANGE', garbage, 0, -1)), String(claims))
})

t.test('a copy of a claim that comes late takes nothing from who claimed behind it', async (t) => {
  const claims: Parameters<RedisStore['run']>[] = []
  const dying: RedisStore = {
    ...bound(store),
    run: async (...args) => {
      if (args[0].name === 'restore-claim') claims.push(args)
      if (args[0].name === 'restore-write') throw new Error('died')
      return await store.run(...args)
    },
  }
  await t.rejects(restore(dying), { message: 'died' })
  const second = standing('restore-write', 3)
  const going = restore(second.store)
  await second.stands
  for (const claim of claims) t.equal(await store.run(...claim), -3)
  second.goOn()
  await going
  t.equal((await loadVolume(store, name)).uuid, volume.settings.uuid)
})

t.test(
  'a restored volume can be backed up and restored, and what a version before began is gone on with',
  async (t) => {
    await restore()
    await backupVolume(store, volume.settings, `${file}.2`, BACKUP_OPTIONS)
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

const abandon = (by: RedisStore = store): Promise<void> => abandonRestore(by, name, () => undefined)

/** Dies before it runs `script` for the `nth` time. */
async function interrupted(t: Test, script: string, nth: number, what = restore, by = store): Promise<void> {
  let seen = 0
  const dying: RedisStore = {
    ...bound(by),
    run: async (one, ...rest) => {
      if (one.name === script && ++seen >= nth) throw new Error('died')
      return await by.run(one, ...rest)
    },
  }
  await t.rejects(what(dying), { message: 'died' })
}

/** But fences, and what waiting for replicas leaves. */
async function left(): Promise<string[]> {
  const all = (await redis.command(0, 'KEYS', '*')) as string[]
  const isCounters = (key: string): boolean => key.startsWith(`{${name}.`) && key.endsWith(':c')
  for (const key of all.filter(isCounters)) {
    t.strictSame(await redis.command(0, 'HKEYS', key), ['restore'], 'only the fence is left')
  }
  return all.filter((key) => !isCounters(key) && !key.endsWith(':wait')).sort()
}

for (const [script, nth] of [
  ['restore-fence', 1],
  ['restore-fence', 3],
  ['restore-write', 12],
  ['restore-fence', partitions + 2],
  ['restore-end', 1],
] as const) {
  t.test(`a restore that died before ${script} ${nth} is given up, and its name is free`, async (t) => {
    // The volume that is called as the first one's partition 1.
    const others = [`{${name}.1}:m:settings`, `{${name}.1}:c:options`]
    for (const key of others) await store.call('SET', key, 'x')
    await interrupted(t, script, nth)
    t.equal(await failureOf(formatVolume(store, name, { partitions })), 'VOLUME_EXISTS')
    await abandon()
    t.strictSame(await left(), others.toSorted())
    t.equal(await failureOf(abandon()), 'VOLUME_MISSING', 'there is nothing to give up')
    const settings = await formatVolume(store, name, { partitions })
    for (let p = 0; p < partitions; p++) {
      t.ok(await store.call('HGET', keys.partition(p).counters, 'h'), 'its numbers begin in the history of now')
    }
    const meta = await openMeta(store, settings, { log: silentLog, reaps: false })
    t.teardown(() => meta.shutdown())
    t.strictSame([...(await walk(meta)).paths.keys()], [''])
    t.equal(await failureOf(abandon()), 'VOLUME_EXISTS', 'a volume is never given up')
  })
}

t.test(
  'another backup is restored where one was given up; what was interrupted in giving up is gone on with',
  async (t) => {
    await interrupted(t, 'restore-end', 1)
    await interrupted(t, 'restore-clear', 3, abandon)
    await restore()
    await backupVolume(store, volume.settings, `${file}.3`, BACKUP_OPTIONS)
    await redis.command(0, 'FLUSHALL')
    await interrupted(t, 'restore-end', 1)
    t.equal(await failureOf(restoreVolume(store, name, `${file}.3`, () => undefined)), 'USAGE', 'another file')
    await interrupted(t, 'restore-clear', 3, abandon)
    await abandon()
    await restoreVolume(store, name, `${file}.3`, () => undefined)
    const meta = await openMeta(store, await loadVolume(store, name), { log: silentLog, reaps: false })
    t.teardown(() => meta.shutdown())
    t.equal((await walk(meta)).paths.size, 6)
  },
)

for (const [script, nth] of [
  ['restore-fence', 1],
  ['restore-fence', 2],
  ['restore-write', 12],
  ['restore-fence', partitions + 2],
  ['restore-end', 1],
] as const) {
  t.test(`a restore that stood still before ${script} ${nth} changes nothing once it was given up`, async (t) => {
    const slow = standing(script, nth)
    const late = failureOf(restore(slow.store))
    await slow.stands
    await store.call('DEL', lease)
    await abandon()
    await formatVolume(store, name, { partitions })
    const meta = await openMeta(store, await loadVolume(store, name), { log: silentLog, reaps: false })
    t.teardown(() => meta.shutdown())
    for (let i = 0; i < 9; i++) await makeDir(meta, ROOT, `new${i}`)
    const before = describe(await walk(meta))
    slow.goOn()
    t.equal(await late, 'ALREADY_RUNNING')
    t.strictSame(describe(await walk(meta)), before)
  })
}

t.test('giving up that stood still clears nothing of the volume that another has made since', async (t) => {
  await interrupted(t, 'restore-end', 1)
  const slow = standing('restore-clear', 3)
  const late = failureOf(abandon(slow.store))
  await slow.stands
  await store.call('DEL', lease)
  await restore()
  const meta = await openMeta(store, await loadVolume(store, name), { log: silentLog, reaps: false })
  t.teardown(() => meta.shutdown())
  const before = describe(await walk(meta))
  slow.goOn()
  t.equal(await late, 'ALREADY_RUNNING')
  t.strictSame(describe(await walk(meta)), before)
})

t.test('keys of others in the same slot are left alone, however many there are', async (t) => {
  await interrupted(t, 'restore-end', 1)
  const others = Array.from({ length: 2500 }, (_, i) => `{${name}.2}:m:${i}`)
  for (const key of others) await store.call('SET', key, 'x')
  await abandon()
  t.strictSame(await left(), others.toSorted())
})

t.test('a restore that lacked replicas is given up with those that are there', async (t) => {
  await restore()
  const settings = { ...volume.settings, metaReplicas: 2 }
  await store.call('SET', keys.wide('settings'), JSON.stringify(settings))
  await backupVolume(store, { ...settings, metaReplicas: 0 }, `${file}.replicas`, BACKUP_OPTIONS)
  await redis.command(0, 'FLUSHALL')
  let there = 1
  const asked = new Set<number>()
  const waiting: RedisStore = {
    ...bound(store),
    waitReplicas: (_, wanted) => {
      asked.add(wanted)
      return there < 0 ? Promise.reject(new UncountedError('stood still')) : Promise.resolve(there)
    },
  }
  t.equal(await failureOf(restoreVolume(waiting, name, `${file}.replicas`, () => undefined)), 'NO_QUORUM')
  there = -1
  t.equal(await failureOf(abandon(waiting)), 'NO_QUORUM', 'nobody knows which are there')
  there = 1
  asked.clear()
  await interrupted(t, 'restore-clear', 3, abandon, waiting)
  t.strictSame([...asked].sort(), [1, 2], 'one of two is there, and waited for')
  there = 0
  await abandon(waiting)
  t.strictSame(await left(), [])
  await formatVolume(store, name, { partitions })
})

t.test('a restore that filled Redis is given up', async (t) => {
  const maxmemory = (bytes: number): Promise<unknown> => redis.command(0, 'CONFIG', 'SET', 'maxmemory', bytes)
  const filled: RedisStore = {
    ...bound(store),
    run: async (one, ...rest) => {
      if (one.name === 'restore-write') await maxmemory(1)
      return await store.run(one, ...rest)
    },
  }
  try {
    t.equal(await failureOf(restore(filled)), 'ENOSPC')
    await abandon()
  } finally {
    await maxmemory(0)
  }
  t.strictSame(await left(), [])
  await formatVolume(store, name, { partitions })
})

const formatting = (by: RedisStore = store): Promise<unknown> => formatVolume(by, name, { partitions })

for (const [script, nth] of [
  ['restore-fence', 3],
  ['restore-write', 1],
  ['restore-write', 12],
  ['restore-fence', partitions + 2],
] as const) {
  t.test(`a restore that died before ${script} ${nth}, and whose mark was lost, is given up too`, async (t) => {
    await interrupted(t, script, nth)
    await store.call('DEL', wideKey(name, 'restore'))
    await t.rejects(formatting(), { code: 'VOLUME_EXISTS', message: /restore --abandon/ })
    await interrupted(t, 'restore-clear', 1, abandon)
    t.equal(await failureOf(restore()), 'USAGE', 'which backup it was is not known any more')
    await abandon()
    t.strictSame(await left(), [])
    t.equal(await failureOf(abandon()), 'VOLUME_MISSING')
    await formatting()
    const meta = await openMeta(store, await loadVolume(store, name), { log: silentLog, reaps: false })
    t.teardown(() => meta.shutdown())
    t.strictSame([...(await walk(meta)).paths.keys()], [''])
  })
}

t.test('what is left of a volume that was in use nobody takes, or takes away', async (t) => {
  await restore()
  await store.call('DEL', wideKey(name, 'settings'))
  const before = (await redis.command(0, 'KEYS', '*')) as string[]
  t.equal(await failureOf(formatting()), 'VOLUME_EXISTS')
  t.equal(await failureOf(abandon()), 'VOLUME_EXISTS')
  t.equal(await failureOf(restore()), 'VOLUME_EXISTS')
  t.strictSame(((await redis.command(0, 'KEYS', '*')) as string[]).sort(), before.sort())
})

t.test('a format that was interrupted is repeated, or goes on', async (t) => {
  await interrupted(t, 'format', 1, formatting)
  for (const [script, nth] of [
    ['begin-history', 1],
    ['begin-history', 3],
    ['root', 1],
  ] as const) {
    await interrupted(t, script, nth, formatting)
    await t.rejects(formatting(), { code: 'VOLUME_EXISTS', message: /exists already/ })
    const meta = await openMeta(store, await loadVolume(store, name), { log: silentLog, reaps: false })
    t.strictSame([...(await walk(meta)).paths.keys()], [''])
    await meta.shutdown()
    await redis.command(0, 'FLUSHALL')
  }
})

t.test('a restore writes the backup that it has checked, also when another one gets its name', async (t) => {
  const [first, second] = [`${file}.first`, `${file}.second`]
  await restore()
  await backupVolume(store, volume.settings, first, BACKUP_OPTIONS)
  const meta = await openMeta(store, volume.settings, { log: silentLog, reaps: false })
  const before = [...(await walk(meta)).paths.keys()].sort()
  await makeDir(meta, ROOT, 'later')
  await meta.shutdown()
  await backupVolume(store, volume.settings, second, BACKUP_OPTIONS)
  await redis.command(0, 'FLUSHALL')
  const slow = standing('restore-claim')
  const going = restoreVolume(slow.store, name, first, () => undefined)
  await slow.stands
  renameSync(second, first)
  slow.goOn()
  await going
  const again = await openMeta(store, await loadVolume(store, name), { log: silentLog, reaps: false })
  t.teardown(() => again.shutdown())
  t.strictSame([...(await walk(again)).paths.keys()].sort(), before)
})
