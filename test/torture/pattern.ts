/** Contents of a write: byte `index` of the write with this seed. Never 0, which only a hole reads as. As in ringfs-syscalls.c. */
export function patternByte(seed: number, index: number): number {
  let x = (seed + Math.imul(index, 0x9e3779b1)) >>> 0
  x = (x ^ (x >>> 15)) >>> 0
  return (x % 255) + 1
}
