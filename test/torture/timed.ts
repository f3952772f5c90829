/** Which times a call changes: the same ones on both sides. Which values they get is their clocks' affair. */
import { setTimeout as sleep } from 'node:timers/promises'
import type { Agent, Words } from './agent.js'

/** Longer than the grain of any file system's clock. */
const APART_MS = 20

/** What to look at before and after: a command, or two if its file has another name afterwards. */
interface Watch {
  readonly before: Words
  readonly after: Words
}

type Times = readonly string[] | undefined

export class Timed {
  readonly #agents: readonly Agent[]
  readonly #watches: readonly Watch[]
  readonly #before: readonly (readonly Times[])[]

  private constructor(agents: readonly Agent[], watches: readonly Watch[], before: readonly (readonly Times[])[]) {
    this.#agents = agents
    this.#watches = watches
    this.#before = before
  }

  static async before(agents: readonly Agent[], words: Words): Promise<Timed> {
    const watches = watchesOf(words)
    const before = await look(
      agents,
      watches.map((watch) => watch.before),
    )
    await sleep(APART_MS)
    return new Timed(agents, watches, before)
  }

  /** `done`: the call succeeded. */
  async complaint(done: boolean): Promise<string | undefined> {
    const after = await look(
      this.#agents,
      this.#watches.map((watch) => (done ? watch.after : watch.before)),
    )
    const [mounted = '', expected = ''] = after.map((times, side) => this.#changes(this.#before[side] ?? [], times))
    if (mounted === expected) return undefined
    const [from, to] = [this.#before[0], after[0]].map((times) => JSON.stringify(times))
    return `changed times: ${expected} on the disk, ${mounted} on the mount: from ${from} to ${to}`
  }

  #changes(before: readonly Times[], after: readonly Times[]): string {
    const changes = this.#watches.map((watch, index) => {
      const [from, to] = [before[index], after[index]]
      const names = ['mtime', 'ctime'].filter((_, at) => from?.[at + 1] !== to?.[at + 1])
      return `${watch.after.join(' ')}: ${from === undefined || to === undefined ? '-' : names.join('+') || 'none'}`
    })
    return changes.join('; ')
  }
}

async function look(agents: readonly Agent[], all: readonly Words[]): Promise<readonly (readonly Times[])[]> {
  const sides: Times[][] = []
  for (const agent of agents) {
    const times: Times[] = []
    for (const words of all) {
      const reply = await agent.call(words)
      times.push(reply.isOk ? reply.text.split(' ').slice(1) : undefined)
    }
    sides.push(times)
  }
  return sides
}

const BY_PATH = ['chmod', 'lchown', 'setx', 'truncate', 'utimens']
const BY_SLOT = ['fchmod', 'fchown', 'ftruncate', 'pwrite', 'write', 'sync', 'pread']
const ENTRIES = ['mkdir', 'rmdir', 'unlink', 'mknod']

export function isTimed(words: Words): boolean {
  return watchesOf(words).length > 0
}

function watchesOf(words: Words): readonly Watch[] {
  const [name = '', first = '', second = ''] = words
  const same = (...path: Words): Watch => ({ before: path, after: path })
  // An empty value may be the same as before: ext4 changes nothing then, others do.
  if (name === 'setx' && words[3] === '0') return [same('times', parentOf(first))]
  if (BY_PATH.includes(name)) return [same('times', first), same('times', parentOf(first))]
  if (BY_SLOT.includes(name)) return [same('ftimes', first)]
  if (ENTRIES.includes(name)) return [same('times', first), same('times', parentOf(first))]
  if (name === 'symlink') return [same('times', parentOf(second))]
  if (name === 'link') return [same('times', first), same('times', parentOf(first)), same('times', parentOf(second))]
  if (name !== 'rename' || first === second) return []
  const moved = { before: ['times', first], after: ['times', second] }
  return [moved, same('times', parentOf(first)), same('times', parentOf(second))]
}

function parentOf(path: string): string {
  const end = path.replace(/\/+$/, '').lastIndexOf('/')
  return end <= 0 ? '.' : path.slice(0, end)
}
