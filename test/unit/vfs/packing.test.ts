/** Windows of many short chunks become windows of long ones, once the file has rested. */
import t from 'tap'
import { randomBytes } from 'node:crypto'
import { PosixError } from '../../../src/base/errno.js'
import { KIB } from '../../../src/base/limits.js'
import type { VfsContract } from '../../../src/vfs/contract.js'
import { RESTED_MS } from '../../../src/vfs/packer.js'
import { FastClock } from '../../helpers/vfs-clock.js'
import { CALLER, Gate, O_RDWR, fixture, make, settle, type Fixture } from '../../helpers/vfs-fixture.js'

const BLOCK = 4 * KIB
const BLOCKS = 64

interface Scattered extends Fixture {
  readonly ino: number
  readonly handle: number
  /** What the file is to read as. */
  readonly model: Buffer
  /** Of one block, committed alone. */
  readonly overwrite: (block: number) => Promise<void>
  readonly rest: () => Promise<void>
  /** All of it at once, as the kernel reads ahead, and what that led to is over. */
  readonly readAll: (vfs?: VfsContract) => Promise<Buffer>
  readonly chunkIds: () => number[]
}

/** A file of BLOCKS chunks of a block each. */
async function scattered(st: Parameters<typeof fixture>[0]): Promise<Scattered> {
  const clock = new FastClock()
  const volume = fixture(st, { clock, vfsClock: clock })
  const { vfs } = volume
  const { ino, handle } = await make(vfs, 'f')
  const model = Buffer.alloc(BLOCKS * BLOCK)
  const overwrite = async (block: number): Promise<void> => {
    randomBytes(BLOCK).copy(model, block * BLOCK)
    await vfs.write(handle, block * BLOCK, model.subarray(block * BLOCK, (block + 1) * BLOCK))
    await vfs.flush(handle)
  }
  for (let block = 0; block < BLOCKS; block++) await overwrite((block * 37) % BLOCKS)
  const readAll = async (reader = vfs): Promise<Buffer> => {
    const { handle } = await reader.open(CALLER, ino, 0)
    const bytes = await reader.read(handle, 0, model.length + 1)
    const copy = Buffer.from(bytes)
    await reader.release(handle)
    await settle()
    return copy
  }
  const rest = (): Promise<void> => clock.sleep(RESTED_MS)
  const chunkIds = (): number[] =>
    (volume.volume.inodes.get(ino)?.windows.get(0) ?? []).flatMap(({ chunk }) => chunk?.id ?? [])
  return { ...volume, ino, handle, model, overwrite, rest, readAll, chunkIds }
}

t.test('a file that has rested is packed when it is read: one chunk, on disk, the old ones garbage', async (st) => {
  const { readAll, rest, model, chunkIds, chunks, volume, another } = await scattered(st)
  const old = chunkIds()
  st.equal(new Set(old).size, BLOCKS)
  await rest()
  st.ok((await readAll()).equals(model))
  const [id, ...more] = chunkIds()
  st.same(more, [], 'one extent')
  st.ok(id !== undefined && !old.includes(id) && chunks.stored.get(id)?.synced === true)
  st.same([...volume.garbage].sort(), [...new Set(old)].sort())
  await chunks.remove([...volume.garbage])
  st.ok((await readAll()).equals(model), 'by who packed it')
  st.ok((await readAll(another().vfs)).equals(model), 'and by others')
})

t.test('in the order of writing it lies above what it replaces and below what is committed later', async (st) => {
  const { readAll, rest, overwrite, chunkIds, chunks } = await scattered(st)
  const orderOf = (id = 0): number => chunks.stored.get(id)?.origin.order ?? NaN
  const newestOld = Math.max(...chunkIds().map(orderOf))
  await rest()
  await readAll()
  const packed = chunkIds()[0]
  st.ok(orderOf(packed) > newestOld)
  await overwrite(3)
  const later = chunkIds().at(-1)
  st.not(later, packed)
  st.ok(orderOf(packed) < orderOf(later) - 100_000_000, 'also what was uploaded 100 seconds before')
  st.same(chunks.stored.get(packed ?? 0)?.origin.extents, [
    { fileOffset: 0, chunkOffset: 0, lengthBytes: BLOCKS * BLOCK },
  ])
})

t.test('a file that was changed a moment ago is left alone, and packed when it has rested', async (st) => {
  const { readAll, rest, overwrite, model, chunkIds } = await scattered(st)
  await rest()
  await overwrite(5)
  const before = chunkIds()
  await readAll()
  st.same(chunkIds(), before)
  await rest()
  st.ok((await readAll()).equals(model))
  st.equal(chunkIds().length, 1)
})

t.test('what is written while it is packed lies over it', async (st) => {
  const { readAll, rest, overwrite, model, chunks, chunkIds, another } = await scattered(st)
  await rest()
  const gate = new Gate()
  let isFirst = true
  chunks.before = (call) => {
    if (call !== 'write' || !isFirst) return undefined
    isFirst = false
    return gate.passed
  }
  await readAll()
  st.notOk(isFirst, 'the new chunk is on its way')
  await overwrite(7)
  gate.open()
  await settle()
  st.equal(chunkIds().length, 2)
  st.ok((await readAll(another().vfs)).equals(model))
})

t.test('a file that was truncated meanwhile stays as it is, and the new chunk goes', async (st) => {
  const { vfs, ino, readAll, rest, model, chunks, chunkIds, another } = await scattered(st)
  await rest()
  const gate = new Gate()
  const made: number[] = []
  chunks.before = (call, id) => {
    if (call !== 'write') return undefined
    made.push(id)
    return gate.passed
  }
  await readAll()
  await vfs.setattr(CALLER, ino, { sizeBytes: 10 * BLOCK })
  gate.open()
  await settle()
  st.equal(made.length, 1)
  st.notOk(chunks.stored.has(made[0] ?? 0))
  st.equal(chunkIds().length, 10)
  st.ok((await readAll(another().vfs)).equals(model.subarray(0, 10 * BLOCK)))
})

t.test('where a chunk cannot be read or stored, all stays as it is', async (st) => {
  for (const fault of ['read', 'write'] as const) {
    const { another, rest, model, chunks, chunkIds, readAll } = await scattered(st)
    await rest()
    const before = chunkIds()
    const stored = chunks.stored.size
    const reader = another().vfs
    const { handle } = await reader.open(CALLER, (await reader.lookup(CALLER, 1, Buffer.from('f'))).ino, 0)
    // The piece that the reader does not ask for.
    const part = model.length - BLOCK
    let left = BLOCKS - 1
    chunks.before = (call) => {
      if (call === fault && (call === 'write' || --left < 0)) throw new PosixError('EIO', 'a broken node')
    }
    st.ok((await reader.read(handle, 0, part)).equals(model.subarray(0, part)))
    await settle()
    await settle()
    chunks.before = () => undefined
    st.same(chunkIds(), before, fault)
    st.equal(chunks.stored.size, stored, 'nothing is left behind')
    st.ok((await readAll(another().vfs)).equals(model))
  }
})

t.test('where it is not known whether the store names the new chunk, the chunk stays', async (st) => {
  const { meta, readAll, rest, model, chunks, chunkIds, volume, another } = await scattered(st)
  await rest()
  meta.after = (call) => {
    if (call === 'compact') throw new PosixError('EIO', 'the reply is lost')
  }
  await readAll()
  meta.after = () => undefined
  st.equal(chunkIds().length, 1)
  await chunks.remove([...volume.garbage])
  st.ok((await readAll(another().vfs)).equals(model))
})

t.test('a reader without the right to write, and reads of single blocks, pack nothing', async (st) => {
  const { another, rest, readAll, vfs, handle, chunkIds } = await scattered(st)
  await rest()
  const before = chunkIds()
  await readAll(another({ readOnly: true }).vfs)
  for (let block = 0; block < BLOCKS; block++) await vfs.read(handle, block * BLOCK, BLOCK)
  await settle()
  st.same(chunkIds(), before)
})

t.test('a window is not looked at again for each read', async (st) => {
  const { meta, overwrite, rest, readAll } = await scattered(st)
  await rest()
  await overwrite(1)
  const before = meta.calls.get('getattr') ?? 0
  for (let i = 0; i < 5; i++) await readAll()
  st.ok((meta.calls.get('getattr') ?? 0) - before <= 2)
})

t.test('holes stay holes', async (st) => {
  const clock = new FastClock()
  const { vfs, volume, another } = fixture(st, { clock, vfsClock: clock })
  const { ino, handle } = await make(vfs, 'f')
  const model = Buffer.alloc(100 * BLOCK)
  for (let block = 1; block < 100; block += 2) {
    randomBytes(BLOCK).copy(model, block * BLOCK)
    await vfs.write(handle, block * BLOCK, model.subarray(block * BLOCK, (block + 1) * BLOCK))
    await vfs.flush(handle)
  }
  const allocated = (await vfs.getattr(CALLER, ino)).allocatedBytes
  await clock.sleep(RESTED_MS)
  await vfs.read(handle, 0, model.length)
  await settle()
  const extents = volume.inodes.get(ino)?.windows.get(0) ?? []
  st.equal(extents.length, 50)
  st.equal(new Set(extents.map(({ chunk }) => chunk?.id)).size, 1)
  const other = another().vfs
  const opened = await other.open(CALLER, ino, O_RDWR)
  st.ok((await other.read(opened.handle, 0, model.length)).equals(model))
  st.equal((await other.getattr(CALLER, ino)).allocatedBytes, allocated)
  await other.release(opened.handle)
})
