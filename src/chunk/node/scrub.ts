/**
 * Scrubbing: all chunks of this node are read and hashed again, over days, so that a copy that rotted is found while there are others.
 *
 *   folder 0, 1, … 4095 of the ring, each when its time has come (a 4096th of the period), or at once for `ringfs scrub --now`
 *
 * Invariants: where it is and what it found is kept in the data folder every 16 folders, so that a restart goes on there. A bad copy
 * is replaced by a good one, and set aside then (repair.ts): where there is no good one it stays, for its good leaves. What cannot be looked at
 * keeps the round from nothing else: such a chunk is looked at once more, a minute later, and counted, such a folder is left out, and counted.
 */
import { renameSync, writeFileSync } from 'node:fs'
import * as z from 'zod'
import type { Clock } from '../../base/clock.js'
import { codeOf, hasCode, messageOf } from '../../base/errors.js'
import { MIB } from '../../base/limits.js'
import type { Log } from '../../base/log.js'
import { readSmallFile } from '../../base/small-file.js'
import { CHUNK_BUCKETS, type ScrubRequest, type ScrubState } from '../contract.js'
import type { Repairer } from './repair.js'
import type { ChunkDisk } from './disk.js'

const WEEK_MS = 7 * 86_400_000
const NOW_DEFAULT_BYTES_PER_SECOND = 64 * MIB
/** Beside the period: a node that is full is not read faster than this either, or as much faster as its round is shorter than a week. */
const CALM_BYTES_PER_SECOND = 16 * MIB
/** A period that was changed is noticed after so long. */
const LOOK_MS = 10 * 60_000
const LIST_PAGE = 1000
/** How often the place is kept, in folders. Who hastens takes as many at a time: a look at one that is empty costs as much as one at many. */
const KEPT_FOLDERS = 16
const HASTY_FOLDERS = KEPT_FOLDERS
const FAILURE_PAUSE_MS = 60_000
/** What a Date can hold (ECMA-262, time values). */
const DATE_MAX_MS = 8.64e15

export interface ScrubOptions {
  readonly volume: string
  readonly disk: ChunkDisk
  readonly clock: Clock
  readonly log: Log
  /** Where the position is kept, as of now. Absent: nowhere. */
  readonly scrubFile?: () => string | undefined
  /** For one round, as of now. Default a week. */
  readonly scrubPeriodMs?: () => number | undefined
  /** Of the ring, at a time. Default 1. */
  readonly scrubFolders?: number
}

const stateSchema = z.object({
  bucket: z.int().min(0).max(CHUNK_BUCKETS),
  startedMs: z.int().min(0).max(DATE_MAX_MS),
  finishedMs: z.int().min(0).max(DATE_MAX_MS),
  checked: z.int().min(0),
  checkedBytes: z.int().min(0),
  bad: z.int().min(0),
  replaced: z.int().min(0),
  // Younger than the others.
  unread: z.int().min(0).default(0),
  unlisted: z.int().min(0).max(CHUNK_BUCKETS).default(0),
})

type Kept = z.infer<typeof stateSchema>

const FRESH: Kept = {
  ...{ bucket: 0, startedMs: 0, finishedMs: 0, checked: 0, checkedBytes: 0 },
  ...{ bad: 0, replaced: 0, unread: 0, unlisted: 0 },
}

interface Listed {
  readonly id: number
  readonly lengthBytes: number
}

export class Scrubber {
  readonly #options: ScrubOptions
  readonly #repairer: Repairer
  #state: Kept
  /** Bytes per second of a round that somebody asked for; null: over days. */
  #haste: number | null = null
  #isStopped = false
  #running: Promise<void> | null = null
  #wake: () => void = () => undefined

  constructor(options: ScrubOptions, repairer: Repairer) {
    this.#options = options
    this.#repairer = repairer
    this.#state = readScrubState(options)
  }

  /** Begins the rounds over days. */
  start(): void {
    this.#running ??= this.#run()
  }

  async stop(): Promise<void> {
    this.#isStopped = true
    this.#wake()
    await this.#running
  }

  /** `start`: a whole round at once; `stop`: over days again. */
  control({ action, bytesPerSecond }: ScrubRequest): ScrubState {
    if (action === 'start') {
      this.#haste = bytesPerSecond > 0 ? bytesPerSecond : NOW_DEFAULT_BYTES_PER_SECOND
      this.#state = begun(this.#state, this.#nowMs())
      this.start()
    } else if (action === 'stop') this.#haste = null
    // Who only looks does not hasten a round, nor begin the next: that would take the figures of the last one away.
    if (action !== 'status') this.#wake()
    return { ...this.#state, buckets: CHUNK_BUCKETS, isHasty: this.#haste !== null }
  }

  async #run(): Promise<void> {
    for (;;) {
      await this.#pause()
      if (this.#isStopped) return
      try {
        await this.#turn(this.#state)
      } catch (error) {
        this.#options.log.warn({ err: messageOf(error) }, 'scrubbing goes on later')
        await this.#sleep(FAILURE_PAUSE_MS)
      }
    }
  }

  /** Until the next folder's time has come. */
  async #pause(): Promise<void> {
    const { clock, scrubFolders = 1 } = this.#options
    const startMs = clock.monotonicMs()
    while (this.#haste === null && !this.#isStopped) {
      const leftMs = startMs + (this.#periodMs() * scrubFolders) / CHUNK_BUCKETS - clock.monotonicMs()
      if (leftMs <= 0) return
      await this.#sleep(Math.min(leftMs, LOOK_MS))
    }
  }

  #periodMs(): number {
    return this.#options.scrubPeriodMs?.() ?? WEEK_MS
  }

  /** Until it is woken, at the latest. */
  #sleep(ms: number): Promise<void> {
    // Told to end meanwhile: nobody wakes it any more.
    if (this.#isStopped) return Promise.resolve()
    return new Promise((resolve) => {
      const timer = this.#options.clock.after(ms, resolve)
      timer.unref()
      this.#wake = () => {
        timer.close()
        resolve()
      }
    })
  }

  /** Ms since 1970. */
  #nowMs(): number {
    const { sec, nsec } = this.#options.clock.now()
    return sec * 1000 + Math.floor(nsec / 1e6)
  }

  /** `state`: another one when the round was begun anew meanwhile. */
  async #turn(state: Kept): Promise<void> {
    if (state.bucket === 0 && state.startedMs === 0) this.#state = state = begun(state, this.#nowMs())
    const { scrubFolders = 1 } = this.#options
    const step = this.#haste === null ? scrubFolders : Math.max(scrubFolders, HASTY_FOLDERS)
    const end = Math.min(CHUNK_BUCKETS, state.bucket - (state.bucket % step) + step)
    const gaps = new Set<number>()
    const failed: Listed[] = []
    for await (const chunk of this.#listed(state.bucket, end, gaps)) {
      if (!this.#goesOn(state)) return
      if (!(await this.#tryChecking(state, chunk))) failed.push(chunk)
    }
    if (failed.length > 0 && !(await this.#checkAgain(state, failed))) return
    if (!this.#goesOn(state)) return
    state.unlisted += gaps.size
    state.bucket = end
    if (end === CHUNK_BUCKETS) this.#finish(state)
    // Mostly folders are empty: their places are kept with the next that is not.
    else if (state.checked > 0 && end % KEPT_FOLDERS === 0) this.#keep()
  }

  #goesOn(state: Kept): boolean {
    return !this.#isStopped && this.#state === state
  }

  /** `gaps`: gets the folders that cannot be listed. Errors: what the disk says. */
  async *#listed(from: number, to: number, gaps: Set<number>): AsyncGenerator<Listed, void, undefined> {
    const { disk, volume } = this.#options
    let next: { readonly bucket: number; readonly id: number } | null = { bucket: from, id: 0 }
    while (next !== null && next.bucket < to) {
      const range = { fromBucket: next.bucket, fromId: next.id, toBucket: to }
      const page = await disk.list({ volume, ...range, limit: LIST_PAGE, headers: true, withGaps: true })
      for (const bucket of page.gaps ?? []) gaps.add(bucket)
      for (const { id, header } of page.chunks) yield { id, lengthBytes: header?.lengthBytes ?? 0 }
      next = page.next
    }
  }

  /** false: it could not be told whether it is good. */
  async #tryChecking(state: Kept, { id, lengthBytes }: Listed): Promise<boolean> {
    try {
      await this.#check(state, id, lengthBytes)
      return true
    } catch (error) {
      this.#options.log.warn({ chunk: id, err: messageOf(error) }, 'a chunk could not be looked at')
      return false
    }
  }

  /** What was in the way may have passed (too many open files, say). false: told to end meanwhile. */
  async #checkAgain(state: Kept, chunks: readonly Listed[]): Promise<boolean> {
    if (this.#goesOn(state)) await this.#sleep(FAILURE_PAUSE_MS)
    for (const chunk of chunks) {
      if (!this.#goesOn(state)) return false
      if (!(await this.#tryChecking(state, chunk))) state.unread++
    }
    return true
  }

  #finish(state: Kept): void {
    const { checked, bad, replaced, unread, unlisted } = state
    this.#haste = null
    if (unread + unlisted === 0)
      this.#options.log.info({ checked, bad, replaced }, 'all chunks of this node were read and hashed')
    else
      this.#options.log.error(
        { checked, bad, replaced, unread, unlisted },
        'not all chunks of this node were read and hashed: some could not be, or lie in folders that cannot be listed',
      )
    // What the round found stays until the next has begun.
    this.#state = { ...state, bucket: 0, startedMs: 0, finishedMs: this.#nowMs() }
    this.#keep()
  }

  async #check(state: Kept, id: number, lengthBytes: number): Promise<void> {
    const { disk, clock, log } = this.#options
    const startMs = clock.monotonicMs()
    const verdict = await disk.verify(id).catch((error: unknown) => {
      if (!hasCode(error, 'VOLUME_NEWER')) throw error
      log.warn({ chunk: id, why: messageOf(error) }, 'a chunk of another ringfs is not looked at')
      return undefined
    })
    if (verdict === undefined || verdict.state === 'missing') return
    if (verdict.state === 'bad') {
      log.warn({ chunk: id, why: verdict.why }, 'a chunk copy has rotted')
      const now = await this.#replaced(id)
      // Deleted meanwhile: nobody needs a good one.
      if (now !== 'missing') state.bad++
      if (now === 'good') state.replaced++
    }
    state.checked++
    state.checkedBytes += lengthBytes
    if (verdict.state === 'bad') this.#keep()
    const perSecond = this.#haste ?? CALM_BYTES_PER_SECOND * Math.max(1, WEEK_MS / this.#periodMs())
    const leftMs = (lengthBytes / perSecond) * 1000 - (clock.monotonicMs() - startMs)
    if (leftMs > 1) await clock.sleep(leftMs)
  }

  /** What is there afterwards. */
  async #replaced(id: number): Promise<'good' | 'bad' | 'missing'> {
    const { disk, log } = this.#options
    let why: unknown
    try {
      await this.#repairer.ensure(id, null, [])
    } catch (error) {
      why = error
    }
    const { state } = await disk.verify(id)
    if (state === 'bad') {
      const err = why === undefined ? 'nobody has one' : messageOf(why)
      log.error({ chunk: id, err }, 'no good copy of a rotten chunk: the next round tries again')
    }
    return state
  }

  #keep(): void {
    const { scrubFile, log } = this.#options
    const file = scrubFile?.()
    if (file === undefined) return
    try {
      writeFileSync(`${file}.new`, `${JSON.stringify(this.#state)}\n`, { mode: 0o600 })
      renameSync(`${file}.new`, file)
    } catch (error) {
      log.warn({ err: messageOf(error) }, 'the place of scrubbing is not kept')
    }
  }
}

function begun({ finishedMs }: Kept, nowMs: number): Kept {
  return { ...FRESH, startedMs: nowMs, finishedMs }
}

/** What cannot be read begins anew: a round too many does no harm. */
export function readScrubState({ scrubFile, log }: Pick<ScrubOptions, 'scrubFile' | 'log'>): Kept {
  const file = scrubFile?.()
  if (file === undefined) return { ...FRESH }
  try {
    return { ...stateSchema.parse(JSON.parse(readSmallFile(file))) }
  } catch (error) {
    if (codeOf(error) !== 'ENOENT') {
      log.warn({ file, err: messageOf(error) }, 'where scrubbing was cannot be read: the round begins anew')
    }
    return { ...FRESH }
  }
}
