/**
 * What this session hears of others' changes, and whether what is cached may be used.
 *
 * Invariant: while coherent (the subscription can be relied on, and the lease is good) all that others change in the partitions that are
 * listened to (listening.ts) is told, in its order. When that ends, `lost` is told first; `back` says that it goes on from nothing. Own changes
 * are told, too, while nobody knows whether they were made.
 */
import type { Clock } from '../base/clock.js'
import type { Log } from '../base/log.js'
import type { RedisStore, Subscription } from '../cluster/contract.js'
import type { MetaEvent } from './contract.js'
import { decodeEvents } from './events.js'
import type { VolumeKeys } from './keys.js'
import { Listening } from './listening.js'
import type { Session } from './session.js'
import { Subscribed } from './subscribed.js'
import { UncertainChanges } from './uncertain.js'

/** No session has this number. */
const NOBODY = -1

export interface HearingDeps {
  readonly session: Pick<Session, 'id' | 'isLive' | 'leaseLeftMs'>
  readonly log: Log
  readonly clock: Clock
  readonly keys: VolumeKeys
  readonly listenMs: number
  /** Inodes that are open, or waited for. */
  readonly inUse: () => Iterable<number>
  /** After a break of the subscription: deals with what servers may have lost. */
  readonly lookOver: () => Promise<void>
  /** Before it is told. */
  readonly onChange: (isCoherent: boolean) => void
  /** Nothing that others change in these was told, or will be. Before it is told. */
  readonly onGap: (partitions: ReadonlySet<number>) => void
  /** Called with each message of a partition; calls `tell`, which tells the events in it. */
  readonly around: (p: number, message: Buffer, tell: () => void) => void
}

export class Hearing {
  readonly #deps: HearingDeps
  readonly #subscribed: Subscribed
  readonly #listening: Listening
  readonly #uncertain = new UncertainChanges(() => this.caughtUp())
  #subscription: Subscription | undefined
  #wasCoherent = false
  #listener: (event: MetaEvent) => void = () => undefined

  constructor(deps: HearingDeps) {
    this.#deps = deps
    this.#subscribed = new Subscribed({ look: deps.lookOver, onChange: () => this.check() })
    const { keys, clock, listenMs, inUse } = deps
    const channel = (p: number): string => keys.partition(p).channel
    this.#listening = new Listening({
      ...{ clock, listenMs, partitions: keys.partitions, isCoherent: () => this.isCoherent },
      inUse: () => Array.from(inUse(), (ino) => keys.home(ino)),
      listen: (p) => this.#subscription?.listen(channel(p)) ?? Promise.resolve(),
      ignore: (p) => this.#subscription?.ignore(channel(p)),
      onHeard: (p) => this.#tellOf('heard', new Set([p])),
      onIgnored: (partitions) => this.#tellOf('ignored', partitions),
    })
  }

  async start(store: RedisStore): Promise<void> {
    const { keys } = this.#deps
    const channels = new Map(Array.from({ length: keys.partitions }, (_, p) => [keys.partition(p).channel, p]))
    this.#subscription = await store.subscribe(
      [...channels.keys()],
      (channel, message) => {
        const p = channels.get(channel) ?? 0
        this.#deps.around(p, message, () => this.#tellEvents(p, message))
      },
      (healthy) => this.#subscribed.heard(healthy),
    )
    this.#listening.start()
  }

  get isCoherent(): boolean {
    return this.#subscribed.isGood && this.#deps.session.isLive
  }

  /** How long it is so from now, as far as the lease goes, of partitions that nobody uses meanwhile. */
  get coherentMs(): number {
    return this.#subscribed.isGood ? Math.min(this.#deps.session.leaseLeftMs, this.#listening.lifetimeMs) : 0
  }

  /** Whether all that others change in the partition is told. Counts as a use of it. */
  hears(p: number): boolean {
    return this.#listening.hears(p) && this.isCoherent
  }

  /** Something is about to be asked of the partition, or changed there. Resolves when it is listened to; undefined: no need to wait. */
  use(p: number): Promise<void> | undefined {
    const heard = this.#listening.use(p)
    return this.#subscribed.isGood ? heard : undefined
  }

  /** To how many partitions it listens. */
  get partitions(): number {
    return this.#listening.count
  }

  set listener(listener: (event: MetaEvent) => void) {
    this.#listener = listener
  }

  tell(event: MetaEvent): void {
    this.#listener(event)
  }

  #tellOf(kind: 'heard' | 'ignored', partitions: ReadonlySet<number>): void {
    this.#deps.onGap(partitions)
    this.tell({ kind, partitions })
  }

  #tellEvents(p: number, message: Buffer): void {
    const own = this.#uncertain.has(p) ? NOBODY : this.#deps.session.id
    for (const event of decodeEvents(message, own, this.#deps.log)) this.tell(event)
  }

  /** What is cached may be false, and nothing tells what of it. */
  forgetAll(): void {
    if (!this.isCoherent) return
    this.tell({ kind: 'lost' })
    this.tell({ kind: 'back' })
  }

  /** The lease came or went, or the subscription did. */
  check(): void {
    if (this.isCoherent === this.#wasCoherent) return
    this.#wasCoherent = this.isCoherent
    this.#deps.onChange(this.#wasCoherent)
    this.tell({ kind: this.#wasCoherent ? 'back' : 'lost' })
  }

  /** Whether a change of our own in the partition may have been made, or be made yet, of which we were not told. */
  isUncertain(p: number): boolean {
    return this.#uncertain.has(p)
  }

  failed(p: number, sequence: number, beside: readonly number[]): void {
    this.#uncertain.failed(p, sequence, beside)
  }

  judged(p: number, low: number): void {
    this.#uncertain.judged(p, low)
  }

  async caughtUp(): Promise<void> {
    await this.#subscription?.caughtUp()
  }

  /** Nothing is kept any more: what is listened to stays as it is. */
  ending(): void {
    this.#listening.close()
  }

  async close(): Promise<void> {
    this.#listening.close()
    await this.#subscription?.close()
  }
}
