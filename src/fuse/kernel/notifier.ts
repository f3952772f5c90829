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
 *        --in use--> parked --node free, or patience over--> ready
 *
 * Parking is no more than politeness: whoever holds such a lock in this mount has a request here, so that mostly no thread
 * ever waits. (Requests that are not read yet can still get in between.) A thread that waits would not even die with the
 * process: native/notifier.c.
 *
 * Invariant: a notice that was posted is written once from its beginning after that, unless the mount is over.
 */
import type { Clock } from '../../base/clock.js'
import type { Log } from '../../base/log.js'

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
  /** Whether a request that may hold a lock of this inode is under way. */
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
  data: { threads: 3, patienceMs: 100 },
}
/** Notices of a lane with its threads at once: the rest waits here, where the same one twice is one. */
const WINDOW = 256

/** ENOENT: not cached. ENOTDIR: nor its directory. EBADF, ENODEV, ECONNABORTED, ENOTCONN: the mount is going or gone. */
const EXPECTED = new Set([2, 20, 9, 19, 103, 107])

export class Notifier {
  readonly #lanes: Readonly<Record<LaneName, Lane>>

  constructor(options: NotifierOptions) {
    this.#lanes = {
      attr: new Lane(options, LANES.attr),
      entry: new Lane(options, LANES.entry),
      data: new Lane(options, LANES.data),
    }
  }

  /** `bytes` are always the same for one `key` of a lane. `onDone`: with 0 or an errno, unless the mount ends. */
  post(lane: LaneName, key: number | string, node: number, bytes: Buffer, onDone?: (errno: number) => void): void {
    this.#lanes[lane].post(key, node, bytes, onDone)
  }

  isSettled(lane: LaneName, key: number | string): boolean {
    return !this.#lanes[lane].has(key)
  }

  /** Resolves when what was posted under the key is written. It is not held back any more: somebody waits. */
  settled(lane: LaneName, key: number | string): Promise<void> {
    return this.#lanes[lane].settled(key)
  }

  /** No request holds the node any more. */
  free(node: number): void {
    this.#lanes.entry.free(node)
    this.#lanes.data.free(node)
  }

  close(): void {
    for (const lane of Object.values(this.#lanes)) lane.close()
  }
}

interface Notice {
  readonly key: number | string
  readonly node: number
  readonly bytes: Buffer
  state: 'parked' | 'ready' | 'sent'
  /** Posted again while a thread had it. */
  isStale: boolean
  readonly waiting: (() => void)[]
  onDone: (errno: number) => void
}

class Lane {
  readonly #options: NotifierOptions
  readonly #patienceMs: number
  readonly #threads: NotifierThreads
  readonly #notices = new Map<number | string, Notice>()
  readonly #parked = new Map<number, Set<Notice>>()
  readonly #ready = new Set<Notice>()
  readonly #sent = new Map<number, Notice>()
  #nextId = 1
  #isClosed = false

  constructor(options: NotifierOptions, { threads, patienceMs }: LaneSettings) {
    this.#options = options
    this.#patienceMs = patienceMs
    this.#threads = options.start(threads, (id, errno) => {
      this.#done(id, errno)
    })
  }

  has(key: number | string): boolean {
    return this.#notices.has(key)
  }

  post(key: number | string, node: number, bytes: Buffer, onDone: (errno: number) => void = () => undefined): void {
    if (this.#isClosed) return
    const known = this.#notices.get(key)
    if (known === undefined) {
      const notice: Notice = { key, node, bytes, state: 'ready', isStale: false, waiting: [], onDone }
      this.#notices.set(key, notice)
      this.#route(notice)
      return
    }
    known.onDone = onDone
    if (known.state === 'sent') known.isStale = true
  }

  async settled(key: number | string): Promise<void> {
    const notice = this.#notices.get(key)
    if (notice === undefined) return
    const done = new Promise<void>((resolve) => notice.waiting.push(resolve))
    if (notice.state === 'parked') this.#unpark(notice)
    await done
  }

  free(node: number): void {
    for (const notice of this.#parked.get(node) ?? []) this.#unpark(notice)
  }

  close(): void {
    this.#isClosed = true
    this.#threads.close()
    for (const notice of this.#notices.values()) for (const resolve of notice.waiting) resolve()
    this.#notices.clear()
    this.#parked.clear()
    this.#ready.clear()
    this.#sent.clear()
  }

  #route(notice: Notice): void {
    const isHeldBack = this.#patienceMs > 0 && notice.waiting.length === 0 && this.#options.isInUse(notice.node)
    if (isHeldBack) this.#park(notice)
    else this.#makeReady(notice)
  }

  #park(notice: Notice): void {
    notice.state = 'parked'
    const others = this.#parked.get(notice.node)
    if (others === undefined) this.#parked.set(notice.node, new Set([notice]))
    else others.add(notice)
    void this.#options.clock.sleep(this.#patienceMs).then(() => {
      if (notice.state === 'parked') this.#unpark(notice)
    })
  }

  #unpark(notice: Notice): void {
    const others = this.#parked.get(notice.node)
    others?.delete(notice)
    if (others?.size === 0) this.#parked.delete(notice.node)
    this.#makeReady(notice)
  }

  #makeReady(notice: Notice): void {
    if (this.#isClosed) return
    notice.state = 'ready'
    this.#ready.add(notice)
    this.#pump()
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
    if (notice === undefined) return
    this.#sent.delete(id)
    if (errno !== 0 && !EXPECTED.has(errno)) this.#options.log.warn({ errno }, 'the kernel refused a notification')
    if (notice.isStale) this.#route(notice)
    else {
      this.#notices.delete(notice.key)
      notice.onDone(errno)
      for (const resolve of notice.waiting) resolve()
    }
    this.#pump()
  }
}
