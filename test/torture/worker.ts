/**
 * One worker: random operations in a folder of its own on the mount, and the same ones in a local folder, the oracle. What
 * each call answers must be equal, and the trees afterwards.
 *
 * The mount is asked first. A call that is under way when the mount is killed may have happened or not, as a whole (all but
 * writes are one change), whatever it answers: the oracle has not done it, and does it only if the mount shows that it did.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { chmod, copyFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import type { DriverName } from '../../src/fuse/driver.js'
import { Agent, AgentGone, type Reply, type Words } from './agent.js'
import type { Feature } from './features.js'
import { isNameless } from './nameless.js'
import { Operations, PRELUDE, ROOT, SLOTS, asWords } from './operations.js'
import type { Random } from './random.js'
import { Tail } from './tail.js'
import { differences, pathOf, readTree, type TreeEntry } from './tree.js'
import { Timed, isTimed } from './timed.js'
import { Pending } from './pending.js'

/** Where it works, below its folder: a link to `../a` stays inside. */
const TOP = 'top'
const BUSY_TRIES = 100
const BUSY_SLEEP_MS = 20
const TIMED_PROBABILITY = 0.05

/** One of the mounts, as its workers see it. */
export interface MountView {
  readonly mountpoint: string
  readonly driver: DriverName
  /** Set before it is killed: from then on calls may fail. */
  readonly crashing: boolean
  /** Whether a call may end with this errno for what is done to the cluster: then it happened or not. Default: it may not. */
  excuses?(errno: string): boolean
}

/** What the call did is not known: the mount was killed during it, or something is done to the cluster. */
export function isInDoubt(mount: MountView | undefined, reply: Reply | undefined): boolean {
  if (reply === undefined || mount?.crashing === true) return true
  return !reply.isOk && mount?.excuses?.(reply.text.split('\n').at(-1) ?? '') === true
}

/** A write of which only the beginning was done: what was behind met an error (write(2)). */
function isShortWrite(words: Words, reply: Reply): boolean {
  const numbers = words.map(Number)
  const wanted: Readonly<Record<string, number | undefined>> = {
    pwrite: numbers[3],
    write: numbers[2],
    pwritev: numbers.slice(4).reduce((sum, bytes) => sum + bytes, 0),
    copy: numbers[5],
  }
  return reply.isOk && Number(reply.text.split(' ')[1]) < (wanted[words[0] ?? ''] ?? 0)
}

export interface WorkerPlan {
  readonly program: string
  /** Name of its folder. */
  readonly name: string
  /** The oracle's folder of all workers. */
  readonly oracle: string
  /** For copies of files. */
  readonly scratch: string
  readonly random: Random
  onOperation(line: string): void
}

export class Worker {
  readonly #plan: WorkerPlan
  readonly #pending: Pending
  readonly #tail: Tail
  #mount: MountView | undefined
  #mounted: Agent | undefined
  #expected: Agent | undefined
  #user: Words = asWords(ROOT)
  #umask: Words = ['umask', '22']
  #uncertain: Words | undefined

  constructor(plan: WorkerPlan) {
    this.#plan = plan
    this.#pending = new Pending(plan.scratch)
    this.#tail = new Tail(plan.name, (line) => plan.onOperation(line))
  }

  get operations(): number {
    return this.#tail.count
  }

  get name(): string {
    return this.#plan.name
  }

  /** Once: the folder on both sides, and what is in it at first. */
  async prepare(mount: MountView): Promise<void> {
    await this.attach(mount, false)
    for (const [agent, root] of this.#sides()) {
      await agent.must(['cd', root])
      await agent.must(['mkdir', this.name, '755'])
      await agent.must(['mkdir', join(this.name, TOP), '755'])
      await agent.must(['cd', join(this.name, TOP)])
    }
    for (const words of PRELUDE) await this.#step(words)
    await this.settle()
  }

  /** New agents on both sides, as the user of before. */
  async attach(mount: MountView, enter = true): Promise<void> {
    await this.detach()
    this.#mount = mount
    this.#mounted = new Agent(this.#plan.program)
    this.#expected = new Agent(this.#plan.program)
    this.#pending.attach(this.#expected.pid)
    if (mount.driver === 'fuse-native') this.#user = asWords(ROOT)
    for (const [agent, root] of this.#sides()) {
      if (enter) await agent.must(['cd', join(root, this.name, TOP)])
      if (process.getuid?.() === 0) await agent.must(this.#user)
      await agent.must(this.#umask)
    }
  }

  async detach(): Promise<void> {
    await Promise.all([this.#mounted?.end(), this.#expected?.end()])
    this.#mounted = undefined
    this.#expected = undefined
  }

  /** Ends the process that worked on the mount: its files are closed. What the oracle has is kept for the comparison. */
  async release(): Promise<void> {
    await this.#mounted?.end()
    this.#mounted = undefined
  }

  /** Runs until the count is reached, it is over, or a call is in doubt, of which the mount was killed, say. Answers false then. */
  async run(
    count: number,
    features: ReadonlySet<Feature>,
    mayCrash: boolean,
    isOver: () => boolean = () => false,
  ): Promise<boolean> {
    const random = this.#plan.random
    const operations = new Operations(random, features)
    this.#pending.enabled = mayCrash
    for (let left = count; left > 0 && !isOver(); left--) {
      const words = operations.next()
      const timed = random.chance(TIMED_PROBABILITY) && isTimed(words)
      for (const each of this.#withClosing(words)) {
        if (!(await this.#step(each, timed))) return false
      }
    }
    return true
  }

  /** Closes every file, so that everything is promised. */
  async settle(): Promise<boolean> {
    for (let slot = 0; slot < SLOTS; slot++) if (!(await this.#step(['close', String(slot)]))) return false
    return true
  }

  /** Compares the trees, as seen through any mount, with what a crash may have left if there was one. */
  async verify(viewer: Agent, mount: MountView, when: string): Promise<void> {
    const [ours, theirs] = [join(this.#plan.oracle, this.name), join(mount.mountpoint, this.name)]
    let expected = await readTree(viewer, ours)
    const actual = await readTree(viewer, theirs)
    let wrong = differences(expected, actual, this.#pending.files)
    if (wrong.length > 0 && this.#uncertain !== undefined && this.#expected !== undefined) {
      const before = wrong
      await this.#expected.call(this.#uncertain)
      expected = await readTree(viewer, ours)
      wrong = differences(expected, actual, this.#pending.files)
      if (wrong.length > 0) {
        wrong = ['without the call under way:', ...before, `with ${this.#uncertain.join(' ')}:`, ...wrong]
      }
    }
    if (wrong.length > 0)
      throw this.#tail.disagreement(`the trees differ ${when} (${mount.driver}):\n${wrong.join('\n')}`)
    await this.#adopt(expected, actual, mount)
    this.#uncertain = undefined
  }

  #sides(): readonly (readonly [Agent, string])[] {
    if (this.#mounted === undefined || this.#expected === undefined || this.#mount === undefined) return []
    return [
      [this.#mounted, this.#mount.mountpoint],
      [this.#expected, this.#plan.oracle],
    ]
  }

  /** Documented for fuse-native: a folder cannot go while a removed file of it is open. */
  #withClosing(words: Words): readonly Words[] {
    if (this.#mount?.driver !== 'fuse-native' || (words[0] !== 'rmdir' && words[0] !== 'rename')) return [words]
    return [...Array.from({ length: SLOTS }, (_, slot) => ['close', String(slot)]), words]
  }

  /** False: the mount was killed meanwhile. */
  async #step(words: Words, timed = false): Promise<boolean> {
    const [mounted, expected] = this.#sides().map(([agent]) => agent)
    if (mounted === undefined || expected === undefined) throw new Error('no agents')
    const times = timed ? await Timed.before([mounted, expected], words) : undefined
    const actual = await this.#ask(mounted, words)
    const isLocal = words[0] === 'as' || words[0] === 'umask'
    if (actual === undefined || (this.#isInDoubt(words, actual) && !isLocal)) {
      this.#tail.note(words, `in doubt: ${actual?.text ?? 'no answer'}`)
      await this.#underWay(expected, words)
      return false
    }
    this.#tail.note(words, actual.text)
    await this.#pending.before(words)
    const reply = await expected.call(words)
    if (reply.text !== actual.text && !(await isNameless(expected, words, actual))) {
      throw this.#tail.disagreement(`${words.join(' ')}: ${reply.text} on the disk, ${actual.text} on the mount`)
    }
    await this.#pending.after(words, reply)
    if (words[0] === 'as') this.#user = words
    if (words[0] === 'umask') this.#umask = words
    const wrong = await times?.complaint(reply.isOk)
    if (wrong !== undefined && this.#mount?.crashing !== true)
      throw this.#tail.disagreement(`${words.join(' ')}: ${wrong}`)
    return true
  }

  #isInDoubt(words: Words, reply: Reply): boolean {
    return isInDoubt(this.#mount, reply) || (isShortWrite(words, reply) && this.#mount?.excuses?.('EIO') === true)
  }

  async #ask(mounted: Agent, words: Words): Promise<Reply | undefined> {
    for (let left = BUSY_TRIES; ; left--) {
      const reply = await this.#askOnce(mounted, words)
      if (reply === undefined || this.#mount?.crashing === true) return reply
      // The kernel tells of the last close after close(2) has returned: until then a folder may still be held.
      const isBusy = this.#mount?.driver === 'fuse-native' && reply.text === 'EBUSY'
      if (!isBusy || left === 0) return await this.#settled(mounted, words, reply)
      await sleep(BUSY_SLEEP_MS)
    }
  }

  async #askOnce(mounted: Agent, words: Words): Promise<Reply | undefined> {
    return await mounted.call(words).catch((error: unknown) => {
      if (error instanceof AgentGone && this.#mount?.crashing === true) return undefined
      throw error
    })
  }

  /**
   * Documented for fuse-native: other clients see the end of an open file a moment later; a crash may come before. Who asks for the
   * name waits until it is done (hidden.ts).
   */
  async #settled(mounted: Agent, words: Words, reply: Reply): Promise<Reply | undefined> {
    const name = words[0] === 'unlink' ? words[1] : words[0] === 'rename' ? words[2] : undefined
    if (this.#mount?.driver !== 'fuse-native' || !this.#pending.enabled || name === undefined) return reply
    return (await this.#askOnce(mounted, ['lstat', name])) === undefined ? undefined : reply
  }

  /** A write may have happened in part, so its file may have more states. Any other change happened or not. */
  async #underWay(expected: Agent, words: Words): Promise<void> {
    if (this.#pending.changes(words)) {
      await this.#pending.before(words, true)
      await this.#pending.after(words, await expected.call(words), true)
      return
    }
    if (words[0] === 'truncate') {
      const [ino = ''] = (await expected.call(['stat', words[1] ?? ''])).own
      this.#pending.cutUnderWay(ino, Number(words[2]))
    }
    if (words[0] === 'open' && words[3]?.includes('trunc') === true) {
      const [ino = ''] = (await expected.call(['stat', words[2] ?? ''])).own
      this.#pending.cutUnderWay(ino, 0)
    }
    this.#uncertain = words
  }

  /** The oracle goes on with what a crash has left of the files that were being written. */
  async #adopt(expected: readonly TreeEntry[], actual: readonly TreeEntry[], mount: MountView): Promise<void> {
    const paths = new Set(actual.map(({ path }) => path))
    const seen = new Set<string>()
    for (const { path, ino } of expected) {
      const unsynced = this.#pending.files.get(ino)
      if (unsynced === undefined || !paths.has(path) || seen.has(ino)) continue
      seen.add(ino)
      const ours = pathOf(join(this.#plan.oracle, this.name), path)
      const theirs = pathOf(join(mount.mountpoint, this.name), path)
      const wrong = await unsynced.complaint(theirs, ours)
      if (wrong !== undefined) throw this.#tail.disagreement(`${path} after a crash (${mount.driver}): ${wrong}`)
      await copyFile(theirs, ours)
      await chmod(ours, (await stat(theirs)).mode & 0o7777)
    }
    await this.#pending.clear()
  }
}
