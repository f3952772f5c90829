/**
 * Redis replicates behind its answers: a replica that takes its master's place may lack the last of what was acknowledged. Where
 * a change in one place rests on a change in another, which may lie on another master, the first must not survive the loss
 * of the second: it waits here until the volume's number of replicas has the second. With `metaSync` 'always' so does the caller of each
 * change: ofChange().
 *
 * Replicas that are away hold nobody up for long: while a master has too few of them nothing is promised of its loss anyway. That is
 * told once, and they are asked again once a second, behind whoever comes by. fsync alone insists: ofAll(). Without them nothing is deleted that
 * would be named again if the master were lost: surely().
 */
import { PosixError } from '../base/errno.js'
import { RingfsError, messageOf } from '../base/errors.js'
import type { Script } from '../cluster/contract.js'
import type { CoreOptions } from './core.js'
import type { Reply } from './reply.js'
import { SCRIPTS } from './scripts.js'
import { isOfContents } from './tails.js'

export const REPLICAS_MS = 1_000
const PAUSE_MS = 50
const AGAIN_MS = 1_000
const SURELY_MS = 5_000

/** Whatever the volume says of the rest: something elsewhere rests on these, or is given up behind them. */
const RESTED_ON: ReadonlySet<Script> = new Set<Script>([
  SCRIPTS.reserve,
  SCRIPTS.hold,
  SCRIPTS.lock,
  SCRIPTS.reap,
  SCRIPTS.txPrepare,
  SCRIPTS.txCommit,
  SCRIPTS.txWhole,
  ...[SCRIPTS.txPrepareGrowing, SCRIPTS.txCommitGrowing, SCRIPTS.txWholeGrowing],
  SCRIPTS.txFinish,
])

export type ReplicasOptions = Pick<
  CoreOptions,
  'store' | 'settings' | 'keys' | 'clock' | 'log' | 'operationDeadlineMs'
> & {
  /** How long a change waits for replicas that are away. */
  readonly replicasMs: number
}

export class Replicas {
  readonly #options: ReplicasOptions
  /** Servers that have too few replicas, by address, and when they were asked last. One that is replaced is another server. */
  readonly #short = new Map<string, { readonly server: string; readonly askedMs: number }>()
  #running: Promise<void> | undefined
  #next: Promise<void> | undefined

  constructor(options: ReplicasOptions) {
    this.#options = options
  }

  /**
   * All that was acknowledged, anywhere. Many at once share one WAIT, the next one that begins. Errors: EIO when there are too
   * few replicas for as long as an operation may take: a failover may be under way, and the server that failed be back soon.
   */
  ofAll(): Promise<void> {
    this.#next ??= this.#startNext()
    return this.#next
  }

  async #startNext(): Promise<void> {
    while (this.#running !== undefined) await this.#running.catch(() => undefined)
    this.#next = undefined
    this.#running = this.#insist().finally(() => (this.#running = undefined))
    await this.#running
  }

  async #insist(): Promise<void> {
    const { settings, keys, clock, operationDeadlineMs } = this.#options
    const wanted = settings.metaReplicas
    const { everywhere } = keys
    const deadlineMs = clock.monotonicMs() + operationDeadlineMs
    for (;;) {
      const got = await this.#count(everywhere, Math.max(1, deadlineMs - clock.monotonicMs()))
      if (got !== undefined && got >= wanted) return
      if (clock.monotonicMs() >= deadlineMs) throw tooFew(got, wanted)
      await clock.sleep(PAUSE_MS)
    }
  }

  /** Has the connections made that will be needed. */
  async prepare(): Promise<void> {
    const { settings, keys } = this.#options
    if (settings.metaReplicas === 0) return
    await this.#count(keys.everywhere, 1).catch(() => undefined)
  }

  /** Resolves when the replicas of the key's server have what was acknowledged, or it is short of them, or another one is in its place. */
  async #ofServer(key: string): Promise<void> {
    const { store, clock } = this.#options
    const server = store.serverOf(key)
    const address = addressOf(server)
    const short = this.#short.get(address)
    if (short?.server !== server) {
      this.#short.delete(address)
      return this.#ask(server, key)
    }
    if (clock.monotonicMs() - short.askedMs < AGAIN_MS) return
    this.#short.set(address, { server, askedMs: clock.monotonicMs() })
    this.#ask(server, key).catch(() => undefined)
  }

  /** Errors: EIO when it does not answer for as long as an operation may take. */
  async #ask(server: string, key: string): Promise<void> {
    const { settings, clock, log, store, replicasMs, operationDeadlineMs } = this.#options
    const wanted = settings.metaReplicas
    const deadlineMs = clock.monotonicMs() + operationDeadlineMs
    for (;;) {
      const got = await this.#count([key], replicasMs)
      const address = addressOf(server)
      if (store.serverOf(key) !== server || (got === undefined && this.#short.get(address)?.server === server)) return
      if (got !== undefined && got >= wanted) {
        this.#short.delete(address)
        return
      }
      if (got !== undefined) {
        const isNews = !this.#short.has(address)
        this.#short.set(address, { server, askedMs: clock.monotonicMs() })
        if (isNews) log.warn({ address, got, wanted }, 'a Redis master has too few replicas: its loss could lose names')
        return
      }
      if (clock.monotonicMs() >= deadlineMs)
        throw new PosixError('EIO', 'no Redis says whether its replicas have a change')
      await clock.sleep(PAUSE_MS)
    }
  }

  /**
   * What may be done twice as if it were done once, where the key is: answered when the replicas have it. If a server was replaced
   * meanwhile, its successor may not know what it did, of which nobody was told yet: it is asked again, and does it now, or answers what it
   * did. `isNothing`: by this answer nothing was done. Throws what `work` throws, and EIO when servers are replaced for as long
   * as an operation may take, or none answers.
   */
  async behind<T>(key: string, work: () => Promise<T>, isNothing: (answer: T) => boolean = () => false): Promise<T> {
    return await this.#untilSame(key, work, isNothing, () => this.#ofServer(key))
  }

  /**
   * What is looked at where the key is: answered when the replicas have it, so that it is so after the loss of that server, too. Errors: EIO when
   * there are too few, soon: for who can come again.
   */
  async surely<T>(key: string, look: () => Promise<T>): Promise<T> {
    const isNothing = (): boolean => false
    return await this.#untilSame(key, look, isNothing, async () => {
      const { metaReplicas } = this.#options.settings
      const got = await this.#count([key], SURELY_MS)
      if (got === undefined || got < metaReplicas) throw tooFew(got, metaReplicas)
    })
  }

  async #untilSame<T>(
    key: string,
    work: () => Promise<T>,
    isNothing: (answer: T) => boolean,
    replicated: () => Promise<void>,
  ): Promise<T> {
    const { store, settings, clock, operationDeadlineMs } = this.#options
    if (settings.metaReplicas === 0) return work()
    const deadlineMs = clock.monotonicMs() + operationDeadlineMs
    for (;;) {
      const server = store.serverOf(key)
      const answer = await work()
      if (isNothing(answer)) return answer
      await replicated()
      if (store.serverOf(key) === server) return answer
      if (clock.monotonicMs() >= deadlineMs) {
        throw new PosixError('EIO', 'Redis servers were replaced again and again: whether a change was made is unknown')
      }
    }
  }

  /** A script of lib/mutate.lua, whose replies are kept. `isNothing`: neither did it change anything nor was a reply forgotten. */
  ofChange(
    script: Script,
    key: string,
    change: () => Promise<Reply>,
    isNothing: (reply: Reply) => boolean,
  ): Promise<Reply> {
    const waits = RESTED_ON.has(script) || (this.#options.settings.metaSync === 'always' && isOfContents(script))
    return waits ? this.behind(key, change, isNothing) : change()
  }

  /** undefined: no answer. Errors: RingfsError, of what will not pass by itself. */
  async #count(keys: readonly string[], timeoutMs: number): Promise<number | undefined> {
    const { store, settings, log } = this.#options
    try {
      return await store.waitReplicas(keys, settings.metaReplicas, timeoutMs)
    } catch (error) {
      if (error instanceof RingfsError && error.code !== 'REDIS_UNREACHABLE') throw error
      log.debug({ error: messageOf(error) }, 'replicas not waited for')
      return undefined
    }
  }
}

function tooFew(got: number | undefined, wanted: number): PosixError {
  const what = got === undefined ? 'no Redis says whether its' : `only ${got} of ${wanted}`
  return new PosixError('EIO', `${what} replicas have the metadata`)
}

function addressOf(server: string): string {
  return server.slice(0, server.indexOf(' '))
}
