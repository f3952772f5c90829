/** A server has lost changes that it had acknowledged: who is told, and how often. */
import t from 'tap'
import { PosixError } from '../../../src/base/errno.js'
import { ROOT_INO } from '../../../src/base/limits.js'
import { Tail } from '../../../src/vfs/tail.js'
import { CALLER, Gate, O_RDWR, codeOf, fixture, make, settle, type Mounted } from '../../helpers/vfs-fixture.js'

const all = (): boolean => true
const LOST = new PosixError('EIO', 'lost')

/** What an fsync of it says, by a handle of its own. */
async function synced({ vfs }: Mounted, ino: number): Promise<string> {
  const { handle } = await vfs.open(CALLER, ino, O_RDWR)
  const code = await codeOf(vfs.fsync(handle, false))
  await vfs.release(handle)
  return code
}

async function syncedDir({ vfs }: Mounted, ino: number): Promise<string> {
  const handle = await vfs.opendir(CALLER, ino)
  const code = await codeOf(vfs.fsyncdir(handle))
  vfs.releasedir(handle)
  return code
}

/** A file with contents that no fsync has seen. */
async function written({ vfs }: Mounted, name: string): Promise<number> {
  const { ino, handle } = await make(vfs, name)
  await vfs.write(handle, 0, Buffer.from('text'))
  await vfs.flush(handle)
  await vfs.release(handle)
  return ino
}

t.test('what was lost of a file that nobody had open is told by its next fsync, once', async (t) => {
  const mounted = fixture(t)
  const { vfs, meta } = mounted
  const durable = await written(mounted, 'durable')
  t.equal(await synced(mounted, durable), 'ok')
  const ino = await written(mounted, 'lost')
  const other = await written(mounted, 'other')
  meta.loseTail((one) => one !== other)
  const reader = await vfs.open(CALLER, ino, 0)
  t.equal(await codeOf(vfs.flush(reader.handle)), 'ok', 'a close has nothing to do with it')
  t.equal(await codeOf(vfs.fsync(reader.handle, false)), 'EIO')
  t.equal(await codeOf(vfs.fsync(reader.handle, false)), 'ok', 'told once')
  await vfs.release(reader.handle)
  for (const one of [ino, other, durable]) t.equal(await synced(mounted, one), 'ok')
})

t.test('any kind of change counts: attributes, names, sizes', async (t) => {
  const mounted = fixture(t)
  const { vfs, meta } = mounted
  const ino = await written(mounted, 'f')
  const dir = (await vfs.mkdir(CALLER, ROOT_INO, Buffer.from('d'), 0o755)).ino
  const changes: [string, () => Promise<unknown>, number[], number[]][] = [
    ['chmod', () => vfs.setattr(CALLER, ino, { mode: 0o600 }), [ino], []],
    ['truncate', () => vfs.setattr(CALLER, ino, { sizeBytes: 1 }), [ino], []],
    ['setxattr', () => vfs.setxattr(ino, Buffer.from('user.a'), Buffer.from('b'), 0), [ino], []],
    ['link', () => vfs.link(CALLER, ino, dir, Buffer.from('g')), [ino], [dir]],
    ['rename', () => vfs.rename(CALLER, dir, Buffer.from('g'), ROOT_INO, Buffer.from('h'), {}), [ino], [dir, ROOT_INO]],
    ['unlink', () => vfs.unlink(CALLER, ROOT_INO, Buffer.from('h')), [], [ROOT_INO]],
    ['mkdir', () => vfs.mkdir(CALLER, dir, Buffer.from('e'), 0o755), [], [dir]],
  ]
  for (const [what, change, files, directories] of changes) {
    await vfs.syncAll(true)
    await change()
    meta.loseTail(all)
    for (const one of files) t.equal(await synced(mounted, one), 'EIO', what)
    for (const one of directories) t.equal(await syncedDir(mounted, one), 'EIO', what)
    t.equal(await codeOf(vfs.syncAll(true)), 'EIO', 'syncfs after it, too')
    t.equal(await codeOf(vfs.syncAll(true)), 'ok', 'once')
    t.equal(await synced(mounted, ino), 'ok')
    t.equal(await syncedDir(mounted, dir), 'ok')
  }
})

t.test('a change that is under way when its server is lost counts, also if a sync ended before it', async (t) => {
  const mounted = fixture(t)
  const { vfs, meta } = mounted
  const ino = await written(mounted, 'f')
  const gate = new Gate()
  meta.after = (call) => (call === 'setattr' ? gate.passed : undefined)
  const change = vfs.setattr(CALLER, ino, { mode: 0o600 })
  await settle()
  await vfs.syncAll(true)
  meta.loseTail(all)
  gate.open()
  await change
  t.equal(await synced(mounted, ino), 'EIO')
})

t.test('each handle that is open says so; if none does, the next one', async (t) => {
  const mounted = fixture(t)
  const { vfs, meta } = mounted
  const ino = await written(mounted, 'f')
  const [ann, bob] = [await vfs.open(CALLER, ino, 0), await vfs.open(CALLER, ino, 0)]
  const [cleo, dora] = [await vfs.opendir(CALLER, ROOT_INO), await vfs.opendir(CALLER, ROOT_INO)]
  meta.loseTail(all)
  t.equal(await codeOf(vfs.fsync(ann.handle, false)), 'EIO')
  t.equal(await codeOf(vfs.fsync(bob.handle, false)), 'EIO')
  t.equal(await codeOf(vfs.fsyncdir(cleo)), 'EIO')
  t.equal(await codeOf(vfs.fsyncdir(cleo)), 'ok')
  vfs.releasedir(dora)
  t.equal(await codeOf(vfs.fsyncdir(cleo)), 'ok', 'somebody was told')

  await vfs.setattr(CALLER, ino, { mode: 0o600 })
  await vfs.unlink(CALLER, ROOT_INO, Buffer.from('nothing')).catch(() => undefined)
  const [erna, finn] = [await vfs.opendir(CALLER, ROOT_INO), await vfs.opendir(CALLER, ROOT_INO)]
  meta.loseTail(all)
  // Release is heard by nobody.
  for (const { handle } of [ann, bob]) await vfs.release(handle).catch(() => undefined)
  for (const handle of [cleo, erna, finn]) vfs.releasedir(handle)
  t.equal(await synced(mounted, ino), 'EIO')
  t.equal(await syncedDir(mounted, ROOT_INO), 'EIO')
  t.equal(await synced(mounted, ino), 'ok')
  t.equal(await syncedDir(mounted, ROOT_INO), 'ok')
})

t.test('data that could not be written is told to the next fsync, if whoever wrote it was not told', async (t) => {
  const mounted = fixture(t)
  const { vfs, chunks } = mounted
  const { ino, handle } = await make(vfs, 'f')
  chunks.before = (call) => {
    if (call === 'write') throw new PosixError('ENOSPC')
  }
  await vfs.write(handle, 0, Buffer.alloc(300_000))
  await codeOf(vfs.release(handle))
  t.equal(await synced(mounted, ino), 'ENOSPC')
  t.equal(await synced(mounted, ino), 'ok')
})

t.test('more changes than are remembered: every inode that may be concerned says so once', (t) => {
  const tail = new Tail(4)
  let full = 0
  tail.onFull = () => full++
  const codes = (inos: readonly number[]): string => {
    const told = (ino: number): boolean => {
      try {
        tail.report(ino)
        return false
      } catch {
        return true
      }
    }
    return inos.filter(told).join(' ')
  }
  for (const ino of [1, 2, 3]) tail.changed(ino)
  t.equal(full, 1, 'half full')
  tail.synced(tail.mark())
  for (const ino of [11, 12, 13, 14, 15]) tail.changed(ino)
  const odd = (ino: number): boolean => ino % 2 === 1
  t.strictSame([9, 10, 11].map(tail.lost(odd, LOST)), [true, false, true])
  const mark = tail.mark()
  tail.made(21, mark)
  t.equal(codes([1, 2, 7, 11, 12, 21]), '1 7 11', 'but not what was made since')
  t.equal(codes([1, 7, 11]), '', 'once')
  tail.synced(mark)
  tail.lost(odd, LOST)
  t.equal(codes([31]), '31', 'of the loss before')
  tail.synced(tail.mark())
  tail.lost(all, LOST)
  t.equal(codes([32, 34]), '', 'a sync makes all that was before it durable')
  t.end()
})

t.test('an inode that is changed again counts from its last change, wherever it stands in the list', (t) => {
  const tail = new Tail(4)
  tail.changed(1)
  tail.changed(2)
  const before = tail.mark()
  tail.changed(1)
  tail.synced(before)
  const of = tail.lost(all, LOST)
  t.strictSame([of(1), of(2)], [true, false])

  const short = new Tail(2)
  short.changed(1)
  short.changed(2)
  const mark = short.mark()
  short.changed(1)
  // No room for both of the first: one of them was changed behind the mark.
  short.changed(3)
  short.changed(4)
  short.synced(mark)
  t.ok(short.lost(all, LOST)(1))
  t.throws(() => short.report(1), { code: 'EIO' })
  t.end()
})

t.test('many that nobody was told of, and syncs at any time: never silent about a loss', (t) => {
  const tail = new Tail(8)
  for (let ino = 1; ino <= 8; ino++) tail.changed(ino)
  tail.lost(all, LOST)
  for (let ino = 11; ino <= 18; ino++) tail.changed(ino)
  tail.lost(all, LOST)
  for (const ino of [1, 8, 11, 18]) t.throws(() => tail.report(ino), { code: 'EIO' })
  t.doesNotThrow(() => tail.report(8))
  const before = tail.mark()
  tail.changed(5)
  tail.synced(before)
  t.ok(tail.lost(all, LOST)(5), 'changed behind the mark')
  t.end()
})
