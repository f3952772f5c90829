/**
 * Replication queues: one Redis Stream a node, with one consumer group. At least once: an entry is deleted only after its
 * task was carried out. What a consumer took and did not finish (it died, or the reply that gave it the entry was lost) is
 * taken by the next one after `takeoverMs`.
 *
 *   enqueue --> new --take--> pending --done--> deleted
 *                               ^  |
 *                               |  +-- failed: pause 1, 2, 4 … s with jitter, at most takeoverMs
 *                               +--+-- consumer silent for takeoverMs, or its successor begins
 *
 * These times are counted by the clock of Redis. When it is set back, what was delivered before counts as delivered then.
 *
 * New entries, and those that are taken again, are taken in turns: however many fail and however long that takes, the others go on.
 * Nothing here blocks in Redis (XREADGROUP BLOCK): the connection is shared with all other calls.
 */
import { systemClock, type Clock } from '../base/clock.js'
import { messageOf } from '../base/errors.js'
import type { Log } from '../base/log.js'
import type { RedisArg, RedisStore, RedisValue, Script } from './contract.js'
import { ClusterKeys } from './keys.js'
import { decodeTask, encodeTask, type ReplicationTask } from './queue-task.js'
import { arrayOf, numberOf, textOf } from './reply.js'
import { SCRIPTS, loadScript } from './script.js'

export type { ReplicationTask } from './queue-task.js'

const ADD = loadScript(SCRIPTS, 'queue-add')
const TAKE = loadScript(SCRIPTS, 'queue-take')
const DONE = loadScript(SCRIPTS, 'queue-done')
export const RETRY = loadScript(SCRIPTS, 'queue-retry')
const MARK = loadScript(SCRIPTS, 'queue-mark')
const PRUNE = loadScript(SCRIPTS, 'queue-prune')
const INHERIT = loadScript(SCRIPTS, 'queue-inherit')
const STEADY = loadScript(SCRIPTS, 'queue-steady')

export interface QueueOptions {
  readonly volume: string
  readonly log: Log
  readonly clock?: Clock
  /** 0 to 1; for jitter. */
  readonly random?: () => number
  /** Default 60,000. */
  readonly takeoverMs?: number
  /** Default 1,000. */
  readonly firstPauseMs?: number
  /** How often an empty queue is looked at. Default 500. */
  readonly pollMs?: number
  /** For one call to Redis. Default 10,000. */
  readonly deadlineMs?: number
}

export interface ConsumeOptions {
  readonly signal: AbortSignal
  /** Tasks in work at once. Default 4. */
  readonly concurrency?: number
  /** No other consumer works on this queue any more: what earlier ones left is taken at once, not after their silence. Default no. */
  readonly inherits?: boolean
}

/** Resolves when the task is done for good; rejects to have it again later. */
export type TaskHandler = (task: ReplicationTask) => Promise<void>

const TAKEOVER_MS = 60_000
const FIRST_PAUSE_MS = 1_000
const POLL_MS = 500
const DEADLINE_MS = 10_000
const CONCURRENCY = 4
/** Tasks in one script; more are added in several, each of them whole. */
const ADD_MAX = 500
const RANGE_PAGE = 500
/** At the clock of Redis, in the time of a takeover. */
const LOOKS = 4
/** Nothing is known of the clock yet: it may have been set back while nobody worked on the queue. */
const UNKNOWN_MS = Number.MAX_SAFE_INTEGER
const PRUNE_IDLE_MS = 24 * 3_600_000

export class ReplicationQueue {
  readonly #store: RedisStore
  readonly #keys: ClusterKeys
  readonly #log: Log
  readonly #clock: Clock
  readonly #random: () => number
  readonly #takeoverMs: number
  readonly #firstPauseMs: number
  readonly #pollMs: number
  readonly #deadlineMs: number

  constructor(store: RedisStore, options: QueueOptions) {
    this.#store = store
    this.#keys = new ClusterKeys(options.volume)
    this.#log = options.log
    this.#clock = options.clock ?? systemClock
    this.#random = options.random ?? Math.random
    this.#takeoverMs = options.takeoverMs ?? TAKEOVER_MS
    this.#firstPauseMs = options.firstPauseMs ?? FIRST_PAUSE_MS
    this.#pollMs = options.pollMs ?? POLL_MS
    this.#deadlineMs = options.deadlineMs ?? DEADLINE_MS
  }

  /**
   * Up to 500 tasks: all or none. Repeated after a lost reply they may stand there twice. A node that is gone gets none: who does not
   * know yet that it is would fill a queue that nobody works on. Errors: REDIS_UNREACHABLE, ENOSPC.
   */
  async enqueue(nodeId: string, tasks: readonly ReplicationTask[]): Promise<void> {
    const keys = [this.#keys.queue(nodeId), this.#keys.members]
    for (let from = 0; from < tasks.length; from += ADD_MAX) {
      const args = [nodeId, ...tasks.slice(from, from + ADD_MAX).map(encodeTask)]
      await this.#store.run(ADD, keys, args, { deadlineMs: this.#deadlineMs })
    }
  }

  /** Tasks not yet done, those in work included. */
  async length(nodeId: string): Promise<number> {
    return numberOf(await this.#store.call('XLEN', this.#keys.queue(nodeId)), 'XLEN')
  }

  /** Answers a question: has everything been handed out that stands in the queue now? Errors: REDIS_UNREACHABLE. */
  async mark(nodeId: string): Promise<() => Promise<boolean>> {
    const { newest } = await this.#marks(nodeId)
    return async () => {
      const { handedOut } = await this.#marks(nodeId)
      return handedOut[0] > newest[0] || (handedOut[0] === newest[0] && handedOut[1] >= newest[1])
    }
  }

  async #marks(nodeId: string): Promise<{ readonly newest: EntryId; readonly handedOut: EntryId }> {
    const [newest, handedOut] = arrayOf(await this.#run(MARK, nodeId, []), MARK.name).map((id) => textOf(id, MARK.name))
    return { newest: entryId(newest), handedOut: entryId(handedOut) }
  }

  /** Chunks that the node is still to remove. */
  async removals(nodeId: string): Promise<ReadonlySet<number>> {
    const chunks = new Set<number>()
    for (let from = '-'; ;) {
      const reply = await this.#store.call('XRANGE', this.#keys.queue(nodeId), from, '+', 'COUNT', RANGE_PAGE)
      const entries = arrayOf(reply, 'XRANGE')
      for (const entry of entries) {
        const [id, fields] = arrayOf(entry, 'XRANGE')
        const [, text] = arrayOf(fields, 'XRANGE')
        const task = decodeTask(textOf(text, 'XRANGE'))
        if (task?.kind === 'remove') chunks.add(task.chunk)
        from = `(${textOf(id, 'XRANGE')}`
      }
      if (entries.length < RANGE_PAGE) return chunks
    }
  }

  /** Forgets all tasks of a node that is gone for good. */
  async drop(nodeId: string): Promise<void> {
    await this.#store.call('UNLINK', this.#keys.queue(nodeId))
  }

  /**
   * Works on a node's queue until the signal; then waits for what is in work. `consumer` tells processes apart: two with
   * one name would keep each other's entries. Failures of Redis are logged and outlasted.
   */
  async consume(nodeId: string, consumer: string, handler: TaskHandler, options: ConsumeOptions): Promise<void> {
    const { signal, concurrency = CONCURRENCY, inherits = false } = options
    const running = new Map<string, Promise<void>>()
    // Not a promise to race with: each race that it does not win would stay in memory for as long as this goes on.
    let wake = (): void => undefined
    const pause = (): Promise<void> =>
      new Promise((resolve) => {
        if (signal.aborted) return resolve()
        const timer = this.#clock.after(this.#pauseMs(), resolve)
        wake = () => {
          timer.close()
          resolve()
        }
      })
    signal.addEventListener('abort', () => wake(), { once: true })
    if (inherits) await this.#tidy(nodeId, () => this.#inherit(nodeId, consumer, signal))
    await this.#tidy(nodeId, () => this.#run(PRUNE, nodeId, [PRUNE_IDLE_MS]))
    let isNewFirst = false
    let look = { dueMs: -Infinity, redisMs: UNKNOWN_MS }
    while (!signal.aborted) {
      const nowMs = this.#clock.monotonicMs()
      if (nowMs >= look.dueMs) {
        look = { dueMs: nowMs + this.#takeoverMs / LOOKS, redisMs: await this.#steady(nodeId, look.redisMs, signal) }
      }
      const room = concurrency - running.size
      const entries = await this.#take(nodeId, consumer, room, isNewFirst, [...running.keys()])
      // Turns are for what was taken: looking without room is none.
      if (room > 0) isNewFirst = !isNewFirst
      for (const [id, text] of entries) {
        if (running.has(id)) continue
        const work = this.#work(nodeId, consumer, id, text, handler).finally(() => {
          // Full: go on when something is finished. Not full: there was no more, so look again later.
          if (running.size >= concurrency) wake()
          running.delete(id)
        })
        running.set(id, work)
      }
      await pause()
    }
    await Promise.all(running.values())
  }

  #pauseMs(): number {
    return this.#pollMs * (0.75 + this.#random() / 2)
  }

  async #take(
    nodeId: string,
    consumer: string,
    room: number,
    isNewFirst: boolean,
    inWork: readonly string[],
  ): Promise<[string, string][]> {
    try {
      const args = [consumer, room, this.#takeoverMs, isNewFirst ? 1 : 0, ...inWork]
      const reply = await this.#run(TAKE, nodeId, args)
      return arrayOf(reply, TAKE.name).map((entry) => {
        const [id, text] = arrayOf(entry, TAKE.name)
        return [textOf(id, TAKE.name), textOf(text, TAKE.name)]
      })
    } catch (error) {
      this.#log.warn({ node: nodeId, err: messageOf(error) }, 'replication queue not read')
      return []
    }
  }

  async #work(nodeId: string, consumer: string, id: string, text: string, handler: TaskHandler): Promise<void> {
    const task = decodeTask(text)
    if (task === undefined) {
      this.#log.error({ node: nodeId, entry: id, text }, 'unknown task dropped from the replication queue')
      return this.#settle(DONE, nodeId, [id])
    }
    try {
      await handler(task)
    } catch (error) {
      this.#log.info(
        { node: nodeId, kind: task.kind, chunk: task.chunk, err: messageOf(error) },
        'replication task failed',
      )
      const args = [consumer, id, this.#takeoverMs, this.#firstPauseMs, this.#random()]
      return this.#settle(RETRY, nodeId, args)
    }
    await this.#settle(DONE, nodeId, [id])
  }

  /** Answers the time of Redis; what it was told if that is not known, or not all was looked through. */
  async #steady(nodeId: string, lastMs: number, signal: AbortSignal): Promise<number> {
    let startMs: number | undefined
    let tasks = 0
    try {
      await this.#pages(STEADY, nodeId, [lastMs], signal, ([nowMs, count]) => {
        startMs ??= numberOf(nowMs, STEADY.name)
        tasks += numberOf(count, STEADY.name)
      })
    } catch (error) {
      this.#log.debug({ node: nodeId, err: messageOf(error) }, 'the clock of Redis was not looked at')
      startMs = undefined
    }
    if (tasks > 0) this.#log.warn({ node: nodeId, tasks }, 'the clock of Redis was set back: tasks wait anew')
    return startMs ?? lastMs
  }

  async #inherit(nodeId: string, consumer: string, signal: AbortSignal): Promise<void> {
    await this.#pages(INHERIT, nodeId, [consumer, this.#takeoverMs], signal, () => undefined)
  }

  /** What is pending, some hundred entries in one script. The last value of a reply says where the next goes on. */
  async #pages(
    script: Script,
    nodeId: string,
    args: readonly RedisArg[],
    signal: AbortSignal,
    each: (reply: readonly RedisValue[]) => void,
  ): Promise<void> {
    for (let from = '-'; from !== '' && !signal.aborted;) {
      const reply = arrayOf(await this.#run(script, nodeId, [...args, from]), script.name)
      each(reply)
      from = textOf(reply.at(-1), script.name)
    }
  }

  /** If Redis cannot be told, the entry stays pending and comes again after the takeover time. */
  async #settle(script: Script, nodeId: string, args: readonly RedisArg[]): Promise<void> {
    try {
      await this.#run(script, nodeId, args)
    } catch (error) {
      this.#log.warn({ node: nodeId, err: messageOf(error) }, 'replication queue not told of a finished task')
    }
  }

  /** If Redis cannot be told, it is done by time. */
  async #tidy(nodeId: string, work: () => Promise<unknown>): Promise<void> {
    try {
      await work()
    } catch (error) {
      this.#log.debug({ node: nodeId, err: messageOf(error) }, 'old consumers not dealt with')
    }
  }

  #run(script: Script, nodeId: string, args: readonly RedisArg[]): Promise<RedisValue> {
    return this.#store.run(script, [this.#keys.queue(nodeId)], args, { deadlineMs: this.#deadlineMs })
  }
}

/** Milliseconds and number of a stream's entry. */
type EntryId = readonly [number, number]

function entryId(text = '0-0'): EntryId {
  const [ms = 0, number = 0] = text.split('-').map(Number)
  return [ms, number]
}
