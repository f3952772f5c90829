/** What scripts publish on a partition's channel (lib/mutate.lua): u32 session, then kind u8, ino u56, name length u8, name. */
import type { Log } from '../base/log.js'
import type { MetaEvent } from './contract.js'
import { DELEGATION_GIVEN_BACK, DELEGATION_MARKER } from './delegation-events.js'
import { readU56 } from './records.js'

const HEAD_BYTES = 4
const EVENT_BYTES = 9

export const ATTR = 1
export const DATA = 2
export const ENTRY = 3
/** For who waits for a file lock: lock-events.ts. */
export const LOCK_EVENT = 8
/** Attributes that no delegation promises anything of: access times, an inode without a name that is gone. */
const ATTR_BESIDE = 12

/** The events of a message of another session; none of one's own. A message that cannot be read counts as all lost. */
export function decodeEvents(message: Buffer, ownSession: number, log: Log): readonly MetaEvent[] {
  if (message.length < HEAD_BYTES) return unreadable(log)
  if (message.readUInt32LE(0) === ownSession) return []
  const events: MetaEvent[] = []
  for (let at = HEAD_BYTES; at < message.length;) {
    if (at + EVENT_BYTES > message.length) return unreadable(log)
    const kind = message.readUInt8(at)
    const ino = readU56(message, at + 1)
    const end = at + EVENT_BYTES + message.readUInt8(at + 8)
    if (end > message.length) return unreadable(log)
    if (kind === ATTR || kind === ATTR_BESIDE) events.push({ kind: 'attr', ino })
    else if (kind === DATA) events.push({ kind: 'data', ino })
    else if (kind === ENTRY) {
      const name = Buffer.from(message.subarray(at + EVENT_BYTES, end))
      events.push({ kind: 'entry', parent: ino, name }, { kind: 'attr', ino })
    } else if (kind !== LOCK_EVENT && !isOfDelegations(kind)) return unreadable(log)
    at = end
  }
  return events
}

function isOfDelegations(kind: number): boolean {
  return kind >= DELEGATION_MARKER && kind <= DELEGATION_GIVEN_BACK
}

function unreadable(log: Log): readonly MetaEvent[] {
  log.error('an event of another client cannot be read: all caches are dropped')
  return [{ kind: 'lost' }, { kind: 'back' }]
}
