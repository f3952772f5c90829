/** What packing asks the headers of chunks, and what it leaves alone for what they say. */
import t, { type Test } from 'tap'
import { randomBytes } from 'node:crypto'
import { KIB } from '../../../src/base/limits.js'
import { DEFAULT_LIMITS } from '../../../src/vfs/limits.js'
import { FastClock } from '../../helpers/vfs-clock.js'
import { CALLER, O_APPEND, O_RDWR, fixture, make, settle, type Fixture } from '../../helpers/vfs-fixture.js'

const BLOCK = 4 * KIB
/** The least that is cloned. */
const CLONED = 16

interface Rested extends Fixture {
  readonly handle: number
  /** Of a block each, committed alone, where the file ends. */
  readonly append: (blocks: number) => Promise<void>
  readonly overwrite: (block: number) => Promise<void>
  /** CLONED blocks, inside the file. */
  readonly clone: (from: number, to: number) => Promise<void>
  /** All of it is read, when it has rested, and is what it should be; what that led to is over. */
  readonly readRested: () => Promise<void>
  /** Of each block the chunk. */
  readonly ids: () => (number | undefined)[]
}

async function file(st: Test): Promise<Rested> {
  const clock = new FastClock()
  const volume = fixture(st, { clock, vfsClock: clock })
  const { vfs } = volume
  const { ino, handle: appender } = await make(vfs, 'f', O_RDWR | O_APPEND)
  const { handle } = await vfs.open(CALLER, ino, O_RDWR)
  let model = Buffer.alloc(0)
  const append = async (blocks: number): Promise<void> => {
    const data = randomBytes(blocks * BLOCK)
    await vfs.write(appender, model.length, data)
    await vfs.flush(appender)
    model = Buffer.concat([model, data])
  }
  const overwrite = async (block: number): Promise<void> => {
    const data = randomBytes(BLOCK)
    await vfs.write(handle, block * BLOCK, data)
    await vfs.flush(handle)
    data.copy(model, block * BLOCK)
  }
  const clone = async (from: number, to: number): Promise<void> => {
    const length = CLONED * BLOCK
    st.equal(await vfs.copyRange(handle, from * BLOCK, handle, to * BLOCK, length), length)
    model.copyWithin(to * BLOCK, from * BLOCK, from * BLOCK + length)
  }
  const readRested = async (): Promise<void> => {
    await clock.sleep(2 * DEFAULT_LIMITS.packRestMs)
    st.ok((await vfs.read(handle, 0, model.length)).equals(model))
    for (let i = 0; i < 5; i++) await settle()
    st.ok((await vfs.read(handle, 0, model.length)).equals(model))
  }
  const ids = (): (number | undefined)[] => {
    const extents = volume.volume.inodes.get(ino)?.windows.get(0) ?? []
    return Array.from({ length: model.length / BLOCK }, (_, block) => {
      const at = block * BLOCK
      const shown = extents.filter(({ fileOffset, lengthBytes }) => fileOffset <= at && at < fileOffset + lengthBytes)
      return shown.at(-1)?.chunk?.id
    })
  }
  return { ...volume, handle, append, overwrite, clone, readRested, ids }
}

t.test('appended data that were cloned inside their window stay, also where only the clone is short', async (st) => {
  const { append, overwrite, clone, readRested, ids } = await file(st)
  for (let block = 0; block < 120; block++) await append(1)
  await append(64)
  await clone(0, 20)
  await clone(120, 40)
  // Two short pieces are left of it.
  await overwrite(48)
  const before = ids()
  st.equal(new Set([...before.slice(40, 48), ...before.slice(49, 56), ...before.slice(120)]).size, 1)
  await readRested()
  const after = ids()
  const isCloned = (block: number): boolean =>
    block < 16 || (block >= 20 && block < 36) || (block >= 40 && block < 56 && block !== 48) || block >= 120
  for (const block of before.keys()) {
    if (isCloned(block)) st.equal(after[block], before[block], `block ${block}`)
  }
  st.equal(new Set(after.filter((_, block) => !isCloned(block))).size, 1, 'the others are packed')
})

t.test('of a packed chunk, too, appended data that were cloned stay', async (st) => {
  const { append, overwrite, clone, readRested, ids } = await file(st)
  for (let block = 0; block < 160; block++) await append(1)
  await readRested()
  const [packed] = ids()
  st.strictSame([...new Set(ids())], [packed])
  await clone(0, 40)
  for (let block = 1; block < 160; block += 2) await overwrite(block)
  await readRested()
  const after = ids()
  st.ok(after.every((id, block) => (id === packed) === (block % 2 === 0)))
  st.equal(new Set(after).size, 2, 'the others are packed')
})

t.test('the writes of a header are sought once, and only for a load of which nothing stays', async (st) => {
  const { append, overwrite, clone, readRested, ids, chunks } = await file(st)
  for (let block = 0; block < 128; block++) await append(1)
  await readRested()
  const [packed] = ids()
  st.strictSame([...new Set(ids())], [packed])
  let reads = 0
  const origin = chunks.origin.bind(chunks)
  chunks.origin = async (ref) => {
    const told = await origin(ref)
    if (ref.id !== packed) return told
    // It is too long to be kept: each time another one.
    return Object.defineProperty({ ...told }, 'appends', {
      get: () => {
        reads++
        return told.appends
      },
    })
  }
  for (let block = 0; block < 128; block++) if (block < CLONED || block % 2 === 0) await overwrite(block)
  await clone(0, CLONED)
  const stays = ids().slice(0, 2 * CLONED)
  await readRested()
  st.strictSame(ids().slice(0, 2 * CLONED), stays)
  const others = new Set(ids().slice(2 * CLONED))
  st.ok(others.size === 1 && !others.has(packed), 'it is packed')
  st.equal(reads, 1)
})
