/** Hash slots of Redis Cluster (redis.io: cluster specification, "Key distribution model" and "Hash tags"). */
export const SLOTS = 16_384

/** CRC16-CCITT (XMODEM): polynomial 0x1021, starts at 0. */
const CRC_TABLE = Uint16Array.from({ length: 256 }, (_, byte) => {
  let crc = byte << 8
  for (let bit = 0; bit < 8; bit++) crc = crc & 0x8000 ? (crc << 1) ^ 0x1021 : crc << 1
  return crc & 0xffff
})

function crc16(bytes: Uint8Array): number {
  let crc = 0
  for (const byte of bytes) crc = ((crc << 8) ^ (CRC_TABLE[((crc >> 8) ^ byte) & 0xff] ?? 0)) & 0xffff
  return crc
}

/** Our keys are few tags with many suffixes, and this runs for every call: the slots of tags are kept. */
const KEPT_TAGS_MAX = 65_536
const slotOfTag = new Map<string, number>()

/** What is hashed: between the first `{` and the next `}`, if there is anything between them; else the whole key. */
export function hashTag(key: string): string {
  const open = key.indexOf('{')
  if (open < 0) return key
  const close = key.indexOf('}', open + 1)
  return close <= open + 1 ? key : key.slice(open + 1, close)
}

export function keySlot(key: string): number {
  const tag = hashTag(key)
  const kept = slotOfTag.get(tag)
  if (kept !== undefined) return kept
  const slot = crc16(Buffer.from(tag)) % SLOTS
  if (slotOfTag.size >= KEPT_TAGS_MAX) slotOfTag.clear()
  slotOfTag.set(tag, slot)
  return slot
}
