/**
 * A folder that one worker on each mount uses at the same time. No call's answer can be foretold there, so invariants are
 * checked instead:
 *
 * - a name that its only user made, moved between two folders or removed is where he left it, once;
 * - a line that was appended and closed is in the log, whole, once, in its writer's order;
 * - a counter read and written under a lock (a name made by link, which only one can make) misses no step;
 * - a counter read and written under a record lock, of both mounts, misses no step either, and one more file tells so of flock
 *   (where both drivers know locks);
 * - a file that is replaced by rename is always there and always one whole version.
 *
 * What was under way when a mount was killed has happened or has not.
 */
import { join } from 'node:path'
import { type Agent, AgentGone, Agent as SystemCalls, type Reply, type Words } from './agent.js'
import type { Random } from './random.js'
import { Disagreement, Tail } from './tail.js'
import { type MountView, isInDoubt } from './worker.js'

const LOCKS = ['posix', 'ofd', 'flock'] as const
const FOLDERS = ['names1', 'names2'] as const
const FOLDER = 'shared'
const TEXT_BYTES_MAX = 1_000_000
const VERSION_LINES = 2000
const STALE_TRIES = 3
const FIRST_VERSION = version('none 0')
/** Operations of one user for each one of a worker: its operations are several calls. */
const SHARE = 0.25

export class SharedArea {
  readonly #program: string
  readonly #random: Random
  readonly #onOperation: (line: string) => void
  readonly #locks: boolean
  #users: readonly SharedUser[] = []

  /** `locks`: they hold between the mounts. */
  constructor(program: string, random: Random, locks: boolean, onOperation: (line: string) => void) {
    this.#program = program
    this.#random = random
    this.#locks = locks
    this.#onOperation = onOperation
  }

  async prepare(mounts: readonly MountView[]): Promise<void> {
    this.#users = mounts.map(
      (_, index) => new SharedUser(`s${index}`, this.#random.fork(index), this.#locks, this.#onOperation),
    )
    const agent = new SystemCalls(this.#program)
    await agent.must(['cd', mounts[0]?.mountpoint ?? '/'])
    await agent.must(['mkdir', FOLDER, '755'])
    await agent.must(['cd', FOLDER])
    for (const folder of FOLDERS) await agent.must(['mkdir', folder, '755'])
    for (const user of this.#users) await make(agent, user.name, '')
    await make(agent, 'log', '')
    await make(agent, 'counter', '0')
    for (const kind of LOCKS) await make(agent, `counted-${kind}`, padded(0))
    await make(agent, 'target', FIRST_VERSION)
    await agent.end()
  }

  async attach(mounts: readonly MountView[]): Promise<void> {
    for (const [index, user] of this.#users.entries()) {
      const mount = mounts[index]
      if (mount !== undefined) await user.attach(mount, new SystemCalls(this.#program))
    }
  }

  async detach(): Promise<void> {
    await Promise.all(this.#users.map((user) => user.detach()))
  }

  async run(operations: number, isOver?: () => boolean): Promise<void> {
    await Promise.all(this.#users.map((user) => user.run(Math.ceil(operations * SHARE), isOver)))
  }

  /** Nobody works. */
  async verify(viewer: Agent, mount: MountView): Promise<void> {
    await viewer.must(['cd', join(mount.mountpoint, FOLDER)])
    const [names, log, counter] = [await listed(viewer), await textOf(viewer, 'log'), await textOf(viewer, 'counter')]
    for (const user of this.#users) {
      user.checkNames(names)
      user.checkLog(log)
    }
    const lines = this.#users.reduce((sum, user) => sum + user.ownLines(log).length, 0)
    if (log !== '' && (!log.endsWith('\n') || log.split('\n').length - 1 !== lines)) {
      throw new Disagreement(`the log has broken lines:\n${log.slice(-2000)}`)
    }
    for (const kind of LOCKS) this.#checkLocked(kind, Number(await textOf(viewer, `counted-${kind}`)))
    const steps = this.#users.reduce((sum, user) => sum + user.steps, 0)
    const open = this.#users.some((user) => user.isCounting)
    if (!open && Number(counter) !== steps) {
      throw new Disagreement(`the counter is ${counter} after ${steps} steps`)
    }
  }

  /** A step whose close was under way may be there or not; afterwards it is known. */
  #checkLocked(kind: LockKind, count: number): void {
    const certain = this.#users.reduce((sum, user) => sum + user.locked[kind].certain, 0)
    const maybe = this.#users.reduce((sum, user) => sum + user.locked[kind].maybe, 0)
    if (count < certain || count > certain + maybe) {
      throw new Disagreement(
        `counted under ${kind}: ${count} after ${certain} steps, and ${maybe} under way at a crash`,
      )
    }
    for (const user of this.#users) {
      user.locked[kind].certain += user === this.#users[0] ? count - certain : 0
      user.locked[kind].maybe = 0
    }
  }
}

type LockKind = (typeof LOCKS)[number]

/** Of one length, so that a shorter one never leaves the end of a longer one. */
function padded(count: number): string {
  return String(count).padStart(9, '0')
}

async function make(agent: Agent, name: string, text: string): Promise<void> {
  await agent.must(['open', '0', name, 'w,creat', '644'])
  if (text !== '') await agent.must(['append', '0', text.replaceAll('\n', '%0A').replaceAll(' ', '%20')])
  await agent.must(['close', '0'])
}

/** Every name of the two folders, with where it is, as often as it is listed. */
async function listed(agent: Agent): Promise<readonly string[]> {
  const names: string[] = []
  for (const folder of FOLDERS) {
    for (const line of (await agent.must(['list', folder])).lines) names.push(`${folder}/${line.split(' ')[1] ?? ''}`)
  }
  return names
}

async function textOf(agent: Agent, name: string): Promise<string> {
  await agent.must(['open', '0', name, 'r', '0'])
  const reply = await agent.must(['text', '0', String(TEXT_BYTES_MAX)])
  await agent.must(['close', '0'])
  return plain(reply)
}

function plain({ text }: Reply): string {
  return decodeURIComponent(text.split(' ')[1] ?? '')
}

function version(label: string): string {
  return `${label}\n`.repeat(VERSION_LINES)
}

/** The mount was killed, or what the call did is not known. */
class Killed extends Error {}

class SharedUser {
  readonly name: string
  readonly tail: Tail
  /** Steps counted under locks of each kind. */
  readonly locked = {
    posix: { certain: 0, maybe: 0 },
    ofd: { certain: 0, maybe: 0 },
    flock: { certain: 0, maybe: 0 },
  }
  readonly #random: Random
  readonly #locks: boolean
  /** Where each of its names is. */
  readonly #names = new Map<string, string>()
  /** Where it may be instead, or '' for nowhere: its change was under way. */
  readonly #maybe = new Map<string, string>()
  readonly #lines: string[] = []
  readonly #maybeLines = new Set<string>()
  /** Of the counter, done under the lock. */
  steps = 0
  /** What the counter shall be, while it may hold the lock. */
  #counting: number | undefined
  #made = 0
  #mount: MountView | undefined
  #agent: Agent | undefined

  constructor(name: string, random: Random, locks: boolean, onOperation: (line: string) => void) {
    this.name = name
    this.#random = random
    this.#locks = locks
    this.tail = new Tail(name, onOperation)
  }

  get isCounting(): boolean {
    return this.#counting !== undefined
  }

  async attach(mount: MountView, agent: Agent): Promise<void> {
    await this.detach()
    this.#mount = mount
    this.#agent = agent
    await agent.must(['cd', join(mount.mountpoint, FOLDER)])
    await this.#recover()
  }

  async detach(): Promise<void> {
    await this.#agent?.end()
    this.#agent = undefined
  }

  async run(count: number, isOver: () => boolean = () => false): Promise<void> {
    try {
      for (let left = count; left > 0 && !isOver(); left--) await this.#next()
    } catch (error) {
      if (!(error instanceof Killed)) throw error
    }
  }

  checkNames(all: readonly string[]): void {
    const found = new Map<string, string[]>()
    for (const path of all) {
      const name = path.split('/')[1] ?? ''
      if (name.startsWith(`${this.name}-`)) found.set(name, [...(found.get(name) ?? []), path])
    }
    for (const name of new Set([...found.keys(), ...this.#names.keys(), ...this.#maybe.keys()])) {
      const [first = '', ...more] = found.get(name) ?? []
      if (more.length > 0) throw this.tail.disagreement(`${name} is there more than once: ${first}, ${more.join(', ')}`)
      const expected = this.#names.get(name) ?? ''
      if (first !== expected && first !== this.#maybe.get(name)) {
        throw this.tail.disagreement(`${name} should be ${expected || 'gone'}, it is ${first || 'gone'}`)
      }
      this.#maybe.delete(name)
      if (first === '') this.#names.delete(name)
      else this.#names.set(name, first)
    }
  }

  ownLines(log: string): readonly string[] {
    return log.split('\n').filter((line) => line.startsWith(`${this.name} `))
  }

  checkLog(log: string): void {
    const own = this.ownLines(log)
    const missing = this.#lines.find((line) => !own.includes(line))
    if (missing !== undefined) throw this.tail.disagreement(`the log lacks the line "${missing}"`)
    const certain = own.filter((line) => this.#lines.includes(line))
    if (certain.join('\n') !== this.#lines.join('\n'))
      throw this.tail.disagreement('lines of the log are doubled or moved')
    const strange = own.find((line) => !this.#lines.includes(line) && !this.#maybeLines.has(line))
    if (strange !== undefined) throw this.tail.disagreement(`the log has the line "${strange}"`)
  }

  async #next(): Promise<void> {
    const random = this.#random
    const known = [...this.#names.keys()]
    const pick = random.below(100)
    if (pick < 25 || known.length === 0) return this.#make()
    if (pick < 45) return this.#move(random.pick(known))
    if (pick < 55) return this.#remove(random.pick(known))
    if (pick < 70) return this.#append()
    if (pick < 76) return this.#count()
    if (pick < 82 && this.#locks) return this.#countLocked(random.pick(LOCKS))
    if (pick < 90) return this.#replace()
    return this.#look()
  }

  async #call(words: Words): Promise<Reply> {
    const isDying = (): boolean => this.#mount?.crashing === true
    const reply = await this.#agent?.call(words).catch((error: unknown) => {
      if (error instanceof AgentGone && isDying()) return undefined
      throw error
    })
    this.tail.note(words, reply?.text.slice(0, 200) ?? 'ended')
    if (reply === undefined || (!reply.isOk && isInDoubt(this.#mount, reply))) throw new Killed()
    return reply
  }

  async #must(words: Words): Promise<Reply> {
    const reply = await this.#call(words)
    if (!reply.isOk) throw this.tail.disagreement(`${words.join(' ')}: ${reply.text}`)
    return reply
  }

  /** One change of a name: `to` is '' when it goes. */
  async #change(name: string, to: string, words: Words): Promise<void> {
    this.#maybe.set(name, to)
    await this.#must(words)
    this.#maybe.delete(name)
    if (to === '') this.#names.delete(name)
    else this.#names.set(name, to)
  }

  async #make(): Promise<void> {
    const name = `${this.name}-${this.#made++}`
    const path = `${this.#random.pick(FOLDERS)}/${name}`
    await this.#change(name, path, ['open', '0', path, 'w,creat,excl', '644'])
    await this.#must(['close', '0'])
  }

  async #move(name: string): Promise<void> {
    const to = `${this.#random.pick(FOLDERS)}/${name}`
    await this.#change(name, to, ['rename', this.#names.get(name) ?? '', to, '-'])
  }

  async #remove(name: string): Promise<void> {
    await this.#change(name, '', ['unlink', this.#names.get(name) ?? ''])
  }

  async #append(): Promise<void> {
    const line = `${this.name} ${this.#made++} ${'x'.repeat(this.#random.below(200))}.`
    this.#maybeLines.add(line)
    await this.#must(['open', '1', 'log', 'w,append', '0'])
    await this.#must(['append', '1', `${line.replaceAll(' ', '%20')}%0A`])
    await this.#must(['close', '1'])
    this.#lines.push(line)
    this.#maybeLines.delete(line)
  }

  async #count(): Promise<void> {
    const before = this.#counting
    this.#counting = -1
    const lock = await this.#call(['link', this.name, 'lock'])
    if (!lock.isOk) {
      this.#counting = before
      if (lock.text !== 'EEXIST') throw this.tail.disagreement(`link: ${lock.text}`)
      return
    }
    await this.#must(['open', '2', 'counter', 'r', '0'])
    const text = plain(await this.#must(['text', '2', '100']))
    if (!/^\d+$/.test(text)) throw this.tail.disagreement(`the counter is "${text}"`)
    this.#counting = Number(text) + 1
    await this.#finishCount(this.#counting)
  }

  async #finishCount(value: number): Promise<void> {
    await this.#must(['open', '2', 'counter', 'w,trunc', '0'])
    await this.#must(['append', '2', String(value)])
    await this.#must(['close', '2'])
    await this.#must(['unlink', 'lock'])
    this.#counting = undefined
    this.steps++
  }

  async #countLocked(kind: LockKind): Promise<void> {
    const counts = this.locked[kind]
    await this.#must(['open', '2', `counted-${kind}`, 'rw', '0'])
    await this.#must(kind === 'flock' ? ['flock', '2', 'ex'] : ['lock', '2', kind, 'w', '0', '0', 'wait'])
    const text = plain(await this.#must(['text', '2', '100']))
    if (!/^\d{9}$/.test(text)) throw this.tail.disagreement(`what is counted under ${kind} is "${text}"`)
    counts.maybe++
    await this.#must(['append', '2', padded(Number(text) + 1)])
    const isFreed = this.#random.chance(0.5)
    if (isFreed) await this.#must(kind === 'flock' ? ['flock', '2', 'un'] : ['lock', '2', kind, 'un', '0', '0', 'try'])
    await this.#must(['close', '2'])
    counts.maybe--
    counts.certain++
  }

  /** As a program would after a crash: the lock is ours if it is our file; then the step is done again, to the same value. */
  async #recover(): Promise<void> {
    if (this.#counting === undefined) return
    const [own, lock] = [await this.#must(['lstat', this.name]), await this.#call(['lstat', 'lock'])]
    const isOurs = lock.isOk && own.own[0] === lock.own[0]
    if (this.#counting < 0) {
      // Not even read: nothing was changed.
      if (isOurs) await this.#must(['unlink', 'lock'])
      this.#counting = undefined
      return
    }
    if (isOurs) return this.#finishCount(this.#counting)
    // The unlink was under way, and happened.
    this.#counting = undefined
    this.steps++
  }

  async #replace(): Promise<void> {
    const own = `new-${this.name}`
    const text = version(`${this.name} ${this.#made++}`).replaceAll(' ', '%20').replaceAll('\n', '%0A')
    await this.#must(['open', '3', own, 'w,creat,trunc', '644'])
    await this.#must(['append', '3', text])
    await this.#must(['close', '3'])
    await this.#must(['rename', own, 'target', '-'])
  }

  async #look(): Promise<void> {
    let opened = await this.#call(['open', '3', 'target', 'r', '0'])
    // Documented: replaced twice within one open.
    for (let left = STALE_TRIES; left > 0 && opened.text === 'ESTALE'; left--) {
      opened = await this.#call(['open', '3', 'target', 'r', '0'])
    }
    // Documented for fuse-native: ENOENT at the moment at which another process replaces the file.
    if (!opened.isOk && opened.text === 'ENOENT' && this.#mount?.driver === 'fuse-native') return
    if (!opened.isOk) throw this.tail.disagreement(`opening what is replaced by rename: ${opened.text}`)
    const text = plain(await this.#must(['text', '3', String(TEXT_BYTES_MAX)]))
    await this.#must(['close', '3'])
    const [first = ''] = text.split('\n')
    if (text !== version(first))
      throw this.tail.disagreement(`half a version: ${text.length} bytes, ${text.slice(0, 200)}`)
  }
}
