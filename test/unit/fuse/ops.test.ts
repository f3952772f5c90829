import { join } from 'node:path/posix'
import t from 'tap'
import { silentLog } from '../../../src/base/log.js'
import { ROOT_INO } from '../../../src/base/limits.js'
import { PathOps } from '../../../src/fuse/fuse-native/ops.js'
import type { Attr } from '../../../src/vfs/contract.js'
import { outcomeOf } from '../../helpers/errno.js'
import { MemoryVfs } from '../../helpers/memory-vfs.js'

const CALLER = { uid: 0, gid: 0, pid: 1 }
const O_RDWR = 2
const S_IFREG = 0o100000
const HIDDEN = '/.fuse_hidden0000000200000001'
/** More than files that are to be hidden wait. */
const GRACE_MS = 50
const OLD = { sec: 1_000, nsec: 0 }

function newOps(): { vfs: MemoryVfs; ops: PathOps; isThere: (name: string) => Promise<boolean> } {
  const vfs = new MemoryVfs()
  const ops = new PathOps(vfs, CALLER, silentLog)
  const isThere = async (name: string) => (await outcomeOf(vfs.lookup(CALLER, ROOT_INO, Buffer.from(name)))) === 'ok'
  return { vfs, ops, isThere }
}

async function openFile(ops: PathOps, path: string): Promise<number> {
  await ops.mknod(path, S_IFREG | 0o644, 0)
  return ops.open(path, O_RDWR)
}

async function pause(ms: number): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, ms))
}

t.test('hiding an open file removes its name, soon, and keeps the file', async (t) => {
  const { ops, isThere } = newOps()
  const fd = await openFile(ops, '/a')
  await ops.rename('/a', HIDDEN)
  await pause(GRACE_MS)
  t.notOk(await isThere('a'))
  t.notOk(await isThere(HIDDEN.slice(1)), 'nobody else sees the name of the library')
  await ops.write(fd, 0, Buffer.from('kept'))
  t.equal((await ops.read(fd, 0, 10)).toString(), 'kept')
  const { nlink } = await ops.fgetattr(HIDDEN, fd)
  t.equal(nlink, 1, 'one more than there are: the library takes one off')
  await ops.release(fd)
  await ops.unlink(HIDDEN)
  t.equal(await outcomeOf(ops.getattr(HIDDEN)), 'ENOENT')
})

t.test('other clients never miss a name while an open file is replaced', async (t) => {
  const { ops, isThere } = newOps()
  await openFile(ops, '/a')
  await ops.mknod('/b', S_IFREG | 0o644, 0)
  const b = await ops.getattr('/b')
  await ops.rename('/a', HIDDEN)
  t.ok(await isThere('a'), 'between the two calls of the library')
  const seen = ops.getattr('/a')
  await ops.rename('/b', '/a')
  t.equal((await seen).ino, b.ino, 'a lookup in between waits for the new file')
  t.notOk(await isThere('b'))
  await pause(GRACE_MS)
  t.equal((await ops.getattr('/a')).ino, b.ino, 'nothing is removed later')
})

t.test('whatever shows that an unlink is over gets it done at once', async (t) => {
  const proofs: [string, (ops: PathOps, fd: number) => Promise<unknown>][] = [
    ['readdir', (ops) => ops.readdir('/')],
    ['mkdir', (ops) => ops.mkdir('/other', 0o755)],
    ['making the name again', (ops) => ops.mknod('/a', S_IFREG | 0o644, 0)],
    ['getattr of the hidden name', (ops) => ops.getattr(HIDDEN)],
    ['fgetattr', (ops, fd) => ops.fgetattr(HIDDEN, fd)],
    ['fsyncdir', (ops) => ops.fsyncdir('/')],
    ['end', (ops) => ops.end()],
  ]
  for (const [name, proof] of proofs) {
    const { ops, vfs } = newOps()
    const fd = await openFile(ops, '/a')
    const { ino } = await ops.getattr('/a')
    await ops.rename('/a', HIDDEN)
    await proof(ops, fd)
    const now = await vfs.lookup(CALLER, ROOT_INO, Buffer.from('a')).catch(() => undefined)
    t.not(now?.ino, ino, name)
  }
})

t.test('a lookup of a name that was removed while open waits and then does not find it', async (t) => {
  const { ops } = newOps()
  await openFile(ops, '/a')
  await ops.rename('/a', HIDDEN)
  t.equal(await outcomeOf(ops.getattr('/a')), 'ENOENT')
})

t.test('another link to a file that was removed while open shows one link less', async (t) => {
  const { ops } = newOps()
  const fd = await openFile(ops, '/a')
  await ops.link('/a', '/b')
  const other = await ops.open('/b', O_RDWR)
  await ops.rename('/a', HIDDEN)
  const links = await Promise.all([ops.getattr('/b'), ops.fgetattr('/b', other)])
  t.same(
    links.map(({ nlink }) => nlink),
    [1, 1],
  )
  await ops.release(fd)
})

/** `meanwhile` is done after the next lookup has read what it answers, and before it answers. */
class SlowVfs extends MemoryVfs {
  meanwhile: (() => Promise<unknown>) | undefined

  override async lookup(...asked: Parameters<MemoryVfs['lookup']>): Promise<Attr> {
    const attr = await super.lookup(...asked)
    const work = this.meanwhile
    this.meanwhile = undefined
    await work?.()
    return attr
  }
}

t.test('the attributes of a folder tell of an open file that was removed from it', async (t) => {
  for (const folder of ['/', '/d']) {
    const { ops, vfs } = newOps()
    await ops.mkdir('/d', 0o755)
    await openFile(ops, join(folder, 'a'))
    await ops.utimens(folder, OLD, OLD)
    await ops.rename(join(folder, 'a'), join(folder, HIDDEN))
    const seen = await ops.getattr(folder)
    t.not(seen.mtime.sec, OLD.sec, folder)
    await ops.end()
    const { mtime, ctime } = await vfs.getattr(CALLER, seen.ino)
    t.same({ mtime: seen.mtime, ctime: seen.ctime }, { mtime, ctime }, `${folder} does not change later`)
  }
})

t.test('also under a name that another client gave the folder', async (t) => {
  const { ops, vfs } = newOps()
  await ops.mkdir('/d', 0o755)
  await openFile(ops, '/d/a')
  await ops.utimens('/d', OLD, OLD)
  await ops.rename('/d/a', `/d${HIDDEN}`)
  await vfs.rename(CALLER, ROOT_INO, Buffer.from('d'), ROOT_INO, Buffer.from('e'), {})
  t.not((await ops.getattr('/e')).mtime.sec, OLD.sec)
})

t.test('attributes of a folder that were read before the removal and arrive after it are not told', async (t) => {
  const vfs = new SlowVfs()
  const ops = new PathOps(vfs, CALLER, silentLog)
  await ops.mkdir('/d', 0o755)
  await openFile(ops, '/d/a')
  await ops.utimens('/d', OLD, OLD)
  await ops.rename('/d/a', `/d${HIDDEN}`)
  vfs.meanwhile = () => ops.readdir('/d')
  t.not((await ops.getattr('/d')).mtime.sec, OLD.sec)
})

t.test('times of a folder that are set after an open file was removed from it stay', async (t) => {
  for (const folder of ['/', '/d']) {
    const { ops } = newOps()
    await ops.mkdir('/d', 0o755)
    await openFile(ops, join(folder, 'a'))
    await ops.rename(join(folder, 'a'), join(folder, HIDDEN))
    await ops.utimens(folder, OLD, OLD)
    await ops.readdir(folder)
    t.same((await ops.getattr(folder)).mtime, OLD, folder)
  }
})

t.test('whoever looks at the folder while an open file is replaced waits, and the name is never missing', async (t) => {
  const { ops, isThere } = newOps()
  await openFile(ops, '/a')
  await ops.mknod('/b', S_IFREG | 0o644, 0)
  await ops.utimens('/', OLD, OLD)
  await ops.rename('/a', HIDDEN)
  const seen = ops.getattr('/')
  t.ok(await isThere('a'))
  await ops.rename('/b', '/a')
  t.ok(await isThere('a'))
  t.not((await seen).mtime.sec, OLD.sec)
})

t.test("a file that is not open is really renamed, also to a name like the library's", async (t) => {
  const { ops, isThere } = newOps()
  await ops.mknod('/a', S_IFREG | 0o644, 0)
  await ops.rename('/a', HIDDEN)
  t.ok(await isThere(HIDDEN.slice(1)))
})

t.test('a folder holds while a removed file of it is open', async (t) => {
  const { ops } = newOps()
  await ops.mkdir('/d', 0o755)
  await ops.mkdir('/e', 0o755)
  const fd = await openFile(ops, '/d/a')
  await ops.rename('/d/a', `/d${HIDDEN}`)
  t.equal(await outcomeOf(ops.rmdir('/d')), 'EBUSY')
  t.equal(await outcomeOf(ops.rename('/e', '/d')), 'EBUSY')
  await ops.release(fd)
  await ops.unlink(`/d${HIDDEN}`)
  t.equal(await outcomeOf(ops.rmdir('/d')), 'ok')
})

t.test('moving a folder that has a file waiting to be removed removes the right one', async (t) => {
  const { ops } = newOps()
  await ops.mkdir('/d', 0o755)
  const fd = await openFile(ops, '/d/a')
  await ops.rename('/d/a', `/d${HIDDEN}`)
  await ops.rename('/d', '/moved')
  t.same(
    (await ops.readdir('/moved')).map(({ name }) => name.toString()),
    ['.', '..'],
  )
  t.equal((await ops.fgetattr(`/moved${HIDDEN}`, fd)).nlink, 1)
})

t.test('what the kernel did not release is released at the end', async (t) => {
  const { ops, vfs } = newOps()
  await openFile(ops, '/a')
  await ops.end()
  t.equal(vfs.openHandles, 0)
})

t.test('chown leaves what is (uid_t) -1', async (t) => {
  const { ops } = newOps()
  await ops.mknod('/a', S_IFREG | 0o644, 0)
  await ops.chown('/a', 5, 2 ** 32 - 1)
  await ops.chown('/a', 2 ** 32 - 1, 6)
  const { uid, gid } = await ops.getattr('/a')
  t.same([uid, gid], [5, 6])
})

t.test('offsets and lengths that a number does not hold are EFBIG', async (t) => {
  const { ops } = newOps()
  const fd = await openFile(ops, '/a')
  t.equal(await outcomeOf(ops.ftruncate(fd, 2 ** 62)), 'EFBIG')
  t.equal(await outcomeOf(ops.truncate('/a', 2 ** 62)), 'EFBIG')
  t.equal(await outcomeOf(write(ops, fd, 2 ** 62)), 'EFBIG')
})

async function write(ops: PathOps, fd: number, offset: number): Promise<void> {
  await ops.write(fd, offset, Buffer.from('x'))
}

t.test('a listing is complete, whatever its length', async (t) => {
  const { ops } = newOps()
  for (let i = 0; i < 2_500; i++) await ops.mknod(`/f${i}`, S_IFREG | 0o644, 0)
  t.equal(new Set((await ops.readdir('/')).map(({ name }) => name.toString())).size, 2_502)
})
