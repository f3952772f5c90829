/**
 * Which inodes are held by requests under way: the kernel has locked a directory while it waits for an answer about a name in
 * it, and pages while they are read or written. A notification about them would wait until then (notifier.ts). One that was
 * held a moment ago counts, too: others may stand in line for the lock, whose requests are still to come.
 */
import type { Clock } from '../../base/clock.js'
import type { Opcode } from './opcodes.js'
import { readU64, type RequestHeader } from './wire.js'

const HOLDING: ReadonlySet<string> = new Set([
  ...['lookup', 'create', 'tmpfile', 'mknod', 'mkdir', 'symlink', 'link', 'unlink', 'rmdir', 'rename', 'rename2'],
  ...['readdir', 'readdirplus', 'setattr', 'setxattr', 'removexattr', 'read', 'write'],
])
const TWO_DIRECTORIES: ReadonlySet<string> = new Set(['rename', 'rename2'])
const NONE: readonly number[] = []

export function heldNodes({ node }: RequestHeader, { name }: Opcode, body: Buffer): readonly number[] {
  if (!HOLDING.has(name)) return NONE
  return TWO_DIRECTORIES.has(name) && body.length >= 8 ? [node, readU64(body, 0)] : [node]
}

const ASKING: ReadonlySet<string> = new Set(['getattr', 'statx', 'open'])

/** Whose attributes are asked for: a notification would have the kernel ignore the answer (invalidations.ts). */
export function askedNodes({ node }: RequestHeader, { name }: Opcode): readonly number[] {
  return ASKING.has(name) ? [node] : NONE
}

const QUIET_MS = 2
const ENDED_MAX = 4_096

export class InUse {
  readonly #clock: Clock
  readonly #counts = new Map<number, number>()
  /** When the last request of an inode ended, the oldest first. */
  readonly #endedMs = new Map<number, number>()

  constructor(clock: Clock) {
    this.#clock = clock
  }

  has(node: number): boolean {
    return this.#counts.has(node)
  }

  /** Now, or a moment ago. */
  hadLately(node: number): boolean {
    return this.has(node) || this.#clock.monotonicMs() - (this.#endedMs.get(node) ?? -Infinity) < QUIET_MS
  }

  begin(nodes: readonly number[]): void {
    for (const node of nodes) this.#counts.set(node, (this.#counts.get(node) ?? 0) + 1)
  }

  end(nodes: readonly number[]): void {
    for (const node of nodes) {
      const left = (this.#counts.get(node) ?? 1) - 1
      if (left > 0) this.#counts.set(node, left)
      else this.#ended(node)
    }
  }

  #ended(node: number): void {
    this.#counts.delete(node)
    this.#endedMs.delete(node)
    this.#endedMs.set(node, this.#clock.monotonicMs())
    if (this.#endedMs.size <= ENDED_MAX) return
    const oldest = this.#endedMs.keys().next()
    if (oldest.done !== true) this.#endedMs.delete(oldest.value)
  }
}
