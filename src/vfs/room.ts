/** What housekeeping leaves alone: the last room of a volume is for those who use it. */
import { GIB } from '../base/limits.js'

/** So much of the volume stays free, but no more than this: what is packed takes its room twice until the janitor has freed what it replaces. */
const FREE_PART = 0.05
const FREE_MAX_BYTES = 16 * GIB

export interface Space {
  readonly totalBytes: number
  readonly freeBytes: number
}

export function hasRoomFor({ totalBytes, freeBytes }: Space, wantedBytes: number): boolean {
  return freeBytes - wantedBytes >= Math.min(totalBytes * FREE_PART, FREE_MAX_BYTES)
}
