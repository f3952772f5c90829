/**
 * The node processes of `ringfs up`: started, started again when they die, stopped with it.
 *
 *   starting --ready--> running --died--> waiting (0.2, 0.4 … 10 s) --> starting
 *       |                                    ^
 *       +-- died before it was ever ready: the start fails
 *
 * None outlives this process, however it ends: each watches its standard input, a pipe whose other end only this process
 * holds, and stops when it is closed. They are sessions of their own, so that Ctrl-C in the terminal reaches `up` alone,
 * which still needs them to write what is buffered.
 */
import { spawn, type ChildProcess } from 'node:child_process'
import * as z from 'zod'
import { RingfsError } from '../base/errors.js'
import type { Log } from '../base/log.js'
import { atUsualPriority } from '../base/priority.js'
import { firstLine, parseOutcome } from './outcome-line.js'

export interface ChildPlan {
  /** For people. */
  readonly name: string
  /** Words after `node`. */
  readonly words: readonly string[]
  /** Further words, until it was ready for the first time. */
  readonly once?: readonly string[]
  readonly env: NodeJS.ProcessEnv
  /** A line for its standard input, where no other user and no child of it sees it. */
  readonly input: string
}

const FIRST_PAUSE_MS = 200
const LONGEST_PAUSE_MS = 10_000
/** One that ran so long died of something new. */
const HEALTHY_MS = 30_000
/** A node looks through its folders first: a million chunks on a slow disk that nothing of is in memory are many minutes. */
const READY_TIMEOUT_MS = 30 * 60_000
/** So often it is said that one is waited for. */
const TELL_MS = 30_000
const STOP_WAIT_MS = 15_000
const TERM_WAIT_MS = 5_000

export interface SupervisorTimes {
  /** How long one may take until it is ready. */
  readonly readyMs?: number
  readonly tellMs?: number
}

export class Supervisor {
  readonly #children: SupervisedChild[]

  constructor(plans: readonly ChildPlan[], log: Log, times: SupervisorTimes = {}) {
    this.#children = plans.map((plan) => new SupervisedChild(plan, log, times))
  }

  /** Resolves when all are ready; when one cannot start, ends the others and throws what it said. */
  async start(): Promise<void> {
    try {
      await Promise.all(this.#children.map((child) => child.start()))
    } catch (error) {
      await this.stop()
      throw error
    }
  }

  pids(): readonly number[] {
    return this.#children.map((child) => child.pid).filter((pid) => pid !== undefined)
  }

  async stop(): Promise<void> {
    await Promise.all(this.#children.map((child) => child.stop()))
  }
}

const readySchema = z.object({ id: z.string(), address: z.string() })

class SupervisedChild {
  readonly #plan: ChildPlan
  readonly #log: Log
  readonly #times: Required<SupervisorTimes>
  #process: ChildProcess | undefined
  #exited: Promise<void> = Promise.resolve()
  #timer: NodeJS.Timeout | undefined
  #pauseMs = FIRST_PAUSE_MS
  #stopping = false
  #wasReady = false

  constructor(plan: ChildPlan, log: Log, { readyMs = READY_TIMEOUT_MS, tellMs = TELL_MS }: SupervisorTimes) {
    this.#plan = plan
    this.#log = log
    this.#times = { readyMs, tellMs }
  }

  get pid(): number | undefined {
    return this.#process?.pid
  }

  async start(): Promise<void> {
    const child = this.#spawn()
    await this.#ready(child)
    this.#wasReady = true
    const startedMs = performance.now()
    if (child.exitCode !== null || child.signalCode !== null) this.#died(child, startedMs)
    else child.once('exit', () => this.#died(child, startedMs))
  }

  #spawn(): ChildProcess {
    const { words, once = [], env, input } = this.#plan
    const all = this.#wasReady ? words : [...words, ...once]
    const child = atUsualPriority(() =>
      spawn(process.execPath, all, { stdio: ['pipe', 'pipe', 'inherit'], detached: true, env }),
    )
    this.#process = child
    this.#exited = new Promise((resolve) => {
      child.once('exit', () => resolve())
      child.once('error', () => resolve())
    })
    // The pipe breaks when the child dies: that is told by its exit.
    child.stdin.on('error', () => undefined)
    child.stdin.write(`${input}\n`)
    return child
  }

  /** The child's first line of output says that it is ready, or why it cannot be. */
  async #ready(child: ChildProcess): Promise<void> {
    const { name } = this.#plan
    const { readyMs, tellMs } = this.#times
    const startMs = performance.now()
    const telling = setInterval(() => {
      const waitedS = Math.round((performance.now() - startMs) / 1000)
      this.#log.warn({ waitedS }, `${name} is not ready yet: it looks through its folders`)
    }, tellMs)
    const failed = new Promise<undefined>((resolve) => child.once('error', () => resolve(undefined)))
    const first = child.stdout === null ? undefined : firstLine(child.stdout)
    let timer: NodeJS.Timeout | undefined
    const late = new Promise<undefined>((resolve) => (timer = setTimeout(() => resolve(undefined), readyMs)))
    const line = await Promise.race([first, failed, late])
    clearTimeout(timer)
    clearInterval(telling)
    if (line !== undefined) {
      parseOutcome(line, readySchema)
      return
    }
    child.kill('SIGKILL')
    throw new RingfsError('INTERNAL', `${name} did not become ready: see the log`)
  }

  #died(child: ChildProcess, startedMs: number): void {
    if (this.#stopping) return
    if (performance.now() - startedMs > HEALTHY_MS) this.#pauseMs = FIRST_PAUSE_MS
    const { name } = this.#plan
    const how = { code: child.exitCode, signal: child.signalCode, pauseMs: this.#pauseMs }
    this.#log.warn(how, `${name} has died and is started again`)
    this.#again()
  }

  #again(): void {
    this.#timer = setTimeout(() => {
      this.start().catch((error: unknown) => {
        if (this.#stopping) return
        this.#log.error({ err: String(error) }, `${this.#plan.name} cannot be started`)
        this.#again()
      })
    }, this.#pauseMs)
    this.#pauseMs = Math.min(this.#pauseMs * 2, LONGEST_PAUSE_MS)
  }

  /** Politely, then less so. */
  async stop(): Promise<void> {
    this.#stopping = true
    clearTimeout(this.#timer)
    const child = this.#process
    if (child === undefined) return
    child.stdin?.end()
    if (await within(this.#exited, STOP_WAIT_MS)) return
    child.kill('SIGTERM')
    if (await within(this.#exited, TERM_WAIT_MS)) return
    child.kill('SIGKILL')
    await this.#exited
  }
}

async function within(done: Promise<void>, waitMs: number): Promise<boolean> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<boolean>((resolve) => (timer = setTimeout(() => resolve(false), waitMs)))
  const result = await Promise.race([done.then(() => true), late])
  clearTimeout(timer)
  return result
}
