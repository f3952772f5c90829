/**
 * What a private Redis does when the disk of its append-only file gets full.
 *
 *     taking --less than `low` is free--> refusing: maxmemory is a byte --more than `high` is free--> taking
 *
 * Redis writes nothing that it cannot log: with a disk that is full to the last byte not even a removal, so that no room would ever come
 * back. With maxmemory it refuses whatever adds to it, as a server without memory does, and carries out what the scripts mark as allowed
 * then: removing, and what sessions and nodes need to live. For these there is what is left of the disk.
 *
 * A removal adds to the file, too, and only a rewrite of the file gives anything back. So there is to be room for one as well: for as much as
 * the server has in memory. It is asked for where it pays. Whoever rewrites, and Redis does by itself, takes that room: then nothing is refused
 * for it.
 */
import { statfs } from 'node:fs/promises'
import type { Clock, Timer } from '../base/clock.js'
import { messageOf } from '../base/errors.js'
import { GIB, MIB } from '../base/limits.js'
import type { Log } from '../base/log.js'
import { parseInfo } from './redis-check.js'
import { arrayOf, textOf } from './reply.js'
import type { RedisArg, RedisValue } from './contract.js'

/** Half of what chunk nodes leave free (chunk/node/space.ts), but enough for what is written between two looks. */
const LOW_SHARE = 0.005
const LOW_MAX_BYTES = GIB / 2
const LOW_MIN_BYTES = 16 * MIB
/** Of small disks. */
const LOW_MIN_SHARE = 0.05
const A_BYTE = '1'
const HIGH_TIMES = 1.25
const LOOK_MS = 1_000
/** Where there is less than so many times `low`. */
const SOON_TIMES = 8
const LOOK_SOON_MS = 100
const ASK_MS = 10_000
const ASK_SOON_MS = 1_000
/** Of the disk, for a rewrite. */
const REWRITE_MAX_SHARE = 1 / 3
const REWRITE_EVERY_MS = 30_000
/** So long behind a rewrite the file of before is surely deleted. */
const REWRITTEN_MS = 2_000
/** It pays where all that is in memory is less than this share of the file. */
const REWRITE_PAYS = 0.8
/** Of the room that there is. */
const REWRITE_FITS = 0.9

export interface Disk {
  readonly totalBytes: number
  readonly freeBytes: number
}

export interface RedisRoomOptions {
  readonly folder: string
  /** Asks the server. */
  readonly ask: (command: string, args: readonly RedisArg[]) => Promise<RedisValue>
  readonly clock: Clock
  readonly log: Log
  /** Default: the file system's own figures. */
  readonly disk?: (folder: string) => Promise<Disk>
}

/** `memoryBytes`: what a rewrite writes, at most. */
export function lowOf(totalBytes: number, memoryBytes: number): number {
  const least = Math.min(LOW_MIN_BYTES, LOW_MIN_SHARE * totalBytes)
  const forRemovals = Math.min(LOW_MAX_BYTES, Math.max(LOW_SHARE * totalBytes, least))
  return forRemovals + Math.min(memoryBytes, REWRITE_MAX_SHARE * totalBytes)
}

async function diskOf(folder: string): Promise<Disk> {
  const { bsize, blocks, bavail } = await statfs(folder)
  return { totalBytes: blocks * bsize, freeBytes: bavail * bsize }
}

export class RedisRoom {
  readonly #options: RedisRoomOptions
  readonly #disk: (folder: string) => Promise<Disk>
  /** null: as somebody before us has left it. */
  #isRefusing: boolean | null = null
  /** As it was set by others. */
  #limit = '0'
  #askedMs = -Infinity
  /** Of its data, in memory and on disk. */
  #memoryBytes = 0
  #fileBytes = 0
  #rewroteMs = -Infinity
  /** When a rewrite was seen last. */
  #rewritingMs = -Infinity
  #timer: Timer | undefined
  #looking: Promise<void> = Promise.resolve()
  #isClosed = false

  constructor(options: RedisRoomOptions) {
    this.#options = options
    this.#disk = options.disk ?? diskOf
    this.#schedule(0)
  }

  async close(): Promise<void> {
    this.#isClosed = true
    this.#timer?.close()
    await this.#looking
  }

  #schedule(ms: number): void {
    if (this.#isClosed) return
    this.#timer = this.#options.clock.after(ms, () => {
      this.#looking = this.#look().then((nextMs) => this.#schedule(nextMs))
    })
    this.#timer.unref()
  }

  /** Answers when to look again. */
  async #look(): Promise<number> {
    try {
      const { totalBytes, freeBytes } = await this.#disk(this.#options.folder)
      const isSoon = freeBytes < SOON_TIMES * lowOf(totalBytes, this.#memoryBytes)
      await this.#ask(isSoon ? ASK_SOON_MS : ASK_MS)
      // A rewrite may have begun since.
      if (this.#isRefusing !== true && this.#isFull(totalBytes, freeBytes)) await this.#ask(0)
      const isFull = this.#isFull(totalBytes, freeBytes)
      if (isFull !== this.#isRefusing) await this.#refuse(isFull, freeBytes)
      if (isFull) await this.#rewrite(freeBytes)
      return isSoon ? LOOK_SOON_MS : LOOK_MS
    } catch (error) {
      // It does not answer yet, or any more.
      this.#options.log.debug({ err: messageOf(error) }, 'no look at the disk of Redis')
      return LOOK_MS
    }
  }

  #isFull(totalBytes: number, freeBytes: number): boolean {
    const low = lowOf(totalBytes, this.#memoryBytes)
    if (this.#isRefusing === true) return freeBytes < low * HIGH_TIMES
    const isRewriting = this.#options.clock.monotonicMs() - this.#rewritingMs < REWRITTEN_MS
    return freeBytes < (isRewriting ? lowOf(totalBytes, 0) : low)
  }

  async #refuse(isFull: boolean, freeBytes: number): Promise<void> {
    const { ask, folder, log } = this.#options
    const [, text] = arrayOf(await ask('CONFIG', ['GET', 'maxmemory']), 'CONFIG')
    const limit = textOf(text, 'CONFIG')
    if (limit !== A_BYTE) this.#limit = limit
    if (isFull !== (limit === A_BYTE)) await ask('CONFIG', ['SET', 'maxmemory', isFull ? A_BYTE : this.#limit])
    if (isFull) log.warn({ folder, freeBytes }, 'the disk of Redis is nearly full: it takes nothing new, only removals')
    else if (this.#isRefusing === true) log.warn({ folder, freeBytes }, 'the disk of Redis has room again')
    this.#isRefusing = isFull
  }

  /** Unless that was done less than so long ago. */
  async #ask(everyMs: number): Promise<void> {
    const { ask, clock } = this.#options
    if (clock.monotonicMs() - this.#askedMs < everyMs) return
    this.#askedMs = clock.monotonicMs()
    const info = parseInfo(textOf(await ask('INFO', []), 'INFO'))
    this.#memoryBytes = Number(info.get('used_memory_dataset') ?? 0)
    this.#fileBytes = Number(info.get('aof_current_size') ?? 0)
    if (info.get('aof_rewrite_in_progress') === '1') this.#rewritingMs = clock.monotonicMs()
  }

  async #rewrite(freeBytes: number): Promise<void> {
    const { ask, clock } = this.#options
    const pays = this.#memoryBytes < REWRITE_PAYS * this.#fileBytes
    if (!pays || this.#memoryBytes > REWRITE_FITS * freeBytes) return
    if (clock.monotonicMs() - this.#rewroteMs < REWRITE_EVERY_MS) return
    this.#rewroteMs = clock.monotonicMs()
    await ask('BGREWRITEAOF', [])
  }
}
