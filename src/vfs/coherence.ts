/** What the kernel may keep of this VFS's answers, and what it is told when that is not true any more. */
import type { MetaEvent } from '../meta/contract.js'
import type { VfsContext } from './context.js'
import type { Attr, Invalidation, VfsCoherence } from './contract.js'

type Known = Pick<VfsContext, 'meta' | 'attrs' | 'atimes' | 'dentries' | 'fresh' | 'states'>

/**
 * Invariant: what `attr` and `entry` answer is held by this process's own caches at that moment, and these drop it before
 * the listener hears of it (context.ts): a reply that was overtaken while it was on its way is in no cache (freshness.ts), so
 * it gets no lifetime.
 */
export class Coherence implements VfsCoherence {
  readonly #known: Known
  #listener: (what: Invalidation) => void = () => undefined
  #onCommitted: (ino: number, dataVersion: number) => void = () => undefined

  constructor(known: Known) {
    this.#known = known
  }

  lifetimeMs(): number {
    return this.#known.meta.coherentMs
  }

  /**
   * Not while something of the file is unwritten: its commit changes what the store counts as allocated. Nor while a change of
   * ours is under way: who asked may take the answer after the change has ended.
   */
  attr(ino: number): Attr | undefined {
    const { attrs, atimes, fresh, states } = this.#known
    if (fresh.isChanging(ino)) return undefined
    const state = states.peek(ino)
    if (state !== undefined && (!state.isSettled || state.writer.isDirty)) return undefined
    const attr = attrs.peek(ino)
    return attr && atimes.overlay(attr)
  }

  entry(parent: number, name: Buffer): number | undefined {
    return this.#known.dentries.peek(parent, name)
  }

  isOpen(ino: number): boolean {
    return this.#known.states.peek(ino) !== undefined
  }

  holds(directory: number): boolean {
    return this.#known.meta.holds(directory)
  }

  /** Nothing is kept while nothing would be heard. */
  async caughtUp(): Promise<void> {
    if (this.#known.meta.coherent) await this.#known.meta.caughtUp()
  }

  onInvalidate(listener: (what: Invalidation) => void): void {
    this.#listener = listener
  }

  onCommitted(listener: (ino: number, dataVersion: number) => void): void {
    this.#onCommitted = listener
  }

  committed(ino: number, dataVersion: number): void {
    this.#onCommitted(ino, dataVersion)
  }

  invalidate(what: Invalidation): void {
    this.#listener(what)
  }

  onEvent(event: MetaEvent): void {
    switch (event.kind) {
      case 'lost':
      // Pages may have come to the kernel meanwhile, without a lifetime, and what changed them was not heard.
      case 'back':
        this.#listener({ kind: 'all' })
        return
      case 'heard':
        // The same of what was opened while nothing could be relied on.
        for (const { ino } of this.#known.states.all()) {
          if (event.partitions.has(this.#known.meta.partitionOf(ino))) this.#listener({ kind: 'data', ino })
        }
        return
      // Whatever had a lifetime has run out, and of what is not open the next open compares the version of the pages.
      case 'ignored':
        return
      case 'entry':
        this.#listener(event)
        this.#listener({ kind: 'attr', ino: event.parent })
        return
      case 'attr':
      case 'data':
        this.#listener(event)
        return
      case 'locksLost':
      case 'tailLost':
    }
  }
}

/** For a VFS that cannot tell what became false. */
export const NOTHING_KEPT: VfsCoherence = {
  lifetimeMs: () => 0,
  attr: () => undefined,
  entry: () => undefined,
  isOpen: () => true,
  holds: () => false,
  caughtUp: () => Promise.resolve(),
  onInvalidate: () => undefined,
  onCommitted: () => undefined,
  invalidate: () => undefined,
}
