/** Writes pieces of memory to where an open file stands. */
import { writevSync } from 'node:fs'

/** writev(2) takes at most IOV_MAX pieces. */
const IOV_MAX = 1024

/** A full disk shows as a short write first and as ENOSPC at the next. */
export function writeAll(fd: number, pieces: readonly Uint8Array[]): void {
  let pending = pieces.filter((piece) => piece.length > 0)
  while (pending.length > 0) {
    const written = writevSync(fd, pending.slice(0, IOV_MAX))
    pending = dropBytes(pending, written)
  }
}

function dropBytes(pieces: Uint8Array[], count: number): Uint8Array[] {
  let left = count
  let index = 0
  for (; index < pieces.length; index++) {
    const length = pieces[index]?.length ?? 0
    if (length > left) break
    left -= length
  }
  const rest = pieces.slice(index)
  const first = rest[0]
  if (first !== undefined && left > 0) rest[0] = first.subarray(left)
  return rest
}
