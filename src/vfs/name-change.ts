/**
 * A change of names by this process: what is cached of the names and of their directories follows it.
 *
 * Invariant: while it is under way, no answer about the directories' attributes is cached or has a lifetime. Afterwards they are
 * known as the change itself left them, unless something else was said of them since it began.
 */
import { leavesDoubt } from '../base/doubt.js'
import type { Attr, SawDirectory } from '../meta/contract.js'
import { NEGATIVE, type AttrCache, type DentryCache } from './cache.js'
import type { Freshness } from './freshness.js'
import type { Tail } from './tail.js'

export interface Name {
  readonly parent: number
  readonly name: Buffer
}

interface Caches {
  readonly fresh: Freshness
  readonly attrs: AttrCache
  readonly dentries: DentryCache
  readonly tail: Tail
}

/** `means` tells what each name means afterwards (an inode, NEGATIVE), undefined where that is not known. */
export async function changeNames<T>(
  { fresh, attrs, dentries, tail }: Caches,
  names: readonly Name[],
  change: (saw: SawDirectory) => Promise<T>,
  means: (reply: T) => readonly (number | undefined)[],
): Promise<T> {
  const entries = names.map(({ parent, name }) => dentries.begin(parent, name))
  const directories = [...new Set(names.map(({ parent }) => parent))].map((ino) => fresh.begin(ino))
  const seen = new Map<number, Attr>()
  let meanings: readonly (number | undefined)[] = []
  try {
    const reply = await change((attr) => seen.set(attr.ino, attr))
    meanings = means(reply)
    for (const ino of meanings) if (ino !== undefined && ino !== NEGATIVE) tail.changed(ino)
    return reply
  } catch (error) {
    // It may have been made all the same, and whatever the names meant have changed with it.
    if (leavesDoubt(error)) {
      fresh.lost()
      attrs.clear()
    }
    throw error
  } finally {
    for (const [at, entry] of entries.entries()) dentries.settle(entry, meanings[at])
    for (const directory of directories) attrs.settle(directory, seen.get(directory.ino) ?? null)
  }
}
