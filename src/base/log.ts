import { pino, type Logger } from 'pino'

export type Log = Logger

/** One JSON line an event on stderr; `level` as in pino ('silent' turns it off). stdout belongs to command results. */
export function createLog(level: string, bindings: Record<string, unknown> = {}): Log {
  return pino({ level, base: { pid: process.pid, ...bindings } }, pino.destination({ dest: 2, sync: true }))
}

export const silentLog: Log = pino({ level: 'silent' })
