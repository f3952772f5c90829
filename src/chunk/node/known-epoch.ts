/**
 * The newest epoch of the ring that a node knows, for who writes into its folder without asking it (nearby-journal.ts): what the reply to
 * a put tells everybody else.
 *
 *     ring-epoch     8 bytes, little-endian. As of now: what is left of a node that has ended says nothing.
 *
 * Invariant: a node tells an epoch before it walks for its ring, and who writes a chunk looks here after that. So either the walk meets the
 * chunk, or its writer learns of the epoch, and sees to the owners of today.
 */
import { closeSync, constants, openSync, readSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { messageOf } from '../../base/errors.js'
import type { Log } from '../../base/log.js'

const EPOCH_BYTES = 8

function fileIn(folder: string): string {
  return join(folder, 'ring-epoch')
}

interface Known {
  readonly view: { readonly epoch: number }
}

/** ClusterWatcher, as far as it is needed. */
export interface Epochs {
  readonly watcher: { current(): Known; onChange(listener: () => void): () => void }
  readonly log: Log
}

/** By the node, from now on until it is called. A folder that cannot be written is no reason not to start. */
export function tellEpochs(folder: string, { watcher, log }: Epochs): () => void {
  let fd: number | null = null
  const tell = (): void => {
    try {
      // The file that others have open stays the same.
      fd ??= openSync(fileIn(folder), constants.O_WRONLY | constants.O_CREAT, 0o600)
      const bytes = Buffer.alloc(EPOCH_BYTES)
      bytes.writeBigInt64LE(BigInt(watcher.current().view.epoch))
      writeSync(fd, bytes, 0, EPOCH_BYTES, 0)
    } catch (error) {
      log.warn({ folder, err: messageOf(error) }, 'who writes beside this node is not told of a new ring')
    }
  }
  // In the tick in which it is known: nobody walks for it yet.
  const unwatch = watcher.onChange(tell)
  tell()
  return () => {
    unwatch()
    if (fd !== null) closeSync(fd)
    fd = null
  }
}

/** Of who writes beside it. */
export class EpochReader {
  readonly #folder: string
  readonly #bytes = Buffer.alloc(EPOCH_BYTES)
  #fd: number | null = null

  constructor(folder: string) {
    this.#folder = folder
  }

  /** 0: the node tells none. */
  read(): number {
    try {
      this.#fd ??= openSync(fileIn(this.#folder), 'r')
      const got = readSync(this.#fd, this.#bytes, 0, EPOCH_BYTES, 0)
      return got < EPOCH_BYTES ? 0 : Math.max(0, Number(this.#bytes.readBigInt64LE()))
    } catch {
      return 0
    }
  }

  close(): void {
    if (this.#fd !== null) closeSync(this.#fd)
    this.#fd = null
  }
}
