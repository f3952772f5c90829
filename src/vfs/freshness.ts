/**
 * Decides whether a reply may be cached.
 *
 * Each event and each change of our own gets a number. Who asks the store notes the number before (`mark`); the reply may
 * be kept only if nothing was said about its inode or name since, no change of it by this process is under way, and all that
 * others change of it was told since. Numbers are kept per hash slot, not per inode: a collision costs a cached entry, never correctness.
 */
import type { MetaStore } from '../meta/contract.js'
import { Gaps } from './gaps.js'
import type { Tail } from './tail.js'

export interface Mutation {
  readonly ino: number
  readonly mark: number
  /** Told to the tail. */
  readonly isOfContents: boolean
}

const SLOT_BITS = 13
const SLOTS = 2 ** SLOT_BITS

export class Freshness {
  readonly #meta: Pick<MetaStore, 'hears' | 'partitionOf'>
  readonly #tail: Pick<Tail, 'begin' | 'end'>
  #sequence = 0
  readonly #gaps: Gaps
  readonly #inodes = new Float64Array(SLOTS)
  readonly #entries = new Float64Array(SLOTS)
  readonly #inFlight = new Map<number, number>()

  constructor(meta: Pick<MetaStore, 'hears' | 'partitionOf'>, tail: Pick<Tail, 'begin' | 'end'>) {
    this.#meta = meta
    this.#tail = tail
    this.#gaps = new Gaps((ino) => meta.partitionOf(ino))
  }

  /** What is kept of the inode, and of names in it, is true as far as events have come. */
  hears(ino: number): boolean {
    return this.#meta.hears(ino)
  }

  mark(): number {
    return this.#sequence
  }

  /** Everything is in doubt. */
  lost(): void {
    this.#gaps.everywhere(++this.#sequence)
  }

  /** Everything in these partitions is. */
  lostIn(partitions: Iterable<number>): void {
    this.#gaps.in(partitions, ++this.#sequence)
  }

  touchInode(ino: number): void {
    this.#inodes[slotOf(ino)] = ++this.#sequence
  }

  touchEntry(key: string): void {
    this.#entries[hash(key)] = ++this.#sequence
  }

  inodeIsFresh(ino: number, mark: number): boolean {
    return this.#since(ino, mark, this.#inodes[slotOf(ino)]) && !this.#inFlight.has(ino)
  }

  entryIsFresh(parent: number, key: string, mark: number): boolean {
    return this.#since(parent, mark, this.#entries[hash(key)])
  }

  /** A change of the inode by this process is under way. */
  isChanging(ino: number): boolean {
    return this.#inFlight.has(ino)
  }

  /** A change of the inode by this process begins. `isOfContents` false: its loss would be nobody's concern. */
  begin(ino: number, isOfContents = true): Mutation {
    if (isOfContents) this.#tail.begin(ino)
    this.touchInode(ino)
    this.#inFlight.set(ino, (this.#inFlight.get(ino) ?? 0) + 1)
    return { ino, mark: this.#sequence, isOfContents }
  }

  /** It ended: true if its reply is the newest that is known of the inode. */
  end({ ino, mark, isOfContents }: Mutation): boolean {
    if (isOfContents) this.#tail.end(ino)
    const left = (this.#inFlight.get(ino) ?? 1) - 1
    if (left === 0) this.#inFlight.delete(ino)
    else this.#inFlight.set(ino, left)
    const newest = this.inodeIsFresh(ino, mark)
    this.touchInode(ino)
    return newest
  }

  #since(ino: number, mark: number, last: number | undefined): boolean {
    return (last ?? 0) <= mark && !this.#gaps.isSince(mark, ino) && this.#meta.hears(ino)
  }
}

/** Mixed: the inodes of one directory differ by multiples of the number of partitions. */
function slotOf(ino: number): number {
  const low = Math.imul(ino >>> 0, 0x9e3779b1)
  const high = Math.imul(Math.floor(ino / 2 ** 32), 0x85ebca6b)
  return ((low ^ high) >>> 0) >>> (32 - SLOT_BITS)
}

/** FNV-1a over UTF-16 units. */
function hash(text: string): number {
  let value = 0x811c9dc5
  for (let i = 0; i < text.length; i++) value = Math.imul(value ^ text.charCodeAt(i), 0x01000193)
  return (value >>> 0) % SLOTS
}
