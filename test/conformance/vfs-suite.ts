/**
 * The contract of the VFS as claims, for every pair of stores below it. `makeVfs` gives two clients of one empty volume,
 * each with its own session; `settle` waits until every event sent so far was delivered.
 */
import type { Test } from 'tap'
import { FILE_MAX_BYTES, KIB, MIB, ROOT_INO, TIME_MAX_S, TIME_MIN_S, WINDOW_BYTES } from '../../src/base/limits.js'
import { PosixError } from '../../src/base/errno.js'
import type { Caller, RenameReply, VfsContract, VfsDirEntry } from '../../src/vfs/contract.js'
import { ACL_CLAIMS } from './vfs-suite-acl.js'
import { NAME_CLAIMS } from './vfs-suite-names.js'
import { until } from '../helpers/deadline.js'

export interface VfsPair {
  readonly a: VfsContract
  readonly b: VfsContract
  settle(): Promise<void>
  close(): Promise<void>
}

/** `t`: the test of one claim. */
export type MakeVfs = (t: Test) => Promise<VfsPair>

export const ROOT_CALLER: Caller = { uid: 0, gid: 0, pid: 1 }
export const USER_CALLER: Caller = { uid: 1000, gid: 1000, pid: 2 }

const O_RDONLY = 0
const O_WRONLY = 1
const O_RDWR = 2
const O_CREAT = 0o100
const O_EXCL = 0o200
const O_TRUNC = 0o1000
const O_APPEND = 0o2000

/** Calls of one client in short. */
export class Client {
  readonly vfs: VfsContract

  constructor(vfs: VfsContract) {
    this.vfs = vfs
  }

  create(name: string, flags = O_RDWR, parent = ROOT_INO): Promise<{ ino: number; handle: number }> {
    return this.vfs
      .create(ROOT_CALLER, parent, Buffer.from(name), 0o644, flags | O_CREAT)
      .then(({ attr, handle }) => ({ ino: attr.ino, handle }))
  }

  async open(ino: number, flags = O_RDWR): Promise<number> {
    return (await this.vfs.open(ROOT_CALLER, ino, flags)).handle
  }

  async close(handle: number): Promise<void> {
    await this.vfs.flush(handle)
    await this.vfs.release(handle)
  }

  async put(name: string, data: string | Buffer, parent = ROOT_INO): Promise<number> {
    const { ino, handle } = await this.create(name, O_RDWR | O_TRUNC, parent)
    await this.vfs.write(handle, 0, Buffer.from(data))
    await this.close(handle)
    return ino
  }

  async get(ino: number): Promise<Buffer> {
    const handle = await this.open(ino, O_RDONLY)
    const parts: Buffer[] = []
    for (let offset = 0; ;) {
      const part = await this.vfs.read(handle, offset, MIB)
      if (part.length === 0) break
      parts.push(part)
      offset += part.length
    }
    await this.close(handle)
    return Buffer.concat(parts)
  }

  async text(ino: number): Promise<string> {
    return (await this.get(ino)).toString()
  }

  async size(ino: number): Promise<number> {
    return (await this.vfs.getattr(ROOT_CALLER, ino)).sizeBytes
  }

  async lookup(name: string, parent = ROOT_INO): Promise<number> {
    return (await this.vfs.lookup(ROOT_CALLER, parent, Buffer.from(name))).ino
  }

  async mkdir(name: string, parent = ROOT_INO): Promise<number> {
    return (await this.vfs.mkdir(ROOT_CALLER, parent, Buffer.from(name), 0o755)).ino
  }

  unlink(name: string, parent = ROOT_INO): Promise<number> {
    return this.vfs.unlink(ROOT_CALLER, parent, Buffer.from(name))
  }

  rename(
    name: string,
    newName: string,
    parent = ROOT_INO,
    newParent = parent,
    noReplace = false,
  ): Promise<RenameReply> {
    return this.vfs.rename(ROOT_CALLER, parent, Buffer.from(name), newParent, Buffer.from(newName), { noReplace })
  }

  truncate(ino: number, sizeBytes: number): Promise<unknown> {
    return this.vfs.setattr(ROOT_CALLER, ino, { sizeBytes })
  }

  async list(ino: number, limit = 100): Promise<VfsDirEntry[]> {
    const handle = await this.vfs.opendir(ROOT_CALLER, ino)
    const all: VfsDirEntry[] = []
    for (let offset = 0n; ;) {
      const entries = await this.vfs.readdir(handle, offset, limit, false)
      const last = entries.at(-1)
      if (last === undefined) break
      all.push(...entries)
      offset = last.offset
    }
    this.vfs.releasedir(handle)
    return all
  }
}

/** The call fails with this errno. */
export async function fails(t: Test, call: Promise<unknown>, code: string, claim: string): Promise<void> {
  try {
    await call
  } catch (error) {
    t.equal(error instanceof PosixError ? error.code : String(error), code, claim)
    return
  }
  t.fail(`${claim}: it did not fail`)
}

async function exists(client: Client, ino: number): Promise<boolean> {
  try {
    await client.vfs.getattr(ROOT_CALLER, ino)
    return true
  } catch {
    return false
  }
}

export type Claim = (t: Test, a: Client, b: Client, pair: VfsPair) => Promise<void>

export async function vfsSuite(t: Test, makeVfs: MakeVfs): Promise<void> {
  for (const [claim, check] of [...DATA, ...SHARED, ...NAMES, ...NAME_CLAIMS, ...ACL_CLAIMS, ...ERRORS]) {
    await t.test(claim, async (st) => {
      const pair = await makeVfs(st)
      try {
        await check(st, new Client(pair.a), new Client(pair.b), pair)
      } finally {
        await pair.close()
      }
    })
  }
}

const DATA: readonly (readonly [string, Claim])[] = [
  [
    'what is written is read back, before and after it is committed',
    async (t, a) => {
      const { ino, handle } = await a.create('f')
      t.equal(await a.vfs.write(handle, 0, Buffer.from('hello world')), 11)
      t.equal((await a.vfs.read(handle, 6, 100)).toString(), 'world', 'from memory, short at the end of the file')
      await a.vfs.flush(handle)
      t.equal((await a.vfs.read(handle, 0, 5)).toString(), 'hello', 'from the store')
      t.equal((await a.vfs.read(handle, 11, 5)).length, 0, 'nothing behind the end')
      await a.close(handle)
      t.equal(await a.text(ino), 'hello world')
    },
  ],
  [
    'the caller may change its buffer as soon as write has answered',
    async (t, a) => {
      const { ino, handle } = await a.create('f')
      const data = Buffer.alloc(300 * KIB, 'x')
      await a.vfs.write(handle, 0, data)
      data.fill('y')
      await a.close(handle)
      t.ok((await a.get(ino)).every((byte) => byte === 0x78))
    },
  ],
  [
    'holes are zeros, and unwritten data lies over committed data',
    async (t, a) => {
      const { ino, handle } = await a.create('f')
      await a.vfs.write(handle, 100_000, Buffer.from('end'))
      t.equal(await a.size(ino), 100_003, 'getattr knows the unwritten size')
      const read = await a.vfs.read(handle, 99_998, 10)
      t.equal(read.toString('latin1'), '\0\0end')
      await a.vfs.flush(handle)
      await a.vfs.write(handle, 99_999, Buffer.from('<>'))
      t.equal((await a.vfs.read(handle, 99_998, 10)).toString('latin1'), '\0<>nd')
      await a.close(handle)
      t.equal((await a.get(ino)).subarray(99_998).toString('latin1'), '\0<>nd')
    },
  ],
  [
    'data larger than chunks and across a window border comes back whole',
    async (t, a, b) => {
      const { ino, handle } = await a.create('f')
      const data = Buffer.alloc(9 * MIB)
      for (let i = 0; i < data.length; i += 4) data.writeUInt32LE(i, i)
      const start = WINDOW_BYTES - 5 * MIB - 1
      for (let at = 0; at < data.length; at += MIB) await a.vfs.write(handle, start + at, data.subarray(at, at + MIB))
      await a.close(handle)
      const reader = await b.open(ino, O_RDONLY)
      let same = true
      for (let at = 0; at < data.length; at += 768 * KIB) {
        const part = await b.vfs.read(reader, start + at, 768 * KIB)
        same &&= part.equals(data.subarray(at, at + 768 * KIB))
      }
      t.ok(same, 'every byte')
      t.ok((await b.vfs.read(reader, 0, 64 * KIB)).equals(Buffer.alloc(64 * KIB)), 'the hole before it')
      await b.close(reader)
      t.equal(await b.size(ino), start + data.length)
    },
  ],
  [
    'many scattered writes come back, the later over the earlier',
    async (t, a) => {
      const { ino, handle } = await a.create('f')
      const model = Buffer.alloc(200_000)
      for (let i = 0; i < 500; i++) {
        const offset = (i * 7919) % 199_000
        const data = Buffer.alloc(1 + (i % 900), i & 0xff)
        await a.vfs.write(handle, offset, data)
        data.copy(model, offset)
        if (i % 100 === 99) await a.vfs.fsync(handle, false)
      }
      const size = await a.size(ino)
      t.ok((await a.vfs.read(handle, 0, 300_000)).equals(model.subarray(0, size)))
      await a.close(handle)
      t.ok((await a.get(ino)).equals(model.subarray(0, size)))
    },
  ],
  [
    'a file that is rewritten in place hundreds of times reads as the last writes left it',
    async (t, a, b) => {
      const { ino, handle } = await a.create('f')
      const model = Buffer.alloc(5_000)
      for (let i = 1; i <= 300; i++) {
        const at = (i * 37) % 4_000
        await a.vfs.write(handle, at, Buffer.alloc(1_000, i))
        model.fill(i, at, at + 1_000)
        await a.vfs.flush(handle)
      }
      const size = await a.size(ino)
      t.ok((await a.vfs.read(handle, 0, 10_000)).equals(model.subarray(0, size)))
      await a.close(handle)
      t.ok((await b.get(ino)).equals(model.subarray(0, size)))
    },
  ],
  [
    'truncating down cuts unwritten and committed data for good, and up again shows zeros',
    async (t, a, b) => {
      const { ino, handle } = await a.create('f')
      await a.vfs.write(handle, 0, Buffer.from('committed-'))
      await a.vfs.flush(handle)
      await a.vfs.write(handle, 10, Buffer.from('unwritten'))
      await a.truncate(ino, 4)
      t.equal(await a.size(ino), 4)
      t.equal((await a.vfs.read(handle, 0, 100)).toString(), 'comm')
      await a.truncate(ino, 12)
      t.equal((await a.vfs.read(handle, 0, 100)).toString('latin1'), 'comm' + '\0'.repeat(8))
      await a.vfs.write(handle, 6, Buffer.from('!'))
      await a.close(handle)
      t.equal((await b.get(ino)).toString('latin1'), 'comm\0\0!' + '\0'.repeat(5))
    },
  ],
  [
    'truncating while uploads are under way brings nothing back',
    async (t, a) => {
      const { ino, handle } = await a.create('f')
      for (let i = 0; i < 5; i++) await a.vfs.write(handle, i * 4 * MIB, Buffer.alloc(4 * MIB, 'x'))
      await a.truncate(ino, 10)
      await a.vfs.write(handle, 20, Buffer.from('z'))
      await a.close(handle)
      t.equal((await a.get(ino)).toString('latin1'), 'x'.repeat(10) + '\0'.repeat(10) + 'z')
    },
  ],
  [
    'O_TRUNC empties on open, also what is not committed yet',
    async (t, a) => {
      const { ino, handle } = await a.create('f')
      await a.vfs.write(handle, 0, Buffer.from('old'))
      const second = await a.open(ino, O_RDWR | O_TRUNC)
      t.equal(await a.size(ino), 0)
      await a.vfs.write(second, 1, Buffer.from('n'))
      await a.close(second)
      await a.close(handle)
      t.equal((await a.get(ino)).toString('latin1'), '\0n')
      const { handle: third } = await a.create('f', O_WRONLY | O_TRUNC)
      await a.close(third)
      t.equal(await a.size(ino), 0, 'create of an existing file honours it, too')
    },
  ],
  [
    'O_APPEND ignores the offset and keeps the order with other writes',
    async (t, a) => {
      const { ino, handle } = await a.create('f')
      const appender = await a.open(ino, O_WRONLY | O_APPEND)
      await a.vfs.write(appender, 999, Buffer.from('one'))
      await a.vfs.write(handle, 0, Buffer.from('O'))
      await a.vfs.write(appender, 0, Buffer.from('two'))
      t.equal(await a.size(ino), 6, 'getattr counts what is not committed')
      t.equal((await a.vfs.read(handle, 0, 100)).toString(), 'Onetwo')
      await a.vfs.write(appender, 0, Buffer.from('three'))
      await a.close(appender)
      await a.close(handle)
      t.equal(await a.text(ino), 'Onetwothree')
    },
  ],
  [
    'an append across a window border is whole',
    async (t, a) => {
      const { ino, handle } = await a.create('f', O_RDWR | O_APPEND)
      await a.truncate(ino, WINDOW_BYTES - 3)
      await a.vfs.write(handle, 0, Buffer.from('abcdefg'))
      t.equal((await a.vfs.read(handle, WINDOW_BYTES - 4, 100)).toString('latin1'), '\0abcdefg')
      await a.close(handle)
      t.equal(await a.size(ino), WINDOW_BYTES + 4)
    },
  ],
  [
    'a file that was unlinked while open goes on until its last close',
    async (t, a, b) => {
      const { ino, handle } = await a.create('f')
      await a.vfs.write(handle, 0, Buffer.from('still '))
      await b.unlink('f')
      await a.vfs.write(handle, 6, Buffer.from('here'))
      await a.vfs.fsync(handle, false)
      t.equal((await a.vfs.read(handle, 0, 100)).toString(), 'still here')
      t.equal((await a.vfs.getattr(ROOT_CALLER, ino)).nlink, 0)
      await a.close(handle)
      // The close is told to the store a little later. (No open tells: a file without a name is ESTALE to others at once.)
      await until('it is gone', async () => !(await exists(b, ino)))
      await fails(t, b.vfs.getattr(ROOT_CALLER, ino), 'ENOENT', 'and then it is gone')
    },
  ],
  [
    'times and mode that were set after a write stay, whenever the write is committed',
    async (t, a, b) => {
      const { ino, handle } = await a.create('f')
      await a.vfs.write(handle, 0, Buffer.from('data'))
      const mtime = { sec: 1_000_000_000, nsec: 5 }
      await a.vfs.setattr(ROOT_CALLER, ino, { mtime, atime: mtime, mode: 0o600 })
      await a.close(handle)
      const attr = await b.vfs.getattr(ROOT_CALLER, ino)
      t.same([attr.mtime, attr.atime, attr.mode], [mtime, mtime, 0o600])
    },
  ],
  [
    'a time that cannot be kept becomes the nearest that can, as on local disks',
    async (t, a, b) => {
      const { ino, handle } = await a.create('f')
      await a.vfs.setattr(ROOT_CALLER, ino, { mtime: { sec: 2 ** 40, nsec: 5 }, atime: { sec: -(2 ** 62), nsec: 5 } })
      await a.close(handle)
      for (const { vfs } of [a, b]) {
        const { mtime, atime } = await vfs.getattr(ROOT_CALLER, ino)
        t.same(
          [mtime, atime],
          [
            { sec: TIME_MAX_S, nsec: 0 },
            { sec: TIME_MIN_S, nsec: 0 },
          ],
        )
      }
    },
  ],
  [
    'a write by somebody without rights clears suid and sgid',
    async (t, a) => {
      const { ino, handle } = await a.create('f')
      await a.close(handle)
      await a.vfs.setattr(ROOT_CALLER, ino, { mode: 0o6755 })
      const { handle: user } = await a.vfs.open(USER_CALLER, ino, O_WRONLY)
      await a.vfs.write(user, 0, Buffer.from('x'))
      await a.close(user)
      t.equal((await a.vfs.getattr(ROOT_CALLER, ino)).mode, 0o755)
    },
  ],
  [
    'syncAll commits what is buffered',
    async (t, a, b) => {
      const { ino, handle } = await a.create('f')
      await a.vfs.write(handle, 0, Buffer.from('buffered'))
      await a.vfs.syncAll(true)
      t.equal(await b.text(ino), 'buffered')
      await a.close(handle)
    },
  ],
]

const SHARED: readonly (readonly [string, Claim])[] = [
  [
    'open after a close elsewhere sees the new contents, whatever was cached',
    async (t, a, b) => {
      const ino = await a.put('f', 'first')
      t.equal(await b.text(ino), 'first')
      await a.put('f', 'the second')
      t.equal(await b.text(ino), 'the second')
      await a.put('f', '3rd')
      t.equal(await b.text(ino), '3rd')
    },
  ],
  [
    'delete and recreate under the same name is seen at once by who opens it',
    async (t, a, b, pair) => {
      await a.put('f', 'old')
      t.equal(await b.text(await b.lookup('f')), 'old')
      await a.unlink('f')
      const ino = await a.put('f', 'new')
      await pair.settle()
      t.equal(await b.lookup('f'), ino)
      t.equal(await b.text(ino), 'new')
    },
  ],
  [
    'names, attributes and the lack of names that others change are not served from the cache',
    async (t, a, b, pair) => {
      await fails(t, b.lookup('f'), 'ENOENT', 'not there yet')
      const ino = await a.put('f', 'x')
      await pair.settle()
      t.equal(await b.lookup('f'), ino)
      t.equal((await b.vfs.getattr(ROOT_CALLER, ino)).mode, 0o644)
      await a.vfs.setattr(ROOT_CALLER, ino, { mode: 0o600 })
      await pair.settle()
      t.equal((await b.vfs.getattr(ROOT_CALLER, ino)).mode, 0o600)
      await a.rename('f', 'g')
      await pair.settle()
      await fails(t, b.lookup('f'), 'ENOENT', 'renamed away')
      t.equal(await b.lookup('g'), ino)
    },
  ],
  [
    'appends of two clients all stay, each whole',
    async (t, a, b) => {
      const { ino, handle } = await a.create('log', O_WRONLY | O_APPEND)
      const other = await b.open(ino, O_WRONLY | O_APPEND)
      for (let i = 0; i < 20; i++) {
        await Promise.all([
          a.vfs.write(handle, 0, Buffer.from(`a${String(i).padStart(3, '0')}\n`)),
          b.vfs.write(other, 0, Buffer.from(`b${String(i).padStart(3, '0')}\n`)),
        ])
        if (i % 3 === 0) await Promise.all([a.vfs.flush(handle), b.vfs.flush(other)])
      }
      await Promise.all([a.close(handle), b.close(other)])
      const lines = (await a.text(ino)).trimEnd().split('\n')
      t.equal(lines.length, 40)
      for (const who of ['a', 'b']) {
        const own = lines.filter((line) => line.startsWith(who))
        t.same(own, [...own].sort(), `the lines of ${who} in their order`)
        t.equal(own.length, 20)
      }
    },
  ],
  [
    'an open file sees what another client commits',
    async (t, a, b, pair) => {
      const ino = await a.put('f', 'before')
      const handle = await b.open(ino, O_RDONLY)
      t.equal((await b.vfs.read(handle, 0, 100)).toString(), 'before')
      await a.put('f', 'afterwards')
      await pair.settle()
      t.equal((await b.vfs.read(handle, 0, 100)).toString(), 'afterwards')
      await b.close(handle)
    },
  ],
]

const NAMES: readonly (readonly [string, Claim])[] = [
  [
    'links, symbolic links and special files are what they were made as',
    async (t, a) => {
      const ino = await a.put('f', 'x')
      const linked = await a.vfs.link(ROOT_CALLER, ino, ROOT_INO, Buffer.from('hard'))
      t.same([linked.ino, linked.nlink], [ino, 2])
      await a.unlink('f')
      t.equal((await a.vfs.getattr(ROOT_CALLER, ino)).nlink, 1)
      const soft = await a.vfs.symlink(USER_CALLER, ROOT_INO, Buffer.from('soft'), Buffer.from('a/target'))
      t.same([soft.type, soft.uid, soft.sizeBytes], ['symlink', 1000, 8])
      t.equal((await a.vfs.readlink(ROOT_CALLER, soft.ino)).toString(), 'a/target')
      const fifo = await a.vfs.mknod(ROOT_CALLER, ROOT_INO, Buffer.from('p'), 0o010644, 0)
      const device = await a.vfs.mknod(ROOT_CALLER, ROOT_INO, Buffer.from('d'), 0o020600, 0x105)
      t.same([fifo.type, device.type, device.rdev], ['fifo', 'char', 0x105])
    },
  ],
  [
    'rename replaces, honours NOREPLACE and leaves hard links of one file alone',
    async (t, a) => {
      const f = await a.put('f', 'f')
      await a.put('g', 'g')
      await fails(t, a.rename('f', 'g', ROOT_INO, ROOT_INO, true), 'EEXIST', 'NOREPLACE')
      await a.rename('f', 'g')
      t.equal(await a.lookup('g'), f)
      await fails(t, a.lookup('f'), 'ENOENT', 'the old name')
      await a.vfs.link(ROOT_CALLER, f, ROOT_INO, Buffer.from('h'))
      await a.rename('g', 'h')
      t.same([await a.lookup('g'), await a.lookup('h')], [f, f], 'both names stay')
      const dir = await a.mkdir('dir')
      await a.rename('g', 'inside', ROOT_INO, dir)
      t.equal(await a.lookup('inside', dir), f)
      const sub = await a.mkdir('sub', dir)
      await fails(t, a.rename('dir', 'x', ROOT_INO, sub), 'EINVAL', 'a directory into itself')
      t.equal(await a.lookup('..', sub), dir)
    },
  ],
  [
    'a listing has every name once, with . and .., in pages of any size',
    async (t, a) => {
      const dir = await a.mkdir('dir')
      const names = Array.from({ length: 57 }, (_, i) => `n${i}`)
      for (const name of names) await a.close((await a.create(name, O_RDWR, dir)).handle)
      for (const limit of [1, 2, 7, 1000]) {
        const seen = (await a.list(dir, limit)).map((entry) => entry.name.toString())
        t.same(seen.slice(0, 2), ['.', '..'])
        t.same(seen.slice(2).sort(), [...names].sort(), `in pages of ${limit}`)
      }
    },
  ],
  [
    'a position of a listing stays good while names come and go',
    async (t, a) => {
      const dir = await a.mkdir('dir')
      for (let i = 0; i < 30; i++) await a.put(`n${i}`, '', dir)
      const handle = await a.vfs.opendir(ROOT_CALLER, dir)
      const all = await a.vfs.readdir(handle, 0n, 1000, false)
      t.ok(
        all.every((entry, i) => entry.offset > (all[i - 1]?.offset ?? 0n)),
        'offsets rise',
      )
      const middle = all[15]
      if (middle === undefined) throw new Error('the listing is too short')
      const behind = all.slice(16).map((entry) => entry.name.toString())
      await a.unlink(middle.name.toString(), dir)
      await a.put('added', '', dir)
      const again = await a.vfs.readdir(handle, middle.offset, 1000, false)
      const seen = again.map((entry) => entry.name.toString()).filter((name) => name !== 'added')
      t.same(seen, behind, 'from a position whose entry is gone')
      const anew = (await a.vfs.readdir(handle, 0n, 1000, true)).map((entry) => entry.name.toString())
      t.ok(anew.includes('added') && !anew.includes(middle.name.toString()), 'rewinding sees what is there now')
      a.vfs.releasedir(handle)
    },
  ],
  [
    'a listing with attributes shows unwritten sizes',
    async (t, a) => {
      const { handle } = await a.create('f')
      await a.vfs.write(handle, 0, Buffer.from('12345'))
      const dir = await a.vfs.opendir(ROOT_CALLER, ROOT_INO)
      const entries = await a.vfs.readdir(dir, 0n, 100, true)
      const entry = entries.find(({ name }) => name.toString() === 'f')
      t.equal(entry?.attr?.sizeBytes ?? 5, 5)
      t.equal(entry?.dtype, 8)
      a.vfs.releasedir(dir)
      await a.close(handle)
    },
  ],
  [
    'names are bytes',
    async (t, a, b) => {
      const name = Buffer.from([0xff, 0x01, 0xc3, 0x28])
      const { attr, handle } = await a.vfs.create(ROOT_CALLER, ROOT_INO, name, 0o644, O_RDWR | O_CREAT)
      await a.close(handle)
      t.equal((await b.vfs.lookup(ROOT_CALLER, ROOT_INO, name)).ino, attr.ino)
      t.ok((await b.list(ROOT_INO)).some((entry) => entry.name.equals(name)))
    },
  ],
  [
    'extended attributes are set, created, replaced, listed and removed',
    async (t, a, b) => {
      const ino = await a.put('f', '')
      const name = Buffer.from('user.a')
      await a.vfs.setxattr(ino, name, Buffer.from('1'), 0)
      await fails(t, a.vfs.setxattr(ino, name, Buffer.from('2'), 1), 'EEXIST', 'XATTR_CREATE')
      await a.vfs.setxattr(ino, name, Buffer.from('2'), 2)
      await fails(t, a.vfs.setxattr(ino, Buffer.from('user.b'), Buffer.from('2'), 2), 'ENODATA', 'XATTR_REPLACE')
      t.equal((await b.vfs.getxattr(ino, name)).toString(), '2')
      t.same((await b.vfs.listxattr(ino)).map(String), ['user.a'])
      await a.vfs.removexattr(ino, name)
      await fails(t, b.vfs.getxattr(ino, name), 'ENODATA', 'removed')
    },
  ],
  [
    'statfs answers',
    async (t, a) => {
      const reply = await a.vfs.statfs()
      t.ok(reply.blocks >= reply.blocksFree && reply.files >= reply.filesFree && reply.filesFree > 0)
      t.equal(reply.nameMaxBytes, 255)
    },
  ],
]

const ERRORS: readonly (readonly [string, Claim])[] = [
  [
    'names that cannot be are refused as Linux does',
    async (t, a) => {
      const long = 'n'.repeat(256)
      await fails(t, a.lookup(long), 'ENAMETOOLONG', 'lookup')
      await fails(t, a.create(long), 'ENAMETOOLONG', 'create')
      await fails(t, a.mkdir('a/b'), 'EINVAL', 'a slash')
      await fails(t, a.mkdir(''), 'ENOENT', 'an empty name')
      await fails(t, a.mkdir('.'), 'EEXIST', 'mkdir .')
      await fails(t, a.vfs.rmdir(ROOT_CALLER, ROOT_INO, Buffer.from('.')), 'EINVAL', 'rmdir .')
      await fails(t, a.vfs.rmdir(ROOT_CALLER, ROOT_INO, Buffer.from('..')), 'ENOTEMPTY', 'rmdir ..')
      await fails(t, a.unlink('.'), 'EISDIR', 'unlink .')
      await fails(t, a.rename('.', 'x'), 'EBUSY', 'rename .')
      await fails(t, a.create('..'), 'EISDIR', 'create ..')
      const target = Buffer.alloc(4096, 't')
      await fails(t, a.vfs.symlink(ROOT_CALLER, ROOT_INO, Buffer.from('s'), target), 'ENAMETOOLONG', 'a long target')
      await fails(t, a.vfs.symlink(ROOT_CALLER, ROOT_INO, Buffer.from('s'), Buffer.alloc(0)), 'ENOENT', 'no target')
    },
  ],
  [
    'existing, missing and wrong kinds of names get their errno',
    async (t, a) => {
      const f = await a.put('f', 'x')
      const dir = await a.mkdir('dir')
      await a.put('child', '', dir)
      await fails(t, a.create('f', O_RDWR | O_EXCL), 'EEXIST', 'O_EXCL')
      await fails(t, a.mkdir('f'), 'EEXIST', 'mkdir over a file')
      await fails(t, a.create('dir'), 'EISDIR', 'create over a directory')
      await fails(t, a.unlink('dir'), 'EISDIR', 'unlink a directory')
      await fails(t, a.vfs.rmdir(ROOT_CALLER, ROOT_INO, Buffer.from('f')), 'ENOTDIR', 'rmdir a file')
      await fails(t, a.vfs.rmdir(ROOT_CALLER, ROOT_INO, Buffer.from('dir')), 'ENOTEMPTY', 'rmdir with names in it')
      await fails(t, a.lookup('x', f), 'ENOTDIR', 'a name in a file')
      await fails(t, a.unlink('none'), 'ENOENT', 'unlink nothing')
      await fails(t, a.vfs.opendir(ROOT_CALLER, f), 'ENOTDIR', 'opendir of a file')
      await fails(t, a.open(dir), 'EISDIR', 'open of a directory')
      await fails(t, a.truncate(dir, 0), 'EISDIR', 'truncate a directory')
      await fails(t, a.vfs.link(ROOT_CALLER, dir, ROOT_INO, Buffer.from('l')), 'EPERM', 'link a directory')
      await fails(t, a.vfs.readlink(ROOT_CALLER, f), 'EINVAL', 'readlink of a file')
      await fails(t, a.vfs.mknod(ROOT_CALLER, ROOT_INO, Buffer.from('m'), 0o040755, 0), 'EPERM', 'mknod of a directory')
    },
  ],
  [
    'handles that are unknown or opened otherwise are EBADF',
    async (t, a) => {
      const { ino, handle } = await a.create('f', O_WRONLY)
      await fails(t, a.vfs.read(handle, 0, 1), 'EBADF', 'reading what is open for writing')
      await a.close(handle)
      const reader = await a.open(ino, O_RDONLY)
      await fails(t, a.vfs.write(reader, 0, Buffer.from('x')), 'EBADF', 'writing what is open for reading')
      await a.close(reader)
      await fails(t, a.vfs.read(reader, 0, 1), 'EBADF', 'a closed handle')
      await fails(t, a.vfs.flush(999), 'EBADF', 'flush of none')
      await fails(t, a.vfs.release(reader), 'EBADF', 'released twice')
      await fails(t, a.vfs.readdir(reader, 0n, 1, false), 'EBADF', 'no directory')
    },
  ],
  [
    'sizes and attribute sizes have limits',
    async (t, a) => {
      const { ino, handle } = await a.create('f')
      await fails(t, a.vfs.write(handle, FILE_MAX_BYTES, Buffer.from('x')), 'EFBIG', 'write')
      await fails(t, a.truncate(ino, FILE_MAX_BYTES + 2), 'EFBIG', 'truncate')
      await fails(t, a.truncate(ino, -1), 'EINVAL', 'a negative size')
      await fails(t, a.vfs.read(handle, -1, 1), 'EINVAL', 'a negative offset')
      t.equal((await a.vfs.read(handle, FILE_MAX_BYTES, MIB)).length, 0, 'nothing lies behind')
      t.equal(await a.vfs.write(handle, FILE_MAX_BYTES - 5, Buffer.alloc(10, 'x')), 5)
      t.equal((await a.vfs.read(handle, FILE_MAX_BYTES, MIB)).length, 0, 'nor behind the last byte')
      t.equal((await a.vfs.read(handle, FILE_MAX_BYTES - 1, MIB)).toString(), 'x')
      const value = Buffer.alloc(64 * KIB + 1)
      await fails(t, a.vfs.setxattr(ino, Buffer.from('user.a'), value, 0), 'E2BIG', 'a long value')
      await fails(t, a.vfs.setxattr(ino, Buffer.alloc(256, 'n'), value, 0), 'ERANGE', 'a long attribute name')
      await fails(t, a.vfs.setxattr(ino, Buffer.from('user.a'), Buffer.from('v'), 4), 'EINVAL', 'unknown flags')
      await a.close(handle)
    },
  ],
  [
    'after shutdown everything is in the store and every call is EIO',
    async (t, a, b) => {
      const { ino, handle } = await a.create('f')
      await a.vfs.write(handle, 0, Buffer.from('last words'))
      await a.vfs.shutdown()
      t.equal(await b.text(ino), 'last words')
      await fails(t, a.vfs.getattr(ROOT_CALLER, ino), 'EIO', 'getattr')
    },
  ],
]
