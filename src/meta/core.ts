/** What all parts of the engine share: running scripts on partitions, and getting past prepared transactions. */
import type { Clock } from '../base/clock.js'
import { PosixError } from '../base/errno.js'
import type { Log } from '../base/log.js'
import type { RedisArg, RedisStore, Script, VolumeSettings } from '../cluster/contract.js'
import { Background } from './background.js'
import { Births } from './births.js'
import type { VolumeKeys } from './keys.js'
import { Recalls } from './recalls.js'
import type { Replicas } from './replicas.js'
import { Reply, STATUS_LOCKED, STATUS_RECALLED, STATUS_UNBORN } from './reply.js'
import { SCRIPTS } from './scripts.js'
import { Servers } from './servers.js'
import type { Session } from './session.js'
import { VoidCommits } from './void-commits.js'

export interface CoreOptions {
  readonly store: RedisStore
  readonly settings: VolumeSettings
  readonly keys: VolumeKeys
  readonly session: Session
  readonly replicas: Replicas
  readonly clock: Clock
  readonly log: Log
  readonly random: () => number
  /** A transaction undecided for so long is aborted by whoever waits for it. */
  readonly intentTimeoutMs: number
  readonly operationDeadlineMs: number
  /** Numbers for new directories that are reserved at once; so many in a row lie in one partition. */
  readonly numbersAhead: number
  /** For crash tests: called between the steps of changes across partitions. */
  readonly onStep?: (step: string) => Promise<void>
  /** Changes across partitions of one server are one script. */
  readonly atOnce: boolean
}

const BACKOFF_FIRST_MS = 1
const BACKOFF_MAX_MS = 50

/** Waits a little longer each time; gives up with ETIMEDOUT. */
class Patience {
  readonly #core: CoreOptions
  readonly #untilMs: number
  #backoffMs = BACKOFF_FIRST_MS

  constructor(core: CoreOptions) {
    this.#core = core
    this.#untilMs = core.clock.monotonicMs() + core.operationDeadlineMs
  }

  check(): void {
    if (this.#core.clock.monotonicMs() <= this.#untilMs) return
    throw new PosixError('ETIMEDOUT', 'other changes of the same names did not come to an end')
  }

  async wait(): Promise<void> {
    this.check()
    await this.#core.clock.sleep(this.#backoffMs * (0.5 + this.#core.random()))
    this.#backoffMs = Math.min(this.#backoffMs * 2, BACKOFF_MAX_MS)
  }
}

/** What this session's own changes have to do on account of the delegations that it holds: holdings.ts. */
export interface ChangeGuard {
  around<T>(script: Script, partitions: readonly number[], change: () => Promise<T>): Promise<T>
}

export class Core {
  readonly options: CoreOptions
  readonly keys: VolumeKeys
  readonly session: Session
  readonly background: Background
  readonly births: Births
  readonly recalls: Recalls
  readonly replicas: Replicas
  readonly voids: VoidCommits
  readonly servers: Servers
  /** For scripts that give numbers: '1' where no other server can ever take this one's place (scripts/lib/history.lua). */
  readonly lone: '0' | '1'
  holdings: ChangeGuard = { around: (_script, _partitions, change) => change() }
  /** Called before something is asked of a partition, or changed there: resolves when it is listened to; undefined: no need to wait. */
  listen: (p: number) => Promise<void> | undefined = () => undefined
  /** Called when a change of an inode was finished behind the answer of the call that made it. */
  onFinished: (ino: number) => void = () => undefined

  constructor(options: CoreOptions) {
    this.options = options
    this.background = new Background(options)
    this.lone = options.store.isLone ? '1' : '0'
    this.replicas = options.replicas
    this.voids = new VoidCommits((p, tx) => this.background.remove(options.keys.partition(p).decisions, tx))
    this.births = new Births(
      { ...options, background: this.background, replicas: this.replicas, lone: this.lone },
      (p, keys, args) => this.change(SCRIPTS.reserve, p, keys, args),
    )
    this.keys = options.keys
    this.session = options.session
    this.servers = new Servers(options)
    this.recalls = new Recalls(options.clock)
  }

  get partitions(): number {
    return this.keys.partitions
  }

  step(name: string): Promise<void> {
    return this.options.onStep?.(name) ?? Promise.resolve()
  }

  patience(): Patience {
    return new Patience(this.options)
  }

  run(script: Script, keys: readonly string[], args: readonly RedisArg[]): ReturnType<RedisStore['run']> {
    return this.options.store.run(script, keys, args, { deadlineMs: this.options.operationDeadlineMs })
  }

  /** A script of lib/read.lua. What an undecided transaction will change is read as it is before it. */
  async read(script: Script, p: number, keys: readonly string[], args: readonly RedisArg[]): Promise<Reply> {
    const partition = this.keys.partition(p)
    const heard = this.listen(p)
    if (heard !== undefined) await heard
    const pending: string[] = []
    const patience = this.patience()
    for (;;) {
      const reply = await this.#behindBirths(
        p,
        async () =>
          new Reply(await this.run(script, [partition.inodes, partition.locks, ...keys], [pending.join(' '), ...args])),
      )
      if (reply.status !== STATUS_LOCKED) return reply.check()
      if (await this.resolve(p, reply)) continue
      const tx = reply.buffer(1).toString('latin1')
      if (pending.includes(tx)) await patience.wait()
      else pending.push(tx)
    }
  }

  /** A script of lib/mutate.lua. Waits for prepared transactions in its way. Negative statuses are thrown. */
  async change(script: Script, p: number, keys: readonly string[], args: readonly RedisArg[]): Promise<Reply> {
    const patience = this.patience()
    for (;;) {
      const reply = await this.send(script, p, keys, args)
      if (reply.status === STATUS_UNBORN) await this.bear(p, reply)
      else if (reply.status !== STATUS_LOCKED) return reply.check()
      else if (!(await this.resolve(p, reply))) await patience.wait()
    }
  }

  /**
   * One change, whatever its answer is, as often as it takes to have others' delegations given back: each time as a new change.
   * `check` throws what keeps it from being sent. `beside`: partitions that it changes beside `p`.
   */
  send(
    script: Script,
    p: number,
    keys: readonly string[],
    args: readonly RedisArg[],
    check: () => void = () => undefined,
    beside: readonly number[] = [],
  ): Promise<Reply> {
    const heard = this.#heard(p, beside)
    if (heard !== undefined) return heard.then(() => this.#send(script, p, keys, args, check, beside))
    return this.#send(script, p, keys, args, check, beside)
  }

  #heard(p: number, beside: readonly number[]): Promise<unknown> | undefined {
    const first = this.listen(p)
    if (beside.length === 0) return first
    const all = [first, ...beside.map((one) => this.listen(one))].filter((one) => one !== undefined)
    return all.length === 0 ? undefined : Promise.all(all)
  }

  #send(
    script: Script,
    p: number,
    keys: readonly string[],
    args: readonly RedisArg[],
    check: () => void,
    beside: readonly number[],
  ): Promise<Reply> {
    let patience: Patience | undefined
    const ask = (): Promise<Reply> => {
      check()
      return this.session.change(script, p, keys, args, beside)
    }
    return this.holdings.around(script, [p, ...beside], () =>
      this.recalls.past(
        p,
        () => this.#behindBirths(p, ask),
        refusedMs,
        () => (patience ??= this.patience()).check(),
      ),
    )
  }

  /** A refusal may come from where a directory of ours is still to be made: births.ts. */
  #behindBirths(p: number, ask: () => Promise<Reply>): Promise<Reply> {
    const births = this.births.ahead(p)
    return births === undefined ? ask() : againBehind(births, ask)
  }

  /** Has the directory made that an UNBORN reply of partition `p` names. */
  bear(p: number, reply: Reply): Promise<void> {
    return this.births.complete({ ino: reply.number(1), partition: p, birth: reply.buffer(2) })
  }

  /**
   * Asks the commit point of the transaction that a LOCKED reply of partition `p` names and, if it is decided (one too
   * old is aborted), ends it here. false: it is under way still.
   */
  async resolve(p: number, locked: Reply): Promise<boolean> {
    const tx = locked.buffer(1).toString('latin1')
    const isStale = locked.number(3) > this.options.intentTimeoutMs
    const outcome = await this.decide(tx, locked.number(2), isStale)
    if (outcome === 'P') return false
    await this.finish(p, tx, outcome, locked.numbers(4))
    return true
  }

  async decide(tx: string, commitPartition: number, abort: boolean): Promise<'C' | 'A' | 'P'> {
    const key = this.keys.partition(commitPartition).decisions
    const ask = async (): Promise<string> => String(await this.run(SCRIPTS.txDecide, [key], [tx, abort ? 1 : 0]))
    // What is done elsewhere by it must not survive its loss.
    const outcome = await this.replicas.behind(key, ask, (answer) => answer === 'P')
    return outcome === 'C' || outcome === 'A' ? outcome : 'P'
  }

  /** Does or drops what transaction `tx` prepared in partition `p`; `inos` names its parts' directories in order. */
  async finish(p: number, tx: string, outcome: 'C' | 'A', inos: readonly number[]): Promise<void> {
    const partition = this.keys.partition(p)
    const names = inos.map((ino) => partition.names(ino))
    await this.change(SCRIPTS.txFinish, p, names, [tx, outcome])
  }

  /** Nobody will ask for this decision again. */
  async forget(tx: string, commitPartition: number): Promise<void> {
    await this.run(SCRIPTS.forget, [this.keys.partition(commitPartition).decisions], [tx])
  }
}

async function againBehind(births: Promise<void>, ask: () => Promise<Reply>): Promise<Reply> {
  const reply = await ask()
  if (reply.status >= 0) return reply
  await births
  return await ask()
}

function refusedMs(reply: Reply): number {
  return reply.status === STATUS_RECALLED ? Math.max(1, reply.number(1)) : 0
}
