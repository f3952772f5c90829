/** The VFS and file locks: what is fresh when a lock comes, what is committed when it goes, and what happens to lost ones. */
import { getEventListeners } from 'node:events'
import t from 'tap'
import { setTimeout as sleep } from 'node:timers/promises'
import { WINDOW_BYTES } from '../../../src/base/limits.js'
import { LOCK_END } from '../../../src/meta/contract.js'
import type { LockChange, VfsContract } from '../../../src/vfs/contract.js'
import {
  CALLER,
  Gate,
  O_APPEND,
  O_RDWR,
  codeOf,
  fixture,
  make,
  settle,
  type Mounted,
} from '../../helpers/vfs-fixture.js'

const O_RDONLY = 0

function change(type: LockChange['type'], owner = 'a', kind: LockChange['kind'] = 'posix'): LockChange {
  return { kind, type, owner, start: 0n, end: LOCK_END, pid: 1 }
}

async function open({ vfs }: Mounted, ino: number): Promise<number> {
  return (await vfs.open(CALLER, ino, O_RDWR)).handle
}

async function text(vfs: VfsContract, handle: number): Promise<string> {
  return (await vfs.read(handle, 0, 100)).toString()
}

t.test('what was written under a lock is seen by the next who has it, in another client', async (t) => {
  const one = fixture(t)
  const two = one.another()
  const { ino, handle } = await make(one.vfs, 'file')
  const other = await open(two, ino)
  t.equal(await text(two.vfs, other), '')
  for (const [i, [mine, held, theirs, waits]] of (
    [
      [one.vfs, handle, two.vfs, other],
      [two.vfs, other, one.vfs, handle],
    ] as const
  ).entries()) {
    await mine.setlk(held, change('write'), false)
    await mine.write(held, 0, Buffer.from(`text ${i}`))
    const granted = theirs.setlk(waits, change('read'), true)
    await settle()
    await mine.setlk(held, change('unlock'), false)
    await granted
    t.equal(await text(theirs, waits), `text ${i}`)
    t.equal((await theirs.getattr(CALLER, ino)).sizeBytes, 6)
    await theirs.setlk(waits, change('unlock'), false)
  }
})

t.test('a lock that is made weaker commits first, too', async (t) => {
  const one = fixture(t)
  const two = one.another()
  const { ino, handle } = await make(one.vfs, 'file')
  const other = await open(two, ino)
  await one.vfs.setlk(handle, change('write'), false)
  await one.vfs.write(handle, 0, Buffer.from('written'))
  await one.vfs.setlk(handle, change('read'), false)
  await two.vfs.setlk(other, change('read'), false)
  t.equal(await text(two.vfs, other), 'written')
})

t.test('a lock is granted with what the store says, although no event ever comes', async (t) => {
  const one = fixture(t)
  const two = one.another()
  const { ino, handle } = await make(one.vfs, 'file')
  const other = await open(two, ino)
  await two.vfs.write(other, 0, Buffer.from('old'))
  await two.vfs.flush(other)
  t.equal(await text(two.vfs, other), 'old')
  // From here `two` believes to be told of everything, and is not.
  two.meta.receive = () => undefined
  await one.vfs.setlk(handle, change('write'), false)
  await one.vfs.write(handle, 0, Buffer.from('newer'))
  await one.vfs.setlk(handle, change('unlock'), false)
  t.equal(await text(two.vfs, other), 'old', 'as this test wants it')
  await two.vfs.setlk(other, change('read'), false)
  t.equal(await text(two.vfs, other), 'newer')
})

t.test('closes need no flush of a file that is open to read and was never locked here', async (t) => {
  const one = fixture(t)
  const { ino, handle } = await make(one.vfs, 'file')
  const needsNoFlush = async (flags: number): Promise<boolean> => {
    const opened = await one.vfs.open(CALLER, ino, flags)
    await one.vfs.release(opened.handle)
    return opened.needsNoFlush === true
  }
  t.equal(await needsNoFlush(O_RDONLY), true)
  t.equal(await needsNoFlush(O_RDWR), false)
  await one.vfs.setlk(handle, change('read'), false)
  t.equal(await needsNoFlush(O_RDONLY), false)
  await one.vfs.setlk(handle, change('unlock'), false)
  t.equal(await needsNoFlush(O_RDONLY), false, 'nor later: it may be locked again')
})

t.test('a close by the owner frees its record locks through whatever handle they were set', async (t) => {
  const one = fixture(t)
  const two = one.another()
  const { ino, handle } = await make(one.vfs, 'file')
  const [second, other] = [await open(one, ino), await open(two, ino)]
  await one.vfs.setlk(handle, change('write', 'a'), false)
  await one.vfs.flush(second, 'b')
  t.equal(await codeOf(two.vfs.setlk(other, change('read'), false)), 'EAGAIN', 'another owner closed')
  await one.vfs.flush(second, 'a')
  t.equal(await codeOf(two.vfs.setlk(other, change('read'), false)), 'ok')
})

t.test(
  'the release of a handle frees what was set through it alone, not what its owner took again elsewhere',
  async (t) => {
    const one = fixture(t)
    const two = one.another()
    const { ino, handle } = await make(one.vfs, 'file')
    const [second, other] = [await open(one, ino), await open(two, ino)]
    await one.vfs.setlk(handle, change('write', 'file1', 'flock'), false)
    await one.vfs.setlk(handle, change('write', 'table'), false)
    await one.vfs.flush(handle, 'table')
    await one.vfs.setlk(second, change('write', 'table'), false)
    await one.vfs.release(handle)
    t.equal(await codeOf(two.vfs.setlk(other, change('read', 'x', 'flock'), false)), 'ok')
    t.equal(await codeOf(two.vfs.setlk(other, change('read'), false)), 'EAGAIN')
    await one.vfs.release(second)
    t.equal(await codeOf(two.vfs.setlk(other, change('read'), false)), 'ok')
  },
)

t.test('who asks while a handle is being released gets what it frees', async (t) => {
  const { vfs, meta, volume } = fixture(t)
  const { ino, handle } = await make(vfs, 'file')
  const { handle: second } = await vfs.open(CALLER, ino, O_RDWR)
  await vfs.setlk(handle, change('write', 'one', 'flock'), false)
  await vfs.write(handle, 0, Buffer.from('text'))
  const gate = new Gate()
  meta.before = (call) => (call === 'unlock' ? gate.passed : undefined)
  const released = vfs.release(handle)
  const next = codeOf(vfs.setlk(second, change('write', 'two', 'flock'), false))
  await settle()
  gate.open()
  await released
  t.equal(await next, 'ok')
  await vfs.release(second)
  t.ok(volume.locks(ino).isEmpty)
})

t.test('who waits for a lock is interrupted before it is asked for, too, and holds nothing', async (t) => {
  for (const behind of ['written bytes', 'a release'] as const) {
    const { vfs, meta, chunks, volume } = fixture(t)
    const { ino, handle } = await make(vfs, 'file')
    const { handle: second } = await vfs.open(CALLER, ino, O_RDWR)
    await vfs.setlk(handle, change('write', 'one', 'flock'), false)
    await vfs.write(handle, 0, Buffer.from('text'))
    const gate = new Gate()
    let released: Promise<void> | undefined
    if (behind === 'written bytes') {
      chunks.before = (call) => (call === 'write' ? gate.passed : undefined)
    } else {
      meta.before = (call) => (call === 'unlock' ? gate.passed : undefined)
      released = vfs.release(handle)
    }
    const stop = new AbortController()
    const next = codeOf(vfs.setlk(second, change('write', 'two', 'flock'), true, stop.signal))
    await settle()
    stop.abort()
    t.equal(await next, 'EINTR', behind)
    gate.open()
    await (released ?? vfs.release(handle))
    await vfs.release(second)
    t.ok(volume.locks(ino).isEmpty)
  }
})

t.test('closing a file that nobody locked costs no round trip', async (t) => {
  const { vfs, meta } = fixture(t)
  const { handle } = await make(vfs, 'file')
  await vfs.flush(handle, 'a')
  await vfs.setlk(handle, change('unlock'), false)
  await vfs.release(handle)
  t.equal(meta.calls.get('unlock') ?? 0, 0)
})

t.test('an unlock that overtakes another thread of the same owner leaves nothing locked after the close', async (t) => {
  const { vfs, meta, volume } = fixture(t)
  const { ino, handle } = await make(vfs, 'file')
  await vfs.setlk(handle, change('write'), false)
  const gate = new Gate()
  meta.before = (call) => (call === 'setlk' ? gate.passed : undefined)
  const again = vfs.setlk(handle, change('read'), false)
  await settle()
  await vfs.setlk(handle, change('unlock'), false)
  gate.open()
  await again
  t.notOk(volume.locks(ino).isEmpty)
  await vfs.flush(handle, 'a')
  t.ok(volume.locks(ino).isEmpty)
})

t.test(
  'lost locks: reads, writes and changes of size are EIO until the close, and what was written is not committed',
  async (t) => {
    const one = fixture(t)
    const two = one.another()
    const { ino, handle } = await make(one.vfs, 'file')
    const other = await open(two, ino)
    await one.vfs.setlk(handle, change('write'), false)
    await one.vfs.write(handle, 0, Buffer.from('mine'))
    one.meta.loseLocks()
    await two.vfs.setlk(other, change('write'), false)
    await two.vfs.write(other, 0, Buffer.from('theirs'))
    await two.vfs.flush(other)
    t.equal(await codeOf(one.vfs.write(handle, 0, Buffer.from('more'))), 'EIO')
    t.equal(await codeOf(one.vfs.read(handle, 0, 10)), 'EIO')
    t.equal(await codeOf(one.vfs.setattr(CALLER, ino, { sizeBytes: 0 }, handle)), 'EIO')
    t.equal(await codeOf(one.vfs.setlk(handle, change('read'), false)), 'EIO')
    t.equal(await codeOf(one.vfs.flush(handle, 'a')), 'EIO', 'close tells of what was given up')
    await one.vfs.release(handle).catch(() => undefined)
    t.equal(await text(two.vfs, other), 'theirs')
    const reopened = await open(one, ino)
    t.equal(await text(one.vfs, reopened), 'theirs')
    t.equal(await codeOf(one.vfs.setlk(reopened, change('read', 'b'), false)), 'EAGAIN')
  },
)

t.test('a lock that comes after others were lost is refused, and nobody has it then', async (t) => {
  const one = fixture(t)
  const two = one.another()
  const { ino, handle } = await make(one.vfs, 'file')
  const other = await open(two, ino)
  await two.vfs.setlk(other, change('write'), false)
  const waiting = codeOf(one.vfs.setlk(handle, change('write'), true))
  await settle()
  one.meta.receive({ kind: 'locksLost' })
  await settle()
  await two.vfs.setlk(other, change('unlock'), false)
  t.equal(await waiting, 'EIO')
  t.equal(await codeOf(two.vfs.setlk(other, change('write'), false)), 'ok', 'although the file is open still')
})

t.test('while the lease is in doubt, a file with locks waits for certainty; others do not', async (t) => {
  const { vfs, meta } = fixture(t)
  const { handle } = await make(vfs, 'locked')
  const { handle: free } = await make(vfs, 'free')
  await vfs.setlk(handle, change('write'), false)
  meta.leased = false
  const gate = new Gate()
  meta.before = (call) => (call === 'confirmLease' ? gate.passed : undefined)
  const write = codeOf(vfs.write(handle, 0, Buffer.from('text')))
  t.equal(await codeOf(vfs.write(free, 0, Buffer.from('text'))), 'ok')
  t.equal(await Promise.race([write, sleep(50).then(() => 'waits')]), 'waits')
  meta.leased = true
  gate.open()
  t.equal(await write, 'ok')
})

t.test('the end of the VFS ends all waiting', async (t) => {
  const one = fixture(t)
  const two = one.another()
  const { ino, handle } = await make(one.vfs, 'file')
  const other = await open(two, ino)
  await one.vfs.setlk(handle, change('write'), false)
  const waiting = codeOf(two.vfs.setlk(other, change('write'), true))
  await settle()
  await two.vfs.shutdown()
  t.equal(await waiting, 'EINTR')
})

t.test('what was given up with a lost lock while the store refused to keep it comes by no other way', async (t) => {
  const one = fixture(t, { settings: { inlineBytes: 16384 } })
  const two = one.another()
  const { ino, handle } = await make(one.vfs, 'file')
  const other = await open(two, ino)
  await one.vfs.setlk(handle, change('write'), false)
  await one.vfs.write(handle, 0, Buffer.from('mine'))
  const gate = new Gate()
  one.meta.roomInline = false
  one.meta.before = (call) => (call === 'commitInline' ? gate.passed : undefined)
  const flushed = codeOf(one.vfs.flush(handle))
  await settle()
  one.meta.loseLocks()
  await codeOf(one.vfs.read(handle, 0, 1))
  await two.vfs.setlk(other, change('write'), false)
  await two.vfs.write(other, 0, Buffer.from('theirs'))
  await two.vfs.flush(other)
  gate.open()
  t.equal(await flushed, 'EIO')
  await settle()
  t.equal(await text(two.vfs, await open(two, ino)), 'theirs')
})

for (const [when, call] of [
  ['before it is cut', 'commit'],
  ['while its parts are sent', 'write'],
] as const) {
  t.test(
    `what was appended across the border of two windows under a lock that is lost ${when} does not come`,
    async (t) => {
      const one = fixture(t)
      const two = one.another()
      const { ino, handle } = await make(one.vfs, 'file', O_RDWR | O_APPEND)
      await one.vfs.setattr(CALLER, ino, { sizeBytes: WINDOW_BYTES - 2 })
      await one.vfs.setlk(handle, change('write'), false)
      await one.vfs.write(handle, 0, Buffer.from('mine'))
      const gate = new Gate()
      let writes = 0
      one.meta.before = (of) => (of === call ? gate.passed : undefined)
      // The first is the whole.
      one.chunks.before = (of) => (of === call && ++writes > 1 ? gate.passed : undefined)
      const flushed = codeOf(one.vfs.flush(handle))
      await settle()
      one.meta.loseLocks()
      await codeOf(one.vfs.read(handle, 0, 1))
      gate.open()
      t.equal(await flushed, 'EIO')
      await settle()
      t.match(await two.vfs.getattr(CALLER, ino), { sizeBytes: WINDOW_BYTES - 2 })
      t.equal(one.chunks.stored.size, 0, 'nothing is left on the nodes')
    },
  )
}

t.test('who waited for a lock, or for the end of the mount, leaves nothing behind', async (t) => {
  const { vfs } = fixture(t)
  const { handle } = await make(vfs, 'file')
  // Of these what lives longest remembers all others.
  const joined = t.capture(AbortSignal, 'any')
  const { signal } = new AbortController()
  await vfs.setlk(handle, change('write'), true, signal)
  const waits = vfs.setlk(handle, change('write', 'b'), true, signal)
  await settle()
  await vfs.setlk(handle, change('unlock'), false)
  await waits
  t.equal(getEventListeners(signal, 'abort').length, 0)
  t.equal(joined().length, 0)
  const forEver = vfs.setlk(handle, change('write', 'c'), true, signal)
  await settle()
  const ended = vfs.shutdown()
  t.equal(await codeOf(forEver), 'EINTR')
  await ended
})
