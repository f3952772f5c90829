/** The kernel's requests about umask, ACLs and attributes: linux/fuse.h, struct fuse_setxattr_in and others. */
import t from 'tap'
import { MODE_BITS } from '../../../src/vfs/flags.js'
import { ACCESS, DEFAULT, aclOf } from '../../helpers/acls.js'
import { FusePeer, cString, words } from '../../helpers/fuse-peer.js'
import { MemoryVfs } from '../../helpers/memory-vfs.js'

const ROOT = 1
const CALLER = { uid: 0, gid: 0, pid: 1 }
const DONT_MASK = 1 << 6
const POSIX_ACL = 1 << 20
const KILLPRIV_V2 = 1 << 28
const SETXATTR_EXT = 1 << 29
const KILL_SGID = 1
const ENODATA = -61
const EOPNOTSUPP = -95
const ESTALE = -116
const EEXIST = -17
const NAMED = aclOf('u::rwx,u:1000:rw-,g::r-x,m::rwx,o::r--')

function setxattr(name: string, value: Buffer, flags = 0): Buffer[] {
  return [words(value.length, 0, flags, 0), cString(name), value]
}

async function ready(flags?: number): Promise<{ peer: FusePeer; vfs: MemoryVfs; agreed: number }> {
  const vfs = new MemoryVfs()
  const peer = new FusePeer(vfs)
  return { peer, vfs, agreed: await peer.init(flags) }
}

t.test('the driver takes on ACLs and the umask', async (t) => {
  const { agreed } = await ready()
  for (const flag of [DONT_MASK, POSIX_ACL, KILLPRIV_V2, SETXATTR_EXT]) t.equal(agreed & flag, flag)
})

t.test('the umask comes with what is made, and is not the last word where a default ACL is', async (t) => {
  const { peer, vfs } = await ready()
  const modes = async (suffix: string): Promise<number[]> => {
    await peer.ask('create', ROOT, [words(1, 0o100666, 0o027, 0), cString(`file${suffix}`)])
    await peer.ask('mknod', ROOT, [words(0o010666, 0, 0o027, 0), cString(`fifo${suffix}`)])
    await peer.ask('mkdir', ROOT, [words(0o777, 0o027), cString(`dir${suffix}`)])
    const found = ['file', 'fifo', 'dir'].map((kind) => vfs.lookup(CALLER, ROOT, Buffer.from(kind + suffix)))
    return (await Promise.all(found)).map(({ mode }) => mode)
  }
  t.same(await modes(''), [0o640, 0o640, 0o750])
  await vfs.setxattr(ROOT, DEFAULT, NAMED, 0)
  t.same(await modes('2'), [0o664, 0o664, 0o774])
})

t.test('the second word of setxattr flags says that set-gid goes', async (t) => {
  const { peer, vfs } = await ready()
  const { ino } = await vfs.mknod(CALLER, ROOT, Buffer.from('f'), 0o102755, 0)
  const set = async (flags: number): Promise<number> => {
    await vfs.setattr(CALLER, ino, { mode: 0o2755 })
    t.equal((await peer.ask('setxattr', ino, setxattr(String(ACCESS), NAMED, flags))).error, 0)
    return (await vfs.getattr(CALLER, ino)).mode & MODE_BITS
  }
  t.equal(await set(0), 0o2774)
  t.equal(await set(KILL_SGID), 0o774)
})

t.test('a kernel without that word sends a shorter struct, and the group of the caller counts', async (t) => {
  const { peer, vfs, agreed } = await ready(0x0fffffff)
  t.equal(agreed & SETXATTR_EXT, 0)
  const { ino } = await vfs.mknod(CALLER, ROOT, Buffer.from('f'), 0o102755, 0)
  await vfs.setattr(CALLER, ino, { uid: 5, gid: 50 })
  const set = async (gid: number): Promise<number> => {
    await vfs.setattr(CALLER, ino, { mode: 0o2755 })
    const parts = [words(NAMED.length, 0), cString(String(ACCESS)), NAMED]
    t.equal((await peer.ask('setxattr', ino, parts, { uid: 5, gid })).error, 0)
    return (await vfs.getattr(CALLER, ino)).mode & MODE_BITS
  }
  t.equal(await set(50), 0o2774)
  t.equal(await set(51), 0o774)
})

t.test('names of trusted attributes are for root; what is in no namespace is not supported', async (t) => {
  const { peer, vfs } = await ready()
  const { ino } = await vfs.mknod(CALLER, ROOT, Buffer.from('f'), 0o100644, 0)
  for (const name of ['trusted.a', 'security.b', 'user.c']) {
    t.equal((await peer.ask('setxattr', ino, setxattr(name, Buffer.from('x')))).error, 0)
  }
  const list = async (uid: number): Promise<string> =>
    String((await peer.ask('listxattr', ino, [words(1000, 0)], { uid, gid: uid })).body)
  t.equal(await list(0), 'trusted.a\0security.b\0user.c\0')
  t.equal(await list(7), 'security.b\0user.c\0')
  for (const name of ['other.a', 'system.b', 'user', '']) {
    t.equal((await peer.ask('setxattr', ino, setxattr(name, Buffer.from('x')))).error, EOPNOTSUPP, name)
    t.equal((await peer.ask('getxattr', ino, [words(0, 0), cString(name)])).error, EOPNOTSUPP, name)
  }
  t.equal((await peer.ask('setxattr', ino, setxattr('user.', Buffer.from('x')))).error, -22)
  t.equal((await peer.ask('getxattr', ino, [words(0, 0), cString(String(ACCESS))])).error, ENODATA)
})

t.test('set-id bits go where the kernel says so, whoever calls', async (t) => {
  const { peer, vfs } = await ready()
  const { ino } = await vfs.mknod(CALLER, ROOT, Buffer.from('f'), 0o106755, 0)
  const modeAfter = async (name: string, parts: readonly Buffer[], uid: number): Promise<number> => {
    await vfs.setattr(CALLER, ino, { mode: 0o6755 })
    t.equal((await peer.ask(name, ino, parts, { uid, gid: uid })).error, 0)
    return (await vfs.getattr(CALLER, ino)).mode & MODE_BITS
  }
  const open = (killed: number): Buffer[] => [words(0o1001, killed)]
  t.equal(await modeAfter('open', open(1), 7), 0o755)
  t.equal(await modeAfter('open', open(0), 7), 0o6755, 'he has CAP_FSETID')
  t.equal(await modeAfter('open', open(1), 0), 0o755, 'and root may lack it')
  const setattr = (valid: number): Buffer[] => [words(valid, 0, 0, 0, 9, 0), Buffer.alloc(64)]
  t.equal(await modeAfter('setattr', setattr(8 | 2048), 0), 0o755)
  t.equal(await modeAfter('setattr', setattr(8), 0), 0o6755)
  t.equal(await modeAfter('setattr', setattr(0), 7), 0o755, 'no change but these, by a user')
  t.equal(await modeAfter('setattr', setattr(0), 0), 0o6755, 'of root it says nothing')
})

t.test('CREATE of a name that another client took opens only what the mode lets the caller have', async (t) => {
  const { peer, vfs } = await ready()
  const owner = { uid: 5, gid: 5, pid: 1 }
  const { attr, handle } = await vfs.create(owner, ROOT, Buffer.from('f'), 0o666, 1)
  await vfs.write(handle, 0, Buffer.from('theirs'))
  await vfs.release(handle)
  const create = async (uid: number, flags: number): Promise<number> =>
    (await peer.ask('create', ROOT, [words(flags, 0o100600, 0, 0), cString('f')], { uid, gid: uid })).error
  const [rdwr, truncating, exclusive] = [2, 0o1001, 0o201]
  t.equal(await create(6, rdwr), ESTALE, 'a stranger, whatever the mode says: groups and ACLs are not known here')
  t.equal(await create(6, truncating), ESTALE)
  t.equal(await create(6, exclusive), EEXIST)
  t.equal((await vfs.getattr(owner, attr.ino)).sizeBytes, 6, 'nothing was cut')
  t.equal(vfs.openHandles, 0, 'nor left open')
  t.equal(await create(5, rdwr), 0)
  await vfs.setattr(owner, attr.ino, { mode: 0o466 })
  t.equal(await create(5, rdwr), ESTALE, 'the owner without the right to write')
  t.equal(await create(5, 0), 0)
  t.equal(await create(0, truncating), 0)
  t.equal((await vfs.getattr(owner, attr.ino)).sizeBytes, 0)
})
