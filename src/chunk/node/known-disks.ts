/**
 * Which disks a node has, as its disks remember it (identity.ts). One that was ever used is known until it is given up by name
 * (`--forget`): whether it is there, is not among the folders of this start, or another one has been put in its place. So what is deleted
 * meanwhile is noted for it (away-removals.ts), and not back with it.
 *
 * Invariants:
 * - A disk is known to the others before anything is put on it.
 * - Disks that were apart, each started without the other, know afterwards what either has known: what the newest does not list counts
 *   as given up only if it says so.
 */
import { resolve } from 'node:path'
import type { Identity, KnownDisk } from './identity.js'

export interface DiskSet {
  readonly version: number
  readonly disks: readonly KnownDisk[]
  /** Ids of those that were given up. */
  readonly forgotten: readonly string[]
}

/** What they know together. */
export function joinedSet(identities: readonly Identity[]): DiskSet {
  const sets = identities.flatMap(({ set }) => set ?? []).sort((a, b) => b.version - a.version)
  const version = sets[0]?.version ?? 0
  const newest = sets.filter((set) => set.version === version)
  const listed = new Set(newest.flatMap(({ disks }) => disks.map(({ disk }) => disk)))
  const forgotten = [...new Set(newest.flatMap((set) => set.forgotten ?? []))].filter((disk) => !listed.has(disk))
  const disks = new Map<string, KnownDisk>()
  for (const one of sets.flatMap((set) => set.disks)) {
    if (!disks.has(one.disk) && !forgotten.includes(one.disk)) disks.set(one.disk, one)
  }
  return { version, disks: [...disks.values()], forgotten }
}

/** `forget`: folders, or ids, of disks. What is in use is not given up. */
export function isForgotten({ disk, folder }: KnownDisk, forget: readonly string[]): boolean {
  return forget.some((one) => one === disk || resolve(one) === folder)
}
