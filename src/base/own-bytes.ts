/**
 * Node makes short buffers as slices of 8 KiB, which stay while one of their slices does: what is kept among much that is not, keeps a
 * multiple of itself.
 */

/** A copy in memory of its own, of just its length. */
export function ownBytes(parts: readonly Uint8Array[], lengthBytes: number): Buffer {
  const own = Buffer.allocUnsafeSlow(lengthBytes)
  joinInto(own, parts)
  return own
}

/** One behind the other. */
export function joinInto(target: Uint8Array, parts: readonly Uint8Array[]): void {
  let at = 0
  for (const part of parts) {
    target.set(part, at)
    at += part.length
  }
}

/** The same bytes, copied if they keep more than twice their length. */
export function ownIfSmall(bytes: Buffer): Buffer {
  return 2 * bytes.length > bytes.buffer.byteLength ? bytes : ownBytes([bytes], bytes.length)
}
