/**
 * The way of notifications to the kernel. They are written by threads of the addon, since the kernel may make the writer
 * wait: for the lock of a directory, or of a page, whose holder waits for an answer of ours.
 *
 * Three lanes with threads of their own, so that one that waits never holds up a kind that cannot:
 *
 *   attr   never waits
 *   entry  waits while the directory is locked
 *   data   waits while pages of the file are being read or written
 *
 *   post --node not in use--> ready -> with a thread --> done     posted again meanwhile: once more from the start
 *        --in use--> parked --quiet--> ready
 *                           --patience over--> `overdue` has another way; else ready, if enough threads are left
 *                           --`written` waits for it--> the same
 *
 * When all threads wait in the kernel, what is ready goes by `overdue`, too: so directories that hang hold up no others. Where
 * there is no such way, some threads are kept for directories that are not in use.
 *
 * Who holds such a lock in this mount has a request here: parked until there is none, a notice does not wait in the kernel but
 * for requests that are not read yet. That matters when this process is killed: a thread that waits there dies only when
 * it gets the lock, and with it, until then, the whole mount hangs (native/notifier.c).
 *
 * Invariant: a notice that was posted is written once from its beginning after that, or `overdue` took it, or the mount is over.
 */
import type { Clock } from '../../base/clock.js'
import type { Log } from '../../base/log.js'
import { Metrics, type Timer } from '../../base/metrics.js'

export interface NotifierThreads {
  /** Bytes of one notification; `onDone(id, errno)` when it is written, 0 for success. */
  send(id: number, bytes: Buffer): void
  close(): void
}

export type StartThreads = (threads: number, onDone: (id: number, errno: number) => void) => NotifierThreads

export interface NotifierOptions {
  readonly start: StartThreads
  readonly clock: Clock
  readonly log: Log
  /** From when a notice is posted until it is written, by lane. */
  readonly metrics?: Metrics
  /** Whether a request that may hold a lock of this inode is, or was a moment ago, under way. */
  readonly isInUse: (node: number) => boolean
}

export type LaneName = 'attr' | 'entry' | 'data'

interface LaneSettings {
  readonly threads: number
  /** How long a notice whose node is in use is held back. */
  readonly patienceMs: number
}

const LANES: Readonly<Record<LaneName, LaneSettings>> = {
  attr: { threads: 1, patienceMs: 0 },
  entry: { threads: 4, patienceMs: 10 },
  // Reads look at the attributes first, which were told by then (kernel-cache.ts).
  data: { threads: 3, patienceMs: Infinity },
}
const PARKED_LOOK_MS = 1
/** Notices of a lane with its threads at once: the rest waits here, where the same one twice is one. */
const WINDOW = 256

/** Of the threads of a lane: for directories that are not in use. */
const SPARE_THREADS = 2
/** No thread came back for so long, and how often that is looked at. */
const CROWD_MS = 20
const CROWD_LOOK_MS = 10

const NEW = { state: 'ready', readyMs: 0, isPatient: false, isStale: false } as const

/** ENOENT: not cached. ENOTDIR: nor its directory. EBADF, ENODEV, ECONNABORTED, ENOTCONN: the mount is going or gone. */
const EXPECTED = new Set([2, 20, 9, 19, 103, 107])

export class Notifier {
  readonly #lanes: Readonly<Record<LaneName, Lane>>

  constructor(options: NotifierOptions) {
    const { metrics = new Metrics() } = options
    const lane = (name: LaneName): Lane => new Lane(options, LANES[name], metrics.timer('kernel', name))
    this.#lanes = { attr: lane('attr'), entry: lane('entry'), data: lane('data') }
  }

  /**
   * `bytes` are always the same for one `key` of a lane. `onDone`: with 0 or an errno, unless the mount ends. Of several posts that became one
   * each is told.
   */
  post(lane: LaneName, key: number | string, node: number, bytes: Buffer, onDone?: (errno: number) => void): void {
    this.#lanes[lane].post(key, node, bytes, onDone)
  }

  isSettled(lane: LaneName, key: number | string): boolean {
    return !this.#lanes[lane].has(key)
  }

  /**
   * Resolves when what was posted under the key is written; false: it is held back, and will be written when its inode is
   * not in use any more.
   */
  settled(lane: LaneName, key: number | string): Promise<boolean> {
    return this.#lanes[lane].settled(key)
  }

  /** Resolves when what was posted under the key is written, also where its inode is in use: then a thread waits for that. */
  written(lane: LaneName, key: number | string): Promise<void> {
    return this.#lanes[lane].written(key)
  }

  /** No request holds the node just now. */
  free(node: number): void {
    this.#lanes.entry.free(node)
    this.#lanes.data.free(node)
  }

  /** What to do instead of letting a thread wait for a directory that is in use all the time; false: let it wait. */
  set overdue(overdue: () => boolean) {
    this.#lanes.entry.overdue = overdue
  }

  close(): void {
    for (const lane of Object.values(this.#lanes)) lane.close()
  }
}

interface Notice {
  readonly key: number | string
  readonly node: number
  readonly bytes: Buffer
  readonly sinceMs: number
  state: 'parked' | 'ready' | 'sent'
  /** When it became ready, on the monotonic clock. */
  readyMs: number
  /** Its directory was in use when it became ready. */
  isPatient: boolean
  /** Posted again while a thread had it. */
  isStale: boolean
  /** Told whether it is written; else it is held back. */
  readonly waiting: ((isWritten: boolean) => void)[]
  /** Of those who wait whatever it takes. */
  readonly pressing: Pressing[]
  /** Of everybody who posted it. */
  readonly onDone: ((errno: number) => void)[]
}

interface Pressing {
  /** How many times it is to be written until then. */
  writes: number
  readonly resolve: () => void
}

class Lane {
  readonly #options: NotifierOptions
  readonly #patienceMs: number
  readonly #timer: Timer
  readonly #threads: NotifierThreads
  readonly #threadCount: number
  readonly #notices = new Map<number | string, Notice>()
  /** Since when, on the monotonic clock. */
  readonly #parked = new Map<Notice, number>()
  overdue: () => boolean = () => false
  readonly #ready = new Set<Notice>()
  /** Given to threads; null: `overdue` took it meanwhile. */
  readonly #sent = new Map<number, Notice | null>()
  /** Those ready or sent whose directory was in use. */
  #patient = 0
  #lastDoneMs = -Infinity
  #isWatchingCrowd = false
  #nextId = 1
  #isClosed = false

  constructor(options: NotifierOptions, { threads, patienceMs }: LaneSettings, timer: Timer) {
    this.#options = options
    this.#timer = timer
    this.#patienceMs = patienceMs
    this.#threadCount = threads
    this.#threads = options.start(threads, (id, errno) => {
      this.#done(id, errno)
    })
  }

  has(key: number | string): boolean {
    return this.#notices.has(key)
  }

  post(key: number | string, node: number, bytes: Buffer, onDone?: (errno: number) => void): void {
    if (this.#isClosed) return
    const told = onDone === undefined ? [] : [onDone]
    const known = this.#notices.get(key)
    if (known === undefined) {
      const sinceMs = this.#options.clock.monotonicMs()
      const notice: Notice = { key, node, bytes, sinceMs, ...NEW, waiting: [], pressing: [], onDone: told }
      this.#notices.set(key, notice)
      this.#route(notice)
      return
    }
    known.onDone.push(...told)
    if (known.state === 'sent') known.isStale = true
  }

  async settled(key: number | string): Promise<boolean> {
    const notice = this.#notices.get(key)
    if (notice === undefined) return true
    if (notice.state === 'parked') return false
    return await new Promise<boolean>((resolve) => notice.waiting.push(resolve))
  }

  async written(key: number | string): Promise<void> {
    const notice = this.#notices.get(key)
    if (notice === undefined) return
    const writes = notice.state === 'sent' && notice.isStale ? 2 : 1
    const done = new Promise<void>((resolve) => notice.pressing.push({ writes, resolve }))
    const sinceMs = this.#parked.get(notice)
    if (sinceMs !== undefined) this.#look(notice, sinceMs)
    await done
  }

  free(node: number): void {
    for (const [notice, sinceMs] of this.#parked) if (notice.node === node) this.#look(notice, sinceMs)
  }

  close(): void {
    this.#isClosed = true
    this.#threads.close()
    for (const { waiting, pressing } of this.#notices.values()) {
      for (const resolve of waiting) resolve(true)
      for (const { resolve } of pressing) resolve()
    }
    this.#notices.clear()
    this.#parked.clear()
    this.#ready.clear()
    this.#sent.clear()
  }

  #route(notice: Notice): void {
    if (this.#patienceMs === 0 || !this.#options.isInUse(notice.node)) {
      this.#makeReady(notice)
      return
    }
    notice.state = 'parked'
    this.#parked.set(notice, this.#options.clock.monotonicMs())
    if (this.#parked.size === 1) void this.#watchParked()
    // Whoever waits for it is not kept waiting for others.
    for (const resolve of notice.waiting.splice(0)) resolve(false)
  }

  async #watchParked(): Promise<void> {
    while (this.#parked.size > 0) {
      await this.#options.clock.sleep(PARKED_LOOK_MS)
      for (const [notice, sinceMs] of this.#parked) this.#look(notice, sinceMs)
    }
  }

  #look(notice: Notice, sinceMs: number): void {
    const isOverdue = notice.pressing.length > 0 || this.#options.clock.monotonicMs() - sinceMs >= this.#patienceMs
    if (!isOverdue && this.#options.isInUse(notice.node)) return
    if (isOverdue && this.overdue()) {
      this.#parked.delete(notice)
      this.#end(notice, 0)
      return
    }
    const isInUse = isOverdue && this.#options.isInUse(notice.node)
    if (isInUse && this.#patient >= this.#threadCount - SPARE_THREADS) return
    this.#parked.delete(notice)
    notice.isPatient = isInUse
    if (isInUse) this.#patient++
    this.#makeReady(notice)
  }

  #makeReady(notice: Notice): void {
    if (this.#isClosed) return
    notice.state = 'ready'
    notice.readyMs = this.#options.clock.monotonicMs()
    this.#ready.add(notice)
    this.#pump()
    if (Number.isFinite(this.#patienceMs) && this.#isCrowded && !this.#isWatchingCrowd) void this.#watchCrowd()
  }

  /** Some wait for a thread. */
  get #isCrowded(): boolean {
    return this.#ready.size + this.#sent.size > this.#threadCount
  }

  async #watchCrowd(): Promise<void> {
    this.#isWatchingCrowd = true
    do {
      await this.#options.clock.sleep(CROWD_LOOK_MS)
      this.#coverStuck()
    } while (this.#isCrowded && (this.#ready.size > 0 || [...this.#sent.values()].some((notice) => notice !== null)))
    this.#isWatchingCrowd = false
  }

  /** All threads wait in the kernel: what they have, and what waits for them, goes another way. Written late it does no harm. */
  #coverStuck(): void {
    const beforeMs = this.#options.clock.monotonicMs() - CROWD_MS
    if (this.#lastDoneMs > beforeMs) return
    const isLate = [...this.#sent.values()].some((notice) => notice !== null && notice.readyMs <= beforeMs)
    if (!isLate || !this.overdue()) return
    for (const [id, notice] of this.#sent) {
      if (notice !== null) this.#end(notice, 0)
      this.#sent.set(id, null)
    }
    for (const notice of this.#ready) this.#end(notice, 0)
    this.#ready.clear()
  }

  #pump(): void {
    for (const notice of this.#ready) {
      if (this.#sent.size >= WINDOW) return
      this.#ready.delete(notice)
      notice.state = 'sent'
      notice.isStale = false
      const id = this.#nextId++
      this.#sent.set(id, notice)
      this.#threads.send(id, notice.bytes)
    }
  }

  #done(id: number, errno: number): void {
    const notice = this.#sent.get(id)
    if (!this.#sent.delete(id)) return
    this.#lastDoneMs = this.#options.clock.monotonicMs()
    if (notice !== null && notice !== undefined) this.#written(notice, errno)
    this.#pump()
  }

  #written(notice: Notice, errno: number): void {
    if (errno !== 0 && !EXPECTED.has(errno)) this.#options.log.warn({ errno }, 'the kernel refused a notification')
    if (!notice.isStale) {
      this.#end(notice, errno)
      return
    }
    for (const one of notice.pressing.splice(0)) {
      if (--one.writes > 0) notice.pressing.push(one)
      else one.resolve()
    }
    if (notice.isPatient) this.#patient--
    notice.isPatient = false
    this.#route(notice)
  }

  #end(notice: Notice, errno: number): void {
    if (notice.isPatient) this.#patient--
    this.#notices.delete(notice.key)
    this.#timer.record(this.#options.clock.monotonicMs() - notice.sinceMs)
    for (const tell of notice.onDone) tell(errno)
    for (const resolve of notice.waiting) resolve(true)
    for (const { resolve } of notice.pressing) resolve()
  }
}
