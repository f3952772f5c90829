/**
 * 52-bit hash of a name: its place in a directory's listing, the same for ever, on every client. Two 32-bit mixes with
 * the multipliers and finalizer of MurmurHash3 (Austin Appleby, public domain), seeded apart. Equal hashes are allowed
 * for: they only make a lookup compare names.
 */
export function nameHash(name: Uint8Array): number {
  let a = 0x9747b28c ^ name.length
  let b = 0x3c6ef372 ^ name.length
  for (const byte of name) {
    a = Math.imul(a ^ byte, 0xcc9e2d51)
    a = (a << 15) | (a >>> 17)
    b = Math.imul(b ^ byte, 0x1b873593)
    b = (b << 13) | (b >>> 19)
  }
  return (mix(a ^ b) & 0xfffff) * 0x1_0000_0000 + (mix(b + Math.imul(a, 5)) >>> 0)
}

function mix(value: number): number {
  let h = value
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b)
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35)
  return h ^ (h >>> 16)
}
