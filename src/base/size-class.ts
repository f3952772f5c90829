/** Sizes of pooled memory: `smallestBytes` doubled until `lengthBytes` fits, so that a piece serves many lengths. */
export function sizeClass(lengthBytes: number, smallestBytes: number): number {
  let sizeBytes = smallestBytes
  while (sizeBytes < lengthBytes) sizeBytes *= 2
  return sizeBytes
}
