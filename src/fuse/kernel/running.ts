/**
 * Requests under way that may be given up, and what INTERRUPT means to each (Documentation/filesystems/fuse/fuse.rst).
 *
 *   running --INTERRUPT, opcode 'signal'--> its signal is aborted; the handler decides and answers
 *   running --INTERRUPT, opcode 'killed', its caller is being killed (now or later)--> abandoned: EINTR at once
 *   running, abandoned --handler done--> over: answered if it was not abandoned, else what it made is dropped
 *
 * The kernel sends INTERRUPT for every signal, also for one that the program handles and goes on after. On a local disk
 * no such signal ends a stat or a read with EINTR, and programs do not expect it: so only a caller that is about to die
 * is let go (as NFS does), and asked for again until its request ends, since the kernel sends INTERRUPT once only. Waiting
 * for a lock is another matter: fcntl(2) says that any signal that is handled ends it.
 *
 * One reader reads the device, and the kernel sends an INTERRUPT only after its request was read: it never comes first.
 * An INTERRUPT whose request is not here comes too late: it is over. Such a one needs no answer; EAGAIN would have the
 * kernel send it again.
 */
import { setTimeout as sleep } from 'node:timers/promises'

/** 'never': changes something, so EINTR would leave in doubt whether it happened. */
export type InterruptMode = 'never' | 'killed' | 'signal'

export interface RunningOptions {
  /** Whether the thread will never return to its program. */
  readonly isDying: (pid: number) => Promise<boolean>
  /** How often that is asked. */
  readonly recheckMs: number
}

export class RunningRequests {
  readonly #options: RunningOptions
  readonly #requests = new Map<number, RunningRequest>()

  constructor(options: RunningOptions) {
    this.#options = options
  }

  /** `abandon` answers the request; afterwards nothing else may. */
  begin(unique: number, pid: number, mode: InterruptMode, abandon: () => void): RunningRequest {
    const request = new RunningRequest(pid, mode, abandon)
    if (mode !== 'never') this.#requests.set(unique, request)
    return request
  }

  end(unique: number, request: RunningRequest): void {
    request.isOver = true
    if (this.#requests.get(unique) === request) this.#requests.delete(unique)
  }

  interrupt(unique: number): void {
    const request = this.#requests.get(unique)
    if (request === undefined) return
    if (request.mode === 'signal') request.abort()
    else void this.#abandonWhenDying(request)
  }

  /** Nobody waits for anything any more. */
  abortWaiting(): void {
    for (const request of this.#requests.values()) if (request.mode === 'signal') request.abort()
  }

  async #abandonWhenDying(request: RunningRequest): Promise<void> {
    if (request.isWatched) return
    request.isWatched = true
    while (!request.isOver) {
      if (await this.#options.isDying(request.pid)) {
        request.abandon()
        return
      }
      await sleep(this.#options.recheckMs, undefined, { ref: false })
    }
  }
}

export class RunningRequest {
  readonly pid: number
  readonly mode: InterruptMode
  readonly #answer: () => void
  #controller: AbortController | undefined
  isOver = false
  isWatched = false
  /** Answered with EINTR while its handler runs on. */
  isAbandoned = false

  constructor(pid: number, mode: InterruptMode, answer: () => void) {
    this.pid = pid
    this.mode = mode
    this.#answer = answer
  }

  /** Made when it is asked for: most requests never need it. */
  get signal(): AbortSignal {
    this.#controller ??= new AbortController()
    return this.#controller.signal
  }

  abort(): void {
    this.#controller ??= new AbortController()
    this.#controller.abort()
  }

  abandon(): void {
    if (this.isOver || this.isAbandoned) return
    this.isAbandoned = true
    this.#answer()
    this.abort()
  }
}
