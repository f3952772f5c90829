/**
 * A node's place in the cluster: it registers, tells that it lives, and leaves.
 *
 *                 first heartbeat          silent for suspectMs          silent for downMs
 *   register --> joining ------> up ---------------------------> suspect ------------------> down
 *                                ^  <------- heartbeat ------------+                          |
 *                                +<----------------- heartbeat -------------------------------+
 *   up, suspect, joining -- leave() --> down at once; one that drains goes on draining
 *   up, suspect, down (not out) -- register --> suspect: it keeps its place on the ring until its first heartbeat
 *   down for outMs: still down, but without a place on the ring (`out`) until its next heartbeat: its chunks are made anew
 *   elsewhere. At least half of the nodes keep their places whatever happens.
 *   up, suspect, joining, down -- an operator --> draining: holds its chunks, gets no new ones
 *   any -- an operator --> gone: its chunks are given up. It may register again.
 *
 * Every arrow is a script that compares and sets, and raises the epoch. Time is Redis's own; nothing depends on the
 * clocks of nodes and clients. A node whose disks all hang is silent, too, though its process lives. Silence is judged by whoever fetches the view (watcher.ts).
 *
 * Invariant: at most one incarnation (one start of one process) holds an identity. Another takes it over only when the
 * holder has left or was silent for suspectMs; the holder learns it from its next heartbeat, and must stop.
 */
import { randomUUID } from 'node:crypto'
import { systemClock, type Clock, type Timer } from '../base/clock.js'
import { RingfsError, messageOf } from '../base/errors.js'
import type { Log } from '../base/log.js'
import { ClockOffset, wallMs } from './clock-offset.js'
import type { NodeReport, NodeState, RedisStore, RedisValue, Script } from './contract.js'
import { ClusterKeys } from './keys.js'
import { arrayOf, numberOf, textOf } from './reply.js'
import { encodeReport } from './report.js'
import { WEIGHT_MAX } from './ring.js'
import { SCRIPTS, loadScript } from './script.js'

const LIB = loadScript(SCRIPTS, 'lib').source
export const REGISTER = loadScript(SCRIPTS, 'register', LIB)
const BEAT = loadScript(SCRIPTS, 'beat', LIB)
const LEAVE = loadScript(SCRIPTS, 'leave', LIB)
const TRANSITION = loadScript(SCRIPTS, 'transition', LIB)
export const VIEW = loadScript(SCRIPTS, 'view', LIB)

export interface NodeSpace {
  readonly totalBytes: number
  readonly freeBytes: number
  readonly chunks: number
}

export interface NodeIdentity {
  /** Uuid kept in the node's data folder. */
  readonly id: string
  /** `host:port` or `unix:/path`, as others reach it. */
  readonly address: string
  readonly zone: string
  readonly weight: number
  readonly pid: number
}

export interface RegisterOptions {
  readonly volume: string
  readonly identity: NodeIdentity
  /** Asked for each heartbeat. */
  readonly space: () => NodeSpace | Promise<NodeSpace>
  /** Asked for each heartbeat; the clock's offset is measured here. */
  readonly report?: () => Omit<NodeReport, 'clockOffsetMs'>
  /**
   * The node cannot do what it is asked for: from the next but one on it sends no heartbeats, so that others leave it aside, and make up for it
   * if that goes on. The next one still says why. Default: never.
   */
  readonly isStuck?: () => boolean
  readonly log: Log
  readonly clock?: Clock
  /** Default 1,000: four heartbeats before anyone grows suspicious. */
  readonly beatIntervalMs?: number
  /** Names this start of the process. Default: a uuid. */
  readonly newIncarnation?: () => string
  /** This process no longer holds its identity, and must stop serving. Called once, after which nothing beats any more. */
  readonly onLost: (error: RingfsError) => void
}

export interface Registration {
  readonly incarnation: string
  /** Sends a heartbeat now, with fresh figures. */
  beat(): Promise<void>
  /** Says goodbye, so that nobody waits for a silence. Never throws: whoever stops must be able to stop. */
  leave(): Promise<void>
}

const BEAT_INTERVAL_MS = 1_000
const BEAT_DEADLINE_MS = 10_000
const LEAVE_DEADLINE_MS = 3_000
/** How often a claimed identity is looked at again: longer than a heartbeat, so that a living holder shows itself. */
const CLAIM_POLL_BEATS = 1.5

/**
 * Resolves when the node is up. Errors: NODE_IDENTITY_CLAIMED when another process beats under the same identity; USAGE for
 * a zone or weight that cannot be. A holder that died without leaving is outwaited, some suspectMs.
 */
export async function register(store: RedisStore, options: RegisterOptions): Promise<Registration> {
  checkIdentity(options.identity)
  const registration = new NodeRegistration(store, options)
  await registration.start()
  return registration
}

const ZONE = /^[A-Za-z0-9_.-]{0,64}$/

function checkIdentity({ zone, weight }: NodeIdentity): void {
  if (!ZONE.test(zone)) throw new RingfsError('USAGE', `'${zone}' is not a zone (up to 64 of A-Z a-z 0-9 _ . -)`)
  if (!(weight > 0 && weight <= WEIGHT_MAX)) {
    throw new RingfsError('USAGE', `${weight} is not a weight (above 0, up to ${WEIGHT_MAX})`)
  }
}

class NodeRegistration implements Registration {
  readonly incarnation: string
  readonly #store: RedisStore
  readonly #options: RegisterOptions
  readonly #keys: ClusterKeys
  readonly #clock: Clock
  readonly #intervalMs: number
  readonly #offset = new ClockOffset()
  #timer: Timer | undefined
  #isOver = false
  /** Others were told that the node is stuck. */
  #isSilent = false

  constructor(store: RedisStore, options: RegisterOptions) {
    this.#store = store
    this.#options = options
    this.incarnation = (options.newIncarnation ?? randomUUID)()
    this.#keys = new ClusterKeys(options.volume)
    this.#clock = options.clock ?? systemClock
    this.#intervalMs = options.beatIntervalMs ?? BEAT_INTERVAL_MS
  }

  async start(): Promise<void> {
    await this.#claim()
    await this.beat()
    this.#schedule()
  }

  async #claim(): Promise<void> {
    let lastBeat: number | undefined
    for (;;) {
      const reply = await this.#register()
      if (reply.verdict === 'ok') return
      if (reply.verdict === 'left') throw new RingfsError('CANCELLED', 'this process has left the cluster')
      const [address, pid, beat] = [textOf(reply.rest[0], 'register'), textOf(reply.rest[1], 'register'), reply.rest[2]]
      const beatMs = numberOf(beat, 'register')
      // It beat since we looked: it lives. Earlier than it was: the clock of Redis was set back.
      if (lastBeat !== undefined && beatMs > lastBeat) throw this.#claimed(address, pid)
      if (lastBeat === undefined) {
        const { id } = this.#options.identity
        this.#options.log.info({ node: id, address, pid }, 'identity was in use a moment ago; waiting for its silence')
      }
      lastBeat = beatMs
      await this.#clock.sleep(this.#intervalMs * CLAIM_POLL_BEATS)
    }
  }

  async #register(): Promise<Reply> {
    const { id, address, zone, weight, pid } = this.#options.identity
    const { totalBytes, freeBytes, chunks } = await this.#options.space()
    return this.#run(REGISTER, [id, this.incarnation, address, zone, weight, pid, totalBytes, freeBytes, chunks])
  }

  async beat(): Promise<void> {
    const { totalBytes, freeBytes, chunks } = await this.#options.space()
    const args = [this.#options.identity.id, this.incarnation, totalBytes, freeBytes, chunks, this.#report()]
    const startedMs = this.#clock.monotonicMs()
    const { verdict, rest } = await this.#run(BEAT, args)
    const steadyMs = this.#clock.monotonicMs()
    if (verdict === 'ok')
      this.#offset.note(steadyMs - startedMs, wallMs(this.#clock), numberOf(rest[1], 'beat'), steadyMs)
    if (this.#isOver || verdict === 'ok') return
    // Redis lost us (restored from an old copy, or flushed): come back as if new.
    if (verdict === 'unknown') return this.#claim()
    this.#end()
    this.#options.onLost(
      verdict === 'superseded'
        ? this.#claimed(textOf(rest[0], 'beat'), textOf(rest[1], 'beat'))
        : new RingfsError('CANCELLED', `node ${this.#options.identity.id} was removed from the cluster (${verdict})`),
    )
  }

  #report(): string {
    const report = this.#options.report?.()
    if (report === undefined) return ''
    // Also what our clock was set by since it was measured.
    const offsetMs = this.#offset.msAt(wallMs(this.#clock), this.#clock.monotonicMs())
    return encodeReport({ ...report, clockOffsetMs: Math.round(offsetMs) })
  }

  async #run(script: Script, args: readonly (string | number)[]): Promise<Reply> {
    const reply = await this.#store.run(script, this.#keys.membership, args, { deadlineMs: BEAT_DEADLINE_MS })
    const [verdict, ...rest] = arrayOf(reply, script.name)
    return { verdict: textOf(verdict, script.name), rest }
  }

  #schedule(): void {
    if (this.#isOver) return
    this.#timer = this.#clock.after(this.#intervalMs, () => {
      this.#beatUnlessStuck()
        .catch((error: unknown) => {
          // An identity that another took while we came back from 'unknown' is lost as well.
          if (error instanceof RingfsError && error.code === 'NODE_IDENTITY_CLAIMED') this.#lose(error)
          else this.#options.log.warn({ err: messageOf(error) }, 'heartbeat failed')
        })
        .finally(() => this.#schedule())
    })
    this.#timer.unref()
  }

  async #beatUnlessStuck(): Promise<void> {
    const isStuck = this.#options.isStuck?.() === true
    if (isStuck && this.#isSilent) return
    await this.beat()
    if (isStuck !== this.#isSilent) {
      const { id } = this.#options.identity
      const text = isStuck
        ? 'this node cannot do what it is asked for, and is silent until it can'
        : 'this node is well again'
      this.#options.log.warn({ node: id }, text)
    }
    this.#isSilent = isStuck
  }

  #lose(error: RingfsError): void {
    if (this.#isOver) return
    this.#end()
    this.#options.onLost(error)
  }

  #end(): void {
    this.#isOver = true
    this.#timer?.close()
  }

  async leave(): Promise<void> {
    if (this.#isOver) return
    this.#end()
    const args = [this.#options.identity.id, this.incarnation]
    try {
      await this.#store.run(LEAVE, this.#keys.membership, args, { deadlineMs: LEAVE_DEADLINE_MS })
    } catch (error) {
      this.#options.log.warn({ err: messageOf(error) }, 'could not say goodbye: others will notice the silence')
    }
  }

  #claimed(address: string, pid: string): RingfsError {
    return new RingfsError(
      'NODE_IDENTITY_CLAIMED',
      `node identity ${this.#options.identity.id} is in use by process ${pid} at ${address}: ` +
        'a data folder serves one node; give each node a folder of its own (do not copy one)',
    )
  }
}

interface Reply {
  readonly verdict: string
  readonly rest: readonly RedisValue[]
}

export interface MembershipTimes {
  readonly suspectMs: number
  readonly downMs: number
  /** Without: as it was. */
  readonly outMs?: number
}

/** For all nodes and clients of the volume. Without it: 4 s, 15 s and 5 min. Errors: USAGE. */
export async function setMembershipTimes(store: RedisStore, volume: string, times: MembershipTimes): Promise<void> {
  const { suspectMs, downMs, outMs } = times
  if (!(suspectMs > 0 && downMs >= suspectMs)) throw new RingfsError('USAGE', 'a node is suspect before it is down')
  if (outMs !== undefined && outMs < downMs) throw new RingfsError('USAGE', 'a node is down before it loses its place')
  const out = outMs === undefined ? [] : ['outMs', outMs]
  await store.call('HSET', new ClusterKeys(volume).options, 'suspectMs', suspectMs, 'downMs', downMs, ...out)
}

/** What each node may fetch in a second to be whole; 0: without a limit. */
export async function setHealLimit(store: RedisStore, volume: string, bytesPerS: number): Promise<void> {
  if (!(bytesPerS >= 0)) throw new RingfsError('USAGE', 'a limit is 0 (none) or more bytes a second')
  await store.call('HSET', new ClusterKeys(volume).options, 'healBytesPerS', Math.round(bytesPerS))
}

/** How long nodes keep copies that are none of their business, once all is whole. Without it: a minute. */
export async function setSurplusTime(store: RedisStore, volume: string, surplusMs: number): Promise<void> {
  if (!(surplusMs >= 0)) throw new RingfsError('USAGE', 'a time is 0 or more')
  await store.call('HSET', new ClusterKeys(volume).options, 'surplusMs', Math.round(surplusMs))
}

/** How long a round of scrubbing takes. Without it: a week. */
export async function setScrubTime(store: RedisStore, volume: string, scrubMs: number): Promise<void> {
  if (!(scrubMs > 0)) throw new RingfsError('USAGE', 'a round of scrubbing takes some time')
  await store.call('HSET', new ClusterKeys(volume).options, 'scrubMs', Math.round(scrubMs))
}

/** Every node walks its ranges again. Repeated after a lost reply it is one walk more, which finds nothing. */
export async function askForWalk(store: RedisStore, volume: string): Promise<number> {
  return numberOf(await store.call('HINCRBY', new ClusterKeys(volume).options, 'walks', 1), 'HINCRBY')
}

/**
 * The operator's arrows of the diagram. Answers the state afterwards, or undefined for an unknown node; the change was made
 * if it is the wanted one, else the node was in none of `from`.
 */
export async function changeState(
  store: RedisStore,
  volume: string,
  nodeId: string,
  to: 'draining' | 'gone' | 'up',
  from: readonly NodeState[],
): Promise<string | undefined> {
  const reply = await store.run(TRANSITION, new ClusterKeys(volume).membership, [nodeId, to, ...from])
  const [, state] = arrayOf(reply, 'transition')
  return textOf(state, 'transition') || undefined
}
