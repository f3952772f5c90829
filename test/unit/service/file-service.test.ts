import { createHash, randomBytes } from 'node:crypto'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { Readable } from 'node:stream'
import { buffer } from 'node:stream/consumers'
import t from 'tap'
import { PosixError } from '../../../src/base/errno.js'
import { MIB } from '../../../src/base/limits.js'
import { connectClient, type RingfsClient } from '../../../src/rpc/file-client.js'
import { FrameParser, KIND, encodeHead, join, type Frame } from '../../../src/rpc/frame.js'
import { FILE_OPEN, FILE_READ, FILE_READDIR } from '../../../src/rpc/messages-file.js'
import type { Method } from '../../../src/rpc/method.js'
import { OPEN_FLAG } from '../../../src/rpc/open-flags.js'
import type { VfsContract } from '../../../src/vfs/contract.js'
import { until } from '../../helpers/deadline.js'
import { serveFiles, SERVER_IDENTITY } from '../../helpers/file-service.js'

t.setTimeout(300_000)

async function names(fs: RingfsClient, folder: string, pageEntries?: number): Promise<string[]> {
  const found: string[] = []
  for await (const { name } of fs.readdir(folder, pageEntries === undefined ? {} : { pageEntries })) {
    found.push(name.toString('latin1'))
  }
  return found.sort()
}

function bound(value: unknown, object: object): unknown {
  return typeof value === 'function' ? (...args: unknown[]): unknown => Reflect.apply(value, object, args) : value
}

/** A VFS in which some calls are replaced. */
function replace(vfs: VfsContract, calls: Partial<VfsContract>): VfsContract {
  return new Proxy(vfs, {
    get(object, property) {
      const value: unknown = Reflect.get(calls, property) ?? Reflect.get(object, property, object)
      return bound(value, object)
    },
  })
}

t.test('what is written through a handle is read back, at any offset, and truncated both ways', async (t) => {
  const { client: fs, vfs } = await serveFiles(t)
  const file = await fs.open('/a', 'wx+', { mode: 0o640 })
  const data = randomBytes(5 * MIB + 17)
  await file.write(0, data)
  await file.write(10 * MIB, Buffer.from('far'))
  t.ok((await file.read(0, data.length)).equals(data))
  t.equal((await file.read(10 * MIB, 100)).toString(), 'far', 'short at the end')
  t.equal((await file.read(11 * MIB, 100)).length, 0)
  t.equal((await file.read(0, 64 * MIB)).length, 10 * MIB + 3, 'more than there is')
  t.equal((await file.stat()).sizeBytes, 10 * MIB + 3)
  await file.truncate(5)
  t.ok((await file.read(0, 100)).equals(data.subarray(0, 5)))
  await file.truncate(7)
  t.ok((await file.read(0, 100)).equals(Buffer.concat([data.subarray(0, 5), Buffer.alloc(2)])))
  await file.sync()
  await file.chmod(0o600)
  await file.utimes({ sec: 5, nsec: 6 }, new Date(7008))
  await file.close()
  await file.close()
  await t.rejects(file.read(0, 1), { code: 'EBADF' })
  t.match(await fs.stat('/a'), {
    mode: 0o600,
    atime: { sec: 5, nsec: 6 },
    mtime: { sec: 7, nsec: 8_000_000 },
    ...SERVER_IDENTITY,
  })
  t.equal(vfs.openHandles, 0)
})

t.test('the open flags mean what open(2) says', async (t) => {
  const { client: fs } = await serveFiles(t)
  await t.rejects(fs.open('/no'), { name: 'PosixError', code: 'ENOENT' })
  await fs.put(Buffer.from('old'), '/f')
  await t.rejects(fs.open('/f', 'wx'), { code: 'EEXIST' })
  await t.rejects(fs.open('/', 'r'), { code: 'EISDIR' })
  await t.rejects(fs.open('/f/', 'r'), { code: 'ENOTDIR' })
  await t.rejects(fs.open('/new/', 'w'), { code: 'EISDIR' })
  await t.rejects(fs.open('/f', OPEN_FLAG.O_DIRECTORY), { code: 'ENOTDIR' })
  await t.rejects(fs.open('/f', 'q'), { code: 'USAGE' })
  await fs.symlink('f', '/link')
  await t.rejects(fs.open('/link', OPEN_FLAG.O_NOFOLLOW), { code: 'ELOOP' })
  await t.rejects(fs.open('/link', 'wx'), { code: 'EEXIST' })
  await fs.symlink('born', '/dangling')
  await (await fs.open('/dangling', 'w')).close()
  t.equal((await fs.lstat('/born')).type, 'file', 'O_CREAT follows a dangling symlink')
  const reader = await fs.open('/f', 'r')
  await t.rejects(reader.write(0, Buffer.from('x')), { code: 'EBADF' })
  await t.rejects(reader.truncate(0), { code: 'EINVAL' })
  await reader.close()
  const one = await fs.open('/f', 'a')
  const two = await fs.open('/f', 'a')
  await Promise.all([one.write(0, Buffer.from('+1')), two.write(0, Buffer.from('+1'))])
  await one.close()
  await two.close()
  t.equal((await fs.read('/f')).toString(), 'old+1+1')
  await (await fs.open('/f', 'w')).close()
  t.equal((await fs.stat('/f')).sizeBytes, 0)
  await fs.mknod('/fifo', 0o010644)
  await t.rejects(fs.open('/fifo'), { code: 'ENXIO' })
})

t.test('paths are resolved as path_resolution(7) says', async (t) => {
  const { client: fs } = await serveFiles(t)
  await fs.mkdir('/a/b/c', { recursive: true })
  await fs.put(Buffer.from('x'), 'a/b/file')
  await fs.symlink('/a/b', '/abs')
  await fs.symlink('../a', '/a/up')
  await fs.symlink('loop', '/loop')
  await fs.symlink('/', '/top')
  for (const same of [
    '/a/b/file',
    'a/b/file',
    '//a//b///file',
    '/a/./b/../b/file',
    '/abs/file',
    '/a/up/b/c/../file',
    '/../../a/b/file',
    '/top/a/b/file',
    '/top/../abs/c/../file',
  ]) {
    t.equal((await fs.stat(same)).sizeBytes, 1, same)
  }
  t.equal((await fs.lstat('/abs')).type, 'symlink')
  t.equal((await fs.lstat('/abs/')).type, 'directory', 'a trailing slash follows')
  t.equal((await fs.stat('/top')).ino, 1)
  t.equal((await fs.readlink('/abs')).toString(), '/a/b')
  for (const [bad, code] of [
    ['', 'ENOENT'],
    ['/a/none/x', 'ENOENT'],
    ['/a/b/file/x', 'ENOTDIR'],
    ['/a/b/file/', 'ENOTDIR'],
    ['/loop', 'ELOOP'],
    ['/a/' + 'n'.repeat(256), 'ENAMETOOLONG'],
    ['/a'.repeat(2048), 'ENAMETOOLONG'],
    ['/a\0b', 'EINVAL'],
  ] as const) {
    await t.rejects(fs.stat(bad), { name: 'PosixError', code }, bad.slice(0, 20))
  }
  t.equal((await fs.stat('./'.repeat(2000) + 'a')).type, 'directory', '4,001 bytes are a path')
  await fs.mkdir('/' + 'n'.repeat(255))

  await fs.put(Buffer.alloc(0), '/end')
  for (let i = 0; i < 41; i++) await fs.symlink(i === 0 ? 'end' : `l${i - 1}`, `/l${i}`)
  t.equal((await fs.stat('/l39')).type, 'file', '40 symlinks')
  await t.rejects(fs.stat('/l40'), { code: 'ELOOP' }, '41 symlinks')
  const odd = Buffer.from([0x2f, 0xff, 0x0a, 0xc3])
  await fs.put(Buffer.from('y'), odd)
  t.equal((await fs.read(odd)).toString(), 'y', 'names are bytes')
})

t.test('making, removing and moving names gives the errors of Linux', async (t) => {
  const { client: fs } = await serveFiles(t)
  await fs.mkdir('/d/')
  await fs.put(Buffer.from('f'), '/f')
  await fs.symlink('d', '/ld')
  const cases: [string, () => Promise<unknown>, string][] = [
    ['mkdir existing', () => fs.mkdir('/d'), 'EEXIST'],
    ['mkdir .', () => fs.mkdir('/d/.'), 'EEXIST'],
    ['mkdir without parent', () => fs.mkdir('/x/y'), 'ENOENT'],
    ['mkdir -p over a file', () => fs.mkdir('/f', { recursive: true }), 'EEXIST'],
    ['mkdir -p below a file', () => fs.mkdir('/f/x', { recursive: true }), 'ENOTDIR'],
    ['rmdir file', () => fs.rmdir('/f'), 'ENOTDIR'],
    ['rmdir root', () => fs.rmdir('/'), 'EBUSY'],
    ['rmdir .', () => fs.rmdir('/d/.'), 'EINVAL'],
    ['rmdir ..', () => fs.rmdir('/d/..'), 'ENOTEMPTY'],
    ['rmdir symlink', () => fs.rmdir('/ld/'), 'ENOTDIR'],
    ['unlink directory', () => fs.unlink('/d'), 'EISDIR'],
    ['unlink root', () => fs.unlink('/'), 'EISDIR'],
    ['unlink missing', () => fs.unlink('/no'), 'ENOENT'],
    ['unlink with a slash', () => fs.unlink('/f/'), 'ENOTDIR'],
    ['rename root', () => fs.rename('/', '/x'), 'EBUSY'],
    ['rename missing', () => fs.rename('/no', '/x'), 'ENOENT'],
    ['rename with a slash', () => fs.rename('/f/', '/x'), 'ENOTDIR'],
    ['rename to a slash', () => fs.rename('/f', '/x/'), 'ENOTDIR'],
    ['rename into itself', () => fs.rename('/d', '/d/x'), 'EINVAL'],
    ['rename, no replace', () => fs.rename('/f', '/ld', { noReplace: true }), 'EEXIST'],
    ['exchange with nothing', () => fs.rename('/f', '/no', { exchange: true }), 'ENOENT'],
    ['exchange and no replace', () => fs.rename('/f', '/ld', { exchange: true, noReplace: true }), 'EINVAL'],
    ['exchange with a file with a slash', () => fs.rename('/d', '/f/', { exchange: true }), 'ENOTDIR'],
    ['exchange of a file with a slash', () => fs.rename('/f/', '/d', { exchange: true }), 'ENOTDIR'],
    ['rename file on directory', () => fs.rename('/f', '/d'), 'EISDIR'],
    ['symlink existing', () => fs.symlink('t', '/f'), 'EEXIST'],
    ['symlink to nothing', () => fs.symlink('', '/s'), 'ENOENT'],
    ['symlink too long', () => fs.symlink('t'.repeat(4096), '/s'), 'ENAMETOOLONG'],
    ['symlink with a slash', () => fs.symlink('t', '/s/'), 'ENOENT'],
    ['readlink of a file', () => fs.readlink('/f'), 'EINVAL'],
    ['link of a directory', () => fs.link('/d', '/x'), 'EPERM'],
    ['link existing', () => fs.link('/f', '/d'), 'EEXIST'],
    ['truncate a directory', () => fs.truncate('/d', 0), 'EISDIR'],
    ['truncate below 0', () => fs.truncate('/f', -1), 'EINVAL'],
    ['list a file', () => names(fs, '/f'), 'ENOTDIR'],
  ]
  for (const [name, act, code] of cases) await t.rejects(act(), { name: 'PosixError', code }, name)
  t.same(await names(fs, '/'), ['d', 'f', 'ld'], 'nothing was half-made')

  await fs.link('/f', '/d/g')
  t.equal((await fs.stat('/f')).nlink, 2)
  await fs.rename('/f', '/d/', { exchange: true })
  t.equal((await fs.stat('/f')).type, 'directory', 'exchanged')
  await fs.rename('/f', '/d', { exchange: true })
  await fs.rename('/f', '/ld')
  t.equal((await fs.lstat('/ld')).type, 'file', 'the symlink itself is replaced')
  await fs.rename('/d', '/e/')
  await fs.unlink('/e/g')
  await fs.rmdir('/e/')
  t.same(await names(fs, '/'), ['ld'])
})

t.test('many clients making the same tree at once all succeed', async (t) => {
  const { client: fs, connect } = await serveFiles(t)
  const others = await Promise.all([connect(), connect(), connect()])
  await Promise.all(
    [fs, ...others].flatMap((one) => [one, one]).map((one) => one.mkdir('/x/y/../y/z/', { recursive: true })),
  )
  t.same(await names(fs, '/x/y'), ['z'])
})

t.test('a listing comes in pages, whole, and one that is stopped early leaves no handle', async (t) => {
  const { client: fs, vfs } = await serveFiles(t)
  await fs.mkdir('/d')
  const made = Array.from({ length: 2500 }, (_, i) => `f${i}`).sort()
  await Promise.all(made.map((name) => fs.mknod(`/d/${name}`, 0o100644)))
  t.same(await names(fs, '/d'), made)
  t.same(await names(fs, '/d', 7), made)
  t.same(await names(fs, '/'), ['d'])
  for await (const entry of fs.readdir('/d', { stats: true, pageEntries: 10 })) {
    t.match(entry, { type: 'file', attr: { sizeBytes: 0, nlink: 1 } })
    break
  }
  t.equal(vfs.openHandles, 0)
})

t.test('attributes, owners, xattrs and statfs', async (t) => {
  const { client: fs } = await serveFiles(t)
  const owner = { uid: 7, gid: 8 }
  t.match(await fs.mkdir('/d', { owner, mode: 0o700 }), { ...owner, mode: 0o700, type: 'directory' })
  t.match(await fs.symlink('x', '/s', { owner }), owner)
  await (await fs.open('/f', 'w', { owner })).close()
  t.match(await fs.stat('/f'), { ...owner, mode: 0o644 })
  await fs.put(Buffer.from('p'), '/p', { owner, mode: 0o600 })
  t.match(await fs.stat('/p'), { ...owner, mode: 0o600 })
  t.match(await fs.chmod('/f', 0o4755), { mode: 0o4755 })
  t.match(await fs.chown('/f', 1, 2), { uid: 1, gid: 2 })
  t.match(await fs.chown('/s', 3, 4, { noFollow: true }), { uid: 3, type: 'symlink' })
  t.match(await fs.utimes('/f', { sec: -5, nsec: 1 }, 'now'), { atime: { sec: -5, nsec: 1 } })
  t.match(await fs.truncate('/f', 2 ** 40), { sizeBytes: 2 ** 40 })

  await fs.setxattr('/f', 'user.a', Buffer.from([0, 255]))
  await fs.setxattr('/f', 'user.empty', Buffer.alloc(0))
  t.same(await fs.getxattr('/f', 'user.a'), Buffer.from([0, 255]))
  t.equal((await fs.getxattr('/f', 'user.empty')).length, 0)
  t.same((await fs.listxattr('/f')).map(String), ['user.a', 'user.empty'])
  await t.rejects(fs.setxattr('/f', 'user.a', Buffer.alloc(1), { mode: 'create' }), { code: 'EEXIST' })
  await t.rejects(fs.setxattr('/f', 'user.b', Buffer.alloc(1), { mode: 'replace' }), { code: 'ENODATA' })
  await t.rejects(fs.setxattr('/f', 'user.b', Buffer.alloc(65_537)), { code: 'E2BIG' })
  await t.rejects(fs.setxattr('/f', 'u'.repeat(256), Buffer.alloc(1)), { code: 'ERANGE' })
  await fs.removexattr('/f', 'user.a')
  await t.rejects(fs.getxattr('/f', 'user.a'), { code: 'ENODATA' })
  t.match(await fs.statfs(), { blockBytes: 4096, nameMaxBytes: 255 })
  await fs.sync()
})

t.test('the durability of a write reaches the VFS', async (t) => {
  const seen: unknown[] = []
  const { client: fs } = await serveFiles(t, {
    wrap: (vfs) =>
      replace(vfs, {
        write: (handle, offset, data, settings) => {
          seen.push(settings?.durability)
          return vfs.write(handle, offset, data)
        },
      }),
  })
  for (const durability of ['all', 'quorum', 'async'] as const)
    await fs.write('/f', 0, Buffer.from('x'), { durability })
  await fs.write('/f', 0, Buffer.from('x'))
  t.same(seen, ['all', 'quorum', 'async', undefined])
})

t.test('put takes memory, streams and local files, and get gives them back, whole or in part', async (t) => {
  const { client: fs, vfs } = await serveFiles(t)
  const data = randomBytes(9 * MIB + 5)
  const folder = await mkdtemp(path.join(tmpdir(), 'ringfs-put-'))
  t.teardown(() => rm(folder, { recursive: true, force: true }))
  const local = path.join(folder, 'local')
  await writeFile(local, data, { mode: 0o750 })
  const pieces = function* () {
    for (let at = 0, size = 1; at < data.length; at += size, size = (size * 3) % 300_007)
      yield data.subarray(at, at + size)
  }
  let progress = 0
  await fs.put(data, '/memory', { onProgress: (bytes) => (progress = Math.max(progress, bytes)) })
  t.equal(progress, data.length)
  await fs.put(local, '/local', { sync: true })
  await fs.put(Readable.from(pieces()), '/stream', { parallel: 2 })
  await fs.put(Buffer.alloc(0), '/empty')
  for (const name of ['/memory', '/local', '/stream']) t.ok((await buffer(fs.get(name))).equals(data), name)
  t.equal((await fs.stat('/local')).mode, 0o750)
  t.equal((await buffer(fs.get('/empty'))).length, 0)
  t.ok((await buffer(fs.get('/memory', { start: 5, end: 3 * MIB }))).equals(data.subarray(5, 3 * MIB)))
  t.ok((await buffer(fs.get('/memory', { start: 9 * MIB }))).equals(data.subarray(9 * MIB)))
  t.equal((await buffer(fs.get('/memory', { start: 20 * MIB }))).length, 0)
  await t.rejects(buffer(fs.get('/none')), { code: 'ENOENT' })
  await t.rejects(buffer(fs.get('/memory', { start: 5, end: 4 })), { code: 'EINVAL' })

  const stopped = fs.get('/memory')
  for await (const piece of stopped) {
    t.ok(Buffer.isBuffer(piece))
    break
  }
  await fs.put(Buffer.from('new'), '/memory')
  t.equal((await fs.read('/memory')).toString(), 'new', 'replaced')
  await until('all is closed', () => vfs.openHandles === 0)
  t.same(await names(fs, '/'), ['empty', 'local', 'memory', 'stream'])
})

t.test('a put that fails leaves the old file and nothing else', async (t) => {
  const { client: fs, vfs } = await serveFiles(t, {
    wrap: (inner) =>
      replace(inner, {
        write: (handle, offset, data) => {
          if (offset >= 3 * MIB) return Promise.reject(new PosixError('ENOSPC'))
          return inner.write(handle, offset, data)
        },
      }),
  })
  await fs.put(Buffer.from('old'), '/f')
  await t.rejects(fs.put(Buffer.alloc(6 * MIB), '/f'), { code: 'ENOSPC' })
  const breaking = async function* () {
    yield Buffer.alloc(2 * MIB)
    throw new Error('source broke')
  }
  await t.rejects(fs.put(breaking(), '/f'), { message: 'source broke' })
  await t.rejects(fs.put(Buffer.from('x'), '/f', { noReplace: true }), { code: 'EEXIST' })
  await t.rejects(fs.put('/nowhere/to/be/found', '/f'), { code: 'ENOENT' })
  await t.rejects(fs.put(Buffer.from('x'), '/no/f'), { code: 'ENOENT' })
  await t.rejects(fs.put(Buffer.from('x'), '/f/'), { code: 'EISDIR' })
  const stop = new AbortController()
  stop.abort()
  await t.rejects(fs.put(Buffer.from('x'), '/g', { signal: stop.signal }), { code: 'CANCELLED' })
  t.equal((await fs.read('/f')).toString(), 'old')
  t.same(await names(fs, '/'), ['f'])
  t.equal(vfs.openHandles, 0)
})

t.test('a put that is cancelled while its temporary file is made leaves none', async (t) => {
  let isMaking = false
  let isRemoved = false
  let go = (): void => undefined
  const gate = new Promise<void>((resolve) => (go = resolve))
  const { client: fs, vfs } = await serveFiles(t, {
    wrap: (inner) =>
      replace(inner, {
        create: async (...args) => {
          isMaking = true
          await gate
          return await inner.create(...args)
        },
        unlink: (...args) => inner.unlink(...args).finally(() => (isRemoved = true)),
      }),
  })
  const stop = new AbortController()
  const putting = fs.put(Buffer.from('x'), '/f', { signal: stop.signal })
  await until('it is under way', () => isMaking)
  stop.abort()
  await t.rejects(putting, { code: 'CANCELLED' })
  t.same(await names(fs, '/'), [])
  go()
  await until('it is removed', () => isRemoved)
  t.same(await names(fs, '/'), [])
  t.equal(vfs.openHandles, 0)
})

t.test('what is opened for a caller that waits no more is closed', async (t) => {
  let waiting = 0
  let opened = 0
  let go = (): void => undefined
  const gate = new Promise<void>((resolve) => (go = resolve))
  const held = async <T>(call: () => Promise<T>): Promise<T> => {
    waiting++
    await gate
    return call().finally(() => opened++)
  }
  const { client: fs, vfs } = await serveFiles(t, {
    wrap: (inner) =>
      replace(inner, {
        open: (...args) => held(() => inner.open(...args)),
        opendir: (...args) => held(() => inner.opendir(...args)),
      }),
  })
  await fs.put(Buffer.from('x'), '/f')
  await fs.put(Buffer.from('x'), '/g')
  const stop = new AbortController()
  const opening = fs.open('/f', 'r', { signal: stop.signal })
  const listing = fs.readdir('/', { signal: stop.signal, pageEntries: 1 }).next()
  await until('both are under way', () => waiting === 2)
  stop.abort()
  await t.rejects(opening, { code: 'CANCELLED' })
  await t.rejects(listing, { code: 'CANCELLED' })
  await fs.ping()
  go()
  await until('the handles are released', () => opened === 2 && vfs.openHandles === 0)
  t.equal((await fs.read('/f')).toString(), 'x', 'on the same connection')
})

t.test('what is opened for a caller that gives up while the reply is under way is closed', async (t) => {
  const { client: fs, vfs, address } = await serveFiles(t, { maxHandles: 3 })
  for (const name of ['/f', '/g', '/h']) await fs.put(Buffer.from('x'), name)
  // Frame by frame, so that the caller is one who has sent "cancel" before he has read the reply.
  const socket = connect(address.slice('unix:'.length))
  t.teardown(() => socket.destroy())
  const frames: Frame[] = []
  const parser = new FrameParser((frame) => frames.push(frame))
  socket.on('data', (data) => parser.push(data))
  let id = 0
  const call = async <Request, Reply>(method: Method<Request, Reply>, request: Request): Promise<Frame> => {
    const own = ++id
    socket.write(encodeHead(KIND.request, own, method.request.encode(request), 0, method.number, 60_000))
    await until('it is answered', () => frames.some((frame) => frame.id === own))
    const [frame] = frames.filter((one) => one.id === own)
    if (frame?.kind !== KIND.reply) throw new Error(frame?.header.toString('latin1') ?? 'no frame')
    return frame
  }
  const none = Buffer.alloc(0)
  const open = { path: Buffer.from('/f'), flags: 0, mode: 0 }
  const list = { handle: 0, path: Buffer.from('/'), cursor: none, limit: 1, plus: false }
  for (let i = 0; i < 4; i++) {
    await call(FILE_OPEN, open)
    socket.write(encodeHead(KIND.cancel, id))
    await call(FILE_READDIR, list)
    socket.write(encodeHead(KIND.cancel, id))
    await until('the handles are released', () => vfs.openHandles === 0)
  }
  const { handle } = FILE_OPEN.reply.decode((await call(FILE_OPEN, open)).header)
  const opened = id
  await call(FILE_READ, { handle, offset: 0, lengthBytes: 1 })
  socket.write(encodeHead(KIND.cancel, opened))
  t.equal(
    join((await call(FILE_READ, { handle, offset: 0, lengthBytes: 1 })).payload).toString(),
    'x',
    'one in use stays',
  )
})

t.test('handles are bounded per connection, and belong to it', async (t) => {
  const { client: fs, connect } = await serveFiles(t, { maxHandles: 3 })
  await fs.put(Buffer.from('x'), '/f')
  const open = await Promise.all([fs.open('/f'), fs.open('/f'), fs.open('/f')])
  await t.rejects(fs.open('/f'), { code: 'EMFILE' })
  const ends = await Promise.allSettled([fs.open('/f'), fs.open('/f')])
  t.ok(ends.every((end) => end.status === 'rejected'))
  const other = await connect()
  await (await other.open('/f')).close()
  await open[0].close()
  await (await fs.open('/f')).close()
  await Promise.all(open.map((file) => file.close()))
})

t.test('a client that closes releases its handles, those in use included, when they are used no more', async (t) => {
  let go = (): void => undefined
  const gate = new Promise<void>((resolve) => (go = resolve))
  let waiting = 0
  let readsAfterRelease = 0
  const {
    client: fs,
    vfs,
    service,
    connect,
  } = await serveFiles(t, {
    wrap: (inner) =>
      replace(inner, {
        open: async (caller, ino, flags) => {
          const opened = await inner.open(caller, ino, flags)
          if (flags === OPEN_FLAG.O_RDWR) {
            waiting++
            await gate
          }
          return opened
        },
        read: async (handle, offset, length) => {
          waiting++
          await gate
          return inner.read(handle, offset, length).catch((error: unknown) => {
            readsAfterRelease++
            throw error
          })
        },
      }),
  })
  await fs.put(Buffer.from('x'), '/f')
  const doomed = await connect()
  const file = await doomed.open('/f')
  await doomed.open('/f')
  const calls = [file.read(0, 1), doomed.open('/f', 'r+')]
  const settled = Promise.allSettled(calls)
  await until('both wait', () => waiting === 2)
  const closing = doomed.close()
  await new Promise((resolve) => setTimeout(resolve, 20))
  go()
  await settled
  await closing
  await until('all is closed', () => vfs.openHandles === 0)
  await service.released()
  t.equal(readsAfterRelease, 0)
  t.pass('released')
})

t.test('a close that cannot write says so, and the handle is gone', async (t) => {
  const { client: fs, vfs } = await serveFiles(t, {
    wrap: (inner) => replace(inner, { flush: () => Promise.reject(new PosixError('EIO', 'lost')) }),
  })
  const file = await fs.open('/f', 'w')
  await t.rejects(file.close(), { code: 'EIO' })
  await file.close()
  t.equal(vfs.openHandles, 0)
})

t.test('connect finds what runs here by its run file', async (t) => {
  const { address, client: fs } = await serveFiles(t)
  const folder = await mkdtemp(path.join(tmpdir(), 'ringfs-run-'))
  t.teardown(() => rm(folder, { recursive: true, force: true }))
  const connect = async (volume?: string) => {
    const found = await connectClient(volume === undefined ? {} : { volume }, folder)
    await found.close()
  }
  await t.rejects(connect(), { code: 'NOT_RUNNING', message: /ringfs up/ })
  await t.rejects(connectClient({}, path.join(folder, 'none')), { code: 'NOT_RUNNING' })
  const run = (name: string, pid: number) =>
    JSON.stringify({ volume: name, pid, socket: address.slice('unix:'.length) })
  await writeFile(path.join(folder, 'dead.json'), run('dead', 2 ** 22 + 1))
  await writeFile(path.join(folder, 'half.json'), '{"volume":')
  await t.rejects(connect(), { code: 'NOT_RUNNING' })
  await writeFile(path.join(folder, 'demo.json'), run('demo', process.pid))
  await connect()
  await writeFile(path.join(folder, 'two.json'), run('two', process.pid))
  await t.rejects(connect(), { code: 'USAGE', message: /demo at unix:.*two at|two at unix:.*demo at/ })
  await connect('two')
  await t.rejects(connect('three'), { code: 'NOT_RUNNING', message: /three/ })
  await t.rejects(connectClient('unix:/nowhere/sock', folder), { code: 'NODE_UNREACHABLE' })
  t.equal((await fs.ping()).pid, process.pid)
})

t.test('64 files put and got at once keep their contents', async (t) => {
  const { client: fs } = await serveFiles(t)
  const sums = await Promise.all(
    Array.from({ length: 64 }, async (_, i) => {
      const data = randomBytes(100_000 + i)
      await fs.put(data, `/f${i}`)
      const back = await buffer(fs.get(`/f${i}`))
      return [createHash('sha256').update(data).digest('hex'), createHash('sha256').update(back).digest('hex')]
    }),
  )
  t.ok(sums.every(([put, got]) => put === got))
})
