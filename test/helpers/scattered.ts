/** A file that lies in many short chunks, and rests when it is told to. */
import { randomBytes } from 'node:crypto'
import { KIB, MIB } from '../../src/base/limits.js'
import type { VfsContract } from '../../src/vfs/contract.js'
import { DEFAULT_LIMITS } from '../../src/vfs/limits.js'
import { FastClock } from './vfs-clock.js'
import { CALLER, fixture, make, settle, type Fixture } from './vfs-fixture.js'

export const BLOCK = 4 * KIB
export const BLOCKS = 64
export const REST_MS = DEFAULT_LIMITS.packRestMs

export interface Scattered extends Fixture {
  readonly clock: FastClock
  readonly ino: number
  readonly handle: number
  /** What the file is to read as. */
  readonly model: Buffer
  /** Of one block, committed alone. */
  readonly overwrite: (block: number) => Promise<void>
  readonly rest: () => Promise<void>
  /** All of it at once, as the kernel reads ahead, and what that led to is over. */
  readonly readAll: (vfs?: VfsContract) => Promise<Buffer>
  /** In the order of the file. */
  readonly chunkIds: () => number[]
  readonly orderOf: (id: number | undefined) => number
}

/** A file of chunks of a block each; `step`: blocks from one to the next. */
export async function scattered(
  st: Parameters<typeof fixture>[0],
  { blocks = BLOCKS, step = 1, chunkBytes = 4 * MIB, order = (n: number) => (n * 37) % blocks } = {},
): Promise<Scattered> {
  const clock = new FastClock()
  const volume = fixture(st, { clock, vfsClock: clock, settings: { chunkBytes } })
  const { vfs, chunks } = volume
  const { ino, handle } = await make(vfs, 'f')
  const model = Buffer.alloc(((blocks - 1) * step + 1) * BLOCK)
  const overwrite = async (block: number): Promise<void> => {
    randomBytes(BLOCK).copy(model, block * step * BLOCK)
    await vfs.write(handle, block * step * BLOCK, model.subarray(block * step * BLOCK, (block * step + 1) * BLOCK))
    await vfs.flush(handle)
  }
  for (let n = 0; n < blocks; n++) await overwrite(order(n))
  const readAll = async (reader: VfsContract = vfs): Promise<Buffer> => {
    const { handle } = await reader.open(CALLER, ino, 0)
    const copy = Buffer.from(await reader.read(handle, 0, model.length + 1))
    await reader.release(handle)
    for (let i = 0; i < 5; i++) await settle()
    return copy
  }
  const rest = (): Promise<void> => clock.sleep(2 * REST_MS)
  const chunkIds = (): number[] => {
    const extents = volume.volume.inodes.get(ino)?.windows.get(0) ?? []
    return [...extents].sort((a, b) => a.fileOffset - b.fileOffset).flatMap(({ chunk }) => chunk?.id ?? [])
  }
  const orderOf = (id: number | undefined): number => chunks.stored.get(id ?? 0)?.origin.order ?? NaN
  return { ...volume, clock, ino, handle, model, overwrite, rest, readAll, chunkIds, orderOf }
}
