/**
 * What a process beside this node has written into its folder (nearby-journal.ts), as far as it is not in files yet. The node
 * only reads these logs: it looks into them when it is asked for a chunk that it does not have, and makes files of them when it
 * is asked to put such a chunk on disk. When all chunks of a log have files, its writer uses it again.
 *
 * Invariants:
 * - A record is taken only if it is whole and its data match its hashes: one that is being written is none yet.
 * - A log is read on from where the last look ended, within one generation. Of a generation that is over nothing is left to read.
 * - What was removed from this node does not come back by a look at the log. (By a start of the node it may: unnamed, as what a
 *   node's own journal had no room to note. journal.ts)
 * - What lies behind a bad record is found by a thorough look: at the start, and before the writer is told that anything is missing.
 * - Looks come one after the other: each goes on from where the one before it has ended.
 * - A disk that shares its node with others is looked at in a thread: it may hang.
 */
import { asBuffer } from '../jobs.js'
import type { Job, WorkerPool } from '../pool.js'
import type { JournalChunk } from './journal.js'
import { JOURNAL_LOGS, NO_DAMAGE, damageOf, logFile, type JournalDamage } from './journal-file.js'
import { idsIn } from './journal-format.js'
import { keptOf } from './kept.js'
import { lookNear, type NearFound, type NearPosition, type NearTask } from './near-look.js'

const LOOK_JOB: Job<NearTask, readonly (NearFound | null)[]> = { file: 'disk', name: 'lookNear' }

/** Of damaged chunks so many are named. */
const DAMAGED_IDS_MAX = 1000

interface SeenLog {
  seen: NearPosition
  readonly chunks: Map<number, JournalChunk>
  /** Where bad places of this use begin that are counted already: the last one is come upon again and again. */
  readonly noted: Set<number>
}

export class NearLogs {
  readonly #logs: readonly SeenLog[]
  readonly #pool: WorkerPool
  readonly #isInline: boolean
  /** In a thread. Never rejects. */
  #looking: Promise<unknown> | null = null
  /** The look after that. */
  #next: Promise<void> | null = null
  /** The next look is a thorough one. */
  #isThorough = false
  #damage = NO_DAMAGE

  /** `isInline`: the calling thread looks. */
  constructor(folder: string, { pool, isInline }: { readonly pool: WorkerPool; readonly isInline: boolean }) {
    this.#pool = pool
    this.#isInline = isInline
    this.#logs = Array.from({ length: JOURNAL_LOGS }, (_, log) => {
      const file = logFile(folder, log, 'near')
      return { seen: { file, use: null, position: 0, above: 0 }, chunks: new Map(), noted: new Set() }
    })
  }

  /** Looks into the logs if it is not known. */
  async get(id: number): Promise<JournalChunk | undefined> {
    const known = this.known(id)
    if (known !== undefined) return known
    await this.refresh()
    return this.known(id)
  }

  /** All that are there now. */
  async all(): Promise<JournalChunk[]> {
    await this.refresh()
    return this.#logs.flatMap(({ chunks }) => [...chunks.values()])
  }

  /** These have files, or are not wanted. */
  forget(ids: readonly number[]): void {
    for (const { chunks } of this.#logs) for (const id of ids) chunks.delete(id)
  }

  /**
   * By a look that begins after the call. `isThorough`: what lies behind a bad record is found, too. Errors: what the disk says, but that
   * there is no such log.
   */
  async refresh(isThorough = false): Promise<void> {
    this.#isThorough ||= isThorough
    if (this.#isInline) this.#apply(lookNear(this.#nextTask()))
    else await (this.#next ??= this.#lookNext())
  }

  /** What thorough looks have found to be bad. */
  get damage(): JournalDamage {
    return this.#damage
  }

  /** As far as the last look. */
  known(id: number): JournalChunk | undefined {
    for (const { chunks } of this.#logs) {
      const found = chunks.get(id)
      if (found !== undefined) return found
    }
    return undefined
  }

  #nextTask(): NearTask {
    const isThorough = this.#isThorough
    this.#isThorough = false
    return { logs: this.#logs.map(({ seen }) => seen), isThorough }
  }

  async #lookNext(): Promise<void> {
    await this.#looking
    this.#next = null
    const look = this.#pool.run(LOOK_JOB, this.#nextTask())
    const isOver = (): null => (this.#looking = null)
    // Before whoever waits goes on: the next look begins where this one has ended.
    const applied = look.then((found) => this.#apply(found))
    this.#looking = applied.then(isOver, isOver)
    await applied
  }

  #apply(found: readonly (NearFound | null)[]): void {
    for (const [index, log] of this.#logs.entries()) {
      const one = found[index]
      if (one === undefined || one === null) continue
      if (one.isOther) {
        log.chunks.clear()
        if (one.use !== null) log.noted.clear()
      }
      log.seen = { file: log.seen.file, use: one.use, position: one.position, above: one.above }
      this.#noteBad(log, one)
      for (const { kind, body } of one.records) take(log, kind === 'removed', asBuffer(body))
    }
  }

  /** The last record of a log that is in use may be one that is being written. */
  #noteBad({ noted }: SeenLog, { bad }: NearFound): void {
    const places = bad.filter(({ from }) => !noted.has(from))
    const { bad: count, unreadable, unfinished, ids } = damageOf([places], 0)
    if (count + unfinished === 0) return
    // One that is only cut off may be whole the next time.
    for (const { from, isLast, isUnreadable } of places) if (!isLast || isUnreadable) noted.add(from)
    const before = this.#damage
    this.#damage = {
      ...{ bad: before.bad + count, unreadable: before.unreadable + unreadable, unfinished },
      ids: [...before.ids, ...ids].slice(-DAMAGED_IDS_MAX),
    }
  }
}

function take({ chunks }: SeenLog, isRemoved: boolean, body: Buffer): void {
  if (isRemoved) for (const id of idsIn(body)) chunks.delete(id)
  else {
    const chunk = keptOf(body)
    chunks.set(chunk.id, chunk)
  }
}
