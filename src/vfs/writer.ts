/**
 * Everything written to one file by this process and not yet in the store.
 *
 *   write -> active batches (one a window, or one of appended data)
 *         -> sealed: in the queue, uploading, several at once
 *         -> head of the queue: committed, in the order of sealing -> gone
 *
 * Invariants:
 * - Commits happen in queue order, so of two writes to the same byte the later wins; a barrier (truncate, a change of
 *   times, flush) runs after all that was queued before it and before all that is queued after.
 * - Appended and positional data are never active together: the older kind is sealed first.
 * - When a batch fails for good, it and everything written to the file until then that is not committed is dropped
 *   together, and counted as one failure: what is in the store is a prefix of what was queued, never a later write
 *   without an earlier one.
 * - A batch is shown to readers from the first write on until, in one tick, its commit is in the caches.
 */
import { Budget } from '../base/budget.js'
import { compareTime, type Clock, type TimeSpec } from '../base/clock.js'
import { WINDOW_BYTES } from '../base/limits.js'
import type { PosixError } from '../base/errno.js'
import { messageOf } from '../base/errors.js'
import type { Log } from '../base/log.js'
import { ORIGIN_EXTENTS_MAX, type ChunkRef } from '../chunk/contract.js'
import type { Attr, AttrChange } from '../meta/contract.js'
import type { Committer } from './committer.js'
import { Batch, sizeAfter, type DirtyView, type WriteInfo } from './dirty-map.js'
import { toLoss } from './failures.js'
import { IntervalMap } from './interval-map.js'
import type { VfsLimits } from './limits.js'
import type { DirtyMemory } from './memory.js'
import type { Uploader } from './uploader.js'
import { isAppend, isInline, type Barrier, type QueuedBatch, type UploadResult } from './write-queue.js'

export interface WriterDeps {
  readonly clock: Clock
  readonly log: Log
  readonly limits: VfsLimits
  readonly chunkBytes: number
  readonly memory: DirtyMemory
  readonly uploader: Uploader
  readonly committer: Committer
  /** What was written and shown is not what the file has. */
  readonly onLost: (ino: number) => void
}

/** Key of the active batch of appended data; windows count from 0. */
const APPEND = -1
const NO_TIME: TimeSpec = { sec: Number.MIN_SAFE_INTEGER, nsec: 0 }

export class InodeWriter {
  readonly ino: number
  readonly #deps: WriterDeps
  readonly #room: Budget
  readonly #uploads: Budget
  /** By window, in the order of their first write; APPEND for appended data. */
  readonly #active = new Map<number, Batch>()
  #queue: (QueuedBatch | Barrier)[] = []
  #draining = false
  /** The last batch was sealed because it was full: the next will be, too. */
  #hot = false
  #mtimeFloor: TimeSpec = NO_TIME
  #failures = 0
  #failure: PosixError | null = null
  /** Up to which failure somebody was told. */
  #seen = 0

  constructor(ino: number, deps: WriterDeps) {
    this.ino = ino
    this.#deps = deps
    this.#room = new Budget(deps.limits.dirtyInodeBytes, () => this.#sealAll())
    this.#uploads = new Budget(deps.limits.uploadsPerInode)
  }

  /** Nothing written, nothing under way. */
  get isIdle(): boolean {
    return this.#active.size === 0 && this.#queue.length === 0 && this.#room.used === 0
  }

  get isDirty(): boolean {
    return this.#active.size > 0 || this.#queue.length > 0
  }

  get hasAppends(): boolean {
    return this.#active.has(APPEND) || this.#queue.some(isAppend)
  }

  /** How many times writing failed for good, and how the last time. */
  get failures(): number {
    return this.#failures
  }

  get failure(): PosixError | null {
    return this.#failure
  }

  /** Nobody was told of the last failure. */
  get isUnseen(): boolean {
    return this.#seen !== this.#failures
  }

  seen(): void {
    this.#seen = this.#failures
  }

  /** Takes bytes at their place. Resolves when they are copied; waits only for room. */
  async write(offset: number, data: Uint8Array, info: WriteInfo): Promise<void> {
    for (let done = 0; done < data.length;) {
      const start = offset + done
      const window = Math.floor(start / WINDOW_BYTES)
      const length = Math.min((window + 1) * WINDOW_BYTES - start, this.#deps.chunkBytes)
      done += await this.#take(window, start, data.subarray(done, done + length), info)
    }
  }

  /** As write, in this tick: false, and nothing was taken, unless they fit into one batch and there is room for them. */
  writeNow(offset: number, data: Uint8Array, info: WriteInfo): boolean {
    const window = Math.floor(offset / WINDOW_BYTES)
    if (this.#active.get(window)?.putBehind(offset, data, info) === true) return true
    if (data.length > this.#deps.chunkBytes || offset + data.length > (window + 1) * WINDOW_BYTES) return false
    const known = this.#active.get(window)
    if (known !== undefined && known.takeable(offset, data.length) < data.length) return false
    return this.#takeNow(window, offset, data, info, 0) > 0
  }

  /** Takes bytes for the end of the file, wherever that is at their commit; up to a chunk they stay whole. */
  async append(data: Uint8Array, info: WriteInfo): Promise<void> {
    for (let done = 0; done < data.length;) {
      done += await this.#take(APPEND, 0, data.subarray(done, done + this.#deps.chunkBytes), info)
    }
  }

  /** Sends a batch on its way. */
  seal(batch: Batch): void {
    this.#enqueue(batch)
    void this.#drain()
  }

  #enqueue(batch: Batch): void {
    const key = batch.mode === 'append' ? APPEND : batch.window
    if (this.#active.get(key) !== batch) return
    if (batch.isEmpty) return this.#dropActive(key, batch)
    this.#active.delete(key)
    this.#hot = batch.isFull
    this.#deps.memory.sealed(batch)
    batch.seal()
    const entry: QueuedBatch = {
      kind: 'batch',
      batch,
      sync: false,
      dropped: false,
      committing: false,
      abandoned: false,
      // Behind one that becomes extents it would be refused.
      inline: this.#queue.every(isInline) && this.#deps.committer.fitsInline(this.ino, batch),
      uploaded: Promise.resolve({}),
      result: undefined,
    }
    this.#queue.push(entry)
    if (entry.inline) entry.result = {}
    else entry.uploaded = this.#upload(entry)
  }

  /** Resolves when everything written until now is committed or given up. `sync`: and what was not sent yet, on disk. */
  async flush(sync = false): Promise<void> {
    if (!this.isDirty) return
    this.#sealAll()
    if (sync) for (const entry of this.#queue) if (entry.kind === 'batch') entry.sync = true
    await this.barrier(() => Promise.resolve())
  }

  /**
   * Runs a change of the inode between what was written before and what is written from now on. Also what the change cuts
   * away is committed before: it may fail.
   */
  barrier<T>(run: () => Promise<T>): Promise<T> {
    this.#sealAll()
    return new Promise<T>((resolve, reject) => {
      this.#queue.push({ kind: 'barrier', run: () => run().then(resolve, reject), isDone: false })
      void this.#drain()
    })
  }

  /** A barrier that changes attributes, but not the size: one change together with the commit just before it, if that can be. */
  changeAttributes(attributes: AttrChange, run: () => Promise<Attr>): Promise<Attr> {
    return new Promise<Attr>((resolve, reject) => {
      const merges = { attributes, told: resolve }
      const barrier: Barrier = { kind: 'barrier', run: () => run().then(resolve, reject), merges, isDone: false }
      for (const batch of [...this.#active.values()]) this.#enqueue(batch)
      // There before the commit of these begins.
      this.#queue.push(barrier)
      void this.#drain()
    })
  }

  /** The next commit may set an earlier mtime than the last: the times were set from outside. */
  forgetTimes(): void {
    this.#mtimeFloor = NO_TIME
  }

  /** What is not on its way into the store must not get there any more. Reported as a failure, if there was anything. */
  abandon(failure: PosixError): void {
    if (this.isDirty) this.lost(failure)
  }

  /** The same, also if it is the store that has lost what it had taken, and nothing was to follow it. */
  lost(failure: PosixError): void {
    this.#failures++
    this.#failure = failure
    this.#deps.log.error({ ino: this.ino, error: failure.message }, 'written data was given up')
    for (const entry of [...this.#queue]) {
      if (entry.kind !== 'batch') continue
      entry.abandoned = true
      if (!entry.committing) this.#drop(entry)
    }
    for (const [key, batch] of [...this.#active]) this.#dropActive(key, batch)
    this.#deps.onLost(this.ino)
  }

  /** Copies the positional bytes of [start, end) to `target`, oldest first, and tells of each where it lies. */
  overlay(start: number, end: number, target: Buffer, onCovered: (start: number, end: number) => void): void {
    for (const batch of this.#batches()) {
      if (batch.mode === 'append') continue
      for (const piece of batch.overlapping(start, end)) {
        piece.value.copy(target, piece.start - start, piece.at, piece.at + piece.end - piece.start)
        onCovered(piece.start, piece.end)
      }
    }
  }

  /** Where positional bytes lie, from `start` on. */
  covered(start: number): IntervalMap<true> {
    const ranges = new IntervalMap<true>()
    for (const batch of this.#batches()) {
      if (batch.mode === 'append') continue
      for (const piece of batch.overlapping(start, Number.MAX_SAFE_INTEGER)) {
        ranges.set(piece.start, piece.end, true, piece.start)
      }
    }
    return ranges
  }

  /** End of the positional bytes. */
  get positionalEnd(): number {
    let end = 0
    for (const batch of this.#batches()) if (batch.mode === 'at') end = Math.max(end, batch.end)
    return end
  }

  /** What getattr must add to the store's attributes; null when there is nothing. */
  view(): DirtyView | null {
    // A copy of the moment: a batch is emptied when it is committed, and who holds the view may still wait for the store.
    const batches = [...this.#batches()].map(({ mode, end, mtime, usedBytes }) => ({ mode, end, mtime, usedBytes }))
    if (batches.length === 0) return null
    return {
      mtime: batches.reduce((time, { mtime }) => (compareTime(mtime, time) > 0 ? mtime : time), this.#mtimeFloor),
      bytes: batches.reduce((sum, { usedBytes }) => sum + usedBytes, 0),
      sizeOver: (size) => batches.reduce(sizeAfter, size),
    }
  }

  *#batches(): Generator<Batch> {
    for (const entry of this.#queue) if (entry.kind === 'batch') yield entry.batch
    yield* this.#active.values()
  }

  /** Copies bytes from the front of `data`, at most a chunk long, into a batch; answers how many. */
  async #take(key: number, start: number, data: Uint8Array, info: WriteInfo): Promise<number> {
    const taken = this.#takeNow(key, start, data, info, 0)
    if (taken > 0) return taken
    await this.#waitForRoom(data.length)
    // Whatever batch is active by now: no more than the data itself is ever needed.
    return this.#takeNow(key, start, data, info, data.length)
  }

  /** As #take, with so much room that was waited for. 0: there is too little, and nothing was done. */
  #takeNow(key: number, start: number, data: Uint8Array, info: WriteInfo, waitedFor: number): number {
    let granted = waitedFor
    for (;;) {
      const batch = this.#batchFor(key)
      const at = key === APPEND ? batch.end : start
      const fits = batch.takeable(at, data.length)
      if (fits === 0 || (key === APPEND && fits < data.length)) {
        this.seal(batch)
        continue
      }
      const { min, want } = batch.blockNeed(at, fits)
      if (min > 0 && granted === 0) granted = this.#tryRoom(want) || this.#tryRoom(min)
      if (min > granted) return 0
      if (min > 0) granted -= batch.addBlock(granted)
      if (granted > 0) this.#giveRoom(granted)
      batch.put(at, data.subarray(0, fits), info)
      if (batch.isFull) this.seal(batch)
      return fits
    }
  }

  #tryRoom(bytes: number): number {
    if (!this.#room.tryTake(bytes)) return 0
    if (this.#deps.memory.budget.tryTake(bytes)) return bytes
    this.#room.give(bytes)
    return 0
  }

  async #waitForRoom(bytes: number): Promise<void> {
    await this.#room.take(bytes)
    await this.#deps.memory.budget.take(bytes)
  }

  #giveRoom(bytes: number): void {
    this.#room.give(bytes)
    this.#deps.memory.budget.give(bytes)
  }

  /** The active batch for a window or for appended data; the other kind is sealed first, to keep the order. */
  #batchFor(key: number): Batch {
    for (const [other, batch] of this.#active) if ((other === APPEND) !== (key === APPEND)) this.seal(batch)
    const known = this.#active.get(key)
    if (known !== undefined) return known
    const { clock, chunkBytes, memory } = this.#deps
    const batch = new Batch({
      mode: key === APPEND ? 'append' : 'at',
      window: Math.max(0, key),
      capacityBytes: chunkBytes,
      maxExtents: ORIGIN_EXTENTS_MAX,
      bornMs: clock.monotonicMs(),
      hot: this.#hot,
      blocks: memory.blocks,
    })
    this.#active.set(key, batch)
    memory.activated(batch, this)
    return batch
  }

  #sealAll(): void {
    for (const batch of [...this.#active.values()]) this.seal(batch)
  }

  async #upload(entry: QueuedBatch): Promise<UploadResult> {
    const { batch } = entry
    const { data } = batch.seal()
    entry.result = await this.#uploads
      .with(() =>
        this.#deps.uploader.upload({
          ino: this.ino,
          data,
          extents: batch.extents,
          ...(batch.mode === 'append' ? { appendsAt: this.#endBefore(entry) } : {}),
          durability: batch.durability,
          wantSync: () => entry.sync,
          isCancelled: () => entry.dropped,
        }),
      )
      .then((chunk): UploadResult => (chunk === null ? {} : { chunk }))
      .catch((error: unknown): UploadResult => ({ error }))
    if (!this.#queue.includes(entry)) this.#release(batch)
    return entry.result
  }

  /** Where the end of the file will be when it is this one's turn, if nobody else writes. */
  #endBefore(entry: QueuedBatch): number {
    const before = this.#queue.slice(0, this.#queue.indexOf(entry))
    const size = this.#deps.committer.sizeOf(this.ino)
    return before.reduce((end, one) => (one.kind === 'barrier' ? end : sizeAfter(end, one.batch)), size)
  }

  async #drain(): Promise<void> {
    if (this.#draining) return
    this.#draining = true
    for (let head = this.#queue[0]; head !== undefined; head = this.#queue[0]) {
      if (head.kind === 'batch') {
        // Whatever goes wrong, the queue goes on: a failure drops every batch in it.
        await this.#commitFrom(head).catch((error: unknown) => this.#fail(error))
      } else {
        if (!head.isDone) await head.run()
        this.#queue.shift()
      }
    }
    this.#draining = false
  }

  async #commitFrom(head: QueuedBatch): Promise<void> {
    if (head.inline) {
      if ((await this.#commitInline(head)) || head.dropped) return
      if (head.abandoned) {
        this.#drop(head)
        return
      }
      head.inline = false
      head.result = undefined
      head.uploaded = this.#upload(head)
    }
    const { chunk, error } = await head.uploaded
    if (head.dropped) return
    if (chunk === undefined) {
      this.#fail(error)
      return
    }
    const group = this.#group(head, chunk)
    for (const { entry } of group) entry.committing = true
    try {
      this.#mtimeFloor = (await this.#commit(group)) ?? this.#mtimeFloor
      for (const { entry } of group) this.#leave(entry)
    } catch (failure) {
      // Whether the store has the extents is not always known: their chunks stay.
      for (const { entry } of group) this.#leave(entry)
      this.#fail(failure)
    }
  }

  /** false: the store wants a chunk of it. */
  async #commitInline(entry: QueuedBatch): Promise<boolean> {
    entry.committing = true
    const next = this.#queue[this.#queue.indexOf(entry) + 1]
    const behind = next?.kind === 'barrier' ? next : undefined
    const { attributes, told } = behind?.merges ?? {}
    try {
      const done = await this.#deps.committer.commitInline(this.ino, entry.batch, this.#mtimeFloor, attributes)
      if (done === null) return false
      this.#mtimeFloor = done.attr.mtime
      // Left alone, they are changed when it is the barrier's turn.
      if (behind !== undefined && told !== undefined && done.isMerged) {
        behind.isDone = true
        this.forgetTimes()
        told(done.attr)
      }
      this.#leave(entry)
    } catch (failure) {
      this.#leave(entry)
      this.#fail(failure)
    } finally {
      entry.committing = false
    }
    return true
  }

  /** The head and what follows it into the same window and is uploaded already: one commit. */
  #group(head: QueuedBatch, chunk: ChunkRef): { entry: QueuedBatch; batch: Batch; chunk: ChunkRef }[] {
    const group = [{ entry: head, batch: head.batch, chunk }]
    let extents = head.batch.extents.length
    for (const entry of head.batch.mode === 'at' ? this.#queue.slice(1) : []) {
      if (entry.kind !== 'batch' || entry.batch.mode !== 'at' || entry.batch.window !== head.batch.window) break
      extents += entry.batch.extents.length
      if (entry.result?.chunk === undefined || extents > ORIGIN_EXTENTS_MAX) break
      group.push({ entry, batch: entry.batch, chunk: entry.result.chunk })
    }
    return group
  }

  /** null: it was given up meanwhile, and nothing was done. */
  async #commit(group: readonly { entry: QueuedBatch; batch: Batch; chunk: ChunkRef }[]): Promise<TimeSpec | null> {
    const { committer } = this.#deps
    const [first] = group
    if (first?.batch.mode !== 'append') return committer.commitAt(this.ino, group, this.#mtimeFloor)
    return committer.commitAppend(this.ino, first, this.#mtimeFloor, () => first.entry.abandoned)
  }

  /** Writing failed for good: everything that is not committed goes. Barriers stay: they are no data. */
  #fail(error: unknown): void {
    this.#failures++
    this.#failure = toLoss(error)
    this.#deps.log.error({ ino: this.ino, error: messageOf(error) }, 'written data was lost')
    for (const entry of [...this.#queue]) if (entry.kind === 'batch') this.#drop(entry)
    for (const [key, batch] of [...this.#active]) this.#dropActive(key, batch)
    this.#deps.onLost(this.ino)
  }

  #dropActive(key: number, batch: Batch): void {
    this.#active.delete(key)
    this.#release(batch)
  }

  #drop(entry: QueuedBatch): void {
    entry.dropped = true
    if (entry.result?.chunk !== undefined) this.#deps.uploader.discard([entry.result.chunk.id])
    this.#leave(entry)
  }

  /** Out of the queue; the memory goes back when no upload reads it. */
  #leave(entry: QueuedBatch): void {
    this.#queue = this.#queue.filter((other) => other !== entry)
    if (entry.result !== undefined) this.#release(entry.batch)
  }

  #release(batch: Batch): void {
    const bytes = batch.allocatedBytes
    this.#deps.memory.released(batch)
    this.#room.give(bytes)
  }
}
