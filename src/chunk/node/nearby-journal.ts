/**
 * Small chunks that must be on disk at once, written into the folder of a node on this machine without the node: three nodes
 * cost three writes and three flushes, and neither a message nor a wake-up. The logs are those of a journal (journal-file.ts)
 * in a place of their own; the node reads them (near-logs.ts) and makes the files.
 *
 * Invariants:
 * - One process writes these logs: the `up` that holds the lock of the data folder, and whose nodes they are.
 * - What put() took is on that node's disk, and the node, or the next one on that folder, finds it there from then on.
 * - A log is used again only when the node has said that its chunks have files, on disk.
 * - What the node does not know any more was removed; unless it has given up the disk: then it gets what lay here, and nothing is
 *   written here again.
 */
import type { Clock, Timer } from '../../base/clock.js'
import { RingfsError, hasCode, messageOf } from '../../base/errors.js'
import { SMALL_CHUNK_BYTES } from '../../base/limits.js'
import type { Log } from '../../base/log.js'
import type { CallOptions, ChunkNodeApi, PutRequest } from '../contract.js'
import { decodePrefix, encodePrefix } from '../format.js'
import { sumBytes } from '../hash.js'
import type { InlineGate } from '../../base/inline-gate.js'
import { compact } from '../jobs.js'
import type { WorkerPool } from '../pool.js'
import { Journal, type JournalBatch, type JournalChunk, type JournalEntry } from './journal.js'
import { JOURNAL_LOGS } from './journal-file.js'
import { JOURNAL_BYTES, paddedBody, type RecordBody } from './journal-format.js'
import { EpochReader } from './known-epoch.js'
import { LookAhead } from './look-ahead.js'
import { ChunkPaths } from './paths.js'
import { SpaceGauge } from './space.js'

/** In one question to the node, which makes as many files. */
const SETTLE_IDS_MAX = 500
const CALL: CallOptions = { deadlineMs: 30_000 }
const LOGS_BYTES = JOURNAL_LOGS * JOURNAL_BYTES
/** Logs take a tenth of a second, in which whoever wants one goes through the node: not for the first who does, nor for who only looks in. */
const LOGS_AFTER_MS = 1_000

export interface NearbyJournalOptions {
  /** The node's data folder. */
  readonly folder: string
  /** Id of the disk. */
  readonly disk: string
  /** Volume uuid. */
  readonly volume: string
  readonly pool: WorkerPool
  readonly clock: Clock
  readonly log: Log
  /** Whether the disk is quick: of all that are written together. */
  readonly gate?: InlineGate
  /** The node itself. May throw when its address is not known. */
  readonly node: () => ChunkNodeApi
}

export class NearbyJournal {
  readonly #options: NearbyJournalOptions
  readonly #journal: Journal
  readonly #paths: ChunkPaths
  readonly #ahead: LookAhead
  readonly #gauge: SpaceGauge
  readonly #epoch: EpochReader
  #isReady = false
  #isClosed = false
  #timer: Timer | undefined

  constructor(options: NearbyJournalOptions) {
    this.#options = options
    this.#paths = new ChunkPaths(options.folder)
    this.#ahead = new LookAhead(options.pool, this.#paths)
    this.#gauge = new SpaceGauge({ ...options, isInline: true })
    this.#epoch = new EpochReader(options.folder)
    this.#journal = new Journal({ ...options, place: 'near', settle: (ids) => this.#settle(ids) })
  }

  /**
   * The node makes files of what an earlier process left here. Until it has, and as long as it has no room for them, nothing is written; then
   * it is asked again and again.
   */
  async start(): Promise<void> {
    try {
      if (await this.#journal.load()) this.#begin()
      else void this.#journal.goOn().then(() => this.#begin())
    } catch (error) {
      this.#options.log.warn(
        { folder: this.#options.folder, err: messageOf(error) },
        'small chunks go through the node',
      )
    }
  }

  #begin(): void {
    // It may have been given up meanwhile.
    this.#isReady = !this.#isClosed && !this.#journal.isClosed
    this.#makeSoon()
  }

  #makeSoon(): void {
    if (this.#isClosed) return
    const { clock } = this.#options
    this.#timer = clock.after(LOGS_AFTER_MS, () => {
      // Where there is room for others' data behind them. Else when they are wanted.
      if (this.#isReady && this.#gauge.claimNow(LOGS_BYTES)) void this.#journal.make()
    })
    this.#timer.unref()
  }

  /** There is a log to write into. */
  get isOpen(): boolean {
    return this.#isReady && this.#journal.isOpen
  }

  /** The newest that the node knows; 0: it does not tell. Of what is written here to be read afterwards: known-epoch.ts. */
  epoch(): number {
    return this.#isClosed ? 0 : this.#epoch.read()
  }

  get(id: number): JournalChunk | undefined {
    return this.#journal.get(id)
  }

  /** true: it is on disk. false: the node is to do it. Errors: CHUNK_CONFLICT, ENOSPC, EIO. */
  async put(request: PutRequest, data: readonly Uint8Array[]): Promise<boolean> {
    const { id, root } = request
    if (!this.#isReady || !isForJournal(request, data)) return false
    const known = this.#journal.get(id)
    if (known !== undefined) {
      if (known.root.equals(root)) return true
      throw new RingfsError('CHUNK_CONFLICT', `chunk ${id} exists already with other contents`)
    }
    const { chunk } = nearChunk(request, data)
    await this.#gauge.claim(chunk.file.length)
    return await this.#journal.append(chunk, this.#paths.fileOf(id))
  }

  /**
   * As put() for each of them, in one go with what goes to other nodes: the caller writes it in this tick, and calls `done`. null: put() is to
   * do it.
   */
  begin(chunks: readonly NearChunk[]): JournalBatch | null {
    if (!this.#isReady || chunks.some(({ chunk }) => this.#journal.get(chunk.id) !== undefined)) return null
    const entries = chunks.map((one): JournalEntry => ({ ...one, path: this.#paths.fileOf(one.chunk.id) }))
    const batch = this.#journal.begin(entries)
    for (const { chunk } of chunks) this.#ahead.wrote(chunk.id)
    const bytes = chunks.reduce((sum, { chunk }) => sum + chunk.file.length, 0)
    return batch !== null && this.#gauge.claimNow(bytes) ? batch : null
  }

  /** What is here of them. The node is to be told, too. */
  async remove(ids: readonly number[]): Promise<void> {
    await this.#journal.remove(ids)
  }

  /** Every chunk that is here has a file afterwards. */
  async settle(): Promise<void> {
    await this.#journal.settleAll()
  }

  /** Nothing more is written, and no more files are asked for: what is here is on disk, and the next start finds it. */
  close(): void {
    this.#isClosed = true
    this.#isReady = false
    this.#timer?.close()
    this.#epoch.close()
  }

  /** The node makes the files. */
  async #settle(ids: readonly number[]): Promise<void> {
    for (let at = 0; at < ids.length; at += SETTLE_IDS_MAX) {
      if (this.#isClosed) throw new RingfsError('CANCELLED', 'the journal beside the node is closed')
      await this.#settleSome(ids.slice(at, at + SETTLE_IDS_MAX))
    }
  }

  /**
   * What the node does not know was removed; but only what it says twice, using this disk after each time: the disk may have failed just
   * before, and be back with the next start of the node. And but for what cannot be read in the logs any more: that is here, and given to it.
   */
  async #settleSome(ids: readonly number[]): Promise<void> {
    const { volume } = this.#options
    let asked = ids
    for (let times = 0; times < 2 && asked.length > 0; times++) {
      const ids = asked
      asked = (await this.#ask((node) => node.sync(volume, ids, CALL))).missing
      if (asked.length > 0 && (await this.#isDiskLost())) await this.#handOver()
    }
    if (asked.length > 0) await this.#giveDamaged(asked)
  }

  async #giveDamaged(ids: readonly number[]): Promise<void> {
    const readable = await this.#journal.onDisk()
    const damaged = ids.flatMap((id) => (readable.has(id) ? [] : (this.#journal.get(id) ?? [])))
    if (damaged.length === 0) return
    const { folder, log } = this.#options
    log.warn(
      { folder, chunks: damaged.map(({ id }) => id) },
      'what was written beside the node has gone bad: given to it',
    )
    for (const chunk of damaged) await this.#give(chunk)
  }

  async #isDiskLost(): Promise<boolean> {
    const { disks } = await this.#ask((node) => node.info(CALL))
    return !disks.includes(this.#options.disk)
  }

  /**
   * What is here goes to the node, which has other disks. Errors: what it says, then it is tried again; else CANCELLED, so that
   * the log is not marked.
   */
  async #handOver(): Promise<void> {
    const { folder, log } = this.#options
    this.#isReady = false
    log.warn({ folder }, 'the disk is not used by its node any more: what was written beside it goes to another')
    const done = new Set<number>()
    const next = (): JournalChunk | undefined => this.#journal.all().find(({ id }) => !done.has(id))
    for (let chunk = next(); chunk !== undefined; chunk = next()) {
      await this.#give(chunk)
      done.add(chunk.id)
    }
    // In the tick in which all that was taken is elsewhere: what is still being written is refused.
    this.#journal.close()
    throw new RingfsError('CANCELLED', `nothing is written to ${folder} any more`)
  }

  /**
   * The node stores it, as any other. Only while it is here: what is deleted from here is deleted from the node next, which may come before
   * its chunk.
   */
  async #give({ id, root, file }: JournalChunk): Promise<void> {
    const { volume } = this.#options
    if (this.#journal.get(id) === undefined) return
    const { header, leaves, dataOffset } = decodePrefix(file)
    const single = { sync: true, forward: [], copies: 1, absent: [] }
    const request = { volume, id, root, leaves, origin: header.origin, ...single }
    await this.#ask((node) => node.put(request, [file.subarray(dataOffset)], CALL))
    if (this.#journal.get(id) === undefined) await this.#ask((node) => node.remove(volume, [id], CALL))
  }

  /** A node that is ending says CANCELLED, which here is the end of this process: the next one is to be asked. */
  async #ask<T>(work: (node: ChunkNodeApi) => Promise<T>): Promise<T> {
    try {
      return await work(this.#options.node())
    } catch (error) {
      if (!hasCode(error, 'CANCELLED')) throw error
      throw new RingfsError('NODE_UNREACHABLE', messageOf(error), { cause: error })
    }
  }
}

/** Nothing else is to be done with it. */
export function isForJournal({ sync, forward, absent }: PutRequest, data: readonly Uint8Array[]): boolean {
  return sync && forward.length === 0 && absent.length === 0 && sumBytes(data) <= SMALL_CHUNK_BYTES
}

/** The same for all nodes that get it. */
export interface NearChunk {
  readonly chunk: JournalChunk
  readonly body: RecordBody
}

export function nearChunk({ volume, id, root, leaves, origin }: PutRequest, data: readonly Uint8Array[]): NearChunk {
  const lengthBytes = sumBytes(data)
  const prefix = encodePrefix({ volume, id, lengthBytes, root, origin }, leaves)
  const body = paddedBody([prefix, ...data])
  const layout = { lengthBytes, dataOffset: prefix.length, leaves: compact(leaves) }
  return { chunk: { id, root: Buffer.from(root), layout, file: body.padded.subarray(0, body.lengthBytes) }, body }
}
