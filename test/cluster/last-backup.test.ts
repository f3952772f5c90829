/** What a packing may free: nothing that a backup names. On one and on three masters. */
import t, { type Test } from 'tap'
import { silentLog } from '../../src/base/log.js'
import type { RedisStore } from '../../src/cluster/contract.js'
import { backupVolume } from '../../src/meta/backup/backup.js'
import { restoreVolume } from '../../src/meta/backup/restore.js'
import type { ExtentWindow, MetaStore } from '../../src/meta/contract.js'
import { openMeta } from '../../src/meta/engine.js'
import { whileFrozen } from '../../src/meta/freeze.js'
import { VolumeKeys } from '../../src/meta/keys.js'
import { BACKUP_MARGIN_US } from '../../src/meta/last-backup.js'
import { BACKUP_OPTIONS, backupFile } from '../helpers/backups.js'
import { bound } from '../helpers/bound-redis.js'
import { failureOf } from '../helpers/chunks.js'
import { checkVolume } from '../helpers/meta-check.js'
import { PARTITIONS, ROOT, bytes, makeDir, touch, volumesOn, writeAt } from '../helpers/meta.js'
import { connectPatiently, startRedis } from '../helpers/redis.js'

t.setTimeout(600_000)

const ALL = Array.from({ length: PARTITIONS }, (_, p) => p)

function momentsOf(store: RedisStore, keys: VolumeKeys): Promise<(string | null)[]> {
  const asked = ALL.map(async (p) => await store.call('HGET', keys.partition(p).locks, 'B'))
  return Promise.all(asked.map(async (reply) => ((await reply) === null ? null : String(await reply))))
}

/** A file of five chunks, of which the last takes the place of all. */
async function written(meta: MetaStore, name: string): Promise<ExtentWindow & { readonly ino: number }> {
  const { ino } = await touch(meta, ROOT, name)
  for (let at = 0; at < 5; at++) await writeAt(meta, ino, at * 10, 10)
  return { ...(await meta.extents(ino, 0)), ino }
}

async function pack(t: Test, meta: MetaStore, name: string, oldestOrder: number): Promise<boolean> {
  const { ino, ...old } = await written(meta, name)
  const extents = [{ ...(await written(meta, `${name}+`)).extents[0]!, fileOffset: 0 }]
  const done = (await meta.compact(ino, old, extents, old.extents, 0, oldestOrder)) !== null
  t.equal((await meta.extents(ino, 0)).extents.length, done ? 1 : 5)
  return done
}

const nowUs = (): number => Date.now() * 1000

for (const masters of [1, 3] as const) {
  t.test(`on ${masters} masters`, async (t) => {
    const redis = await startRedis(t, { masters })
    const open = volumesOn(t, redis)
    const store = await connectPatiently(redis.url('any'))
    t.teardown(() => store.close())

    t.test('chunks that are younger than the last backup may be freed, and no others', async (t) => {
      const volume = await open()
      const keys = new VolumeKeys(volume.settings.name, PARTITIONS)
      const meta = await volume.client()
      t.same(new Set(await momentsOf(store, keys)), new Set(['0']), 'of a new volume there is none')
      t.ok(await pack(t, meta, 'new', nowUs()))
      t.equal((await meta.packingGround(ROOT, [])).keptOrder, BACKUP_MARGIN_US)

      const before = nowUs()
      await backupVolume(store, volume.settings, backupFile(t), BACKUP_OPTIONS)
      const moments = (await momentsOf(store, keys)).map(Number)
      t.ok(moments.every((moment) => moment >= before - 1e6 && moment <= nowUs() + 1e6))
      t.notOk(await pack(t, meta, 'old', before - 1))
      t.notOk(await pack(t, meta, 'by another clock', nowUs() + BACKUP_MARGIN_US / 2))
      const { keptOrder } = await meta.packingGround(ROOT, [])
      t.equal(keptOrder, (moments[ROOT] ?? 0) + BACKUP_MARGIN_US)
      t.notOk(await pack(t, meta, 'the last that is kept', keptOrder))
      t.ok(await pack(t, meta, 'the first that is not', keptOrder + 1))
      await volume.close()
      t.strictSame(await checkVolume(volume), [])
    })

    t.test('a clock that goes back takes no moment back', async (t) => {
      const volume = await open()
      const keys = new VolumeKeys(volume.settings.name, PARTITIONS)
      const later = String(nowUs() + 3_600_000_000)
      for (const p of ALL) await store.call('HSET', keys.partition(p).locks, 'B', later)
      await whileFrozen(store, keys, ALL, 60_000, () => Promise.resolve())
      t.same(new Set(await momentsOf(store, keys)), new Set([later]))
    })

    t.test('where none is noted nothing is freed until the janitor has noted now', async (t) => {
      const volume = await open()
      const keys = new VolumeKeys(volume.settings.name, PARTITIONS)
      for (const p of ALL) await store.call('HDEL', keys.partition(p).locks, 'B')
      const meta = await volume.client()
      t.equal((await meta.packingGround(ROOT, [])).keptOrder, Infinity)
      t.notOk(await pack(t, meta, 'f', nowUs() + 2 * BACKUP_MARGIN_US))
      const before = nowUs()
      await meta.collectGarbage(() => Promise.resolve(), 60_000)
      const noted = await momentsOf(store, keys)
      t.ok(noted.every((moment) => Number(moment) >= before - 1e6))
      await meta.collectGarbage(() => Promise.resolve(), 60_000)
      t.same(await momentsOf(store, keys), noted, 'once')
      t.notOk(await pack(t, meta, 'g', before))
      t.ok(await pack(t, meta, 'h', nowUs() + 2 * BACKUP_MARGIN_US))
    })

    t.test('a volume that was restored may be named by a backup of now', async (t) => {
      const volume = await open()
      const keys = new VolumeKeys(volume.settings.name, PARTITIONS)
      await (await volume.client()).mkdir(ROOT, bytes('dir'), 0o755, 0, 0)
      const file = backupFile(t)
      await backupVolume(store, volume.settings, file, BACKUP_OPTIONS)
      await volume.close()
      for (let server = 0; server < redis.ports.length; server++) await redis.command(server, 'FLUSHALL')
      await restoreVolume(store, volume.settings.name, file, () => undefined)
      t.same(new Set(await momentsOf(store, keys)), new Set([null]))
      const meta = await openMeta(store, volume.settings, { log: silentLog })
      t.teardown(() => meta.shutdown())
      t.notOk(await pack(t, meta, 'f', nowUs() + 2 * BACKUP_MARGIN_US))
    })

    t.test('a backup between the look and the packing is seen', async (t) => {
      const volume = await open()
      const meta = await volume.client()
      const { ino, ...old } = await written(meta, 'f')
      const extents = old.extents.slice(4)
      const order = nowUs()
      const ground = await meta.packingGround(ino, [])
      t.ok(order > ground.keptOrder)
      await backupVolume(store, volume.settings, backupFile(t), BACKUP_OPTIONS)
      t.equal(await meta.compact(ino, old, extents, old.extents.slice(0, 4), 0, order), null)
      t.same((await meta.extents(ino, 0)).extents, old.extents)
      t.equal(await meta.collectGarbage(() => Promise.resolve(), 0), 0)
    })

    t.test('chunks that were cloned are told', async (t) => {
      const volume = await open()
      const meta = await volume.client()
      const [a, b] = [await written(meta, 'a'), await touch(meta, ROOT, 'b')]
      const { dataVersion } = await meta.getattr(a.ino)
      const [first, second] = a.extents
      const request = { source: a.ino, sourceVersion: dataVersion, version: b.dataVersion, clearSuid: false }
      t.ok(
        await meta.clone(b.ino, {
          ...request,
          extents: [{ extent: first!, sourceWindow: 0 }],
          ...{ allocatedDeltaBytes: 10, mtime: { sec: 1, nsec: 0 }, minSizeBytes: 10 },
        }),
      )
      const ids = [first, second].map((extent) => extent?.chunk?.id ?? 0)
      t.same([...(await meta.packingGround(a.ino, ids)).shared], ids.slice(0, 1))
    })

    t.test('a backup whose moments cannot be put on disk is made, and waits until it is known', async (t) => {
      const volume = await open()
      await makeDir(await volume.client(), ROOT, 'dir')
      const asked: string[] = []
      const failing: RedisStore = {
        ...bound(store),
        syncLocal: () => {
          asked.push('disk')
          return Promise.reject(new Error('no space'))
        },
        waitReplicas: (keys) => {
          asked.push(`${keys.length} partitions`)
          return Promise.reject(new Error('away'))
        },
      }
      const settings = { ...volume.settings, metaReplicas: 1 }
      t.equal(await failureOf(backupVolume(failing, settings, backupFile(t), BACKUP_OPTIONS)), '')
      t.same(asked.sort(), [`${PARTITIONS} partitions`, 'disk'])
    })
  })
}
