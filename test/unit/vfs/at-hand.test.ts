/** What is answered without waiting is what the call would answer; and where the call has to wait, nothing is answered. */
import t from 'tap'
import { PosixError } from '../../../src/base/errno.js'
import { MIB, ROOT_INO, WINDOW_BYTES } from '../../../src/base/limits.js'
import { LOCK_END } from '../../../src/meta/contract.js'
import type { VfsContract } from '../../../src/vfs/contract.js'
import { O_DSYNC, O_RDONLY } from '../../../src/vfs/flags.js'
import { CALLER, Gate, O_APPEND, O_RDWR, codeOf, fixture, make, settle } from '../../helpers/vfs-fixture.js'

const name = (text: string): Buffer => Buffer.from(text)

async function looked(vfs: VfsContract, text: string): Promise<unknown> {
  return vfs.lookup(CALLER, ROOT_INO, name(text)).catch(() => null)
}

t.test('attributes and names are at hand once they are known, as the calls have them', async (t) => {
  const { vfs } = fixture(t)
  t.equal(vfs.atHand.lookup(ROOT_INO, name('f')), undefined, 'nobody has asked yet')
  t.equal(await looked(vfs, 'f'), null)
  t.equal(vfs.atHand.lookup(ROOT_INO, name('f')), null, 'it is known to be absent')
  const { ino, handle } = await make(vfs, 'f')
  await vfs.write(handle, 0, name('text'))
  await vfs.flush(handle)
  await vfs.setattr(CALLER, ino, { mode: 0o600 })
  t.strictSame(vfs.atHand.getattr(ino), await vfs.getattr(CALLER, ino))
  t.match(vfs.atHand.getattr(ino), { mode: 0o600, sizeBytes: 4 })
  t.strictSame(vfs.atHand.lookup(ROOT_INO, name('f')), await looked(vfs, 'f'))
  t.strictSame(vfs.atHand.getattr(ROOT_INO), await vfs.getattr(CALLER, ROOT_INO))
  t.equal(await looked(vfs, 'g'), null)
  await vfs.rename(CALLER, ROOT_INO, name('f'), ROOT_INO, name('g'), {})
  t.equal(vfs.atHand.lookup(ROOT_INO, name('f')), null)
  await vfs.unlink(CALLER, ROOT_INO, name('g'))
  t.equal(vfs.atHand.lookup(ROOT_INO, name('g')), null)
})

t.test('names that are no entries are not at hand', (t) => {
  const { vfs } = fixture(t)
  for (const text of ['.', '..', 'x'.repeat(256)]) t.equal(vfs.atHand.lookup(ROOT_INO, name(text)), undefined)
  t.end()
})

t.test('nothing is at hand that another client may have changed', async (t) => {
  const { vfs, meta, another } = fixture(t)
  const { ino } = await make(vfs, 'f')
  await vfs.getattr(CALLER, ino)
  const other = another()
  await other.vfs.setattr(CALLER, ino, { mode: 0o640 })
  t.equal(vfs.atHand.getattr(ino), undefined, 'its event has come')
  t.match(await vfs.getattr(CALLER, ino), { mode: 0o640 })
  t.ok(vfs.atHand.getattr(ino))
  meta.setCoherent(false)
  t.equal(vfs.atHand.getattr(ino), undefined)
  t.equal(vfs.atHand.lookup(ROOT_INO, name('f')), undefined)
  t.equal(vfs.atHand.hasNoXattrs(ino), false)
})

t.test('attributes are not at hand while they change', async (t) => {
  const { vfs, meta } = fixture(t)
  const { ino, handle } = await make(vfs, 'f')
  await vfs.write(handle, 0, name('text'))
  t.equal(vfs.atHand.getattr(ino), undefined, 'something is unwritten')
  await vfs.flush(handle)
  const gate = new Gate()
  meta.before = (call) => (call === 'setattr' ? gate.passed : undefined)
  const change = vfs.setattr(CALLER, ino, { mode: 0o600 })
  await settle()
  t.equal(vfs.atHand.getattr(ino), undefined, 'a change of ours is under way')
  gate.open()
  await change
  t.match(vfs.atHand.getattr(ino), { mode: 0o600 })
})

t.test('writes are at hand, from the first on, and are what write() makes of them', async (t) => {
  const { vfs, chunks, meta } = fixture(t)
  const { ino, handle } = await make(vfs, 'f')
  const block = (index: number): Buffer => Buffer.alloc(4096, index)
  let taken = 0
  for (let index = 0; index < 600; index++) {
    const now = vfs.atHand.write(handle, index * 4096, block(index), index % 2 === 0)
    if (now === undefined) await vfs.write(handle, index * 4096, block(index))
    else taken += now / 4096
  }
  t.ok(taken > 550, `${taken} of them`)
  t.match(await vfs.getattr(CALLER, ino), { sizeBytes: 600 * 4096 })
  t.ok((await vfs.read(handle, 77 * 4096, 4096)).equals(block(77)), 'before they are sent')
  await vfs.fsync(handle, false)
  for (const index of [0, 1, 300, 599]) t.ok((await vfs.read(handle, index * 4096, 4096)).equals(block(index)))
  t.ok(chunks.stored.size > 0)
  t.match(await meta.getattr(ino), { sizeBytes: 600 * 4096 })
  await vfs.release(handle)
})

t.test('a write is not at hand where it must wait, tell something, or do more', async (t) => {
  const { vfs, meta, chunks } = fixture(t)
  const { ino, handle } = await make(vfs, 'f')
  const text = name('text')
  const begin = async (open: number, at: number): Promise<void> => {
    for (let i = 0; i < 8; i++) await vfs.write(open, at + i * 4000, Buffer.alloc(4000))
  }
  await begin(handle, 0)
  t.equal(vfs.atHand.write(handle, 32_000, text, false), 4)
  t.equal(vfs.atHand.write(handle, 40_000, text, false), 4, 'with a hole before it')
  t.equal(vfs.atHand.write(handle, 100, text, false), 4, 'over what is there')
  t.equal(vfs.atHand.write(handle, WINDOW_BYTES - 2, text, false), undefined, 'across a border of windows')
  t.equal(vfs.atHand.write(handle, 40_004, Buffer.alloc(0), false), undefined)
  t.equal(vfs.atHand.write(handle, -1, text, false), undefined)
  t.equal(vfs.atHand.write(handle, Number.MAX_SAFE_INTEGER, text, false), undefined)
  t.equal(vfs.atHand.write(handle + 100, 0, text, false), undefined, 'no such handle')
  for (const flags of [O_RDONLY, O_RDWR | O_APPEND, O_RDWR | O_DSYNC]) {
    const other = await vfs.open(CALLER, ino, flags)
    t.equal(vfs.atHand.write(other.handle, 40_004, text, false), undefined, `flags ${flags}`)
    await vfs.release(other.handle)
  }
  await vfs.fsync(handle, false)
  await vfs.setattr(CALLER, ino, { mode: 0o4755 })
  await begin(handle, 100_000)
  t.equal(vfs.atHand.write(handle, 132_000, text, true), undefined, 'set-id bits go first')
  t.equal(vfs.atHand.write(handle, 132_000, text, false), 4)
  const gate = new Gate()
  meta.before = (call) => (call === 'setattr' ? gate.passed : undefined)
  const cut = vfs.setattr(CALLER, ino, { sizeBytes: 10 })
  await settle()
  t.equal(vfs.atHand.write(handle, 132_004, text, false), undefined, 'its size is being changed')
  gate.open()
  await cut
  chunks.before = (call) => {
    if (call === 'write') throw new PosixError('ENOSPC')
  }
  const second = await vfs.open(CALLER, ino, O_RDWR)
  await begin(handle, 0)
  await codeOf(vfs.flush(handle))
  await begin(handle, 0)
  t.equal(vfs.atHand.write(second.handle, 32_000, text, false), undefined, 'there is a loss to tell')
  await codeOf(vfs.release(second.handle))
  await codeOf(vfs.release(handle))
})

t.test('writes anywhere are at hand as long as there is room for them, and none of them is lost', async (t) => {
  const chunkBytes = MIB
  const limits = { dirtyBytes: 2 * chunkBytes, dirtyInodeBytes: 2 * chunkBytes }
  const { vfs, chunks } = fixture(t, { settings: { chunkBytes }, limits })
  const { handle } = await make(vfs, 'f')
  const gate = new Gate()
  chunks.before = (call) => (call === 'write' ? gate.passed : undefined)
  const pieces = Array.from({ length: 100 }, (_, index) => ({
    at: ((index * 37) % 100) * 70_000,
    data: Buffer.alloc(65_536, index + 1),
  }))
  const now = pieces.filter(({ at, data }) => vfs.atHand.write(handle, at, data, false) === data.length)
  t.ok(now.length >= 16 && now.length < 40, `${now.length} of them`)
  const last = pieces.filter((piece) => !now.includes(piece))
  const waiting = Promise.all(last.map(({ at, data }) => vfs.write(handle, at, data)))
  gate.open()
  await waiting
  await vfs.fsync(handle, false)
  for (const { at, data } of pieces) t.ok((await vfs.read(handle, at, data.length)).equals(data))
  await vfs.release(handle)
})

t.test('a close is at hand when there is nothing to write and no lock to give back', async (t) => {
  const { vfs, meta } = fixture(t)
  const { ino, handle } = await make(vfs, 'f')
  t.equal(vfs.atHand.flush(handle, 'a'), true)
  await vfs.write(handle, 0, name('text'))
  t.equal(vfs.atHand.flush(handle, 'a'), false)
  t.equal(vfs.atHand.release(handle), false)
  await vfs.flush(handle)
  const lock = { kind: 'posix', type: 'write', owner: 'a', start: 0n, end: LOCK_END, pid: 1 } as const
  await vfs.setlk(handle, lock, false)
  t.equal(vfs.atHand.flush(handle, 'b'), false)
  t.equal(vfs.atHand.release(handle), false)
  await vfs.setlk(handle, { ...lock, type: 'unlock' }, false)
  await vfs.unlink(CALLER, ROOT_INO, name('f'))
  t.match(await meta.getattr(ino), { sizeBytes: 4 }, 'it is open')
  t.equal(vfs.atHand.release(handle), true)
  t.equal(await codeOf(vfs.flush(handle)), 'EBADF', 'the handle is gone')
  t.equal(vfs.atHand.release(handle), false)
  t.equal(await codeOf(meta.getattr(ino)), 'ENOENT', 'it is open no more')
})

t.test('a close that has a failure to tell is not at hand', async (t) => {
  const { vfs, meta } = fixture(t)
  const { handle } = await make(vfs, 'f')
  meta.before = (call) => (call.startsWith('commit') ? Promise.reject(new PosixError('EIO')) : undefined)
  await vfs.write(handle, 0, name('text'))
  await vfs.syncAll(false).catch(() => undefined)
  meta.before = () => undefined
  t.equal(vfs.atHand.flush(handle), false)
  t.equal(vfs.atHand.release(handle), false)
  t.equal(await codeOf(vfs.flush(handle)), 'EIO')
  t.equal(vfs.atHand.release(handle), true)
})

t.test('that an inode has no attributes is at hand until it has some', async (t) => {
  const { vfs } = fixture(t)
  const { ino } = await make(vfs, 'f')
  t.equal(vfs.atHand.hasNoXattrs(ino), true)
  await vfs.setxattr(ino, name('user.x'), name('1'), 0)
  t.equal(vfs.atHand.hasNoXattrs(ino), false)
  await vfs.getattr(CALLER, ino)
  t.equal(vfs.atHand.hasNoXattrs(ino), false)
})

t.test('nothing is at hand after the end', async (t) => {
  const { vfs } = fixture(t)
  const { ino, handle } = await make(vfs, 'f')
  await vfs.shutdown()
  t.equal(vfs.atHand.getattr(ino), undefined)
  t.equal(vfs.atHand.lookup(ROOT_INO, name('f')), undefined)
  t.equal(vfs.atHand.flush(handle), false)
})
