/**
 * Which partitions lie on one server, as far as this client knows: there one script can change several of them (transaction.ts). It is only a guess
 * of what is worth trying: the script itself sees whether they are there.
 */
import type { Clock } from '../base/clock.js'
import type { RedisStore } from '../cluster/contract.js'
import type { VolumeKeys } from './keys.js'

/** A slot is on its way to another server, or the server does not let a script reach other slots. */
const APART_MS = 1_000

export interface ServersOptions {
  readonly store: Pick<RedisStore, 'serverOf'>
  readonly keys: VolumeKeys
  readonly clock: Clock
  /** false: nothing is tried. */
  readonly atOnce: boolean
}

export class Servers {
  readonly #options: ServersOptions
  /** Servers that said so, and until when they are believed. */
  readonly #apart = new Map<string, number>()

  constructor(options: ServersOptions) {
    this.#options = options
  }

  areTogether([first = 0, ...others]: readonly number[]): boolean {
    if (!this.#options.atOnce) return false
    const server = this.#of(first)
    return others.every((p) => this.#of(p) === server) && !this.#isApart(server)
  }

  /** The server of this partition did not have all that it was asked for. */
  areApart(p: number): void {
    this.#apart.set(this.#of(p), this.#options.clock.monotonicMs() + APART_MS)
  }

  #of(p: number): string {
    return this.#options.store.serverOf(this.#options.keys.partition(p).inodes)
  }

  #isApart(server: string): boolean {
    if (this.#apart.size === 0) return false
    for (const [one, untilMs] of this.#apart) {
      if (untilMs <= this.#options.clock.monotonicMs()) this.#apart.delete(one)
    }
    return this.#apart.has(server)
  }
}
