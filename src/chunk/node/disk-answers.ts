/** What a disk that fails meanwhile answers: nothing of it is here. */
import type { NodeDisk } from './node-disk.js'
import type { ChunkStore } from './store.js'
import type { Verdict } from './tasks.js'

/** A copy that is bad because its disk is dead is not here. */
export async function verdictOf(disk: NodeDisk, look: (store: ChunkStore) => Promise<Verdict>): Promise<Verdict> {
  try {
    const verdict = await disk.run(look)
    if (verdict.state !== 'bad') return verdict
    await disk.suspect(verdict.why)
    return disk.isUp ? verdict : { state: 'missing' }
  } catch (error) {
    if (disk.isUp) throw error
    return { state: 'missing' }
  }
}

/** `all`: those that were asked for, all of which are missing when the disk has failed. */
export async function lackedBy(
  disk: NodeDisk,
  ask: (store: ChunkStore) => Promise<readonly number[]>,
  all: readonly number[],
): Promise<readonly number[]> {
  try {
    const missing = await disk.run(ask)
    return disk.isUp ? missing : all
  } catch (error) {
    if (disk.isUp) throw error
    return all
  }
}
