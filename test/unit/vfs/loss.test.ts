/**
 * What is left of a file when one chunk of it cannot be stored, for random writes.
 *
 * The claim: the lost writes are consecutive. What is read afterwards is the file after some of the writes since the last
 * good flush, and then those that were made after the failure: never a later write without an earlier one of the same
 * time. The next flush says that something was lost, and if it says nothing, nothing was.
 */
import t from 'tap'
import fc from 'fast-check'
import { setImmediate as turn } from 'node:timers/promises'
import { PosixError } from '../../../src/base/errno.js'
import { RingfsError } from '../../../src/base/errors.js'
import { within } from '../../helpers/deadline.js'
import { propertyRun } from '../../helpers/property.js'
import { ROOT_INO } from '../../../src/base/limits.js'
import { CALLER, Gate, codeOf, fixture, make } from '../../helpers/vfs-fixture.js'

const SLOT = 512
const SLOTS = 24
const CHUNK = 8 * SLOT

interface Plan {
  /** Slot of each write, and turns of the loop after it. */
  readonly writes: readonly { readonly slot: number; readonly wait: number }[]
  /** The upload that fails. */
  readonly failing: number
}

const plan: fc.Arbitrary<Plan> = fc.record({
  writes: fc.array(fc.record({ slot: fc.nat(SLOTS - 1), wait: fc.nat(12) }), { minLength: 1, maxLength: 40 }),
  failing: fc.nat(6),
})

/** The file as slot -> number of the write it shows, without the writes from `lostFrom` up to `lostTo`. */
function stateWithout(writes: Plan['writes'], lostFrom: number, lostTo: number): number[] {
  const state = new Array<number>(SLOTS).fill(0)
  writes.forEach(({ slot }, index) => {
    if (index < lostFrom || index >= lostTo) state[slot] = index + 1
  })
  return state
}

async function play(teardown: Parameters<typeof fixture>[0], { writes, failing }: Plan): Promise<void> {
  const limits = { dirtyBytes: 8 * CHUNK, dirtyInodeBytes: 4 * CHUNK, uploads: 3, uploadsPerInode: 3 }
  const { vfs, chunks } = fixture(teardown, { settings: { chunkBytes: CHUNK }, limits })
  const { handle } = await make(vfs, 'f')
  let uploads = 0
  chunks.before = async (call) => {
    if (call !== 'write') return
    const number = uploads++
    for (let i = (number * 7) % 5; i >= 0; i--) await turn()
    if (number === failing) throw new PosixError('ENOSPC')
  }
  for (const [index, { slot, wait }] of writes.entries()) {
    // A full store is told to the next write, too, which is then made again: it was not taken.
    const write = (): Promise<number> => vfs.write(handle, slot * SLOT, Buffer.alloc(SLOT, index + 1))
    if ((await codeOf(write())) !== 'ok') await write()
    for (let i = 0; i < wait; i++) await turn()
  }
  const told = await codeOf(vfs.flush(handle))
  const data = await vfs.read(handle, 0, SLOTS * SLOT)
  const seen = Array.from({ length: SLOTS }, (_, slot) => data[slot * SLOT] ?? 0)
  const matches = (from: number, to: number): boolean =>
    stateWithout(writes, from, to).every((value, slot) => value === seen[slot])
  if (told === 'ok' && !matches(0, 0)) throw new Error('something was lost and nobody was told')
  for (let from = 0; from <= writes.length; from++) {
    for (let to = from; to <= writes.length; to++) if (matches(from, to)) return
  }
  throw new Error(`not a run of lost writes: ${seen.join(' ')}`)
}

t.test('a chunk that cannot be stored takes a run of writes with it, never one from their middle', async (st) => {
  const run = async (one: Plan): Promise<void> => {
    const ends: (() => unknown)[] = []
    try {
      await play({ teardown: (end: () => unknown) => ends.push(end) }, one)
    } finally {
      for (const end of ends) await end()
    }
  }
  await fc.assert(
    fc.asyncProperty(plan, (one) => within(60_000, run(one), 'one play')),
    { ...propertyRun(st, 300), includeErrorInReport: true },
  )
  st.pass('every play')
})

await t.test('a chunk id that turns out to be taken is left alone, and the data get another one', async (t) => {
  const { vfs, chunks } = fixture(t)
  const { handle } = await make(vfs, 'f')
  const taken: number[] = []
  const removed: number[] = []
  chunks.before = (call, id) => {
    if (call === 'remove') removed.push(id)
    if (call !== 'write' || taken.length === 3) return
    taken.push(id)
    throw new RingfsError('CHUNK_CONFLICT', 'another content')
  }
  await vfs.write(handle, 0, Buffer.from('data'))
  t.equal(await codeOf(within(60_000, vfs.fsync(handle, false), 'fsync')), 'ok')
  t.equal((await vfs.read(handle, 0, 4)).toString(), 'data')
  t.same(removed, [], 'what belongs to somebody else is not deleted')
})

await t.test('a file of which bytes cannot be stored is renamed and removed as any other', async (t) => {
  for (const how of ['fails', 'hangs'] as const) {
    const { vfs, chunks } = fixture(t, { limits: { uploadDeadlineMs: 1_000 } })
    const { ino, handle } = await make(vfs, 'a')
    const hang = new Gate()
    chunks.before = async (call) => {
      if (call !== 'write') return
      if (how === 'hangs') await hang.passed
      throw new PosixError('EIO', 'for the test')
    }
    await vfs.write(handle, 0, Buffer.alloc(SLOT, 1))
    const flushed = vfs.fsync(handle, false)
    const told = t.rejects(flushed, { code: 'EIO' })
    if (how === 'fails') await told
    await vfs.rename(CALLER, ROOT_INO, Buffer.from('a'), ROOT_INO, Buffer.from('b'), {})
    t.equal((await vfs.lookup(CALLER, ROOT_INO, Buffer.from('b'))).ino, ino)
    t.equal(await vfs.unlink(CALLER, ROOT_INO, Buffer.from('b')), ino)
    t.equal(await codeOf(vfs.lookup(CALLER, ROOT_INO, Buffer.from('b'))), 'ENOENT')
    hang.open()
    await told
    await vfs.release(handle)
  }
})
