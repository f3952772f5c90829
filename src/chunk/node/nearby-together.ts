/**
 * Small chunks for several nodes of this machine, written into the logs of all of them in one go: the disk works on all while the first
 * flush is waited for. What has come at once goes together.
 *
 * Invariants:
 * - A node is answered only when the record is on its disk, in a log of its own, flushed for itself.
 * - What cannot be done at once (another log is to be begun, the disk is slow, one of the nodes writes already, there is no room) is not
 *   done here at all: the caller asks each node by itself, which knows what to do.
 */
import { addTo } from '../../base/groups.js'
import type { InlineGate } from '../../base/inline-gate.js'
import type { PutRequest, StoredTogether, TogetherPut } from '../contract.js'
import type { JournalBatch } from './journal.js'
import type { LogWrite, WriteLogs } from './log-writes.js'
import { rankDisks } from './disk-choice.js'
import type { Nearby } from './nearby.js'
import { isForJournal, nearChunk, type NearChunk, type NearbyJournal } from './nearby-journal.js'

/** More that come at once are written in workers, and this thread can receive more meanwhile. */
const CHUNKS_MAX = 4

interface Waiting {
  readonly nodes: ReadonlyMap<string, NearbyJournal>
  readonly near: NearChunk
  readonly done: (stored: StoredTogether) => void
}

export interface TogetherOptions {
  /** Closed while the disk is slow. The journals have the same one. */
  readonly gate: InlineGate
  readonly write: WriteLogs
}

export class NearbyTogether implements TogetherPut {
  readonly #options: TogetherOptions
  readonly #nodes = new Map<string, Nearby>()
  #waiting: Waiting[] = []

  constructor(options: TogetherOptions) {
    this.#options = options
  }

  add(nearby: Nearby): void {
    this.#nodes.set(nearby.id, nearby)
  }

  isQuick(nodes: readonly string[], lengthBytes: number): boolean {
    return this.#options.gate.allows(lengthBytes) && nodes.every((node) => this.#isOpen(node))
  }

  /** Of nodes with several disks nobody writes logs here. */
  #isOpen(node: string): boolean {
    return this.#nodes.get(node)?.disks[0]?.journal?.isOpen === true
  }

  put(nodes: readonly string[], request: PutRequest, data: readonly Uint8Array[]): Promise<StoredTogether> | null {
    if (!isForJournal(request, data)) return null
    const journals = new Map<string, NearbyJournal>()
    for (const node of nodes) {
      const journal = this.#journalOf(node, request)
      if (journal === undefined) return null
      journals.set(node, journal)
    }
    const near = nearChunk(request, data)
    return new Promise((done) => {
      // When all that was read at once has come so far: sooner than in the next turn of the event loop.
      if (this.#waiting.push({ nodes: journals, near, done }) === 1) process.nextTick(() => this.#flush())
    })
  }

  #journalOf(node: string, { volume, id }: PutRequest): NearbyJournal | undefined {
    const nearby = this.#nodes.get(node)
    return nearby?.volume === volume ? rankDisks(id, nearby.disks)[0]?.journal : undefined
  }

  #flush(): void {
    const waiting = this.#waiting
    this.#waiting = []
    const stored = this.#stored(waiting)
    for (const { nodes, done } of waiting) {
      const having = [...nodes].filter(([, journal]) => stored.has(journal))
      const epoch = Math.max(0, ...having.map(([, journal]) => journal.epoch()))
      done({ stored: having.map(([node]) => node), epoch })
    }
  }

  /** The journals that have all that was for them. */
  #stored(waiting: readonly Waiting[]): ReadonlySet<NearbyJournal> {
    const stored = new Set<NearbyJournal>()
    const { gate } = this.#options
    const bytes = waiting.reduce((sum, { near }) => sum + near.body.lengthBytes, 0)
    if (!isApart(waiting) || !gate.allows(bytes)) return stored
    const batches: [NearbyJournal, JournalBatch][] = []
    for (const [journal, chunks] of byJournal(waiting)) {
      const batch = journal.begin(chunks)
      if (batch !== null) batches.push([journal, batch])
    }
    if (batches.length === 0) return stored
    const writes: LogWrite[] = batches.flatMap(([, batch]) => batch.writes)
    const failures = gate.run(() => this.#options.write(writes))
    let at = 0
    for (const [journal, batch] of batches) {
      const end = at + batch.writes.length
      const error = failures.slice(at, end).find((failure) => failure !== null) ?? null
      at = end
      batch.done(error)
      if (error === null) stored.add(journal)
    }
    return stored
  }
}

/** Few, and no chunk twice. */
function isApart(waiting: readonly Waiting[]): boolean {
  return waiting.length <= CHUNKS_MAX && new Set(waiting.map(({ near }) => near.chunk.id)).size === waiting.length
}

function byJournal(waiting: readonly Waiting[]): ReadonlyMap<NearbyJournal, NearChunk[]> {
  const found = new Map<NearbyJournal, NearChunk[]>()
  for (const { nodes, near } of waiting) for (const journal of nodes.values()) addTo(found, journal, near)
  return found
}
