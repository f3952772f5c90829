/**
 * Changes across partitions.
 *
 *   prepare   in every partition but one: check the parts, lock what they touch           tx-prepare.lua
 *   commit    in that one, the commit point: check, apply, write the decision             tx-commit.lua
 *   finish    in the others: apply what was prepared, unlock                              tx-finish.lua
 *   forget    the decision, once nobody can ask for it any more                           forget.lua
 *
 * Invariants. Nothing is seen of a transaction before its decision is C, and all of it after: who meets a lock asks the
 * commit point first, and finishes what is decided. Nobody waits for another's lock holding one: who cannot prepare
 * gives all back. (For a delegation, at most its 3 s, he does: below the time after which others abort him.) The
 * decision is made once; whoever waits too long writes A, and then the owner cannot commit. The decision is forgotten only
 * when all partitions are finished. A transaction ends with its session: once that is cleaned up after, its decision is
 * forgotten, so nothing of it may be prepared or committed under the session that its client begins next.
 *
 * Where one server has all the partitions, all of it is one script, tx-whole.lua, of the commit partition: all checks, then all changes. Nobody
 * sees anything between them, so there is no lock and no decision. Whatever is in the way of the other partitions (a lock, a delegation, a
 * freeze), or that one of them is not there any more, is answered with 17, and then it goes step by step. Invariants of that:
 * - It is judged, and its reply kept, in the commit partition alone. A copy that comes later, wherever the others are by then, gets that reply
 *   or is refused as old, before it looks at anything: what went step by step behind a 17 is not done twice.
 * - It writes nothing before it has seen that every slot is there and stays (lib/sides.lua), and nothing behind that can fail.
 * - Locks, decisions (A), delegations and freezes hold for it as for the steps, since it checks the same (lib/parts.lua).
 */
import { leavesDoubt } from '../base/doubt.js'
import { invariant } from '../base/invariant.js'
import { PosixError, isErrno } from '../base/errno.js'
import { messageOf } from '../base/errors.js'
import type { RedisArg, Script } from '../cluster/contract.js'
import type { SawDirectory } from './contract.js'
import type { Core } from './core.js'
import type { VolumeKeys } from './keys.js'
import { decodeInode } from './records.js'
import { STATUS_ABORTED, STATUS_APART, STATUS_LOCKED, STATUS_RETRY, STATUS_UNBORN, type Reply } from './reply.js'
import { SCRIPTS } from './scripts.js'

const PART_ARGS = 9

const { txPrepare, txCommit, txWhole, txPrepareGrowing, txCommitGrowing, txWholeGrowing } = SCRIPTS
const STEPS = { prepare: txPrepare, commit: txCommit, whole: txWhole }
/** Refused when Redis has no memory left: it is needed for removing. A name that is moved makes no more of them. */
const GROWING_STEPS: typeof STEPS = { prepare: txPrepareGrowing, commit: txCommitGrowing, whole: txWholeGrowing }

/** A piece of a transaction: what happens to one directory entry or inode. See scripts/lib/parts.lua. */
export interface Part {
  /** Whose partition it belongs to: the directory of an entry, or the inode. */
  readonly ino: number
  readonly args: readonly RedisArg[]
}

/** By partition. */
type Groups = ReadonlyMap<number, readonly Part[]>

export interface Entry {
  readonly parent: number
  readonly name: Buffer
  readonly hash: number
}

function part(ino: number, ...args: RedisArg[]): Part {
  while (args.length < PART_ARGS) args.push('0')
  return { ino, args }
}

export function removeEntry(entry: Entry, ino: number, type: number, nlinks: number): Part {
  return part(entry.parent, 'R', entry.parent, entry.name, entry.hash, ino, type, nlinks)
}

export function putEntry(
  entry: Entry,
  ino: number,
  type: number,
  nlinks: number,
  old: { readonly ino: number; readonly type: number } | null,
): Part {
  return part(entry.parent, 'P', entry.parent, entry.name, entry.hash, ino, type, nlinks, old?.ino ?? 0, old?.type ?? 0)
}

function isOfName({ args: [kind] }: Part): boolean {
  return kind === 'R' || kind === 'P'
}

export function changeInode(ino: number, nlinks: number, parent = 0): Part {
  return part(ino, 'N', ino, nlinks, parent)
}

export function removeDirectory(ino: number): Part {
  return part(ino, 'E', ino)
}

/** The state was not what the caller took for granted: look again and begin anew. */
export class Restart extends Error {
  /** An inode that a name led to is not there. */
  readonly isGone: boolean
  constructor(isGone = false) {
    super('the transaction has to begin anew')
    this.isGone = isGone
  }
}

/** However busy a name is, so often it does not change just between two of our looks: then its inode was lost. */
const GONE_MAX = 40

/** Runs `attempt` until it does not ask for another go. Errors: ETIMEDOUT; EIO when a name leads to no inode. */
export async function untilDone<T>(core: Core, attempt: () => Promise<T>): Promise<T> {
  const patience = core.patience()
  for (let gone = 0; ;) {
    try {
      return await attempt()
    } catch (error) {
      if (!(error instanceof Restart)) throw error
      if (error.isGone && ++gone > GONE_MAX) throw new PosixError('EIO', 'a name leads to an inode that is not there')
      await patience.wait()
    }
  }
}

/** An inode that an entry named is gone: the entry is, too, or it names another by now. */
export async function restartIfGone<T>(work: Promise<T>): Promise<T> {
  try {
    return await work
  } catch (error) {
    if (isErrno(error, 'ENOENT')) throw new Restart(true)
    throw error
  }
}

export function ignoreGone(error: unknown): void {
  if (!isErrno(error, 'ENOENT')) throw error
}

/** As lib/sides.lua reads them. */
function sideArgs(keys: VolumeKeys, p: number, parts: readonly Part[]): RedisArg[] {
  const partition = keys.partition(p)
  const { inodes, locks, counters, channel, open, garbage, zombies } = partition
  return [
    ...[inodes, locks, counters, channel, open, garbage, zombies],
    parts.length * PART_ARGS,
    ...parts.flatMap((one) => one.args),
    ...parts.map((one) => partition.names(one.ino)),
  ]
}

/** What a commit answers: 0, then the number and the record of each directory in which a name changed. */
function seeDirectories(reply: Reply, saw: SawDirectory): void {
  for (let at = 1; at + 1 < reply.length; at += 2) saw(decodeInode(reply.number(at), reply.buffer(at + 1)).attr)
}

export class Transaction {
  readonly id: string
  readonly #core: Core
  readonly #session: number
  readonly #kind: string
  readonly #steps: typeof STEPS
  readonly #commitPartition: number
  readonly #prepared = new Map<number, readonly number[]>()
  /** The commit was sent and no reply came: a copy of it may be on its way still. */
  #isCommitUnknown = false
  /** The decision is known, so it is made. */
  #isDecided = false

  /** `kind` names its steps for crash tests; `at` is an inode of the commit partition. */
  constructor(core: Core, kind: string, at: number) {
    this.#core = core
    this.#kind = kind
    this.#steps = kind === 'link' ? GROWING_STEPS : STEPS
    this.#commitPartition = core.keys.home(at)
    this.#session = core.session.id
    this.id = `${this.#session}.${core.session.nextSequence()}`
  }

  /** A change of the session that the transaction began in, and of no later one. */
  #change(
    script: Script,
    p: number,
    keys: readonly string[],
    args: readonly RedisArg[],
    beside?: readonly number[],
  ): Promise<Reply> {
    const check = (): void => {
      if (this.#core.session.id !== this.#session)
        throw new PosixError('EIO', 'the session was ended by another client')
    }
    return this.#core.send(script, p, keys, args, check, beside)
  }

  get commitPartition(): number {
    return this.#commitPartition
  }

  /** Nobody has been told the outcome, and the commit may be carried out yet. */
  get mayStillCommit(): boolean {
    return this.#isCommitUnknown && !this.#isDecided
  }

  /**
   * Prepares and commits. The rest is done behind this call, for whoever meets a lock comes past it; but no lock guards the
   * attributes of a directory in which a name was prepared, so that is waited for: the caller is to see its new times
   * and links. A commit whose answer does not come is asked about: it counts if it was made (nobody is told of directories then).
   * Throws Restart or PosixError with nothing changed; any other error where that cannot be found out (`mayStillCommit`).
   */
  async run(parts: readonly Part[], saw?: SawDirectory): Promise<void> {
    const groups = this.#group(parts)
    const own = groups.get(this.#commitPartition) ?? []
    groups.delete(this.#commitPartition)
    invariant(own.length > 0, 'the commit point has a part')
    if (await this.#isDoneAtOnce(own, groups, saw)) return
    try {
      // What was prepared must not be lost behind a decision that says it will be done, nor the decision behind its doing: each is
      // answered when the replicas have it.
      await this.#prepareAll(groups)
      const reply = await this.#commit(own)
      if (saw !== undefined) seeDirectories(reply, saw)
    } catch (error) {
      if (!(await this.#isMadeAllTheSame())) throw error
    }
    const ending = this.#end('C')
    if ([...groups.values()].some((others) => others.some(isOfName))) await ending
    else this.#core.background.run(ending.then(() => this.#tell(groups)))
  }

  /** In one script. false: nothing was done, and it has to go step by step. Throws as run(). */
  async #isDoneAtOnce(own: readonly Part[], groups: Groups, saw?: SawDirectory): Promise<boolean> {
    const { keys, servers, births } = this.#core
    const others = [...groups.keys()]
    if (others.length === 0 || !servers.areTogether([this.#commitPartition, ...others])) return false
    // Of directories of ours that are just being made only the marks are left then; the script takes those away.
    for (const p of others) births.ahead(p)?.catch(() => undefined)
    const partition = keys.partition(this.#commitPartition)
    const sides = [...groups].flatMap(([p, parts]) => sideArgs(keys, p, parts))
    const args = [this.id, own.length * PART_ARGS, ...own.flatMap((one) => one.args), ...sides]
    this.#isCommitUnknown = true
    const names = own.map((one) => partition.names(one.ino))
    const commitKeys = [partition.decisions, ...names]
    let reply
    try {
      reply = await this.#change(this.#steps.whole, this.#commitPartition, commitKeys, args, others)
    } catch (error) {
      // Others than these refuse it for certain.
      if (!leavesDoubt(error)) this.#isCommitUnknown = false
      throw error
    }
    this.#isCommitUnknown = false
    // It is judged, so no copy of it asks for the decision.
    if (reply.status === STATUS_ABORTED) this.#core.background.remove(partition.decisions, this.id)
    if (reply.status === STATUS_APART) {
      if (reply.number(1) === 1) servers.areApart(this.#commitPartition)
      return false
    }
    await this.#judge(this.#commitPartition, reply)
    if (saw !== undefined) seeDirectories(reply, saw)
    return true
  }

  /** What the caller has seen of these inodes since he was answered may be of before: of changes of its own a session hears nothing. */
  #tell(groups: Groups): void {
    const others = [...groups.values()].flat()
    for (const { ino, args } of others) if (args[0] === 'N') this.#core.onFinished(ino)
  }

  #group(parts: readonly Part[]): Map<number, Part[]> {
    const groups = new Map<number, Part[]>()
    for (const one of parts) {
      const p = this.#core.keys.home(one.ino)
      const group = groups.get(p)
      if (group === undefined) groups.set(p, [one])
      else group.push(one)
    }
    return groups
  }

  async #prepareAll(groups: Groups): Promise<void> {
    if (this.#core.options.onStep !== undefined) {
      for (const [p, parts] of groups) await this.#prepare(p, parts)
      return
    }
    const results = await Promise.allSettled([...groups].map(([p, parts]) => this.#prepare(p, parts)))
    const failed = results.find((result) => result.status === 'rejected')
    if (failed !== undefined) throw failed.reason
  }

  async #prepare(p: number, parts: readonly Part[]): Promise<void> {
    // From here on it may be prepared, whatever becomes of the reply.
    this.#prepared.set(
      p,
      parts.map((one) => one.ino),
    )
    const { keys } = this.#core
    const names = parts.map((one) => keys.partition(p).names(one.ino))
    const args = [this.id, this.#commitPartition, ...parts.flatMap((one) => one.args)]
    const reply = await this.#change(this.#steps.prepare, p, names, args)
    await this.#judge(p, reply)
    await this.#core.step(`${this.#kind}:prepared:${p}`)
  }

  async #commit(parts: readonly Part[]): Promise<Reply> {
    const { keys } = this.#core
    const partition = keys.partition(this.#commitPartition)
    const names = parts.map((one) => partition.names(one.ino))
    const args = [this.id, this.#prepared.size > 0 ? 1 : 0, ...parts.flatMap((one) => one.args)]
    this.#isCommitUnknown = true
    const reply = await this.#change(this.#steps.commit, this.#commitPartition, [partition.decisions, ...names], args)
    this.#isCommitUnknown = false
    await this.#judge(this.#commitPartition, reply)
    await this.#core.step(`${this.#kind}:committed`)
    return reply
  }

  async #judge(p: number, reply: Reply): Promise<void> {
    reply.check()
    if (reply.status === STATUS_LOCKED) {
      await this.#core.resolve(p, reply)
      throw new Restart()
    }
    if (reply.status === STATUS_UNBORN) {
      await this.#core.bear(p, reply)
      throw new Restart()
    }
    if (reply.status === STATUS_RETRY || reply.status === STATUS_ABORTED) throw new Restart()
  }

  /**
   * After a failure. A commit whose reply did not come may have been made: then the decision says C, and else it becomes A for good, and
   * what was prepared is given back.
   */
  async #isMadeAllTheSame(): Promise<boolean> {
    if (this.#prepared.size === 0) return false
    try {
      const outcome = await this.#core.decide(this.id, this.#commitPartition, true)
      this.#isDecided = true
      if (outcome === 'C' && this.#isCommitUnknown) return true
      await this.#end(outcome === 'C' ? 'C' : 'A')
    } catch (error) {
      this.#core.options.log.warn({ tx: this.id, error: messageOf(error) }, 'a transaction is left to be aborted')
    }
    return false
  }

  /** What fails here is finished by whoever meets it. */
  async #end(outcome: 'C' | 'A'): Promise<void> {
    const { log } = this.#core.options
    try {
      for (const [p, inos] of this.#prepared) {
        await this.#core.finish(p, this.id, outcome, inos)
        await this.#core.step(`${this.#kind}:finished:${p}`)
      }
      if (this.#prepared.size === 0) return
      this.#forget(outcome)
    } catch (error) {
      // The outcome stands. Others come past these locks through the commit point.
      log.warn({ tx: this.id, outcome, error: messageOf(error) }, 'a transaction is left to be finished')
      if (error instanceof PosixError) return
    }
  }

  /** Nobody will ask for the decision any more, but perhaps a late copy of the commit. Of a session that is over the server takes none. */
  #forget(outcome: 'C' | 'A'): void {
    const { session, voids, background, keys } = this.#core
    const isNeeded = outcome === 'A' && this.#isCommitUnknown && session.id === this.#session
    if (isNeeded) voids.add(this.#commitPartition, this.id, session.newestSequence)
    else background.remove(keys.partition(this.#commitPartition).decisions, this.id)
  }
}
