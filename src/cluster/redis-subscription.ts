/**
 * Sharded pub/sub over many channels: each that is wanted is subscribed at the master that owns its slot, on one connection a master.
 *
 * Invariant: while `healthy` was last reported true, every channel has a live connection to the master that owned its slot when last
 * checked, and is subscribed there if it is wanted and its `listen` has resolved. Whatever ends that (connection lost, slot gone, owner
 * changed) reports false first and subscribes again after: a listener that drops its caches on false cannot have missed a message
 * unawares. Channels that are not wanted are watched all the same, for a master that is replaced may lose what was read from it.
 *
 * A server that does not own the slot may take a subscription: so it is asked for a key of the slot behind it (`serves`), and believed only
 * if the others know it as a master (redis-fence.ts).
 *
 * Invariant: one subscribes at a time (`#isSubscribing`), so that no address has two connections, of which `#links` knows one: the other's
 * messages would be later than what `caughtUp` waits for, and nobody would close it.
 *
 *            all subscribed
 *   broken  --------------->  healthy
 *      ^                         |   connection ends, sunsubscribe from the server, owner changed, ping unanswered
 *      +-------------------------+
 */
import type { Clock } from '../base/clock.js'
import { messageOf } from '../base/errors.js'
import type { Log } from '../base/log.js'
import { LinkLostError, classify } from './redis-errors.js'
import type { RedisLink } from './redis-link.js'
import { resolveAddress, type Topology } from './redis-topology.js'
import { keySlot } from './slot.js'

export interface SubscriptionOptions {
  readonly topology: Pick<Topology, 'owner' | 'moved' | 'newLink' | 'refresh' | 'refreshBehind'>
  readonly clock: Clock
  readonly random: () => number
  readonly log: Log
  /** All are wanted at first. */
  readonly channels: readonly string[]
  readonly onMessage: (channel: string, message: Buffer) => void
  readonly onState: (healthy: boolean) => void
}

const CHECK_INTERVAL_MS = 2_000
/** A failover that leaves the old master's connections open shows only in the slot map: fetched every so many checks. */
const CHECKS_PER_REFRESH = 3
const BACKOFF_FIRST_MS = 20
const BACKOFF_MAX_MS = 1_000

export class ShardSubscription {
  readonly #options: SubscriptionOptions
  readonly #links = new Map<string, RedisLink>()
  readonly #wanted: Set<string>
  /** The connection to the master of a channel, on which it is subscribed if it is wanted: both confirmed by the server. */
  readonly #linkOf = new Map<string, RedisLink>()
  #timer: NodeJS.Timeout | undefined
  #isSubscribing = false
  #isHealthy = false
  #isClosed = false
  #checks = 0

  constructor(options: SubscriptionOptions) {
    this.#options = options
    this.#wanted = new Set(options.channels)
  }

  /** Resolves after the first attempt, whether it succeeded or not: onState tells. */
  async start(): Promise<void> {
    this.#timer = setInterval(() => this.#check(), CHECK_INTERVAL_MS).unref()
    this.#isSubscribing = true
    try {
      await this.#subscribeMissing()
    } catch (error) {
      this.#options.log.debug({ err: error }, 'not yet subscribed')
    } finally {
      this.#subscribed()
    }
  }

  /**
   * Has messages of the channel come again. When it resolves they do: all that are published from then on; or onState(false) was told, and
   * they do when it tells true.
   */
  async listen(channel: string): Promise<void> {
    this.#wanted.add(channel)
    const link = this.#linkOf.get(channel)
    if (!this.#isHealthy || link === undefined) {
      // What is missing is subscribed before true is told.
      this.#linkOf.delete(channel)
      return
    }
    try {
      await this.#confirm(link, channel)
    } catch (error) {
      link.abort(`a channel could not be subscribed: ${messageOf(error)}`)
    }
  }

  /** No more messages of the channel are wanted; some may come still. */
  ignore(channel: string): void {
    this.#wanted.delete(channel)
    const link = this.#linkOf.get(channel)
    link?.unsubscribe(channel).catch((error: unknown) => {
      link.abort(`a channel could not be left: ${messageOf(error)}`)
    })
  }

  /** A server sends the messages of a connection and its replies in the order in which they came about. */
  async caughtUp(): Promise<void> {
    // Without an answer the connection is lost, and what it may have missed is told by onState.
    await Promise.allSettled([...this.#links.values()].map((link) => link.send('PING', [])))
  }

  close(): void {
    this.#isClosed = true
    clearInterval(this.#timer)
    for (const link of this.#links.values()) link.abort()
    this.#links.clear()
    this.#linkOf.clear()
  }

  #report(isHealthy: boolean): void {
    if (this.#isClosed || this.#isHealthy === isHealthy) return
    this.#isHealthy = isHealthy
    this.#options.onState(isHealthy)
  }

  /** Something is missing: subscribe again until nothing is. */
  #repair(): void {
    this.#report(false)
    if (this.#isClosed || this.#isSubscribing) return
    // Before it begins: what it drops at once calls for a repair, too.
    this.#isSubscribing = true
    void this.#repairAll().finally(() => this.#subscribed())
  }

  #subscribed(): void {
    this.#isSubscribing = false
    if (!this.#isHealthy || !this.#isComplete()) this.#repair()
  }

  async #repairAll(): Promise<void> {
    for (let attempt = 0; !this.#isClosed && !this.#isHealthy; attempt++) {
      try {
        if (attempt > 0) {
          await this.#pause(attempt)
          await this.#options.topology.refresh()
        }
        await this.#subscribeMissing()
      } catch (error) {
        this.#options.log.debug({ err: error }, 'subscription not yet back')
      }
    }
  }

  #pause(attempt: number): Promise<void> {
    const longestMs = Math.min(BACKOFF_MAX_MS, BACKOFF_FIRST_MS * 2 ** Math.min(attempt, 10))
    return this.#options.clock.sleep(longestMs * (0.5 + this.#options.random() / 2))
  }

  #owner(channel: string): string | undefined {
    return this.#options.topology.owner(keySlot(channel))
  }

  #isComplete(): boolean {
    return this.#options.channels.every((channel) => {
      const link = this.#linkOf.get(channel)
      return link?.isReady === true && link.address === this.#owner(channel)
    })
  }

  async #subscribeMissing(): Promise<void> {
    this.#dropMisplaced()
    const missing = new Map<string, string[]>()
    for (const channel of this.#options.channels) {
      if (this.#linkOf.has(channel)) continue
      const owner = this.#owner(channel)
      if (owner === undefined) throw new LinkLostError(`no master serves the slot of channel ${channel}`)
      const group = missing.get(owner)
      if (group === undefined) missing.set(owner, [channel])
      else group.push(channel)
    }
    await settleAll([...missing].map(([address, channels]) => this.#subscribeAt(address, channels)))
    // A connection may have ended while another was still being made.
    if (!this.#isComplete()) throw new LinkLostError('a subscription was lost at once')
    // In the same turn: nothing may become wanted in between.
    this.#report(true)
  }

  async #subscribeAt(address: string, channels: readonly string[]): Promise<void> {
    const link = await this.#connect(address)
    await settleAll(
      channels.map(async (channel) => {
        const wasWanted = this.#wanted.has(channel)
        await this.#confirm(link, channel)
        if (link.isReady && (wasWanted || !this.#wanted.has(channel))) this.#linkOf.set(channel, link)
      }),
    )
  }

  /** The server has the slot of the channel, and has subscribed it if it is wanted. */
  async #confirm(link: RedisLink, channel: string): Promise<void> {
    const asked = this.#wanted.has(channel) ? [link.subscribe(channel)] : []
    try {
      await Promise.all([...asked, serves(link, channel)])
    } catch (error) {
      const verdict = classify(error)
      if (verdict.kind === 'moved') {
        this.#options.topology.moved(verdict.slot, resolveAddress(verdict.address, link.address))
        link.abort('a channel is of another server')
      }
      throw error
    }
  }

  async #connect(address: string): Promise<RedisLink> {
    const known = this.#links.get(address)
    if (known?.isReady === true) return known
    const link = this.#options.topology.newLink(address, 3)
    this.#links.set(address, link)
    link.onEnd(() => this.#lose(link))
    // The server does not say which channel went: all of this connection are subscribed anew.
    link.onMoved(() => link.abort('a channel was moved'))
    link.onMessage((channel, message) => {
      if (!this.#isClosed) this.#options.onMessage(channel.toString(), message)
    })
    await link.connect()
    if (this.#isClosed) link.abort()
    return link
  }

  #lose(link: RedisLink): void {
    let isUsed = false
    for (const [channel, of] of this.#linkOf) {
      if (of !== link) continue
      this.#linkOf.delete(channel)
      isUsed = true
    }
    if (this.#links.get(link.address) === link) this.#links.delete(link.address)
    if (isUsed) this.#repair()
  }

  /** A demoted master keeps its connections, but gets the messages only in passing. */
  #dropMisplaced(): void {
    for (const [channel, link] of [...this.#linkOf]) {
      if (link.address === this.#owner(channel) && link.isReady) continue
      link.abort('the owner of a channel changed')
    }
  }

  #check(): void {
    if (this.#isSubscribing) return
    if (++this.#checks % CHECKS_PER_REFRESH === 0) this.#options.topology.refreshBehind()
    // An unanswered ping ends the link by its watchdog.
    for (const link of this.#links.values()) {
      link.send('PING', []).catch((error: unknown) => {
        this.#options.log.debug({ address: link.address, reason: messageOf(error) }, 'subscription ping failed')
      })
    }
    if (!this.#isComplete()) this.#repair()
  }
}

/**
 * Whether the server has the slot of the channel, asked behind the subscription: a replica takes that as well. So does who was master until a moment ago,
 * to whom the new one sends nothing before it has heard that he is its replica. MOVED if not; LinkLostError if the others say that he was replaced, which
 * he may not have heard himself. Who is moving the slot away has it still.
 */
async function serves(link: RedisLink, channel: string): Promise<void> {
  try {
    await link.sendFenced('EXISTS', [channel])
  } catch (error) {
    if (classify(error).kind !== 'ask') throw error
  }
}

/** Like Promise.all, but leaves nothing running behind when it throws. */
async function settleAll(promises: readonly Promise<void>[]): Promise<void> {
  const failed = (await Promise.allSettled(promises)).find((result) => result.status === 'rejected')
  if (failed !== undefined) throw failed.reason
}
