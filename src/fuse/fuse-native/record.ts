/**
 * The record of a request in fuse-native.c (fuse_thread_locals_t), where its arguments are not enough: utimens gets the access
 * time in both places. The places of the fields are those of a 64-bit Linux; what is there must agree with what is
 * known, or it is not believed.
 */
import type { TimeSpec } from '../../base/clock.js'

const OPCODE_AT = 8
const ATIME_AT = 104
const MTIME_AT = 112
const RECORD_MIN_BYTES = 200

/** Access and modification time; undefined if the record is not as expected. */
export function utimensTimes(record: Buffer, opcode: number): readonly [TimeSpec, TimeSpec] | undefined {
  if (record.length < RECORD_MIN_BYTES || record.readUInt32LE(OPCODE_AT) !== opcode) return undefined
  return [timeFromMs(Number(record.readBigInt64LE(ATIME_AT))), timeFromMs(Number(record.readBigInt64LE(MTIME_AT)))]
}

/** Milliseconds since 1970; before it they are negative. */
export function timeFromMs(ms: number): TimeSpec {
  const sec = Math.floor(ms / 1000)
  return { sec, nsec: (ms - sec * 1000) * 1_000_000 }
}
