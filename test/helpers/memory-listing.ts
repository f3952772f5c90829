/** The order of a directory in memory: by the score of the name, then by the name. */
import type { DirCursor, DirEntry, ReaddirReply } from '../../src/meta/contract.js'

/** What a call of readdir answers, of all that is in the directory. */
export function pageOf(all: readonly DirEntry[], cursor: DirCursor | null, limit: number): ReaddirReply {
  const behind = all.filter((entry) => isBehind(entry, cursor)).sort(compareEntries)
  return { entries: behind.slice(0, limit), end: behind.length <= limit }
}

/** 52 bits, spread. */
export function hashName(name: string): number {
  let high = 0x811c9dc5
  let low = 0x1000193
  for (const unit of Buffer.from(name, 'latin1')) {
    high = Math.imul(high ^ unit, 0x01000193) >>> 0
    low = Math.imul(low ^ unit ^ (high >>> 7), 0x85ebca6b) >>> 0
  }
  return (high % 2 ** 20) * 2 ** 32 + low
}

function compareEntries(a: DirEntry, b: DirEntry): number {
  return a.cursor.score - b.cursor.score || Buffer.compare(a.name, b.name)
}

function isBehind(entry: DirEntry, cursor: DirCursor | null): boolean {
  if (cursor === null || entry.cursor.score > cursor.score) return true
  if (entry.cursor.score < cursor.score || cursor.name === null) return false
  return Buffer.compare(entry.name, cursor.name) > 0
}
