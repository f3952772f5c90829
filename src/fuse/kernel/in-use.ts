/**
 * Which inodes are held by requests under way: the kernel has locked a directory while it waits for an answer about a name in
 * it, and pages while they are read or written. A notification about them would wait until then (notifier.ts). One that was
 * held a moment ago counts, too: others may stand in line for the lock, whose requests are still to come.
 */
import type { Clock } from '../../base/clock.js'
import type { Opcode } from './opcodes.js'
import { readU64, type RequestHeader } from './wire.js'

/** Several of these hold a directory together: who comes after them does not stand in line. */
const SHARING: ReadonlySet<string> = new Set(['lookup', 'readdir', 'readdirplus'])
const EXCLUDING: ReadonlySet<string> = new Set([
  ...['create', 'tmpfile', 'mknod', 'mkdir', 'symlink', 'link', 'unlink', 'rmdir', 'rename', 'rename2'],
  ...['setattr', 'setxattr', 'removexattr', 'read', 'write'],
])
const TWO_DIRECTORIES: ReadonlySet<string> = new Set(['rename', 'rename2'])

export interface Held {
  readonly nodes: readonly number[]
  /** Others may stand in line. */
  readonly excludes: boolean
}

const NOTHING: Held = { nodes: [], excludes: false }

export function heldNodes({ node }: RequestHeader, { name }: Opcode, body: Buffer): Held {
  if (SHARING.has(name)) return { nodes: [node], excludes: false }
  if (!EXCLUDING.has(name)) return NOTHING
  const isTwo = TWO_DIRECTORIES.has(name) && body.length >= 8
  return { nodes: isTwo ? [node, readU64(body, 0)] : [node], excludes: true }
}

const ASKING: ReadonlySet<string> = new Set(['getattr', 'statx', 'open'])

/** Whose attributes are asked for: a notification would have the kernel ignore the answer (invalidations.ts). */
export function askedNodes({ node }: RequestHeader, { name }: Opcode): Held {
  return ASKING.has(name) ? { nodes: [node], excludes: false } : NOTHING
}

const QUIET_MS = 2
const ENDED_MAX = 4_096

export class InUse {
  readonly #clock: Clock
  readonly #counts = new Map<number, number>()
  /** When the last request that excluded others ended. Those that are quiet again are cleared away when there are many. */
  readonly #endedMs = new Map<number, number>()

  readonly #onFree: (node: number) => void

  constructor(clock: Clock, onFree: (node: number) => void = () => undefined) {
    this.#clock = clock
    this.#onFree = onFree
  }

  has(node: number): boolean {
    return this.#counts.has(node)
  }

  /** Now, or by somebody who excluded others a moment ago. */
  hadLately(node: number): boolean {
    return this.has(node) || this.#clock.monotonicMs() - (this.#endedMs.get(node) ?? -Infinity) < QUIET_MS
  }

  begin({ nodes }: Held): void {
    for (const node of nodes) this.#counts.set(node, (this.#counts.get(node) ?? 0) + 1)
  }

  end({ nodes, excludes }: Held): void {
    for (const node of nodes) {
      const left = (this.#counts.get(node) ?? 1) - 1
      if (left > 0) this.#counts.set(node, left)
      else this.#counts.delete(node)
      if (excludes) this.#ended(node)
      if (left === 0) this.#onFree(node)
    }
  }

  #ended(node: number): void {
    const nowMs = this.#clock.monotonicMs()
    this.#endedMs.set(node, nowMs)
    if (this.#endedMs.size <= ENDED_MAX) return
    for (const [one, atMs] of this.#endedMs) if (nowMs - atMs >= QUIET_MS) this.#endedMs.delete(one)
  }
}
