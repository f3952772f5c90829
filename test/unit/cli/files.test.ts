/** The file commands, on a VFS in memory: what they print, what they refuse, and that put and get go on after a break. */
import { Command } from 'commander'
import { execFileSync } from 'node:child_process'
import {
  chmod,
  link,
  mkdtemp,
  mkdir,
  open,
  readFile,
  readdir,
  readlink,
  rename,
  rm,
  stat,
  symlink,
  truncate,
  utimes,
  writeFile,
} from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Writable } from 'node:stream'
import { setTimeout as delay } from 'node:timers/promises'
import t, { type Test } from 'tap'
import type { TimeSpec } from '../../../src/base/clock.js'
import { PosixError } from '../../../src/base/errno.js'
import { MIB } from '../../../src/base/limits.js'
import type { CliContext } from '../../../src/cli/context.js'
import { each } from '../../../src/cli/files/parallel.js'
import { registerFileCommands } from '../../../src/cli/files/index.js'
import { FORMAT_VERSION } from '../../../src/cluster/contract.js'
import type { Attr, VfsContract, VfsDirEntry } from '../../../src/vfs/contract.js'
import { fixture } from '../../helpers/vfs-fixture.js'
import { MemoryVfs } from '../../helpers/memory-vfs.js'

t.setTimeout(300_000)

const CALLER = { uid: 0, gid: 0, pid: 1 }

class Capture extends Writable {
  readonly #parts: Buffer[] = []
  override _write(chunk: Buffer, _encoding: string, done: () => void): void {
    this.#parts.push(chunk)
    done()
  }
  take(): string {
    return Buffer.concat(this.#parts.splice(0)).toString()
  }
}

interface Shell {
  readonly vfs: MemoryVfs
  readonly folder: string
  readonly run: (...words: string[]) => Promise<string>
  /** What the next commands see instead of the VFS itself. */
  through: (vfs: VfsContract) => VfsContract
  /** Of the volume. */
  uuid: string
  /** On which the commands run. */
  machine: string
}

/** The same VFS, whose `method` fails after `times` calls. */
function failing(vfs: VfsContract, method: 'read' | 'write', times: number): VfsContract {
  let left = times
  return new Proxy(vfs, {
    get(target, key) {
      const value: unknown = Reflect.get(target, key)
      if (key === method && left-- <= 0) return () => Promise.reject(new PosixError('EIO', 'broken for a test'))
      return typeof value === 'function' ? (value.bind(target) as unknown) : value
    },
  })
}

/** The same VFS with other methods. */
function changed(vfs: VfsContract, methods: Partial<VfsContract>): VfsContract {
  return new Proxy(vfs, {
    get(target, key) {
      const value: unknown = Reflect.get(key in methods ? methods : target, key)
      return typeof value === 'function' ? (value.bind(target) as unknown) : value
    },
  })
}

/** The same VFS; `look` sees what is written. */
function watchingWrites(vfs: VfsContract, look: (data: Uint8Array) => void): VfsContract {
  return changed(vfs, {
    write: (handle, offset, data) => {
      look(data)
      return vfs.write(handle, offset, data)
    },
  })
}

async function shell(t: Test): Promise<Shell> {
  const folder = await mkdtemp(join(tmpdir(), 'ringfs-cli-'))
  t.teardown(() => rm(folder, { recursive: true, force: true }))
  const vfs = new MemoryVfs()
  const stdout = new Capture()
  const stderr = new Capture()
  const settings = {
    name: 'demo',
    formatVersion: FORMAT_VERSION,
    partitions: 1,
    chunkBytes: 4 * MIB,
    replicas: 1,
    writeQuorum: 1,
    createdMs: 0,
    metaReplicas: 0,
    metaSync: 'always' as const,
    inlineBytes: 0,
    inlineBudgetBytes: 0,
  }
  const self: Shell = {
    vfs,
    folder,
    through: (same) => same,
    uuid: '6f1a2b3c-0d4e-4f5a-8b6c-7d8e9f0a1b2c',
    machine: 'one',
    run: async (...words) => {
      const context: CliContext = {
        openVfs: () => {
          const opened = { vfs: self.through(vfs), settings: { ...settings, uuid: self.uuid } }
          return Promise.resolve({ ...opened, close: () => Promise.resolve() })
        },
        stdout,
        stderr,
        isTerminal: false,
        caller: CALLER,
        machine: self.machine,
      }
      const program = new Command('ringfs').exitOverride()
      registerFileCommands(program, context)
      try {
        await program.parseAsync(words, { from: 'user' })
        return stdout.take() + stderr.take()
      } finally {
        stdout.take()
        stderr.take()
      }
    },
  }
  return self
}

t.test(
  'folders that their owner may not write into are so when all is in them, also after an interruption',
  async (t) => {
    const sh = await shell(t)
    const { folder, run } = sh
    const [tree, out] = [join(folder, 'tree'), join(folder, 'out')]
    await mkdir(join(tree, 'ro', 'below'), { recursive: true })
    await writeFile(join(tree, 'ro', 'a'), 'a')
    await writeFile(join(tree, 'ro', 'below', 'b'), 'b')
    await chmod(join(tree, 'ro', 'below'), 0o500)
    await chmod(join(tree, 'ro'), 0o555)
    await run('put', '-r', tree, '/')
    const modes = async (): Promise<readonly number[]> =>
      Promise.all(['ro', 'ro/below', '.'].map(async (name) => (await stat(join(out, name))).mode & 0o777))
    const umask = process.umask(0o022)
    t.teardown(() => process.umask(umask))

    sh.through = (vfs) => failing(vfs, 'read', 1)
    await t.rejects(run('get', '-r', '-j', '1', '/tree', out), { code: 'EIO' })
    t.equal((await modes())[0], 0o755, 'until it is complete its owner may write into it')
    sh.through = (vfs) => vfs
    await run('get', '-r', '/tree/.', out)
    const whole = [0o555, 0o500, 0o755]
    t.same(await modes(), whole)

    await chmod(join(out, 'ro'), 0o755)
    await rm(join(out, 'ro', 'a'))
    await chmod(join(out, 'ro'), 0o555)
    await run('get', '-r', '/tree/.', out)
    t.equal(await readFile(join(out, 'ro', 'a'), 'utf8'), 'a')
    t.same(await modes(), whole, 'a complete one is opened and closed again')

    await chmod(join(out, 'ro'), 0o770)
    await run('get', '-r', '/tree/.', out)
    t.equal((await modes())[0], 0o770, 'one of another mode is its owner’s')
  },
)

t.test('put, ls, cat, stat, mv, get and rm', async (t) => {
  const { run, folder } = await shell(t)
  await writeFile(join(folder, 'a'), 'hello\n', { mode: 0o640 })
  await run('mkdir', '-p', '/x/y')
  await run('put', join(folder, 'a'), '/x/y')
  t.equal(await run('ls', '/x/y'), 'a\n')
  t.equal(await run('cat', '/x/y/a'), 'hello\n')
  t.match(await run('ls', '-l', '/x/y'), /^-rw-r----- +1 0 0 +6 .* a$/m)
  t.match(JSON.parse(await run('stat', '--json', '/x/y/a')), [{ sizeBytes: 6, mode: '0640', type: 'file' }])
  await run('mv', '/x/y/a', '/x/b')
  t.equal(await run('ls', '/x'), 'b\ny\n')
  await run('get', '/x/b', join(folder, 'copy'))
  t.equal(await readFile(join(folder, 'copy'), 'utf8'), 'hello\n')
  await run('rm', '-r', '/x')
  t.equal(await run('ls', '/'), '')
})

t.test(
  'a tree goes there and back with modes, times and symbolic links, and the second time nothing is sent',
  async (t) => {
    const { run, folder } = await shell(t)
    const from = join(folder, 'tree')
    await mkdir(join(from, 'deep', 'er'), { recursive: true })
    for (let i = 0; i < 40; i++) await writeFile(join(from, 'deep', `f${i}`), 'x'.repeat(i))
    await writeFile(join(from, 'deep', 'er', 'big'), Buffer.alloc(3 * MIB + 17, 7))
    await utimes(join(from, 'deep', 'f7'), 1000, 2000.5)
    await symlink('deep/f7', join(from, 'link'))
    t.match(await run('put', '-r', from, '/'), /put 42 files, 3.0 MiB/)
    t.match(await run('put', '-r', from, '/'), /put 0 files, 0 B .*42 files were there already/)
    await run('get', '-r', '/tree', join(folder, 'back'))
    t.same(await readFile(join(folder, 'back', 'deep', 'er', 'big')), Buffer.alloc(3 * MIB + 17, 7))
    t.equal((await readdir(join(folder, 'back', 'deep'))).length, 41)
    t.equal((await stat(join(folder, 'back', 'link'))).mtimeMs, 2000500)
    t.match(await run('get', '-r', '/tree', join(folder, 'back')), /got 42 files|41 file was there already/)
  },
)

t.test(
  'an interrupted put is continued from what is certainly on disk, and the name appears only when the file is whole',
  async (t) => {
    const sh = await shell(t)
    const local = join(sh.folder, 'big')
    const bytes = Buffer.alloc(LONG_BYTES, 'abcdefg')
    await writeFile(local, bytes)
    const broken = failing(sh.vfs, 'write', PIECES)
    sh.through = () => broken
    await t.rejects(sh.run('put', local, '/big'), { code: 'EIO' })
    t.equal(await sh.run('ls', '/'), '')
    sh.through = (vfs) => vfs
    t.match(await sh.run('put', local, '/big'), /put 1 file, 40.0 MiB .*32.0 MiB were there from an interrupted run/)
    t.equal(await sh.run('ls', '-a', '/'), 'big\n')
    t.ok((await sh.run('cat', '/big')) === bytes.toString())
  },
)

t.test('what a put has told as done is on disk, and what the next one goes on from', async (t) => {
  const sh = await shell(t)
  const local = join(sh.folder, 'big')
  await writeFile(local, Buffer.alloc(LONG_BYTES, 'abcdefg'))
  const calls: string[] = []
  let [syncing, written] = [0, 0]
  /** Up to which it is on disk. */
  let synced = 0
  sh.through = (vfs) =>
    changed(vfs, {
      write: async (handle, offset, ...rest) => {
        const certain = Math.max(0, Math.floor(offset / (32 * MIB)) - 1) * 32 * MIB
        t.ok(synced >= certain, `${offset} is written when ${synced} are on disk`)
        const taken = await vfs.write(handle, offset, ...rest)
        written = offset + taken
        return taken
      },
      fsync: async (...args) => {
        t.equal(syncing++, 0, 'one at a time')
        const upTo = written
        await vfs.fsync(...args)
        await delay(20)
        ;[synced, syncing] = [upTo, 0]
        calls.push('fsync')
      },
      rename: async (...args) => {
        t.equal(synced, LONG_BYTES, 'it is on disk before it has its name')
        calls.push('rename')
        return vfs.rename(...args)
      },
      syncAll: async (isDurable) => {
        calls.push(`syncAll ${isDurable}`)
        return vfs.syncAll(isDurable)
      },
    })
  await sh.run('put', local, '/big')
  t.same(calls, ['fsync', 'fsync', 'fsync', 'rename', 'syncAll true'])

  await writeFile(join(sh.folder, 'small'), 'x')
  for (const fails of ['fsync', 'syncAll'] as const) {
    sh.through = (vfs) => changed(vfs, { [fails]: () => Promise.reject(new PosixError('EIO', 'no disk')) })
    await t.rejects(sh.run('put', join(sh.folder, 'small'), `/${fails}`), { code: 'EIO' })
  }
  sh.through = (vfs) => vfs
  t.equal(await sh.run('ls', '/'), 'big\nsyncAll\n', 'what is not on disk has no name')
})

t.test('an interrupted put of a file that was changed since begins anew and leaves nothing behind', async (t) => {
  const sh = await shell(t)
  const local = join(sh.folder, 'big')
  await writeFile(local, Buffer.alloc(2 * MIB, 'old'))
  const broken = failing(sh.vfs, 'write', 1)
  sh.through = () => broken
  await t.rejects(sh.run('put', local, '/big'), { code: 'EIO' })
  await writeFile(local, Buffer.alloc(2 * MIB, 'new'))
  sh.through = (vfs) => vfs
  await sh.run('put', local, '/big')
  t.equal(await sh.run('cat', '/big'), Buffer.alloc(2 * MIB, 'new').toString())
  t.equal(await sh.run('ls', '-a', '/'), 'big\n')
})

t.test('puts of the same path on two machines do not disturb each other', async (t) => {
  const [one, two] = [await shell(t), await shell(t)]
  two.machine = 'two'
  const [local, kept] = [join(one.folder, 'big'), join(one.folder, 'kept')]
  const bytes = Buffer.alloc(2 * MIB, 'one')
  await writeFile(local, bytes)
  // While the one sends its file, the other sends what is there on that machine.
  const sendOther = async (): Promise<void> => {
    await rename(local, kept)
    await writeFile(local, 'two')
    await two.run('put', local, '/big')
    await rename(kept, local)
  }
  let sending: Promise<void> | null = null
  one.through = (vfs) =>
    changed(vfs, { write: async (...args) => (await (sending ??= sendOther()), vfs.write(...args)) })
  two.through = () => one.vfs
  await one.run('put', local, '/big')
  t.equal(await one.run('ls', '-a', '/'), 'big\n')
  t.ok((await one.run('cat', '/big')) === bytes.toString())
})

t.test('a put leaves alone what another one of the same file is sending', async (t) => {
  const sh = await shell(t)
  const { vfs } = fixture(t)
  const local = join(sh.folder, 'sparse')
  const bytes = Buffer.concat([Buffer.alloc(MIB), Buffer.alloc(7 * MIB, 'abcdefg')])
  await writeFile(local, bytes)
  execFileSync('fallocate', ['-d', local])
  const second = async (): Promise<void> => {
    const broken = failing(vfs, 'write', 0)
    sh.through = () => broken
    await t.rejects(sh.run('put', local, '/sparse'), { code: 'ALREADY_RUNNING' })
  }
  let writes = 0
  sh.through = () =>
    changed(vfs, {
      write: async (...args) => {
        if (++writes === 5) await second()
        return await vfs.write(...args)
      },
    })
  await sh.run('put', local, '/sparse')
  t.equal(writes, 7)
  t.ok((await sh.run('cat', '/sparse')) === bytes.toString())
})

t.test('a put does not take away what one of another file at the same path is sending', async (t) => {
  const sh = await shell(t)
  const { vfs } = sh
  const [local, kept] = [join(sh.folder, 'big'), join(sh.folder, 'kept')]
  const bytes = Buffer.alloc(2 * MIB, 'one')
  await writeFile(local, bytes)
  const second = async (): Promise<void> => {
    await rename(local, kept)
    await writeFile(local, 'two')
    sh.through = () => vfs
    await t.rejects(sh.run('put', local, '/big'), { code: 'ALREADY_RUNNING' })
    await rename(kept, local)
  }
  let sending: Promise<void> | null = null
  sh.through = () => changed(vfs, { write: async (...args) => (await (sending ??= second()), vfs.write(...args)) })
  await sh.run('put', local, '/big')
  t.ok((await sh.run('cat', '/big')) === bytes.toString())
  t.equal(await sh.run('ls', '-a', '/'), 'big\n')
})

t.test('a file that was changed under its old time and size is no more the same', async (t) => {
  const sh = await shell(t)
  const local = join(sh.folder, 'big')
  const write = async (text: string): Promise<void> => {
    await writeFile(local, Buffer.alloc(4 * MIB, text), { flag: 'r+' })
    await utimes(local, 1000, 1000)
  }
  await writeFile(local, '')
  await write('old')
  const broken = failing(sh.vfs, 'write', 2)
  sh.through = () => broken
  await t.rejects(sh.run('put', local, '/big'), { code: 'EIO' })
  await write('new')
  sh.through = (vfs) => vfs
  await sh.run('put', local, '/big')
  t.ok((await sh.run('cat', '/big')) === Buffer.alloc(4 * MIB, 'new').toString(), 'an interrupted put is not continued')

  const during = async (work: () => Promise<void>): Promise<string> => {
    await utimes(local, 2000, Date.now() / 1000)
    let working: Promise<void> | null = null
    sh.through = (vfs) => changed(vfs, { write: async (...args) => (await (working ??= work()), vfs.write(...args)) })
    return await sh.run('put', local, '/big')
  }
  await t.rejects(
    during(async () => {
      const { mtime } = await stat(local)
      await writeFile(local, Buffer.alloc(4 * MIB, 'mix'), { flag: 'r+' })
      await utimes(local, 2000, mtime)
    }),
    { message: /was changed while it was copied/ },
  )
  t.match(await during(() => link(local, join(sh.folder, 'link'))), /put 1 file,/, 'a further name changes nothing')
  t.match(await during(() => chmod(local, 0o600)), /put 1 file,/, 'nor do other rights')
  t.match(await during(() => rename(local, `${local}-2`).then(() => rename(`${local}-2`, local))), /put 1 file,/)
  t.match(await during(() => rm(local)), /put 1 file,/, 'nor that it is removed')
})

/** Seconds after which all that was written is committed. */
const RESTED = 3_600

/** Files that were written so many seconds earlier, as an open tells of them, and as getattr does. */
function showing(
  vfs: VfsContract,
  age: number,
  opened: (attr: Attr) => Attr,
  asked: (attr: Attr) => Attr = opened,
): VfsContract {
  const before = ({ sec, nsec }: TimeSpec): TimeSpec => ({ sec: sec - age, nsec })
  const aged = (attr: Attr): Attr => ({ ...attr, mtime: before(attr.mtime), ctime: before(attr.ctime) })
  return changed(vfs, {
    getattr: async (...args) => asked(aged(await vfs.getattr(...args))),
    open: async (...args) => {
      const { attr, ...rest } = await vfs.open(...args)
      return { ...rest, attr: opened(aged(attr)) }
    },
  })
}

function newVersion(change: (attr: Attr) => Partial<Attr>): (attr: Attr) => Attr {
  return (attr) => (attr.type === 'file' ? { ...attr, dataVersion: attr.dataVersion + 1, ...change(attr) } : attr)
}

t.test('get of a file that is changed meanwhile fails; housekeeping of the store changes nothing', async (t) => {
  const sh = await shell(t)
  const [local, copy] = [join(sh.folder, 'big'), join(sh.folder, 'copy')]
  await writeFile(local, Buffer.alloc(4 * MIB, 'data'))
  await sh.run('put', local, '/big')
  const get = async (change: (attr: Attr) => Partial<Attr>, age = RESTED): Promise<string> => {
    sh.through = (vfs) => showing(vfs, age, (attr) => attr, newVersion(change))
    return await sh.run('get', '/big', copy)
  }
  const later = ({ sec, nsec }: Attr['mtime']): Attr['mtime'] => ({ sec, nsec: (nsec + 1) % 1e9 })
  for (const change of [
    ({ mtime }: Attr) => ({ mtime: later(mtime) }),
    ({ ctime }: Attr) => ({ ctime: later(ctime) }),
    ({ sizeBytes }: Attr) => ({ sizeBytes: sizeBytes + 1 }),
  ]) {
    await t.rejects(get(change), { message: /was changed while it was copied/ })
  }
  await t.rejects(
    get(() => ({}), 0),
    { message: /was changed while it was copied/ },
    'what was written together may be committed one after the other, with the same times',
  )
  t.match(await get(() => ({})), /got? 1 file/)
})

t.test('an interrupted put is not continued with what somebody else has put in its place', async (t) => {
  const sh = await shell(t)
  const local = join(sh.folder, 'big')
  const bytes = Buffer.alloc(4 * MIB, 'abcdefg')
  await writeFile(local, bytes)
  const broken = failing(sh.vfs, 'write', 2)
  sh.through = () => broken
  await t.rejects(sh.run('put', local, '/big'), { code: 'EIO' })
  sh.through = (vfs) => vfs
  const temporary = Buffer.from((await sh.run('ls', '-a', '/')).trim())
  await sh.vfs.unlink(CALLER, 1, temporary)
  const other = { uid: 1000, gid: 1000, pid: 1 }
  const { handle } = await sh.vfs.create(other, 1, temporary, 0o666, 2)
  await sh.vfs.write(handle, 0, Buffer.alloc(2 * MIB, 'evil'))
  await sh.vfs.release(handle)
  await sh.run('put', local, '/big')
  t.ok((await sh.run('cat', '/big')) === bytes.toString())
  t.match(JSON.parse(await sh.run('stat', '--json', '/big')), [{ uid: 0 }])
})

for (const code of ['EIO', 'ENOSPC'] as const) {
  t.test(`a put that lost something in the middle (${code}) is continued from there, not behind it`, async (t) => {
    const sh = await shell(t)
    const { vfs, chunks, another } = fixture(t)
    const local = join(sh.folder, 'big')
    const bytes = Buffer.alloc(136 * MIB, 'abcdefg')
    await writeFile(local, bytes)
    // Once, behind 129 MiB: when these are written the first 96 are on disk, of which the next put trusts 32 at least.
    let isDue = false
    sh.through = () =>
      changed(vfs, {
        write: (handle, offset, ...rest) => {
          if (offset === 129 * MIB) isDue = true
          return vfs.write(handle, offset, ...rest)
        },
      })
    chunks.before = (call) => {
      if (call !== 'write' || !isDue) return
      isDue = false
      throw new PosixError(code)
    }
    await t.rejects(sh.run('put', local, '/big'), { code })
    chunks.before = () => undefined
    // A process of its own.
    const next = another().vfs
    sh.through = () => next
    t.match(await sh.run('put', local, '/big'), /(32|64|96).0 MiB were there/)
    t.ok((await sh.run('cat', '/big')) === bytes.toString())
    t.equal(await sh.run('ls', '-a', '/'), 'big\n')
  })
}

t.test('a put whose uploads fail ends soon, not when it has read all of the file', async (t) => {
  const sh = await shell(t)
  const { vfs, chunks } = fixture(t)
  const local = join(sh.folder, 'big')
  // Zeros that are no hole: what has none is sent as it is.
  execFileSync('fallocate', ['-l', String(1024 * MIB), local])
  let bytes = 0
  sh.through = () => watchingWrites(vfs, (data) => (bytes += data.length))
  chunks.before = (call) => {
    if (call === 'write') throw new PosixError('EIO')
  }
  await t.rejects(sh.run('put', local, '/big'), { code: 'EIO' })
  t.ok(bytes <= 128 * MIB, `${bytes / MIB} MiB were read`)
})

/** The next fdatasync(2) of this process. `file`: any. */
async function failDatasync(file: string): Promise<void> {
  const handle = await open(file)
  const prototype = Reflect.getPrototypeOf(handle)
  await handle.close()
  const real = prototype === null ? undefined : Reflect.getOwnPropertyDescriptor(prototype, 'datasync')
  if (prototype === null || real === undefined) throw new Error('no datasync to replace')
  const value = (): Promise<void> => {
    Object.defineProperty(prototype, 'datasync', real)
    return Promise.reject(new PosixError('EIO', 'broken for a test'))
  }
  Object.defineProperty(prototype, 'datasync', { ...real, value })
}

/** Of a get that ends after 70 MiB the next one takes 32: what is certainly on disk. */
const PIECES = 70
const LONG_BYTES = 72 * MIB

t.test('an interrupted get is continued, not behind what is certainly on disk', async (t) => {
  const sh = await shell(t)
  const bytes = Buffer.alloc(LONG_BYTES, 'xyz')
  await writeFile(join(sh.folder, 'big'), bytes)
  await sh.run('put', join(sh.folder, 'big'), '/big')
  const broken = failing(sh.vfs, 'read', PIECES)
  sh.through = () => broken
  const out = join(sh.folder, 'out')
  await t.rejects(sh.run('get', '/big', out), { code: 'EIO' })
  await t.rejects(stat(out), { code: 'ENOENT' })
  // A power loss: the length is on disk, what was written last is not.
  const [partial = ''] = (await readdir(sh.folder)).filter((name) => name.includes('.ringfs-get-'))
  await truncate(join(sh.folder, partial), 33 * MIB)
  await truncate(join(sh.folder, partial), PIECES * MIB)
  sh.through = (vfs) => vfs
  t.match(await sh.run('get', '/big', out), /got 1 file, 40.0 MiB .*32.0 MiB were there/)
  t.ok(bytes.equals(await readFile(out)))
})

t.test('a get leaves alone what another one of the same file has received', async (t) => {
  const sh = await shell(t)
  const bytes = Buffer.alloc(LONG_BYTES, 'xyz')
  await writeFile(join(sh.folder, 'big'), bytes)
  await sh.run('put', join(sh.folder, 'big'), '/big')
  const out = join(sh.folder, 'out')
  const second = async (): Promise<void> => {
    const broken = failing(sh.vfs, 'read', 0)
    sh.through = () => broken
    await t.rejects(sh.run('get', '/big', out), { code: 'ALREADY_RUNNING' })
  }
  let reads = 0
  sh.through = () =>
    changed(sh.vfs, {
      read: async (...args) => {
        if (++reads === PIECES) await second()
        return await sh.vfs.read(...args)
      },
    })
  await sh.run('get', '/big', out)
  t.ok(bytes.equals(await readFile(out)))
})

t.test('an interrupted get is continued after housekeeping of the store, and not after a change', async (t) => {
  const sh = await shell(t)
  await writeFile(join(sh.folder, 'big'), Buffer.alloc(LONG_BYTES, 'xyz'))
  await sh.run('put', join(sh.folder, 'big'), '/big')
  const out = join(sh.folder, 'out')
  const getAfter = async (change: (attr: Attr) => Partial<Attr>, age = RESTED): Promise<string> => {
    const broken = failing(sh.vfs, 'read', PIECES)
    sh.through = () => showing(broken, age, (attr) => attr)
    await t.rejects(sh.run('get', '/big', out), { code: 'EIO' })
    sh.through = (vfs) => showing(vfs, age, newVersion(change))
    const said = await sh.run('get', '/big', out)
    for (const name of await readdir(sh.folder)) if (name !== 'big') await rm(join(sh.folder, name))
    return said
  }
  t.match(await getAfter(() => ({})), /got 1 file, 40.0 MiB .*32.0 MiB were there/)
  for (const time of ['mtime', 'ctime'] as const) {
    const said = await getAfter((attr) => ({ [time]: { sec: attr[time].sec + 1, nsec: 0 } }))
    t.match(said, /got 1 file, 72.0 MiB/, `${time} of a change`)
  }
  const said = await getAfter(() => ({}), 0)
  t.match(
    said,
    /got 1 file, 72.0 MiB/,
    'of what was written just now a part may be committed later, with the same times',
  )
})

t.test('a get whose disk fails says so, and does not take for written what that disk had lost', async (t) => {
  const sh = await shell(t)
  const bytes = Buffer.alloc(LONG_BYTES, 'xyz')
  await writeFile(join(sh.folder, 'big'), bytes)
  await sh.run('put', join(sh.folder, 'big'), '/big')
  const out = join(sh.folder, 'out')
  await failDatasync(join(sh.folder, 'big'))
  await t.rejects(sh.run('get', '/big', out), { code: 'EIO' })
  await t.rejects(stat(out), { code: 'ENOENT' })
  t.match(await sh.run('get', '/big', out), /got 1 file, 72.0 MiB/)
  t.ok(bytes.equals(await readFile(out)))
})

t.test(
  'a get removes what interrupted ones have left of the file as it was, and nobody has written to for an hour',
  async (t) => {
    const sh = await shell(t)
    const out = join(sh.folder, 'out')
    await mkdir(out)
    await sh.run('mkdir', '/other')
    const interrupted = async (text: string, path: string): Promise<string> => {
      const before = await readdir(out)
      await writeFile(join(sh.folder, 'big'), Buffer.alloc(4 * MIB, text))
      await sh.run('put', join(sh.folder, 'big'), path)
      const broken = failing(sh.vfs, 'read', 2)
      sh.through = () => broken
      await t.rejects(sh.run('get', path, out), { code: 'EIO' })
      sh.through = (vfs) => vfs
      return (await readdir(out)).find((name) => !before.includes(name)) ?? ''
    }
    const old = await interrupted('one', '/big')
    const other = await interrupted('two', '/other/big')
    const hoursAgo = Date.now() / 1000 - 7200
    for (const name of [old, other]) await utimes(join(out, name), hoursAgo, hoursAgo)
    const young = await interrupted('three', '/big')
    t.not(young, '')
    t.same((await readdir(out)).sort(), [other, young].sort())
    await interrupted('four', '/big')
    await sh.run('get', './big', out)
    t.same(
      (await readdir(out)).sort(),
      ['big', other, young].sort(),
      'it goes on with its own, whatever the path is written like',
    )
  },
)

t.test('what a get has received is not old before it has its name, however old the file is', async (t) => {
  const sh = await shell(t)
  const out = join(sh.folder, 'out')
  await mkdir(out)
  const from = join(sh.folder, 'big')
  await writeFile(from, Buffer.alloc(4 * MIB, 'x'))
  await utimes(from, 1000, 1000)
  await sh.run('put', from, '/big')
  // In the way of its name, when it is to have it.
  const hindered = changed(sh.vfs, {
    getattr: async (caller, ino) => {
      await mkdir(join(out, 'big', 'in the way'), { recursive: true })
      return await sh.vfs.getattr(caller, ino)
    },
  })
  sh.through = () => hindered
  await t.rejects(sh.run('get', '/big', out))
  sh.through = (vfs) => vfs
  const [piece = ''] = (await readdir(out)).filter((name) => name !== 'big')
  t.equal((await stat(join(out, piece))).size, 4 * MIB)
  t.ok((await stat(join(out, piece))).mtimeMs > 1_000_000)
  await rm(join(out, 'big'), { recursive: true })
  await sh.run('get', '/big', out)
  t.equal((await stat(join(out, 'big'))).mtimeMs, 1_000_000)
  t.same(await readdir(out), ['big'])
})

t.test('an interrupted get is not continued with another volume, nor with what is no plain file', async (t) => {
  const sh = await shell(t)
  const other = await shell(t)
  for (const [one, text] of [
    [sh, 'one'],
    [other, 'two'],
  ] as const) {
    await writeFile(join(one.folder, 'big'), Buffer.alloc(LONG_BYTES, text))
    await utimes(join(one.folder, 'big'), 1000, 1000)
    await one.run('put', join(one.folder, 'big'), '/big')
  }
  other.uuid = '7f1a2b3c-0d4e-4f5a-8b6c-7d8e9f0a1b2c'
  const broken = failing(sh.vfs, 'read', PIECES)
  sh.through = () => broken
  const out = join(sh.folder, 'out')
  await t.rejects(sh.run('get', '/big', out), { code: 'EIO' })
  await other.run('get', '/big', out)
  t.ok((await readFile(out)).equals(Buffer.alloc(LONG_BYTES, 'two')))

  const [partial = ''] = (await readdir(sh.folder)).filter((name) => name.includes('.ringfs-get-'))
  await rm(join(sh.folder, partial))
  await writeFile(join(sh.folder, 'precious'), 'mine')
  await symlink('precious', join(sh.folder, partial))
  await rm(out)
  sh.through = (vfs) => vfs
  await sh.run('get', '/big', out)
  t.ok((await readFile(out)).equals(Buffer.alloc(LONG_BYTES, 'one')))
  t.equal(await readFile(join(sh.folder, 'precious'), 'utf8'), 'mine')
})

t.test('a get of a file that nobody may write, or of the longest name, is continued', async (t) => {
  const sh = await shell(t)
  const name = 'ä'.repeat(127)
  await writeFile(join(sh.folder, 'big'), Buffer.alloc(LONG_BYTES, 'xyz'), { mode: 0o440 })
  await sh.run('put', join(sh.folder, 'big'), `/${name}`)
  const broken = failing(sh.vfs, 'read', PIECES)
  sh.through = () => broken
  await mkdir(join(sh.folder, 'there'))
  await t.rejects(sh.run('get', `/${name}`, join(sh.folder, 'there')), { code: 'EIO' })
  const [partial = ''] = await readdir(join(sh.folder, 'there'))
  t.ok((await stat(join(sh.folder, 'there', partial))).mode & 0o200, 'its owner may write it until it is done')
  sh.through = (vfs) => vfs
  t.match(await sh.run('get', `/${name}`, join(sh.folder, 'there')), /32.0 MiB were there/)
  t.equal((await stat(join(sh.folder, 'there', name))).mode & 0o777, 0o440)
  t.same(await readdir(join(sh.folder, 'there')), [name])
})

t.test('what a symbolic link replaces keeps its name until the link has it', async (t) => {
  const sh = await shell(t)
  const [from, out] = [join(sh.folder, 'd'), join(sh.folder, 'out')]
  for (const dir of [from, out]) await mkdir(dir)
  await writeFile(join(sh.folder, 'old'), 'old')
  await sh.run('mkdir', '/d')
  await sh.run('put', join(sh.folder, 'old'), '/d/x')
  await symlink('there', join(from, 'x'))
  const broken = new PosixError('EIO', 'broken for a test')
  sh.through = (vfs) => changed(vfs, { symlink: () => Promise.reject(broken) })
  await t.rejects(sh.run('put', '-r', from, '/'), { code: 'EIO' })
  t.equal(await sh.run('cat', '/d/x'), 'old')
  sh.through = (vfs) => changed(vfs, { rename: () => Promise.reject(broken) })
  await t.rejects(sh.run('put', '-r', from, '/'), { code: 'EIO' })
  t.equal(await sh.run('cat', '/d/x'), 'old')
  t.equal(await sh.run('ls', '-a', '/d'), 'x\n', 'nothing is left beside it')
  sh.through = (vfs) => vfs
  await sh.run('put', '-r', from, '/')

  await writeFile(join(out, 'x'), 'old')
  // Longer than a link of the local disk can be.
  sh.through = (vfs) => changed(vfs, { readlink: () => Promise.resolve(Buffer.alloc(5000, 'n')) })
  await t.rejects(sh.run('get', '-r', '/d/.', out), { code: 'ENAMETOOLONG' })
  t.equal(await readFile(join(out, 'x'), 'utf8'), 'old')
  sh.through = (vfs) => vfs
  t.match(await sh.run('get', '-r', '/d/.', out), /got 1 file/)
  t.equal(await readlink(join(out, 'x')), 'there')
  t.match(await sh.run('get', '-r', '/d/.', out), /got 0 files.* 1 file was there already/)
  t.same(await readdir(out), ['x'])
})

t.test('a get replaces no device, pipe or socket', async (t) => {
  const { run, folder, vfs } = await shell(t)
  const [pipe, link, tree] = ['pipe', 'link', 'tree'].map((name) => join(folder, name))
  if (pipe === undefined || link === undefined || tree === undefined) throw new Error('three paths')
  execFileSync('mkfifo', [pipe])
  await symlink('pipe', link)
  await writeFile(join(folder, 'a'), 'hello')
  await run('mkdir', '/d')
  await run('put', join(folder, 'a'), '/d/a')
  const d = (await vfs.lookup(CALLER, 1, Buffer.from('d'))).ino
  await vfs.symlink(CALLER, d, Buffer.from('null'), Buffer.from('../pipe'))
  for (const to of [pipe, link]) {
    await t.rejects(run('get', '/d/a', to), {
      code: 'EINVAL',
      message: new RegExp(`^EINVAL: ${to}: is a device, pipe`),
    })
  }
  t.ok((await stat(pipe)).isFIFO())
  t.equal(await readlink(link), 'pipe')

  for (const name of ['a', 'null']) {
    await mkdir(join(tree, 'd'), { recursive: true })
    execFileSync('mkfifo', [join(tree, 'd', name)])
    await t.rejects(run('get', '-r', '/d', tree), { code: 'EINVAL', message: /d\/(a|null): is a device, pipe/ })
    t.ok((await stat(join(tree, 'd', name))).isFIFO(), name)
    await rm(tree, { recursive: true })
  }
  await mkdir(tree)
  for (const figures of [/got 2 files/, /got 0 files.* 2 files were there already/]) {
    t.match(await run('get', '-r', '/d', tree), figures, 'a link that leads to one is a link')
  }
})

t.test('what is under way when the next thing cannot be had is done before the failure is told', async (t) => {
  let done = false
  async function* items(): AsyncGenerator<string> {
    yield 'one'
    await delay(1)
    throw new PosixError('EACCES')
  }
  const work = async (): Promise<void> => {
    await delay(50)
    done = true
  }
  await t.rejects(each(items(), 4, work), { code: 'EACCES' })
  t.ok(done)
})

t.test('a get does not follow a link that an earlier one has brought', async (t) => {
  const { run, folder, vfs } = await shell(t)
  const [to, elsewhere] = [join(folder, 'to'), join(folder, 'elsewhere')]
  await mkdir(to)
  await mkdir(elsewhere)
  await writeFile(join(folder, 'a'), 'hello')
  await run('mkdir', '-p', '/d/sub')
  await vfs.symlink(
    CALLER,
    (await vfs.lookup(CALLER, 1, Buffer.from('d'))).ino,
    Buffer.from('x'),
    Buffer.from(elsewhere),
  )
  await run('get', '-r', '/d', to)
  await run('rm', '/d/x')
  await run('mkdir', '/d/x')
  await run('put', join(folder, 'a'), '/d/x')
  await t.rejects(run('get', '-r', '/d', to), { code: 'EEXIST', message: /x: a symbolic link is in the way/ })
  t.same(await readdir(elsewhere), [])
  await symlink('to', join(folder, 'link'))
  await rm(join(to, 'd', 'x'))
  await run('get', '-r', '/d', join(folder, 'link'))
  t.equal(await readFile(join(to, 'd', 'x', 'a'), 'utf8'), 'hello', 'one that is given is followed')
  await t.rejects(run('get', '-r', '/d/..', to), { code: 'EINVAL' })
})

t.test('of two files of the same name one run copies the first, and leaves out the second', async (t) => {
  const { run, folder } = await shell(t)
  const [a, b, out] = [join(folder, 'a'), join(folder, 'b'), join(folder, 'out')]
  for (const one of [a, b]) {
    await mkdir(join(one, 'tree'), { recursive: true })
    await writeFile(join(one, 'x'), one)
    await writeFile(join(one, 'tree', 'y'), one)
    await writeFile(join(one, `only-${one.at(-1)}`), '')
    for (const name of ['x', 'tree/y']) await utimes(join(one, name), 1000, one === a ? 1000 : 2000)
  }
  await mkdir(out)
  await run('mkdir', '/dir')
  const twice = { code: 'USAGE', message: /^1 entries were left out/ }
  await t.rejects(run('put', join(a, 'x'), join(b, 'x'), join(b, 'only-b'), '/dir'), twice)
  t.equal(await run('cat', '/dir/x'), a)
  t.equal(await run('ls', '/dir'), 'only-b\nx\n', 'the others are copied')
  await writeFile(join(b, 'tree', 'z'), '')
  await run('put', '-r', join(a, 'tree'), join(b, 'tree'), '/dir')
  t.equal(await run('ls', '/dir/tree'), 'y\nz\n', 'two folders become one')
  await mkdir(join(b, 'other', 'x'), { recursive: true })
  await t.rejects(run('put', '-r', join(a, 'x'), join(b, 'other', 'x'), '/dir'), twice)
  await rm(join(b, 'other'), { recursive: true })

  await run('put', '-r', a, b, '/')
  await t.rejects(run('get', '/a/x', '/b/x', '/b/only-b', out), twice)
  t.equal(await readFile(join(out, 'x'), 'utf8'), a)
  await t.rejects(run('get', '-r', '/a/.', '/b/.', out), { code: 'USAGE', message: /^1 entries were left out/ })
  t.equal(await readFile(join(out, 'x'), 'utf8'), a)
  t.same((await readdir(join(out, 'tree'))).sort(), ['y', 'z'], 'two folders become one')
  t.same((await readdir(out)).sort(), ['only-a', 'only-b', 'tree', 'x'])
  await run('put', join(b, 'x'), '/dir')
  t.equal(await run('cat', '/dir/x'), b, 'what an earlier run has made is replaced')
})

t.test('what is in several folders of one name is the last one’s, and a run tells how much that is', async (t) => {
  const sh = await shell(t)
  const { run, folder, vfs } = sh
  // Long files take their time.
  sh.through = () =>
    changed(vfs, {
      write: async (handle, offset, data) => {
        if (data.length === MIB) await delay(20)
        return vfs.write(handle, offset, data)
      },
      read: async (handle, offset, length) => {
        const data = await vfs.read(handle, offset, length)
        if (data.length === MIB) await delay(20)
        return data
      },
    })
  const [a, b, out] = [join(folder, 'a'), join(folder, 'b'), join(folder, 'out')]
  for (const one of [a, b]) {
    await mkdir(join(one, 'tree', 'sub'), { recursive: true })
    await writeFile(join(one, 'tree', `only-${one.at(-1)}`), one)
    for (const name of ['y', 'sub/z'])
      await writeFile(join(one, 'tree', name), Buffer.alloc(one === a ? 9 * MIB : 5, one))
    await symlink(one, join(one, 'tree', 'link'))
    await writeFile(join(one, 'tree', 'same'), 'same')
    await utimes(join(one, 'tree', 'same'), 1000, 1000)
  }
  const told = /put 9 files.*1 file was there already.*\n3 files replaced what this run had copied before/
  await run('mkdir', '/dir')
  t.match(await run('put', '-r', join(a, 'tree'), join(b, 'tree'), '/dir'), told)
  for (const name of ['y', 'sub/z']) t.equal((await run('cat', `/dir/tree/${name}`)).length, 5, name)

  await run('put', '-r', a, b, '/')
  for (const [at, from] of [
    ['/a/tree', '/b/tree'],
    ['/a/.', '/b/.'],
  ].entries()) {
    const to = join(out, String(at))
    await mkdir(to, { recursive: true })
    t.match(JSON.parse((await run('get', '--json', '-r', ...from, to)).split('\n')[0] ?? ''), { replaced: 3 })
    for (const name of ['y', 'sub/z']) t.equal((await stat(join(to, 'tree', name))).size, 5, name)
    t.equal(await readlink(join(to, 'tree', 'link')), b)
    t.match(await run('get', '-r', '/a/tree', to), /got 3 files/)
    t.notMatch(await run('get', '-r', '/a/tree', to), /replaced/)
  }
  t.equal(vfs.openHandles, 0)
})

t.test(
  'put calls what a symbolic link leads to by the name of the link, and . and .. by that of the directory',
  async (t) => {
    const { run, folder } = await shell(t)
    await mkdir(join(folder, 'tree', 'sub'), { recursive: true })
    await writeFile(join(folder, 'target'), 'hello')
    await symlink('target', join(folder, 'link'))
    await symlink('tree', join(folder, 'tree-link'))
    await run('put', join(folder, 'link'), '/')
    await run('put', '-r', `${join(folder, 'tree-link')}/`, `${folder}/tree/sub/..`, `${folder}/tree/sub/.`, '/')
    t.equal(await run('ls', '/'), 'link\nsub\ntree\ntree-link\n')
    t.equal(await run('cat', '/link'), 'hello')
  },
)

if (process.platform === 'linux' && process.getuid?.() === 0) {
  t.test('a get onto a disk that gets full makes no file, and goes on when there is room', async (t) => {
    const sh = await shell(t)
    const bytes = Buffer.alloc(3 * MIB + 500_000, 'xyz')
    await writeFile(join(sh.folder, 'big'), bytes)
    await sh.run('put', join(sh.folder, 'big'), '/big')
    const small = join(sh.folder, 'small')
    await mkdir(small)
    // Its end is in the middle of the last piece.
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=3300k', 'ringfs-test', small])
    t.teardown(() => execFileSync('umount', ['-l', small]))
    await t.rejects(sh.run('get', '/big', join(small, 'out')), { code: 'ENOSPC' })
    await t.rejects(stat(join(small, 'out')), { code: 'ENOENT' })
    execFileSync('mount', ['-o', 'remount,size=8m', small])
    await sh.run('get', '/big', join(small, 'out'))
    t.ok(bytes.equals(await readFile(join(small, 'out'))))
  })
}

t.test('bad input is refused in one line that names the path', async (t) => {
  const { run, folder } = await shell(t)
  await writeFile(join(folder, 'a'), '')
  await mkdir(join(folder, 'dir'))
  await t.rejects(run('cat', '/nothing'), { code: 'ENOENT', message: /\/nothing: there is no such file/ })
  const missing = join(folder, 'missing')
  const unread = `${missing} cannot be read: no such file or directory`
  await t.rejects(run('put', missing, '/'), { code: 'USAGE', message: unread })
  await t.rejects(run('put', join(folder, 'dir'), '/'), { code: 'EISDIR', message: /copy it with -r/ })
  await t.rejects(run('put', join(folder, 'a'), join(folder, 'a'), '/nowhere'), { code: 'ENOTDIR' })
  await run('put', join(folder, 'a'), '/')
  const nowhere = join(missing, 'a')
  const gone = { code: 'ENOENT', message: `ENOENT: ${nowhere}: no such file or directory` }
  await t.rejects(run('get', '/a', nowhere), gone, 'not its temporary name')
  await t.rejects(run('rm', '/'), { code: 'EINVAL' })
  await run('mkdir', '/d')
  await t.rejects(run('rm', '/d'), { code: 'EISDIR', message: /with -r/ })
  await t.rejects(run('mkdir', '/d'), { code: 'EEXIST' })
  await t.rejects(run('mkdir', `/${'n'.repeat(256)}`), { code: 'ENAMETOOLONG' })
  await t.rejects(run('mv', '-n', '/nothing', '/d'), { code: 'ENOENT' })
  await run('rm', '-f', '/nothing')
})

t.test('a slash at the end says that it is a directory', async (t) => {
  const { run, folder, vfs } = await shell(t)
  await writeFile(join(folder, 'file'), '')
  await run('put', join(folder, 'file'), '/')
  await run('mkdir', '/dir')
  await vfs.symlink(CALLER, 1, Buffer.from('link'), Buffer.from('dir'))
  for (const path of ['/file/', '/link/']) {
    await t.rejects(run('rm', path), { code: 'ENOTDIR', message: `${path}: is not a directory` })
    await t.rejects(run('rm', '-r', path), { code: 'ENOTDIR' })
    await t.rejects(run('mv', path, '/new'), { code: 'ENOTDIR' })
    await t.rejects(run('mkdir', path), { code: 'EEXIST' })
    await run('rm', '-f', path)
  }
  await t.rejects(run('mv', '/file', '/new/'), { code: 'ENOTDIR' })
  t.equal(await run('ls', '/'), 'dir\nfile\nlink\n')
  await run('mv', '/dir/', '/new/')
  await run('mkdir', '/more/')
  await run('rm', '-r', '/new/')
  await run('rm', '/file', '/link')
  t.equal(await run('ls', '/'), 'more\n')
})

t.test('a file from before 1970 keeps its time, and is not got again', async (t) => {
  const { run, folder } = await shell(t)
  const [from, to] = [join(folder, 'old'), join(folder, 'to')]
  await writeFile(from, 'old')
  await utimes(from, '-20.5', '-3000.25')
  await run('put', from, '/old')
  t.match(await run('get', '/old', to), /got 1 file/)
  t.equal((await stat(to)).mtimeMs, -3_000_250)
  t.match(await run('get', '/old', to), /1 file was there already/)
})

t.test('what has a name that is not UTF-8 is left out, and the rest is put', async (t) => {
  const { run, folder } = await shell(t)
  const from = join(folder, 'd')
  await mkdir(from)
  const name = Buffer.from([0x62, 0xff])
  await writeFile(Buffer.concat([Buffer.from(`${from}/`), name]), 'bytes')
  for (const other of ['a', 'z']) await writeFile(join(from, other), other)
  await t.rejects(run('put', '-r', from, '/'), { code: 'USAGE', message: '1 entries were left out' })
  t.equal(await run('ls', '/d'), 'a\nz\n')
})

t.test('a folder of very many names is listed', async (t) => {
  const sh = await shell(t)
  const { ino } = await sh.vfs.mkdir(CALLER, 1, Buffer.from('d'), 0o755)
  const attr = await sh.vfs.mkdir(CALLER, ino, Buffer.from('one'), 0o755)
  const names = 130_000
  sh.through = (vfs) =>
    changed(vfs, {
      readdir: (_handle, offset, limit) => {
        const length = Math.min(limit, names - Number(offset))
        const entry = (_: unknown, i: number): VfsDirEntry => {
          const next = offset + BigInt(i) + 1n
          return { name: Buffer.from(`n${next}`), ino: attr.ino, dtype: 4, offset: next, attr }
        }
        return Promise.resolve(Array.from({ length }, entry))
      },
    })
  for (const words of [[], ['--json']]) {
    const text = await sh.run('ls', ...words, '/d')
    t.ok(text.includes('n1') && text.includes(`n${names}`), words.join(' '))
  }
})

t.test('names that would steer a terminal are shown as escapes', async (t) => {
  const { run, vfs } = await shell(t)
  await vfs.mkdir(CALLER, 1, Buffer.from('\u001b[2Jx'), 0o755)
  t.equal(await run('ls', '/'), '\\x1b[2Jx\n')
})
