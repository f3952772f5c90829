/**
 * Buffers that their receiver may give back, so that their memory is used again instead of being collected: V8 runs a full
 * collection for every 64 MB of external memory. Whoever does not know of it just drops the buffer: nothing but speed is lost.
 */
const owners = new WeakMap<Buffer, (memory: Buffer) => void>()

/** Marks this very Buffer object (no other view of its memory) as one that `take` wants back. */
export function lend(buffer: Buffer, take: (buffer: Buffer) => void): Buffer {
  owners.set(buffer, take)
  return buffer
}

/** For a receiver that has used all of it and kept nothing. Again, or for a buffer that nobody wants back: nothing. */
export function giveBack(buffer: Buffer): void {
  const take = owners.get(buffer)
  if (take === undefined) return
  owners.delete(buffer)
  take(buffer)
}
