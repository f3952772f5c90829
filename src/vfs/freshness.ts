/**
 * Decides whether a reply may be cached.
 *
 * Each event and each change of our own gets a number. Who asks the store notes the number before (`mark`); the reply may
 * be kept only if nothing was said about its inode or name since, no change of it by this process is under way, and the
 * store is coherent. Numbers are kept per hash slot, not per inode: a collision costs a cached entry, never correctness.
 */
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
  readonly #isCoherent: () => boolean
  readonly #tail: Pick<Tail, 'begin' | 'end'>
  #sequence = 0
  #lost = 0
  readonly #inodes = new Float64Array(SLOTS)
  readonly #entries = new Float64Array(SLOTS)
  readonly #inFlight = new Map<number, number>()

  constructor(isCoherent: () => boolean, tail: Pick<Tail, 'begin' | 'end'>) {
    this.#isCoherent = isCoherent
    this.#tail = tail
  }

  get coherent(): boolean {
    return this.#isCoherent()
  }

  mark(): number {
    return this.#sequence
  }

  /** Everything is in doubt. */
  lost(): void {
    this.#lost = ++this.#sequence
  }

  touchInode(ino: number): void {
    this.#inodes[slotOf(ino)] = ++this.#sequence
  }

  touchEntry(key: string): void {
    this.#entries[hash(key)] = ++this.#sequence
  }

  inodeIsFresh(ino: number, mark: number): boolean {
    return this.#since(mark, this.#inodes[slotOf(ino)]) && !this.#inFlight.has(ino)
  }

  entryIsFresh(key: string, mark: number): boolean {
    return this.#since(mark, this.#entries[hash(key)])
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

  #since(mark: number, last: number | undefined): boolean {
    return this.#isCoherent() && this.#lost <= mark && (last ?? 0) <= mark
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
