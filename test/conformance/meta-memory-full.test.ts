/** MetaStore when Redis has no memory left: nothing new, but everything else, deleting above all. */
import t from 'tap'
import {
  ROOT,
  bytes,
  claim,
  extentOf,
  makeDir,
  makeDirIn,
  names,
  newFile,
  outcome,
  pause,
  touch,
  volumesOn,
  writeAt,
} from '../helpers/meta.js'
import { startRedis } from '../helpers/redis.js'

const LEASE_MS = 2_000

const redis = await startRedis(t)
const limit = (maxmemory: string): Promise<unknown> => redis.command(0, 'CONFIG', 'SET', 'maxmemory', maxmemory)

claim(t, volumesOn(t, redis), 'out of memory is ENOSPC for what is new, and deleting works', async (t, volume) => {
  const meta = await volume.client({ sessionTtlMs: LEASE_MS })
  const dir = await makeDir(meta, ROOT, 'dir')
  const far = await makeDirIn(meta, ROOT, 'far', { not: ROOT % meta.settings.partitions })
  const file = await touch(meta, ROOT, 'file')
  const other = await touch(meta, ROOT, 'other')
  await meta.link(file.ino, far.ino, bytes('second'))
  for (let i = 0; i < 5; i++) await writeAt(meta, file.ino, i * 10, 10)
  const session = meta.sessionId
  await limit('1')
  try {
    t.equal(await outcome(meta.create(ROOT, bytes('new'), newFile(), { exclusive: true, open: false })), 'ENOSPC')
    t.equal(await outcome(makeDir(meta, ROOT, 'new')), 'ENOSPC')
    t.equal(await outcome(meta.link(other.ino, ROOT, bytes('new'))), 'ENOSPC')
    t.equal(await outcome(meta.link(other.ino, far.ino, bytes('new'))), 'ENOSPC', 'in another partition, too')
    t.equal(await outcome(writeAt(meta, file.ino, 50, 10)), 'ENOSPC')
    t.equal(await outcome(meta.setxattr(file.ino, bytes('user.a'), bytes('1'), 'any')), 'ENOSPC')
    t.match(await meta.lookup(ROOT, bytes('file')), { ino: file.ino, sizeBytes: 50 })
    t.equal((await meta.extents(file.ino, 0)).extents.length, 5)
    t.strictSame((await names(meta, ROOT)).sort(), ['dir', 'far', 'file', 'other'])
    t.match((await meta.open(other.ino, { truncate: false })).attr, { ino: other.ino })
    t.match(await meta.setattr(file.ino, { sizeBytes: 25 }), { sizeBytes: 25 })
    t.match(await meta.unlink(ROOT, bytes('other')), { nlink: 0 })
    t.match(await meta.getattr(other.ino), { nlink: 0 }, 'an open file outlives its name now, too')
    meta.close(other.ino)
    t.strictSame(await names(meta, far.ino), ['second'])
    t.match(await meta.unlink(far.ino, bytes('second')), { nlink: 1 })
    t.match(await meta.unlink(ROOT, bytes('file')), { nlink: 0 })
    await meta.rmdir(ROOT, bytes('far'))
    await meta.rmdir(ROOT, bytes('dir'))
    await pause(2 * LEASE_MS)
    t.equal(meta.sessionId, session, 'its lease is renewed still')
    t.equal(await outcome(meta.getattr(dir.ino)), 'ENOENT')
    t.ok((await meta.collectGarbage(() => Promise.resolve(), 0)) > 0)
  } finally {
    await limit('0')
  }
  t.equal(await outcome(touch(meta, ROOT, 'new')), 'ok', 'and all is well when there is memory again')
  await meta.unlink(ROOT, bytes('new'))
})

claim(t, volumesOn(t, redis), 'what makes room in the metadata works without memory', async (t, volume) => {
  const meta = await volume.client()
  const small = await touch(meta, ROOT, 'small')
  const body = await meta.commitInline(small.ino, {
    mode: 'at',
    pieces: [{ fileOffset: 0, bytes: Buffer.alloc(500, 'x') }],
    allocatedDeltaBytes: 500,
    mtime: { sec: 1, nsec: 0 },
  })
  const large = await touch(meta, ROOT, 'large')
  for (let i = 0; i < 5; i++) await writeAt(meta, large.ino, 0, 10)
  const old = await meta.extents(large.ino, 0)
  await limit('1')
  try {
    // One that has no chunk ids yet.
    const mover = await volume.client()
    const extents = [extentOf(await mover.chunkId(), 0, 500)]
    t.ok(await mover.oldBodies.claim())
    const version = body?.attr.dataVersion ?? 0
    t.same(await mover.oldBodies.move([{ ino: small.ino, version: version - 1, extents }]), [false])
    t.same(await mover.oldBodies.move([{ ino: small.ino, version, extents }]), [true])
    t.match(await meta.getattr(small.ino), { hasBody: false, hasExtents: true })
    t.equal(await meta.oldBodies.count(), 0)
    const [seen] = old.extents.slice(-1)
    t.ok(seen && (await meta.compact(large.ino, old, [seen], old.extents.slice(0, -1), 0)))
    t.equal((await meta.extents(large.ino, 0)).extents.length, 1)
  } finally {
    await limit('0')
  }
})
