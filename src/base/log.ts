import { pino, type Logger } from 'pino'
import { KIB } from './limits.js'

export type Log = Logger

/** What stderr does not take is kept, in case that it takes it later: of so much the newest is dropped. */
const KEPT_MAX_BYTES = 256 * KIB

/**
 * One JSON line an event on stderr; `level` as in pino ('silent' turns it off). stdout belongs to command results.
 *
 * Invariant: to log never fails, also when the disk of the log is full or its terminal is gone: what is logged is often a failure
 * that is just being dealt with.
 */
export function createLog(level: string, bindings: Record<string, unknown> = {}): Log {
  const destination = pino.destination({ dest: 2, sync: true, maxLength: KEPT_MAX_BYTES })
  // Without a listener it would be thrown, out of the call that logs.
  destination.on('error', () => undefined)
  return pino({ level, base: { pid: process.pid, ...bindings } }, destination)
}

export const silentLog: Log = pino({ level: 'silent' })
