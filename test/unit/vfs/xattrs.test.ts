/** What attributes and ACLs cost, who asks the kernel's questions again and again, and what is not answered from memory. */
import t from 'tap'
import { ROOT_INO } from '../../../src/base/limits.js'
import { ACCESS, aclOf } from '../../helpers/acls.js'
import { CALLER, Gate, codeOf, fixture, make, settle } from '../../helpers/vfs-fixture.js'

const NAMED = aclOf('u::rwx,u:1000:rw-,g::r-x,m::rwx,o::r--')
const CAPABILITY = Buffer.from('security.capability')

t.test('that an inode has no attributes is answered without asking', async (st) => {
  const { vfs, meta } = fixture(st)
  const { ino, handle } = await make(vfs, 'f')
  for (let i = 0; i < 5; i++) {
    st.equal(await codeOf(vfs.getxattr(ino, CAPABILITY)), 'ENODATA')
    st.equal(await codeOf(vfs.getxattr(ino, ACCESS)), 'ENODATA')
    st.same(await vfs.listxattr(ino), [])
    st.equal(await codeOf(vfs.removexattr(ino, CAPABILITY)), 'ENODATA')
    await vfs.write(handle, 0, Buffer.from('bytes'))
    await vfs.flush(handle)
  }
  for (const call of ['getxattr', 'listxattr', 'removexattr']) st.equal(meta.calls.get(call), undefined, call)
})

t.test('values, and the lack of one, are asked for once until something changes', async (st) => {
  const { vfs, another } = fixture(st)
  const { ino } = await make(vfs, 'f')
  await vfs.setxattr(ino, ACCESS, NAMED, 0)
  const { vfs: reader, meta } = another()
  await reader.lookup(CALLER, ROOT_INO, Buffer.from('f'))
  const ask = async (): Promise<number> => {
    for (let i = 0; i < 3; i++) {
      st.same(await reader.getxattr(ino, ACCESS), NAMED)
      st.equal(await codeOf(reader.getxattr(ino, CAPABILITY)), 'ENODATA')
    }
    return meta.calls.get('getxattr') ?? 0
  }
  st.equal(await ask(), 2)
  await reader.release((await reader.open(CALLER, ino, 0)).handle)
  st.equal(await ask(), 2, 'an open that finds the same attributes does not forget')
  await vfs.setattr(CALLER, ino, { uid: 7 })
  await meta.delivered()
  await reader.getattr(CALLER, ino)
  st.equal(await ask(), 4, 'a change does')
  meta.setCoherent(false)
  st.equal(await ask(), 10, 'and nothing is kept while changes are not told')
})

t.test('a value that was on its way while it changed elsewhere is not kept', async (st) => {
  const { vfs, another } = fixture(st)
  const { ino } = await make(vfs, 'f')
  const name = Buffer.from('user.a')
  await vfs.setxattr(ino, name, Buffer.from('old'), 0)
  const { vfs: reader, meta } = another()
  await reader.getattr(CALLER, ino)
  const gate = new Gate()
  meta.after = () => gate.passed
  const late = reader.getxattr(ino, name)
  await settle()
  await vfs.setxattr(ino, name, Buffer.from('new'), 0)
  await meta.delivered()
  gate.open()
  st.equal(String(await late), 'old')
  st.equal(String(await reader.getxattr(ino, name)), 'new')
})

t.test('a long value is not kept', async (st) => {
  const { vfs, meta } = fixture(st)
  const { ino } = await make(vfs, 'f')
  const name = Buffer.from('user.long')
  await vfs.setxattr(ino, name, Buffer.alloc(60_000, 1), 0)
  await vfs.getattr(CALLER, ino)
  for (let i = 0; i < 2; i++) st.equal((await vfs.getxattr(ino, name)).length, 60_000)
  st.equal(meta.calls.get('getxattr'), 2)
})
