/** What the options of a mount change in the VFS: read-only, dirsync, sync. */
import t from 'tap'
import { ROOT_INO } from '../../../src/base/limits.js'
import type { VfsContract } from '../../../src/vfs/contract.js'
import { CALLER, O_CREAT, O_RDWR, codeOf, fixture, make, settle } from '../../helpers/vfs-fixture.js'

const O_TRUNC = 0o1000
const name = Buffer.from('name')
const attribute = Buffer.from('user.a')

/** Every change there is, of the file `ino`, which is called `f`. */
function changes(vfs: VfsContract, ino: number): Readonly<Record<string, () => Promise<unknown>>> {
  const file = Buffer.from('f')
  return {
    chmod: () => vfs.setattr(CALLER, ino, { mode: 0o600 }),
    truncate: () => vfs.setattr(CALLER, ino, { sizeBytes: 0 }),
    utimens: () => vfs.setattr(CALLER, ino, { atime: 'now' }),
    mknod: () => vfs.mknod(CALLER, ROOT_INO, name, 0o010644, 0),
    mkdir: () => vfs.mkdir(CALLER, ROOT_INO, name, 0o755),
    symlink: () => vfs.symlink(CALLER, ROOT_INO, name, Buffer.from('target')),
    link: () => vfs.link(CALLER, ino, ROOT_INO, name),
    unlink: () => vfs.unlink(CALLER, ROOT_INO, file),
    rmdir: () => vfs.rmdir(CALLER, ROOT_INO, Buffer.from('d')),
    rename: () => vfs.rename(CALLER, ROOT_INO, file, ROOT_INO, name, {}),
    create: () => vfs.create(CALLER, ROOT_INO, name, 0o644, O_RDWR | O_CREAT),
    'open to write': () => vfs.open(CALLER, ino, O_RDWR),
    'open with O_TRUNC': () => vfs.open(CALLER, ino, O_TRUNC),
    setxattr: () => vfs.setxattr(ino, attribute, Buffer.from('new'), 0),
    removexattr: () => vfs.removexattr(ino, attribute),
  }
}

t.test('a read-only VFS refuses every change with EROFS, and reads', async (t) => {
  const { vfs, another } = fixture(t)
  const { ino, handle } = await make(vfs, 'f')
  await vfs.write(handle, 0, Buffer.from('contents'))
  await vfs.setxattr(ino, attribute, Buffer.from('value'), 0)
  await vfs.release(handle)
  const { vfs: reader, meta } = another({ readOnly: true })
  const called = new Set<string>()
  meta.before = (call) => {
    called.add(call)
  }
  for (const [what, change] of Object.entries(changes(reader, ino))) t.equal(await codeOf(change()), 'EROFS', what)
  t.equal(called.size, 0, 'none of them reached the store')
  const opened = await reader.open(CALLER, ino, 0)
  t.equal((await reader.read(opened.handle, 0, 100)).toString(), 'contents')
  t.equal((await reader.getxattr(ino, attribute)).toString(), 'value')
  await reader.flush(opened.handle)
  await reader.fsync(opened.handle, false)
  await reader.release(opened.handle)
  await reader.syncAll(true)
  const directory = await reader.opendir(CALLER, ROOT_INO)
  t.equal((await reader.readdir(directory, 0n, 10, true)).length, 3)
  reader.releasedir(directory)
  const expected = ['open', 'getattr', 'extents', 'getxattr', 'readdir', 'sync', 'close']
  t.same(
    [...called].filter((call) => !expected.includes(call)),
    [],
    'nothing but reads, opens and closes',
  )
})

t.test('dirsync makes changes of names durable before they return, sync also those of attributes', async (t) => {
  const { vfs, another } = fixture(t)
  const { ino, handle } = await make(vfs, 'f')
  await vfs.release(handle)
  for (const durableChanges of ['none', 'names', 'all'] as const) {
    const { vfs: mounted, meta } = another({ durableChanges })
    let syncs = 0
    meta.before = (call) => {
      if (call === 'sync') syncs++
    }
    const made = await mounted.create(CALLER, ROOT_INO, Buffer.from(durableChanges), 0o644, O_RDWR | O_CREAT)
    await mounted.unlink(CALLER, ROOT_INO, Buffer.from(durableChanges))
    t.equal(syncs, durableChanges === 'none' ? 0 : 2, `${durableChanges}: names`)
    await mounted.setattr(CALLER, ino, { mode: 0o600 })
    t.equal(syncs, { none: 0, names: 2, all: 3 }[durableChanges], `${durableChanges}: attributes`)
    await mounted.release(made.handle)
    await settle()
  }
})
