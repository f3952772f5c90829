/** The VFS: exchanged names, files without one, and access times. */
import { ROOT_INO } from '../../src/base/limits.js'
import type { RenameReply } from '../../src/vfs/contract.js'
import { until } from '../helpers/deadline.js'
import { fails, ROOT_CALLER, type Claim, type Client } from './vfs-suite.js'

function exchange(client: Client, one: string, parent: number, other: string, newParent: number): Promise<RenameReply> {
  return client.vfs.rename(ROOT_CALLER, parent, Buffer.from(one), newParent, Buffer.from(other), { exchange: true })
}

export const NAME_CLAIMS: readonly (readonly [string, Claim])[] = [
  [
    'exchanged names are seen at once here, and elsewhere when it was told',
    async (t, a, b, pair) => {
      const dir = await a.mkdir('dir')
      const inner = await a.mkdir('inner', dir)
      const file = await a.put('file', 'bytes')
      for (const client of [a, b]) {
        // What is looked up is cached.
        t.same([await client.lookup('file'), await client.lookup('inner', dir)], [file, inner])
      }
      await exchange(a, 'file', ROOT_INO, 'inner', dir)
      await pair.settle()
      for (const client of [a, b]) {
        t.same([await client.lookup('file'), await client.lookup('inner', dir)], [inner, file])
        t.equal((await client.vfs.getattr(ROOT_CALLER, inner)).parent, ROOT_INO)
        t.equal((await client.vfs.getattr(ROOT_CALLER, dir)).nlink, 2)
        t.equal((await client.vfs.getattr(ROOT_CALLER, ROOT_INO)).nlink, 4)
      }
      t.equal(await b.text(file), 'bytes')
    },
  ],
  [
    'an exchange of names that were never looked up, and of one that is open',
    async (t, a, b) => {
      const one = await a.put('one', '1')
      const { ino: other, handle } = await a.create('other')
      await b.vfs.rename(ROOT_CALLER, ROOT_INO, Buffer.from('one'), ROOT_INO, Buffer.from('other'), { exchange: true })
      await a.vfs.write(handle, 0, Buffer.from('later'))
      await a.close(handle)
      t.same([await b.lookup('one'), await b.lookup('other')], [other, one])
      t.equal(await b.text(other), 'later')
    },
  ],
  [
    'what is read here has a new access time here, and elsewhere once it was closed and told',
    async (t, a, b, pair) => {
      const ino = await a.put('file', 'bytes')
      await b.vfs.setattr(ROOT_CALLER, ino, { atime: { sec: 5, nsec: 0 } })
      await pair.settle()
      const start = Math.floor(Date.now() / 1000) - 1
      t.equal(await a.text(ino), 'bytes')
      t.ok((await a.vfs.getattr(ROOT_CALLER, ino)).atime.sec >= start, 'here')
      await a.vfs.syncAll(false)
      await pair.settle()
      t.ok((await b.vfs.getattr(ROOT_CALLER, ino)).atime.sec >= start, 'elsewhere')
      await b.vfs.setattr(ROOT_CALLER, ino, { atime: { sec: 6, nsec: 7 } })
      await pair.settle()
      t.same((await a.vfs.getattr(ROOT_CALLER, ino)).atime, { sec: 6, nsec: 7 })
    },
  ],
  [
    'a file without a name is written and read, and stays once it is linked',
    async (t, a, b, pair) => {
      const dir = await a.mkdir('dir')
      const { attr, handle } = await a.vfs.tmpfile(ROOT_CALLER, dir, 0o640, 2)
      t.match(attr, { nlink: 0, mode: 0o640, type: 'file' })
      await a.vfs.write(handle, 0, Buffer.from('bytes'))
      t.equal((await a.vfs.read(handle, 0, 10)).toString(), 'bytes')
      t.equal((await a.vfs.getattr(ROOT_CALLER, attr.ino)).sizeBytes, 5)
      await a.vfs.link(ROOT_CALLER, attr.ino, ROOT_INO, Buffer.from('named'))
      await a.vfs.write(handle, 5, Buffer.from(' more'))
      await a.close(handle)
      await pair.settle()
      t.equal(await b.text(await b.lookup('named')), 'bytes more')
      const second = await a.vfs.tmpfile(ROOT_CALLER, dir, 0o600, 2)
      await a.vfs.write(second.handle, 0, Buffer.from('lost'))
      await a.close(second.handle)
      // Closings are told a little later.
      const isThere = (): Promise<boolean> =>
        b.vfs.getattr(ROOT_CALLER, second.attr.ino).then(
          () => true,
          () => false,
        )
      await until('it has gone', async () => !(await isThere()))
      await fails(t, a.vfs.link(ROOT_CALLER, second.attr.ino, ROOT_INO, Buffer.from('x')), 'ENOENT', 'closed')
    },
  ],
  [
    'an exchange refuses a missing name and a directory with what is below it',
    async (t, a) => {
      const dir = await a.mkdir('dir')
      await a.put('file', 'x', dir)
      await fails(t, exchange(a, 'dir', ROOT_INO, 'none', ROOT_INO), 'ENOENT', 'a missing name')
      await fails(t, exchange(a, 'none', ROOT_INO, 'dir', ROOT_INO), 'ENOENT', 'a missing first name')
      await fails(t, exchange(a, 'dir', ROOT_INO, 'file', dir), 'EINVAL', 'below')
      await fails(t, exchange(a, 'file', dir, 'dir', ROOT_INO), 'EINVAL', 'above')
      await fails(t, exchange(a, '.', dir, 'dir', ROOT_INO), 'EBUSY', 'a dot')
    },
  ],
]
