/**
 * What this session hears of others' changes, and whether what is cached may be used.
 *
 * Invariant: while coherent (the subscription can be relied on, and the lease is good) all that others change is told, in its order. When that
 * ends, `lost` is told first; `back` says that it goes on from nothing. Own changes are told, too, while nobody knows whether they were made.
 */
import type { Log } from '../base/log.js'
import type { RedisStore, Subscription } from '../cluster/contract.js'
import type { MetaEvent } from './contract.js'
import { decodeEvents } from './events.js'
import type { VolumeKeys } from './keys.js'
import type { Session } from './session.js'
import { Subscribed } from './subscribed.js'
import { UncertainChanges } from './uncertain.js'

/** No session has this number. */
const NOBODY = -1

export interface HearingDeps {
  readonly session: Pick<Session, 'id' | 'isLive' | 'leaseLeftMs'>
  readonly log: Log
  /** After a break of the subscription: deals with what servers may have lost. */
  readonly lookOver: () => Promise<void>
  /** Before it is told. */
  readonly onChange: (isCoherent: boolean) => void
  /** Called with each message of a partition; calls `tell`, which tells the events in it. */
  readonly around: (p: number, message: Buffer, tell: () => void) => void
}

export class Hearing {
  readonly #deps: HearingDeps
  readonly #subscribed: Subscribed
  readonly #uncertain = new UncertainChanges(() => this.caughtUp())
  #subscription: Subscription | undefined
  #wasCoherent = false
  #listener: (event: MetaEvent) => void = () => undefined

  constructor(deps: HearingDeps) {
    this.#deps = deps
    this.#subscribed = new Subscribed({ look: deps.lookOver, onChange: () => this.check() })
  }

  async start(store: RedisStore, keys: VolumeKeys): Promise<void> {
    const channels = new Map(Array.from({ length: keys.partitions }, (_, p) => [keys.partition(p).channel, p]))
    this.#subscription = await store.subscribe(
      [...channels.keys()],
      (channel, message) => {
        const p = channels.get(channel) ?? 0
        this.#deps.around(p, message, () => this.#tellEvents(p, message))
      },
      (healthy) => this.#subscribed.heard(healthy),
    )
  }

  get isCoherent(): boolean {
    return this.#subscribed.isGood && this.#deps.session.isLive
  }

  /** How long it is so from now, as far as the lease goes. */
  get coherentMs(): number {
    return this.#subscribed.isGood ? this.#deps.session.leaseLeftMs : 0
  }

  set listener(listener: (event: MetaEvent) => void) {
    this.#listener = listener
  }

  tell(event: MetaEvent): void {
    this.#listener(event)
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

  async close(): Promise<void> {
    await this.#subscription?.close()
  }
}
