/**
 * Attributes and names, kept only while what others change of them is heard: an event drops exactly what it names, a lost subscription
 * drops all, or all of some partitions, and a reply that was overtaken by an event or a change of our own is not kept (freshness.ts).
 */
import { isDeepStrictEqual } from 'node:util'
import { isErrno } from '../base/errno.js'
import type { Attr, MetaStore } from '../meta/contract.js'
import type { CompleteDirectories } from './complete.js'
import type { Freshness, Mutation } from './freshness.js'
import { Lru } from './lru.js'

export class AttrCache {
  readonly #meta: MetaStore
  readonly #fresh: Freshness
  readonly #attrs: Lru<number, Attr>
  readonly #onDrop: (attr: Attr) => void
  hits = 0
  misses = 0

  /** `onDrop`: what was known of an inode that has changed, or is gone. */
  constructor(meta: MetaStore, fresh: Freshness, max: number, onDrop: (attr: Attr) => void = () => undefined) {
    this.#meta = meta
    this.#fresh = fresh
    this.#attrs = new Lru(max)
    this.#onDrop = onDrop
  }

  /** What is known for sure, without asking. */
  peek(ino: number): Attr | undefined {
    return this.#fresh.hears(ino) ? this.#attrs.get(ino) : undefined
  }

  async get(ino: number): Promise<Attr> {
    const known = this.peek(ino)
    if (known !== undefined) {
      this.hits++
      return known
    }
    this.misses++
    const mark = this.#fresh.mark()
    const attr = await this.#meta.getattr(ino)
    this.put(attr, mark)
    return attr
  }

  /**
   * Keeps a reply to a question that was asked at `mark`, if nothing overtook it. One that says what is known already
   * leaves the same object, to which the values of attributes are tied (xattrs.ts).
   */
  put(attr: Attr, mark: number): void {
    if (!this.#fresh.inodeIsFresh(attr.ino, mark)) return
    const known = this.#attrs.get(attr.ino)
    if (known?.hasXattrs !== true || !isDeepStrictEqual(known, attr)) this.#attrs.set(attr.ino, attr)
  }

  /** What is cached of the inode is not valid any more. */
  drop(ino: number): void {
    this.#fresh.touchInode(ino)
    const known = this.#attrs.get(ino)
    if (known === undefined) return
    this.#attrs.delete(ino)
    this.#onDrop(known)
  }

  /** A change of ours ended, with the attributes it left, or null if that is not known. Answers whether they are the newest. */
  settle(mutation: Mutation, attr: Attr | null): boolean {
    const newest = this.#fresh.end(mutation)
    if (newest && attr !== null) this.#attrs.set(attr.ino, attr)
    else this.#attrs.delete(mutation.ino)
    return newest
  }

  clear(): void {
    this.#attrs.clear()
  }

  clearOf(isMeant: (ino: number) => boolean): void {
    this.#attrs.deleteAll(isMeant)
  }
}

/** 0 is no inode: the name is known not to exist. */
export const NEGATIVE = 0

export interface EntryMutation {
  readonly parent: number
  readonly key: string
  readonly mark: number
}

export class DentryCache {
  readonly #fresh: Freshness
  readonly #entries: Lru<string, number>
  /** Of lookups. */
  hits = 0
  misses = 0
  readonly #complete: CompleteDirectories

  constructor(fresh: Freshness, complete: CompleteDirectories, max: number) {
    this.#fresh = fresh
    this.#complete = complete
    this.#entries = new Lru(max, (key, ino) => {
      // That a name is missing need not be remembered of a directory that is complete without it.
      if (ino !== NEGATIVE) complete.forgot(parentOf(key), key)
    })
  }

  /** The inode, NEGATIVE, or undefined when it is not known. */
  peek(parent: number, name: Buffer): number | undefined {
    if (!this.#fresh.hears(parent)) return undefined
    const key = entryKey(parent, name)
    return this.#entries.get(key) ?? (this.#complete.lacks(parent, key) ? NEGATIVE : undefined)
  }

  put(parent: number, name: Buffer, ino: number, mark: number): void {
    const key = entryKey(parent, name)
    if (this.#fresh.entryIsFresh(parent, key, mark)) this.#entries.set(key, ino)
    else if (!this.#entries.has(key)) this.#complete.forget(parent)
  }

  /** Another client changed it. */
  drop(parent: number, name: Buffer): void {
    const key = entryKey(parent, name)
    this.#fresh.touchEntry(key)
    this.#entries.delete(key)
    this.#complete.doubt(parent)
  }

  /** A change of ours begins. */
  begin(parent: number, name: Buffer): EntryMutation {
    const key = entryKey(parent, name)
    this.#fresh.touchEntry(key)
    return { parent, key, mark: this.#fresh.mark() }
  }

  /** It ended and the name now means `ino`; undefined: not known. */
  settle({ parent, key, mark }: EntryMutation, ino: number | undefined): void {
    const newest = this.#fresh.entryIsFresh(parent, key, mark)
    this.#fresh.touchEntry(key)
    if (newest && ino !== undefined) {
      this.#entries.set(key, ino)
      return
    }
    this.#entries.delete(key)
    this.#complete.doubt(parent)
  }

  /** The inode has no name any more, though events of it may still be on their way: true if one was cached. Looks at all. */
  dropNamesOf(ino: number): boolean {
    const stale = [...this.#entries].filter(([, value]) => value === ino).map(([key]) => key)
    for (const key of stale) {
      this.#fresh.touchEntry(key)
      this.#entries.delete(key)
      this.#complete.doubt(parentOf(key))
    }
    return stale.length > 0
  }

  clear(): void {
    this.#entries.clear()
    this.#complete.clear()
  }

  /** In these directories. */
  clearOf(isMeant: (directory: number) => boolean): void {
    this.#entries.deleteAll((key) => isMeant(parentOf(key)))
  }
}

/** latin1 keeps every byte of the name apart. */
function entryKey(parent: number, name: Buffer): string {
  return `${parent}/${name.toString('latin1')}`
}

function parentOf(key: string): number {
  return Number(key.slice(0, key.indexOf('/')))
}

/** Runs a question to the store whose ENOENT is an answer too. */
export async function orMissing<T>(question: Promise<T>): Promise<T | null> {
  try {
    return await question
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return null
    throw error
  }
}
