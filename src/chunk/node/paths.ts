/**
 * Where files lie in a node's data folder:
 *
 *     ringfs-node.json          identity (identity.ts)
 *     chunks/a3/7/0000000000002a   chunk 42: the folders are the top 12 bits of its ring position, the name its id in hex
 *     journal/0, journal/1      small chunks that had to be on disk at once: journal-file.ts
 *     tmp/                      being written; emptied at start
 *     quarantine/               bad copies, kept for whoever wants to know why; never read
 *
 * 256 times 16 folders: a range of the ring is a walk of folders in order of their names; a million chunks make 250 files a
 * folder, and an almost empty node does not pay a block each for 65,536 of them.
 */
import { join } from 'node:path'
import { chunkPosition } from '../../cluster/ring.js'

const ID_DIGITS = 14

export class ChunkPaths {
  readonly chunks: string
  readonly temporary: string
  readonly quarantine: string
  /** Makes names in tmp and quarantine unique within the process; with `start` also across restarts. */
  #sequence = 0
  readonly #start = Date.now().toString(36)

  constructor(folder: string) {
    this.chunks = join(folder, 'chunks')
    this.temporary = join(folder, 'tmp')
    this.quarantine = join(folder, 'quarantine')
  }

  /** The outer and the inner folder of a chunk, as absolute paths. */
  foldersOf(id: number): { readonly outer: string; readonly inner: string } {
    const digits = chunkPosition(id).toString(16).padStart(8, '0')
    const outer = join(this.chunks, digits.slice(0, 2))
    return { outer, inner: join(outer, digits.slice(2, 3)) }
  }

  fileOf(id: number): string {
    return join(this.foldersOf(id).inner, fileName(id))
  }

  newTemporary(id: number): string {
    return join(this.temporary, `${fileName(id)}.${this.#unique()}`)
  }

  newQuarantine(id: number): string {
    return join(this.quarantine, `${fileName(id)}.${this.#unique()}`)
  }

  #unique(): string {
    this.#sequence++
    return `${this.#start}-${this.#sequence}`
  }
}

function fileName(id: number): string {
  return id.toString(16).padStart(ID_DIGITS, '0')
}
