/**
 * What the scripts tell those who wait for file locks (scripts/lib/filelocks.lua), among the events of a message
 * (events.ts). In place of the name: u8 what, u32 session, u56 ticket, and after B the new holder. It may be one's own
 * message: who unlocks may be the one who lets another thread of his in.
 */
import { LOCK_EVENT } from './events.js'
import { readU56 } from './records.js'

export interface LockNotice {
  /** G: granted. B: waits for `holder` now. C: held back only out of courtesy to those who came before. */
  readonly what: string
  readonly session: number
  readonly ticket: number
  readonly holder: string
}

const HEAD_BYTES = 4
const EVENT_BYTES = 9
const NOTICE_BYTES = 12
const NONE: readonly LockNotice[] = []

/** A message that cannot be read ends there: events.ts reports it. */
export function decodeLockNotices(message: Buffer): readonly LockNotice[] {
  let notices: LockNotice[] | undefined
  for (let at = HEAD_BYTES; at + EVENT_BYTES <= message.length;) {
    const start = at + EVENT_BYTES
    const end = start + message.readUInt8(at + 8)
    if (end > message.length) break
    if (message[at] === LOCK_EVENT && end - start >= NOTICE_BYTES) {
      notices ??= []
      notices.push({
        what: message.toString('latin1', start, start + 1),
        session: message.readUInt32LE(start + 1),
        ticket: readU56(message, start + 5),
        holder: message.toString('latin1', start + NOTICE_BYTES, end),
      })
    }
    at = end
  }
  return notices ?? NONE
}
