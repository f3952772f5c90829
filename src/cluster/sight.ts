/**
 * Whom this node reaches: every other member is asked directly, so that a node which reaches Redis but not its peers (a wrong
 * advertised address, a firewall, a one-way partition) is seen and named. Says nothing about who is alive: that is
 * membership's business, and a node that only we cannot reach is not dead.
 *
 *   seen --two failures in a row--> unreachable --an answer--> seen
 */
import type { Clock, Timer } from '../base/clock.js'
import { messageOf } from '../base/errors.js'
import type { Log } from '../base/log.js'
import type { ClusterView, Member, Unreachable } from './contract.js'

export interface SightOptions {
  readonly nodeId: string
  readonly view: () => ClusterView
  /** Rejects when the member does not answer in time, or another one answers at its address. */
  readonly ask: (nodeId: string, deadlineMs: number) => Promise<unknown>
  readonly clock: Clock
  readonly log: Log
  readonly random?: () => number
  /** Default 1,000. */
  readonly intervalMs?: number
}

const INTERVAL_MS = 1_000
const DEADLINE_MS = 2_000
const FAILURES = 2
/** In a round: with more members each is asked less often. */
const ASKED_MAX = 16

interface Trouble {
  failures: number
  readonly sinceMs: number
  why: string
}

export class Sight {
  readonly #options: SightOptions
  readonly #troubles = new Map<string, Trouble>()
  #next = 0
  #timer: Timer | undefined
  #isClosed = false

  constructor(options: SightOptions) {
    this.#options = options
  }

  start(): void {
    if (this.#isClosed) return
    const { intervalMs = INTERVAL_MS, random = Math.random, clock } = this.#options
    this.#timer = clock.after(intervalMs * (0.75 + random() / 2), () => {
      void this.look().finally(() => this.start())
    })
    this.#timer.unref()
  }

  close(): void {
    this.#isClosed = true
    this.#timer?.close()
  }

  /** One round. Never rejects. */
  async look(): Promise<void> {
    const others = this.#others()
    this.#forgetAllBut(others)
    const asked = others.length <= ASKED_MAX ? others : this.#someOf(others)
    await Promise.all(asked.map((member) => this.#ask(member)))
  }

  #forgetAllBut(others: readonly Member[]): void {
    for (const id of this.#troubles.keys()) if (!others.some((one) => one.id === id)) this.#troubles.delete(id)
  }

  /** Who answers nobody is down, and needs no naming. */
  #others(): readonly Member[] {
    const { view, nodeId } = this.#options
    return view().members.filter(({ id, state }) => id !== nodeId && state !== 'gone' && state !== 'down')
  }

  #someOf(others: readonly Member[]): readonly Member[] {
    const start = this.#next % others.length
    this.#next = start + ASKED_MAX
    return [...others.slice(start), ...others.slice(0, start)].slice(0, ASKED_MAX)
  }

  async #ask({ id }: Member): Promise<void> {
    try {
      await this.#options.ask(id, DEADLINE_MS)
      this.#seen(id)
    } catch (error) {
      this.#failed(id, messageOf(error))
    }
  }

  #seen(id: string): void {
    const trouble = this.#troubles.get(id)
    this.#troubles.delete(id)
    if (trouble !== undefined && trouble.failures >= FAILURES)
      this.#options.log.info({ peer: id }, 'node reached again')
  }

  #failed(id: string, why: string): void {
    const trouble = this.#troubles.get(id) ?? { failures: 0, sinceMs: this.#options.clock.monotonicMs(), why }
    this.#troubles.set(id, trouble)
    trouble.failures++
    trouble.why = why
    if (trouble.failures === FAILURES) this.#options.log.warn({ peer: id, why }, 'node cannot be reached from here')
  }

  unreachable(): readonly Unreachable[] {
    // Asked with each heartbeat, however many members there are.
    if (this.#troubles.size === 0) return []
    const nowMs = this.#options.clock.monotonicMs()
    return this.#others().flatMap(({ id, address }) => {
      const trouble = this.#troubles.get(id)
      if (trouble === undefined || trouble.failures < FAILURES) return []
      return [{ id, address, why: trouble.why, forMs: Math.round(nowMs - trouble.sinceMs) }]
    })
  }
}

/** In words, for `ringfs status`: who cannot reach whom, and what that looks like. */
export function sightProblems({ members, settings }: ClusterView): readonly string[] {
  const told = members.filter(({ state }) => state === 'up' || state === 'suspect' || state === 'draining')
  const speakers = told.filter(({ silentMs }) => silentMs <= STALE_MS)
  return told.flatMap((target) => {
    const others = speakers.filter(({ id }) => id !== target.id)
    const blind = others.flatMap((from) => {
      const seen = from.report?.unreachable.find(({ id }) => id === target.id)
      return seen === undefined ? [] : [{ from, seen }]
    })
    const isSilent = target.silentMs > (settings?.suspectMs ?? STALE_MS)
    if (blind.length === others.length && blind.length > 1) return [byNobody(target, blind, isSilent)]
    return blind.map(({ from, seen }) => {
      const how = isSilent ? 'which is silent' : wayBack(from, target)
      return `${from.id} does not reach ${target.id} at ${seen.address} (${how}): ${seen.why}`
    })
  })
}

interface Blind {
  readonly from: Member
  readonly seen: Unreachable
}

/** Neither, as long as it is not known which: a node that has just ended has also beaten a moment ago. */
function byNobody(target: Member, blind: readonly Blind[], isSilent: boolean): string {
  const whom = `no node reaches ${target.id} at ${target.address}`
  const why = blind[0]?.seen.why ?? ''
  if (isSilent) return `${whom}, and it is silent: it has ended, or hangs, or is cut off (${why})`
  if (!blind.every((one) => hasBeatenSince(target, one))) return `${whom} (${why})`
  return `${whom}, though it reaches Redis: is its --advertise address right, and its port open? (${why})`
}

/** Heard by Redis after the others could not reach it: it lives, and the way to it is what is wrong. */
function hasBeatenSince({ silentMs }: Member, { from, seen }: Blind): boolean {
  return silentMs + UNDER_WAY_MS < seen.forMs + from.silentMs
}

function wayBack(from: Member, target: Member): string {
  return target.report?.unreachable.some(({ id }) => id === from.id) === true
    ? 'nor the other way round'
    : 'one way only'
}

/** What a silent node said last is no news. */
const STALE_MS = 10_000
/** As late as a heartbeat may arrive of a node that has ended meanwhile. */
const UNDER_WAY_MS = 1_000
