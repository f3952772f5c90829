/** What the kernel may keep, and what it is told: the driver on the real VFS, two clients, without a kernel. */
import { setImmediate as turn } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { PosixError } from '../../../src/base/errno.js'
import { ROOT_INO } from '../../../src/base/limits.js'
import { LIFETIME_MAX_MS } from '../../../src/fuse/kernel/handed.js'
import { KernelCache } from '../../../src/fuse/kernel/kernel-cache.js'
import { BesideKernel } from '../../../src/vfs/beside-kernel.js'
import type { Attr } from '../../../src/vfs/contract.js'
import { CachePeer, readEntry } from '../../helpers/cache-peer.js'
import { ManualClock } from '../../helpers/manual-clock.js'
import { MemoryVfs } from '../../helpers/memory-vfs.js'
import { CALLER, Gate, codeOf, fixture, make, settle, type Fixture, type Mounted } from '../../helpers/vfs-fixture.js'

const DIRECT_IO = 1
const KEEP_CACHE = 2
const ESTALE = -116
const ENOENT = -2
const EIO = -5
const EEXIST = -17
const ENODATA = -61
const O_TRUNC = 0o1000
const O_APPEND = 0o2000
/** A read that changes the access time has to come here each time. */
const O_NOATIME = 0o1000000
const ATTR_CHANGE = { mode: 0o600 }
/** A thread that is not seen: it cannot be sent back. */
const UNSEEN = 0

interface Two extends Fixture {
  readonly peer: CachePeer
  readonly clock: ManualClock
  readonly other: Mounted
  /** A file with some bytes in it, made by the other client; its number. */
  readonly file: number
}

async function two(t: Test, kernelMinor?: number, pagesMax?: number): Promise<Two> {
  const one = fixture(t)
  const clock = new ManualClock()
  const peer = new CachePeer(one.vfs, clock, kernelMinor, pagesMax)
  const other = one.another()
  const { ino, handle } = await make(other.vfs, 'file')
  await other.vfs.write(handle, 0, Buffer.from('before'))
  await other.vfs.release(handle)
  await settle()
  return { ...one, peer, clock, other, file: ino }
}

const named = Buffer.from('file')

/** What was asked is over for long enough that nobody can still hold a lock in the kernel. */
const QUIET_MS = 20

function openBody(flags: number): Buffer {
  const body = Buffer.alloc(8)
  body.writeUInt32LE(flags, 0)
  return body
}

/** struct fuse_read_in, fuse_write_in, fuse_release_in: as far as they are read. */
function handleBody(handle: bigint, offset = 0, lengthBytes = 0): Buffer {
  const body = Buffer.alloc(40)
  body.writeBigUInt64LE(handle, 0)
  body.writeBigUInt64LE(BigInt(offset), 8)
  body.writeUInt32LE(lengthBytes, 16)
  return body
}

async function rewrite({ vfs }: Mounted, ino: number, text: string): Promise<void> {
  const { handle } = await vfs.open(CALLER, ino, 1 | O_TRUNC)
  await vfs.write(handle, 0, Buffer.from(text))
  await vfs.release(handle)
}

t.test('names, absent names and attributes get what is left of the lease', async (t) => {
  const { peer, meta, file } = await two(t)
  meta.leaseMs = 12_345
  t.match(await peer.lookup(ROOT_INO, 'file'), { ino: file, entryMs: 12_345, attrMs: 12_345, sizeBytes: 6 })
  t.match(await peer.lookup(ROOT_INO, 'none'), { error: 0, ino: 0, entryMs: 12_345 })
  meta.leaseMs = 1.5
  t.match(await peer.getattr(file), { attrMs: 1.5 })
  meta.leaseMs = 1e9
  t.match(await peer.getattr(file), { attrMs: LIFETIME_MAX_MS }, 'however long the lease')
})

t.test('nothing has a lifetime while changes of others are not heard of', async (t) => {
  const { peer, meta, file } = await two(t)
  await peer.lookup(ROOT_INO, 'file')
  meta.setCoherent(false)
  t.match(await peer.lookup(ROOT_INO, 'file'), { ino: file, entryMs: 0, attrMs: 0 })
  t.match(await peer.lookup(ROOT_INO, 'none'), { error: ENOENT })
  t.match(await peer.getattr(file), { attrMs: 0 })
  meta.setCoherent(true)
  t.match(await peer.lookup(ROOT_INO, 'file'), { entryMs: 30_000, attrMs: 30_000 })
})

t.test('an answer that was overtaken by a change has no lifetime', async (t) => {
  const { peer, meta, other, file } = await two(t)
  const gate = new Gate()
  meta.after = async (call) => {
    if (call === 'lookup') await gate.passed
  }
  const reply = peer.lookup(ROOT_INO, 'file')
  await turn()
  await other.vfs.rename(CALLER, ROOT_INO, named, ROOT_INO, Buffer.from('elsewhere'), {})
  await other.vfs.setattr(CALLER, file, ATTR_CHANGE)
  await settle()
  gate.open()
  t.match(await reply, { ino: file, entryMs: 0, attrMs: 0 })
  meta.after = () => undefined
  t.match(await peer.lookup(ROOT_INO, 'file'), { error: 0, ino: 0 })
})

t.test('what was made here has a lifetime at once, and its directory is asked for again', async (t) => {
  const { peer } = await two(t)
  const body = Buffer.concat([Buffer.alloc(16), Buffer.from('made\0')])
  const { body: made } = await peer.ask('create', ROOT_INO, body)
  t.match(readEntry(made), { entryMs: 30_000, attrMs: 30_000 })
  const mkdir = Buffer.concat([Buffer.alloc(8), Buffer.from('folder\0')])
  t.match(readEntry((await peer.ask('mkdir', ROOT_INO, mkdir)).body), { entryMs: 30_000, attrMs: 30_000 })
})

t.test('a listing with attributes gives lifetimes to what is known', async (t) => {
  const { peer, file } = await two(t)
  const { body: opened } = await peer.ask('opendir', ROOT_INO, Buffer.alloc(8))
  const request = Buffer.alloc(40)
  opened.copy(request, 0, 0, 8)
  request.writeUInt32LE(4096, 16)
  const { body } = await peer.ask('readdirplus', ROOT_INO, request)
  // `.` and `..` come first, each with an empty entry and a name of up to 8 bytes.
  const third = 2 * (128 + 32)
  t.match(readEntry(body, third), { ino: file, entryMs: 30_000, attrMs: 30_000 })
  t.match(readEntry(body, 0), { ino: 0, entryMs: 0 })
})

t.test('the attributes of a file with unwritten data have no lifetime', async (t) => {
  const { peer, vfs, file } = await two(t)
  const { handle } = await vfs.open(CALLER, file, 2)
  await vfs.write(handle, 0, Buffer.from('more than before'))
  t.match(await peer.getattr(file), { attrMs: 0 })
  await vfs.flush(handle)
  t.match(await peer.getattr(file), { attrMs: 30_000 })
  await vfs.release(handle)
})

t.test('the kernel is told of what it holds and of nothing else', async (t) => {
  const { clock, peer, other, file } = await two(t)
  await peer.lookup(ROOT_INO, 'file')
  await clock.pass(QUIET_MS)
  peer.threads.take()
  await make(other.vfs, 'unknown')
  await settle()
  t.same(peer.threads.take(), [], 'neither the new name nor the root were given out')
  await other.vfs.setattr(CALLER, file, ATTR_CHANGE)
  await settle()
  t.same(peer.threads.take(), [`attr ${file}`])
  await other.vfs.setattr(CALLER, file, { mode: 0o644 })
  await settle()
  t.same(peer.threads.take(), [], 'it has to ask anyway')
  await other.vfs.rename(CALLER, ROOT_INO, named, ROOT_INO, Buffer.from('new'), {})
  await settle()
  t.same(peer.threads.take(), ['entry 1/file'])
})

t.test('a name that is known to be absent is told when somebody makes it', async (t) => {
  const { clock, peer, other } = await two(t)
  await peer.lookup(ROOT_INO, 'none')
  await clock.pass(QUIET_MS)
  await make(other.vfs, 'none')
  await settle()
  t.same(peer.threads.take(), ['entry 1/none'])
  t.match(await peer.lookup(ROOT_INO, 'none'), { error: 0, entryMs: 30_000 })
})

t.test('an inode that was about to become known when it was changed is notified again', async (t) => {
  const { peer, other, clock, file } = await two(t)
  await peer.lookup(ROOT_INO, 'file')
  peer.threads.isQuick = false
  await other.vfs.setattr(CALLER, file, ATTR_CHANGE)
  await settle()
  await clock.pass(2)
  peer.threads.take()
  peer.threads.end(`attr ${file}`, 2)
  await clock.pass(10)
  t.same(peer.threads.take(), [`attr ${file}`])
  await clock.pass(5_000)
  peer.threads.end(`attr ${file}`, 0)
})

t.test('a change of contents waits until who asked for the size has taken the answer', async (t) => {
  const { peer, other, clock, file } = await two(t)
  await peer.open(file)
  await clock.pass(QUIET_MS)
  await peer.getattr(file)
  await other.vfs.setattr(CALLER, file, { sizeBytes: 3 })
  await settle()
  t.same(peer.threads.take(), [])
  await clock.pass(2)
  t.same(peer.threads.take(), [`attr ${file}`, `data ${file}`])
})

t.test('when everything is in doubt, all names and all that was given out is told', async (t) => {
  const { clock, peer, meta, file } = await two(t)
  await peer.lookup(ROOT_INO, 'file')
  await peer.getattr(ROOT_INO)
  await peer.open(file)
  await clock.pass(QUIET_MS)
  peer.threads.take()
  meta.setCoherent(false)
  await settle()
  t.same(peer.threads.take().sort(), ['attr 1', `attr ${file}`, `data ${file}`, 'epoch'])
})

t.test('a kernel without epochs is told each name', async (t) => {
  const { clock, peer, meta, file } = await two(t, 38)
  await peer.lookup(ROOT_INO, 'file')
  await peer.lookup(ROOT_INO, 'none')
  await clock.pass(QUIET_MS)
  meta.setCoherent(false)
  await settle()
  t.same(peer.threads.take().sort(), [`attr ${file}`, 'entry 1/file', 'entry 1/none'])
})

t.test('pages stay over an open of the version that they have; others are dropped before its answer', async (t) => {
  const { clock, peer, other, file } = await two(t)
  t.match(await peer.open(file, O_NOATIME), { error: 0, flags: KEEP_CACHE }, 'there are none')
  t.match(await peer.open(file, O_NOATIME), { flags: KEEP_CACHE })
  t.same(peer.threads.take(), [])
  await clock.pass(QUIET_MS)
  peer.threads.isQuick = false
  await rewrite(other, file, 'after')
  const open = peer.open(file, O_NOATIME, UNSEEN)
  let isOpen = false
  void open.then(() => (isOpen = true))
  await settle()
  t.same(peer.threads.take(), [`data ${file}`, `attr ${file}`], 'the event came, and then the open')
  peer.threads.end(`data ${file}`)
  t.same(peer.threads.take(), [`data ${file}`], 'once more from the start')
  peer.threads.end(`attr ${file}`)
  await settle()
  t.equal(isOpen, false, 'not before the pages are gone')
  peer.threads.end(`data ${file}`)
  t.match(await open, { error: 0, flags: KEEP_CACHE | DIRECT_IO })
})

/** What the kernel writes; it has these bytes in its pages. */
async function write({ vfs }: Mounted, ino: number, at: number, text: string): Promise<void> {
  const { handle } = await vfs.open(CALLER, ino, 1)
  await vfs.write(handle, at, Buffer.from(text))
  await vfs.release(handle)
}

t.test('what this kernel wrote leaves its pages as they are, and its size of the file', async (t) => {
  const one = await two(t)
  const { peer, file } = one
  await peer.getattr(file)
  t.match(await peer.open(file, O_NOATIME), { flags: KEEP_CACHE })
  await write(one, file, 6, ' and more')
  t.match(await peer.open(file, O_NOATIME), { flags: KEEP_CACHE }, 'known by its attributes from before')
  t.notOk(peer.threads.take().includes(`data ${file}`))
  await peer.lookup(ROOT_INO, 'file')
  await write(one, file, 0, 'long'.repeat(50_000))
  await write(one, file, 100, 'in chunks')
  t.match(await peer.open(file, O_NOATIME), { flags: KEEP_CACHE })
  t.match(await peer.open(file, O_NOATIME), { flags: KEEP_CACHE })
  t.notOk(peer.threads.take().includes(`data ${file}`))
})

t.test('what another user of the same VFS wrote is not in the pages, whoever reads them meanwhile', async (t) => {
  const one = await two(t)
  const { peer, vfs, file, clock } = one
  const opened = await peer.ask('open', file, openBody(O_NOATIME))
  await clock.pass(100)
  const gate = new Gate()
  const read = vfs.readPieces.bind(vfs)
  t.capture(vfs, 'readPieces', async (...values: Parameters<typeof read>) => {
    const bytes = await read(...values)
    await gate.passed
    return bytes
  })
  const reading = peer.ask('read', file, handleBody(opened.body.readBigUInt64LE(0), 0, 4096))
  await settle()
  const beside = new BesideKernel(vfs)
  const { handle } = await beside.open(CALLER, file, 1)
  await beside.write(handle, 0, Buffer.from('AFTER'))
  await beside.release(handle)
  await clock.pass(50)
  const { flags } = await peer.open(file, O_NOATIME, 77)
  t.equal(flags & KEEP_CACHE, 0, 'they are in use, and not dropped yet')
  gate.open()
  await reading
  await clock.pass(50)
  t.ok(peer.threads.take().includes(`data ${file}`))
})

t.test('what was written past the pages does not make them newer', async (t) => {
  const one = await two(t)
  const { peer, file, clock } = one
  await peer.getattr(file)
  t.match(await peer.open(file, O_NOATIME), { flags: KEEP_CACHE })
  const opened = await peer.ask('open', file, openBody(O_NOATIME | O_APPEND | 1))
  t.equal(opened.body.readUInt32LE(8) & DIRECT_IO, DIRECT_IO)
  const handle = opened.body.readBigUInt64LE(0)
  await peer.ask('write', file, Buffer.concat([handleBody(handle, 6, 9), Buffer.from(' and more')]))
  await peer.ask('release', file, handleBody(handle))
  await clock.pass(QUIET_MS)
  peer.threads.take()
  await peer.open(file, O_NOATIME)
  t.ok(peer.threads.take().includes(`data ${file}`), 'the kernel may have read them while it wrote')
})

t.test('the kernel drops the pages of what it appended through them, for it may lie elsewhere', async (t) => {
  const { peer, file, clock } = await two(t)
  await peer.getattr(file)
  const opened = await peer.ask('open', file, openBody(O_NOATIME | 1))
  t.equal(opened.body.readUInt32LE(8) & DIRECT_IO, 0)
  const handle = opened.body.readBigUInt64LE(0)
  const write = async (flags: number): Promise<readonly string[]> => {
    await clock.pass(QUIET_MS)
    peer.threads.take()
    const body = handleBody(handle, 6, 9)
    body.writeUInt32LE(flags, 32)
    t.equal((await peer.ask('write', file, Buffer.concat([body, Buffer.from(' and more')]))).error, 0)
    await clock.pass(QUIET_MS)
    return peer.threads.take()
  }
  t.notOk((await write(1)).includes(`data ${file}`))
  t.ok((await write(O_APPEND | 1)).includes(`data ${file}`), 'F_SETFL came meanwhile')
})

t.test('nor does what was written past them while an open waited for a notice', async (t) => {
  const { peer, other, file, clock } = await two(t)
  await peer.getattr(file)
  await peer.open(file, O_NOATIME)
  const past = await peer.ask('open', file, openBody(O_NOATIME | O_APPEND | 1))
  const handle = past.body.readBigUInt64LE(0)
  await clock.pass(QUIET_MS)
  peer.threads.isQuick = false
  await other.vfs.setattr(CALLER, file, ATTR_CHANGE)
  await settle()
  const opened = peer.open(file, O_NOATIME, UNSEEN)
  await settle()
  await peer.ask('write', file, Buffer.concat([handleBody(handle, 6, 9), Buffer.from(' and more')]))
  peer.threads.end(`attr ${file}`)
  t.match(await opened, { error: 0 })
  peer.threads.isQuick = true
  await peer.ask('release', file, handleBody(handle))
  await clock.pass(QUIET_MS)
  peer.threads.take()
  await peer.open(file, O_NOATIME)
  t.ok(peer.threads.take().includes(`data ${file}`))
})

t.test('a change by others between two of this kernel is not taken for one of its own', async (t) => {
  const one = await two(t)
  const { peer, meta, other, file } = one
  await peer.getattr(file)
  t.match(await peer.open(file, O_NOATIME), { flags: KEEP_CACHE })
  // Events are late, and the fence does not wait for them.
  t.capture(meta, 'receive', () => undefined)
  await write(one, file, 0, 'mine')
  await write(other, file, 6, ' and more of others')
  await write(one, file, 0, 'mine')
  t.match(await peer.open(file, O_NOATIME, UNSEEN), { flags: KEEP_CACHE | DIRECT_IO })
  t.ok(peer.threads.take().includes(`data ${file}`))
})

t.test('a size that was told, and not opened yet, is that of the contents before a change by others', async (t) => {
  const one = await two(t)
  const { peer, meta, other, file } = one
  await peer.getattr(file)
  t.capture(meta, 'receive', () => undefined)
  await write(other, file, 6, ' and more of others')
  await write(one, file, 0, 'mine')
  t.match(await peer.open(file, O_NOATIME, UNSEEN), { flags: KEEP_CACHE | DIRECT_IO })
})

t.test('a notice that overtakes the answer about a size leaves the size in doubt', async (t) => {
  const one = await two(t)
  const { clock, peer, other, file } = one
  await peer.getattr(file)
  await clock.pass(QUIET_MS)
  await write(other, file, 6, ' and more of others')
  await settle()
  t.match(
    await peer.open(file, O_NOATIME, UNSEEN),
    { flags: KEEP_CACHE | DIRECT_IO },
    'dropped, and nothing was answered since',
  )
  await clock.pass(QUIET_MS)
  await peer.getattr(file)
  t.match(await peer.open(file, O_NOATIME), { flags: KEEP_CACHE })
  await write(one, file, 0, 'mine')
  t.match(
    await peer.open(file, O_NOATIME, UNSEEN),
    { flags: KEEP_CACHE | DIRECT_IO },
    'the kernel may not have taken it yet',
  )
  await clock.pass(1_000)
  await peer.getattr(file)
  await write(one, file, 0, 'mine')
  t.match(await peer.open(file, O_NOATIME), { flags: KEEP_CACHE })
})

t.test('an open whose event has not come yet has the kernel forget what it holds', async (t) => {
  const { peer, meta, other, file } = await two(t)
  await peer.getattr(file)
  // Events are late, and the fence does not wait for them.
  const late = t.capture(meta, 'receive', () => undefined)
  await rewrite(other, file, 'after')
  t.match(await peer.open(file, 0, UNSEEN), { error: 0 })
  t.same(peer.threads.take(), [`attr ${file}`])
  t.ok(late().length > 0)
})

t.test('who opens a file to read that others changed is sent back once, for an answer about its size', async (t) => {
  const { peer, vfs, meta, other, file } = await two(t)
  await peer.lookup(ROOT_INO, 'file')
  t.capture(meta, 'receive', () => undefined)
  const released = t.capture(vfs, 'release', vfs.release.bind(vfs))
  await write(other, file, 6, ' and more')
  t.match(await peer.open(file, 1), { error: 0 }, 'to write')
  await peer.getattr(file)
  await write(other, file, 15, ' and more')
  t.match(await peer.open(file, O_NOATIME), { error: ESTALE })
  t.equal(released().length, 1, 'nothing is left open')
  t.match(await peer.lookup(ROOT_INO, 'file'), { ino: file, sizeBytes: 24 })
  t.match(await peer.open(file, O_NOATIME), { error: 0, flags: KEEP_CACHE })
  await write(other, file, 24, ' and more')
  t.match(await peer.open(file, O_NOATIME), { error: ESTALE })
  await peer.lookup(ROOT_INO, 'file')
  await write(other, file, 33, ' and more')
  t.match(await peer.open(file, O_NOATIME), { error: 0, flags: KEEP_CACHE | DIRECT_IO }, 'not twice')
  t.match(await peer.open(file, O_NOATIME), { error: ESTALE })
  t.match(await peer.open(file, O_NOATIME), { flags: KEEP_CACHE | DIRECT_IO }, 'there is no way to it (/proc/self/fd)')
})

t.test('nobody is sent back who was told what others changed, and has taken it for certain', async (t) => {
  const one = await two(t)
  const { clock, peer, other, file } = one
  const openedBy = async (thread: number): Promise<number> => (await peer.open(file, O_NOATIME, thread)).error
  const grow = async (): Promise<void> => {
    await clock.pass(2_000)
    await write(other, file, 0, 'more than it was'.repeat(++length))
    await clock.pass(5)
  }
  let length = 0
  await peer.getattr(file)
  await grow()
  t.equal(await openedBy(6), ESTALE, 'not told')
  await grow()
  await peer.getattr(file)
  t.equal(await openedBy(7), ESTALE, 'a notice was written a moment before: it may have been asked for before that')
  await grow()
  await clock.pass(QUIET_MS)
  await peer.getattr(file)
  t.equal(await openedBy(8), ESTALE, 'another thread was told just now')
  await grow()
  await clock.pass(QUIET_MS)
  await peer.getattr(file, 9)
  t.equal(await openedBy(9), 0)
  await clock.pass(2_000)
  t.match(await peer.ask('open', file, openBody(1 | O_TRUNC)), { error: 0 })
  await write(one, file, 0, 'mine')
  t.equal(await openedBy(8), 0, 'cut here')
})

t.test(
  'who was told, but had asked before the kernel was told, is sent back however long the answer took',
  async (t) => {
    const { clock, peer, vfs, meta, other, file } = await two(t)
    await peer.getattr(file)
    await clock.pass(2_000)
    peer.threads.take()
    const gate = new Gate()
    meta.after = async (call) => {
      if (call === 'lookup') await gate.passed
    }
    const reply = peer.lookup(ROOT_INO, 'file', 9)
    await turn()
    meta.after = () => undefined
    await write(other, file, 6, ' and more')
    await settle()
    t.ok(peer.threads.take().includes(`attr ${file}`))
    await vfs.getattr(CALLER, file)
    await clock.pass(QUIET_MS + 10)
    gate.open()
    t.match(await reply, { sizeBytes: 15, attrMs: /[1-9]/ })
    t.match(await peer.open(file, O_NOATIME, 9), { error: ESTALE }, 'the kernel has ignored the answer')
    await peer.lookup(ROOT_INO, 'file', 9)
    t.match(await peer.open(file, O_NOATIME, 9), { error: 0, flags: KEEP_CACHE })
  },
)

t.test('an open by a name that means another file now is sent back once, and then served', async (t) => {
  const { peer, other, file } = await two(t)
  await peer.lookup(ROOT_INO, 'file')
  await other.vfs.rename(CALLER, ROOT_INO, named, ROOT_INO, Buffer.from('aside'), {})
  await make(other.vfs, 'file')
  t.match(await peer.open(file, 0, 50), { error: ESTALE })
  t.match(await peer.open(file, 0, 51), { error: ESTALE }, 'another thread walked by the same name')
  t.match(await peer.open(file, 0, 50), { error: 0 }, 'it asked for the name again, and this is what it means')
  t.match(await peer.open(file, 0, 0), { error: 0 }, 'who cannot be told apart is not sent back')
})

t.test('who was sent back and did not come again opens something else as anybody does', async (t) => {
  const { peer, other, vfs, file } = await two(t)
  const { ino } = await make(vfs, 'another')
  for (const name of ['file', 'another']) {
    await peer.lookup(ROOT_INO, name)
    await other.vfs.rename(CALLER, ROOT_INO, Buffer.from(name), ROOT_INO, Buffer.from('aside'), {})
    await make(other.vfs, name)
  }
  t.match(await peer.open(file, 0, 50), { error: ESTALE })
  t.match(await peer.open(ino, 0, 50), { error: ESTALE }, 'it has asked for no name since')
  t.match(await peer.open(ino, 0, 50), { error: 0 })
})

/** As an editor saves: the name means another file, and the one that had it is gone unless somebody keeps it. */
async function replace({ vfs }: Mounted, name: string): Promise<void> {
  const { handle } = await make(vfs, 'new')
  await vfs.release(handle)
  await vfs.rename(CALLER, ROOT_INO, Buffer.from('new'), ROOT_INO, Buffer.from(name), {})
}

t.test('what a second walk is led to is there to be opened, though it is replaced at once', async (t) => {
  const { peer, other, vfs, file } = await two(t)
  await peer.lookup(ROOT_INO, 'file')
  await replace(other, 'file')
  t.match(await peer.open(file, 0, 50), { error: ESTALE })
  const second = await peer.lookup(ROOT_INO, 'file', 50)
  t.not(second.ino, file)
  await replace(other, 'file')
  t.match(await peer.open(second.ino, 0, 51), { error: ESTALE }, 'not for a thread that came by the old name')
  const opened = await peer.ask('open', second.ino, openBody(0), 50)
  t.equal(opened.error, 0)
  t.match(await vfs.getattr(CALLER, second.ino), { nlink: 0 })
  await peer.ask('release', second.ino, handleBody(opened.body.readBigUInt64LE(0)))
  await settle()
  t.equal(await codeOf(other.vfs.getattr(CALLER, second.ino)), 'ENOENT', 'nobody keeps it any more')
})

t.test('that there are no ACLs on its way does not end a second walk', async (t) => {
  const { peer, other, file } = await two(t)
  await peer.lookup(ROOT_INO, 'file')
  await replace(other, 'file')
  t.match(await peer.open(file, 0, 50), { error: ESTALE })
  const second = await peer.lookup(ROOT_INO, 'file', 50)
  const asked = Buffer.concat([Buffer.alloc(8), Buffer.from('system.posix_acl_access\0')])
  t.match(await peer.ask('getxattr', second.ino, asked, 50), { error: ENODATA })
  await replace(other, 'file')
  t.match(await peer.open(second.ino, 0, 50), { error: 0 })
})

t.test('a second walk is known at the end of a path of any length', async (t) => {
  const { peer, vfs, other } = await two(t)
  const way: number[] = [ROOT_INO]
  for (let depth = 0; depth < 120; depth++) {
    way.push((await vfs.mkdir(CALLER, way.at(-1)!, Buffer.from('d'), 0o755)).ino)
  }
  const last = way.at(-1)!
  const first = await vfs.mknod(CALLER, last, named, 0o100644, 0)
  const move = async (to: string): Promise<number> => {
    const { ino } = await other.vfs.mknod(CALLER, last, Buffer.from('new'), 0o100644, 0)
    await other.vfs.rename(CALLER, last, Buffer.from('new'), last, Buffer.from(to), {})
    return ino
  }
  await settle()
  await peer.lookup(last, 'file')
  const second = await move('file')
  t.match(await peer.open(first.ino, 0, 50), { error: ESTALE })
  for (const directory of way.slice(0, -1)) await peer.lookup(directory, 'd', 50)
  t.match(await peer.lookup(last, 'file', 50), { ino: second })
  await move('file')
  t.match(await peer.open(second, 0, 50), { error: 0 }, 'a second ESTALE would go to the program')
})

t.test('who goes on looking at names after a second walk, and opens nothing, is let go', async (t) => {
  const { peer, vfs, other, file } = await two(t)
  const names = Array.from({ length: 150 }, (_, i) => `n${i}`)
  for (const name of names) await vfs.mknod(CALLER, ROOT_INO, Buffer.from(name), 0o100644, 0)
  await peer.lookup(ROOT_INO, 'file')
  await replace(other, 'file')
  t.match(await peer.open(file, 0, 50), { error: ESTALE })
  const pins = t.capture(vfs, 'pin', vfs.pin.bind(vfs))
  const unpins = t.capture(vfs, 'unpin', vfs.unpin.bind(vfs))
  for (const name of names) t.match(await peer.lookup(ROOT_INO, name, 50), { error: 0 })
  const pinned = pins().length
  t.ok(pinned > 0 && pinned < names.length, `${pinned}`)
  t.equal(unpins().length, pinned)
})

t.test('an open of what is gone has a second walk, also where the VFS calls it ENOENT', async (t) => {
  const vfs = new MemoryVfs()
  const peer = new CachePeer(vfs, new ManualClock())
  const replaceIn = async (): Promise<number> => {
    const { ino } = await vfs.mknod(CALLER, ROOT_INO, Buffer.from('new'), 0o100644, 0)
    await vfs.rename(CALLER, ROOT_INO, Buffer.from('new'), ROOT_INO, named, {})
    return ino
  }
  const first = await replaceIn()
  const second = await replaceIn()
  t.match(await peer.open(first, 0, 50), { error: ESTALE })
  t.match(await peer.lookup(ROOT_INO, 'file', 50), { ino: second })
  await replaceIn()
  t.match(await peer.open(second, 0, 50), { error: 0 })
})

t.test('a second walk is not led to what is gone by a name that is still believed', async (t) => {
  const { peer, meta, other, file } = await two(t)
  await peer.lookup(ROOT_INO, 'file')
  await replace(other, 'file')
  t.match(await peer.open(file, 0, 50), { error: ESTALE })
  const seen = await peer.lookup(ROOT_INO, 'file')
  // Events are late.
  t.capture(meta, 'receive', () => undefined)
  await replace(other, 'file')
  const second = await peer.lookup(ROOT_INO, 'file', 50)
  t.not(second.ino, seen.ino)
  t.match(await peer.open(second.ino, 0, 50), { error: 0 })
})

t.test('a symlink, and attributes, that a second walk is led to are there to be read', async (t) => {
  const { peer, other, file } = await two(t)
  const link = async (target: string): Promise<void> => {
    await other.vfs.symlink(CALLER, ROOT_INO, Buffer.from('to'), Buffer.from(target))
    await other.vfs.rename(CALLER, ROOT_INO, Buffer.from('to'), ROOT_INO, Buffer.from('link'), {})
  }
  await link('one')
  const { ino } = await peer.lookup(ROOT_INO, 'link')
  await link('two')
  await settle()
  t.match(await peer.ask('readlink', ino, undefined, 50), { error: ESTALE })
  const second = await peer.lookup(ROOT_INO, 'link', 50)
  await link('three')
  await settle()
  const read = await peer.ask('readlink', second.ino, undefined, 50)
  t.equal(read.body.toString(), 'two')
  await replace(other, 'file')
  await settle()
  t.match(await peer.getattr(file, 51), { error: ESTALE })
  const again = await peer.lookup(ROOT_INO, 'file', 51)
  await replace(other, 'file')
  await settle()
  t.match(await peer.getattr(again.ino, 51), { error: 0 })
  await peer.server.end()
  await settle()
  for (const gone of [second.ino, again.ino]) t.equal(await codeOf(other.vfs.getattr(CALLER, gone)), 'ENOENT')
})

t.test('a file is not cut by a name that means another file now', async (t) => {
  const { peer, other, vfs, file } = await two(t)
  await peer.lookup(ROOT_INO, 'file')
  await other.vfs.rename(CALLER, ROOT_INO, named, ROOT_INO, Buffer.from('aside'), {})
  t.match(await peer.open(file, 1 | O_TRUNC), { error: ESTALE })
  t.match(await vfs.getattr(CALLER, file), { sizeBytes: 6 })
})

t.test('whatever lies below a directory that was moved away is sent back', async (t) => {
  const { peer, other } = await two(t)
  const folder = await other.vfs.mkdir(CALLER, ROOT_INO, Buffer.from('folder'), 0o755)
  const below = await other.vfs.mknod(CALLER, folder.ino, named, 0o100644, 0)
  await settle()
  await peer.lookup(ROOT_INO, 'folder')
  await peer.lookup(folder.ino, 'file')
  await other.vfs.rename(CALLER, ROOT_INO, Buffer.from('folder'), ROOT_INO, Buffer.from('old'), {})
  t.match(await peer.open(below.ino), { error: ESTALE })
})

t.test(
  'an inode that is gone is ESTALE, so that the kernel asks for its name; a name that is gone is ENOENT',
  async (t) => {
    const { peer, other, file } = await two(t)
    const folder = await other.vfs.mkdir(CALLER, ROOT_INO, Buffer.from('folder'), 0o755)
    await settle()
    await peer.lookup(ROOT_INO, 'file')
    await other.vfs.unlink(CALLER, ROOT_INO, named)
    await other.vfs.rmdir(CALLER, ROOT_INO, Buffer.from('folder'))
    await settle()
    t.match(await peer.getattr(file), { error: ESTALE })
    t.match(await peer.lookup(folder.ino, 'any', 8), { error: ESTALE })
    t.match(await peer.lookup(folder.ino, 'any', 8), { error: ENOENT }, 'a second ESTALE would go to the program')
    t.match(await peer.ask('unlink', ROOT_INO, Buffer.from('file\0')), { error: ENOENT })
  },
)

/** struct fuse_lk_in: all of the file, to write. */
function lockBody(opened: Buffer): Buffer {
  const lock = Buffer.alloc(48)
  opened.copy(lock, 0, 0, 8)
  lock.writeBigUInt64LE(2n ** 63n - 1n, 24)
  lock.writeUInt32LE(1, 32)
  return lock
}

t.test('a lock is answered when the kernel has been told what others did before', async (t) => {
  const { clock, peer, other, file } = await two(t)
  const { body: opened } = await peer.ask('open', file, Buffer.alloc(8))
  await peer.getattr(file)
  await clock.pass(QUIET_MS)
  peer.threads.isQuick = false
  peer.threads.take()
  await other.vfs.setattr(CALLER, file, { sizeBytes: 3 })
  let isLocked = false
  const locked = peer.ask('setlk', file, lockBody(opened)).then(() => (isLocked = true))
  await settle()
  t.same(peer.threads.take(), [`attr ${file}`, `data ${file}`])
  t.equal(isLocked, false)
  peer.threads.end(`attr ${file}`)
  peer.threads.end(`data ${file}`)
  await locked
})

t.test('nor is it answered before pages that somebody uses are dropped: a mapping shows them unasked', async (t) => {
  const { clock, peer, vfs, other, file } = await two(t)
  const { body: opened } = await peer.ask('open', file, openBody(O_NOATIME))
  await clock.pass(QUIET_MS)
  peer.threads.isQuick = false
  const gate = new Gate()
  const read = vfs.readPieces.bind(vfs)
  t.capture(vfs, 'readPieces', async (...values: Parameters<typeof read>) => {
    await gate.passed
    return read(...values)
  })
  const reading = peer.ask('read', file, handleBody(opened.readBigUInt64LE(0), 0, 4096))
  await rewrite(other, file, 'after')
  await clock.pass(QUIET_MS)
  t.same(peer.threads.take(), [], 'they are left alone')
  let isLocked = false
  const locked = peer.ask('setlk', file, lockBody(opened)).then(() => (isLocked = true))
  await settle()
  t.same(peer.threads.take(), [`data ${file}`])
  t.equal(isLocked, false)
  gate.open()
  await reading
  peer.threads.end(`data ${file}`)
  await locked
})

t.test(
  'what was made, and not as durably as was asked, is asked for again although it was answered with EIO',
  async (t) => {
    const { vfs, meta } = fixture(t).another({ durableChanges: 'names' })
    const clock = new ManualClock()
    const peer = new CachePeer(vfs, clock)
    await peer.lookup(ROOT_INO, 'made')
    await clock.pass(QUIET_MS)
    peer.threads.take()
    meta.before = (call) => (call === 'sync' ? Promise.reject(new PosixError('EIO')) : undefined)
    const made = await peer.ask('mkdir', ROOT_INO, Buffer.concat([Buffer.alloc(8), Buffer.from('made\0')]))
    t.equal(made.error, EIO)
    meta.before = () => undefined
    await clock.pass(QUIET_MS)
    t.same(peer.threads.take().sort(), ['attr 1', 'entry 1/made'])
    t.match(await peer.lookup(ROOT_INO, 'made'), { error: 0, ino: /[1-9]/ })
  },
)

t.test('of a rename whose end is not known, both names and what they meant are asked for again', async (t) => {
  const { clock, peer, vfs, meta, file } = await two(t)
  const { ino: other } = await make(vfs, 'other')
  await peer.lookup(ROOT_INO, 'file')
  await peer.lookup(ROOT_INO, 'other')
  await clock.pass(QUIET_MS)
  peer.threads.take()
  meta.before = (call) => (call === 'rename' ? Promise.reject(new PosixError('ETIMEDOUT')) : undefined)
  const body = Buffer.alloc(8)
  body.writeBigUInt64LE(BigInt(ROOT_INO))
  const renamed = await peer.ask('rename', ROOT_INO, Buffer.concat([body, Buffer.from('file\0other\0')]))
  t.equal(renamed.error, -110)
  await clock.pass(QUIET_MS)
  const told = new Set(peer.threads.take())
  t.same([...told].sort(), ['attr 1', `attr ${file}`, `attr ${other}`, 'entry 1/file', 'entry 1/other'].sort())
})

t.test('a change that was refused for certain tells the kernel nothing', async (t) => {
  const { clock, peer } = await two(t)
  await peer.lookup(ROOT_INO, 'file')
  await clock.pass(QUIET_MS)
  peer.threads.take()
  const made = await peer.ask('mkdir', ROOT_INO, Buffer.concat([Buffer.alloc(8), Buffer.from('file\0')]))
  t.equal(made.error, EEXIST)
  await clock.pass(QUIET_MS)
  t.same(peer.threads.take(), [])
})

t.test('pages that came while changes were not heard of are dropped when they are again', async (t) => {
  const { clock, peer, meta, file } = await two(t)
  meta.setCoherent(false)
  await peer.open(file)
  await settle()
  await clock.pass(QUIET_MS)
  peer.threads.take()
  meta.setCoherent(true)
  await settle()
  t.ok(peer.threads.take().includes(`data ${file}`))
})

t.test('a change by another user of the same VFS is told by him', async (t) => {
  const { clock, peer, vfs, file } = await two(t)
  await peer.getattr(file)
  await clock.pass(QUIET_MS)
  vfs.coherence.invalidate({ kind: 'attr', ino: file })
  await settle()
  t.same(peer.threads.take(), [`attr ${file}`])
})

t.test('what is known is answered in the turn in which it is asked, once', async (t) => {
  const { peer, vfs, file } = await two(t)
  await peer.lookup(ROOT_INO, 'file')
  await peer.lookup(ROOT_INO, 'none')
  const { handle } = await vfs.open(CALLER, file, 0)
  const closing = Buffer.alloc(24)
  closing.writeUInt32LE(handle, 0)
  const xattr = Buffer.concat([Buffer.alloc(8), Buffer.from('security.capability\0')])
  const requests: readonly [string, number, Buffer][] = [
    ['getattr', file, Buffer.alloc(16)],
    ['lookup', ROOT_INO, Buffer.from('file\0')],
    ['lookup', ROOT_INO, Buffer.from('none\0')],
    ['getxattr', file, xattr],
    ['flush', file, closing],
    ['release', file, closing],
  ]
  for (const [opcode, node, body] of requests) {
    const before = peer.answered
    const whole = peer.ask(opcode, node, body)
    t.equal(peer.answered, before + 1, opcode)
    await whole
    t.equal(peer.answered, before + 1, opcode)
  }
})

/** CREATE: the inode, the handle, and what becomes of the page cache. */
async function createOn(peer: CachePeer, name: string): Promise<{ ino: number; handle: bigint; flags: number }> {
  const body = Buffer.concat([Buffer.alloc(16), Buffer.from(`${name}\0`)])
  body.writeUInt32LE(1, 0)
  body.writeUInt32LE(0o100644, 4)
  const reply = (await peer.ask('create', ROOT_INO, body)).body
  const flags = reply.readUInt32LE(128 + 8) & (KEEP_CACHE | DIRECT_IO)
  return { ino: readEntry(reply).ino, handle: reply.readBigUInt64LE(128), flags }
}

t.test(
  'of more files than are known the kernel drops the pages of those closed longest ago; new ones are as ever',
  async (t) => {
    const { peer, clock } = await two(t, 45, 3)
    const made: number[] = []
    for (let i = 0; i < 6; i++) {
      const { ino, handle, flags } = await createOn(peer, `f${i}`)
      made.push(ino)
      t.equal(flags, KEEP_CACHE, `file ${i} goes through the page cache`)
      await peer.ask('release', ino, handleBody(handle))
      await settle()
      await clock.pass(QUIET_MS)
      const [first = 0] = made.slice(i - 3)
      t.same(peer.threads.take(), i < 3 ? [] : [`data ${first}`], `file ${i} is told nothing of itself`)
    }
    const [oldest = 0] = made
    t.match(
      await peer.open(oldest, O_NOATIME),
      { flags: KEEP_CACHE },
      'nor is one that was forgotten read past the cache',
    )
  },
)

t.test(
  'a file is not forgotten while somebody asks for its attributes: a notice would overtake the answer',
  async (t) => {
    const { peer, meta, clock, other, file } = await two(t, 45, 3)
    await peer.lookup(ROOT_INO, 'file')
    const { body } = await peer.ask('open', file, openBody(O_NOATIME))
    await peer.ask('release', file, handleBody(body.readBigUInt64LE(0)))
    await other.vfs.setattr(CALLER, file, ATTR_CHANGE)
    await settle()
    await clock.pass(QUIET_MS)
    peer.threads.take()
    const makeMore = async (): Promise<void> => {
      for (let i = 0; i < 4; i++) {
        const { ino, handle } = await createOn(peer, `f${++made}`)
        await peer.ask('release', ino, handleBody(handle))
      }
      await settle()
    }
    let made = 0
    const gate = new Gate()
    meta.after = async (call) => {
      if (call === 'getattr') await gate.passed
    }
    const asked = peer.getattr(file)
    await settle()
    await makeMore()
    await clock.pass(QUIET_MS)
    await makeMore()
    gate.open()
    t.match(await asked, { mode: ATTR_CHANGE.mode })
    t.notOk(peer.threads.take().includes(`data ${file}`))
    await clock.pass(QUIET_MS)
    await makeMore()
    t.ok(peer.threads.take().includes(`data ${file}`), 'but afterwards')
  },
)

t.test('an open waits until the pages of a forgotten file are gone', async (t) => {
  const { peer, clock, file } = await two(t, 45, 3)
  await peer.lookup(ROOT_INO, 'file')
  const { body } = await peer.ask('open', file, openBody(O_NOATIME))
  await peer.ask('release', file, handleBody(body.readBigUInt64LE(0)))
  await clock.pass(QUIET_MS)
  peer.threads.isQuick = false
  for (let i = 0; i < 3; i++) await createOn(peer, `f${i}`)
  t.same(peer.threads.take(), [`data ${file}`])
  let isOpened = false
  const opened = peer.open(file, O_NOATIME).then((reply) => {
    isOpened = true
    return reply
  })
  await settle()
  t.equal(isOpened, false)
  peer.threads.end(`data ${file}`)
  t.match(await opened, { error: 0, flags: KEEP_CACHE })
})

t.test(
  'an open file is not forgotten, whatever is opened beside it: the kernel is told when its contents change',
  async (t) => {
    const { peer, clock, other, file } = await two(t, 45, 3)
    await peer.lookup(ROOT_INO, 'file')
    await peer.open(file, O_NOATIME)
    for (let i = 0; i < 20; i++) {
      const { ino, handle } = await createOn(peer, `f${i}`)
      await peer.ask('release', ino, handleBody(handle))
      await settle()
      // Not for being asked about.
      await clock.pass(QUIET_MS)
    }
    t.notOk(peer.threads.take().includes(`data ${file}`))
    await rewrite(other, file, 'others')
    await settle()
    await clock.pass(QUIET_MS)
    t.ok(peer.threads.take().includes(`data ${file}`))
  },
)

t.test('where the kernel cannot be told to drop pages none are kept of a file that was forgotten', async (t) => {
  const { vfs } = fixture(t)
  const nobody = { isAsked: () => false, hasNested: () => false }
  const parts = { coherence: vfs.coherence, pins: vfs, clock: new ManualClock(), notifier: null, ...nobody }
  const cache = new KernelCache({ ...parts, pagesMax: 3 })
  const attrs: Attr[] = []
  for (let i = 0; i < 6; i++) {
    const { ino, handle } = await make(vfs, `f${i}`)
    await vfs.release(handle)
    attrs.push(await vfs.getattr(CALLER, ino))
  }
  for (const attr of attrs) {
    t.match(await cache.opened(attr), { keepsPages: false })
    t.match(await cache.opened(attr), { keepsPages: true }, 'they are of that version')
  }
  for (const attr of attrs.slice(0, 3)) t.match(await cache.opened(attr), { keepsPages: false })
})
