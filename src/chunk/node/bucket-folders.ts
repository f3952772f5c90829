/**
 * The names in a node's folders of chunks, also where the disk cannot list one of them. Synchronous: it runs in a worker.
 *
 * Invariant: a folder counts as empty, or as absent, only where the disk says so. Where it cannot list one, or the folder above, that is told.
 */
import { readdirSync } from 'node:fs'
import { codeOf, messageOf } from '../../base/errors.js'
import { ChunkPaths } from './paths.js'
import { isUnlistable } from './unreadable.js'

/** A bucket whose chunks cannot be listed. Those whose names are known may well be opened. */
export interface UnlistedBucket {
  readonly bucket: number
  /** The one that cannot be listed: its own, or that above. */
  readonly folder: string
  readonly why: string
}

/** null: there is no such folder. A text: why it cannot be listed. */
type Names = readonly string[] | string | null

export class BucketFolders {
  readonly #paths: ChunkPaths
  /** Of those above, the last that was looked into. */
  #above: { readonly folder: string; readonly names: Names } | undefined

  /** `folder`: the node's data folder. */
  constructor(folder: string) {
    this.#paths = new ChunkPaths(folder)
  }

  /** Errors: what the disk says, if it is not that it cannot list a folder. */
  namesIn(bucket: number): readonly string[] | UnlistedBucket {
    const { outer, inner } = this.#paths.foldersOfBucket(bucket)
    if (this.#above?.folder === outer && this.#above.names === null) return []
    const names = namesOf(inner)
    if (typeof names === 'string') return { bucket, folder: inner, why: names }
    if (names !== null) return names
    if (this.#above?.folder !== outer) this.#above = { folder: outer, names: namesOf(outer) }
    const above = this.#above.names
    return typeof above === 'string' ? { bucket, folder: outer, why: above } : []
  }
}

export function isUnlisted(names: readonly string[] | UnlistedBucket): names is UnlistedBucket {
  return 'bucket' in names
}

function namesOf(folder: string): Names {
  try {
    return readdirSync(folder)
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return null
    if (isUnlistable(error)) return messageOf(error)
    throw error
  }
}
