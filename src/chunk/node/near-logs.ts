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
 * - Looks come one after the other: each goes on from where the one before it has ended.
 * - A disk that shares its node with others is looked at in a thread: it may hang.
 */
import { asBuffer } from '../jobs.js'
import type { Job, WorkerPool } from '../pool.js'
import type { JournalChunk } from './journal.js'
import { JOURNAL_LOGS, JOURNAL_START, idsIn, logFile } from './journal-file.js'
import { keptOf } from './kept.js'
import { lookNear, type NearFound, type NearPosition } from './near-look.js'

const LOOK_JOB: Job<readonly NearPosition[], readonly (NearFound | null)[]> = { file: 'disk', name: 'lookNear' }

interface SeenLog {
  readonly file: string
  generation: number
  position: number
  readonly chunks: Map<number, JournalChunk>
}

export class NearLogs {
  readonly #logs: readonly SeenLog[]
  readonly #pool: WorkerPool
  readonly #isInline: boolean
  /** In a thread. Never rejects. */
  #looking: Promise<unknown> | null = null
  /** The look after that. */
  #next: Promise<void> | null = null

  /** `isInline`: the calling thread looks. */
  constructor(folder: string, { pool, isInline }: { readonly pool: WorkerPool; readonly isInline: boolean }) {
    this.#pool = pool
    this.#isInline = isInline
    this.#logs = Array.from({ length: JOURNAL_LOGS }, (_, log) => {
      const file = logFile(folder, log, 'near')
      return { file, generation: 0, position: JOURNAL_START, chunks: new Map<number, JournalChunk>() }
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

  /** By a look that begins after the call. Errors: what the disk says, but that there is no such log. */
  async refresh(): Promise<void> {
    if (this.#isInline) this.#apply(lookNear(this.#positions))
    else await (this.#next ??= this.#lookNext())
  }

  /** As far as the last look. */
  known(id: number): JournalChunk | undefined {
    for (const { chunks } of this.#logs) {
      const found = chunks.get(id)
      if (found !== undefined) return found
    }
    return undefined
  }

  get #positions(): readonly NearPosition[] {
    return this.#logs.map(({ file, generation, position }) => ({ file, generation, position }))
  }

  async #lookNext(): Promise<void> {
    await this.#looking
    this.#next = null
    const look = this.#pool.run(LOOK_JOB, this.#positions)
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
      if (one.isOther) log.chunks.clear()
      Object.assign(log, { generation: one.generation, position: one.position })
      for (const { kind, body } of one.records) take(log, kind === 'removed', asBuffer(body))
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
