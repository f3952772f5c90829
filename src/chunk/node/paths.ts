/**
 * Where files lie in a node's data folder:
 *
 *     ringfs-node.json          identity (identity.ts)
 *     chunks/a3/7/0000000000002a   chunk 42: the folders are the top 12 bits of its ring position, the name its id in hex
 *     journal/0, journal/1      small chunks that had to be on disk at once: journal-file.ts
 *     ring-epoch                for who writes small chunks beside the node: known-epoch.ts
 *     boot                      to know of a loss of power: boot-note.ts
 *     tmp/                      being written; emptied at start
 *     removed/ID                what was deleted while another disk of the node, ID, was away: removed-file.ts
 *     quarantine/               bad copies, kept for whoever wants to know why; never read
 *
 * 256 times 16 folders: a range of the ring is a walk of folders in order of their names; a million chunks make 250 files a
 * folder, and an almost empty node does not pay a block each for 65,536 of them.
 */
import { join } from 'node:path'
import { chunkPosition } from '../../cluster/ring.js'

const ID_DIGITS = 14
const FILE_NAME = /^[0-9a-f]{14}$/
const PREPARED_NAME = /^([0-9a-f]{14})\.beside-[0-9a-z]+-[0-9]+$/

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
    // Not join(): this.chunks is normal already, and each synced write asks for three of them.
    const outer = `${this.chunks}/${digits.slice(0, 2)}`
    return { outer, inner: `${outer}/${digits.slice(2, 3)}` }
  }

  /** The folders of a bucket: its inner one lies in the outer one, which it shares with 15 others. */
  foldersOfBucket(bucket: number): { readonly outer: string; readonly inner: string } {
    const digits = bucket.toString(16).padStart(3, '0')
    const outer = join(this.chunks, digits.slice(0, 2))
    return { outer, inner: join(outer, digits.slice(2)) }
  }

  fileOf(id: number): string {
    return `${this.foldersOf(id).inner}/${fileName(id)}`
  }

  newTemporary(id: number): string {
    return join(this.temporary, `${fileName(id)}.${this.#unique()}`)
  }

  /** For a file that the node is to take: nearby-writer.ts. */
  newPrepared(id: number): string {
    return join(this.temporary, `${fileName(id)}.beside-${this.#unique()}`)
  }

  /** Where the file of that name lies; undefined: it is no name of a file prepared for this chunk. */
  preparedOf(id: number, name: string): string | undefined {
    return PREPARED_NAME.exec(name)?.[1] === fileName(id) ? join(this.temporary, name) : undefined
  }

  newQuarantine(id: number): string {
    return join(this.quarantine, `${fileName(id)}.${this.#unique()}`)
  }

  /** Of a log of small chunks, `place` says which. */
  newLogAside(place: string, log: number): string {
    return join(this.quarantine, `${place}.log-${log}.${this.#unique()}`)
  }

  #unique(): string {
    this.#sequence++
    return `${this.#start}-${this.#sequence}`
  }
}

/** 0 to CHUNK_BUCKETS - 1: the folder in which a chunk lies, and its part of the ring. */
export function bucketOf(id: number): number {
  return chunkPosition(id) >>> 20
}

/** undefined: not the name of a chunk file. */
export function idOfFile(name: string): number | undefined {
  if (!FILE_NAME.test(name)) return undefined
  const id = Number.parseInt(name, 16)
  return Number.isSafeInteger(id) ? id : undefined
}

function fileName(id: number): string {
  return id.toString(16).padStart(ID_DIGITS, '0')
}
