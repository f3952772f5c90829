/** What is published of delegations (delegate.lua, register.lua, lib/mutate.lua): alone in a message, laid out like an event. */
import { readU56 } from './records.js'

export const DELEGATION_MARKER = 9
const DELEGATION_RECALL = 10
export const DELEGATION_GIVEN_BACK = 11

const HEAD_BYTES = 4
const EVENT_BYTES = 9
const SESSION_BYTES = 4

export type DelegationNotice =
  | { readonly kind: 'marker'; readonly session: number; readonly token: number }
  | { readonly kind: 'recall'; readonly sessions: readonly number[] }
  | { readonly kind: 'givenBack' }

/** null: it is about something else. */
export function decodeDelegationNotice(message: Buffer): DelegationNotice | null {
  if (message.length < HEAD_BYTES + EVENT_BYTES) return null
  switch (message[HEAD_BYTES]) {
    case DELEGATION_MARKER:
      return { kind: 'marker', session: message.readUInt32LE(0), token: readU56(message, HEAD_BYTES + 1) }
    case DELEGATION_RECALL:
      return { kind: 'recall', sessions: sessionsOf(message) }
    case DELEGATION_GIVEN_BACK:
      return { kind: 'givenBack' }
    default:
      return null
  }
}

function sessionsOf(message: Buffer): number[] {
  const sessions: number[] = []
  const end = message.length - SESSION_BYTES
  for (let at = HEAD_BYTES + EVENT_BYTES; at <= end; at += SESSION_BYTES) sessions.push(message.readUInt32LE(at))
  return sessions
}
