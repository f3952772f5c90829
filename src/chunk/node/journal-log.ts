/** One of the two logs of a journal, as journal.ts uses it. */
import { closeSync, openSync } from 'node:fs'
import type { Aside } from './journal-file.js'
import { JOURNAL_START } from './journal-format.js'

export interface JournalLog {
  readonly index: number
  generation: number
  /** Of this use. */
  salt: bigint
  /** Of the last record. */
  number: number
  /** Leaving: it is being put aside, and nothing is written into it any more. Missing: there is none, until one is made. */
  state: 'idle' | 'active' | 'settling' | 'leaving' | 'missing'
  /** Where the next record goes. */
  end: number
  /** To be kept before it is used again. */
  aside: Aside
  /** Its chunks could not be given files when that was last tried. */
  isWaiting: boolean
  /** Open while it is in use, for those batches that are written on this thread. */
  fd: number | null
  /** The batch that is being written into it; never rejects. */
  writing: Promise<void>
  /** Settles when the log is idle again, or missing, or the pool was closed. */
  settled: Promise<void>
}

export function newLog(index: number): JournalLog {
  return {
    ...{ index, generation: 0, salt: 0n, number: 0, state: 'idle', end: JOURNAL_START, fd: null },
    ...{ aside: [], isWaiting: false, writing: Promise.resolve(), settled: Promise.resolve() },
  }
}

/** null: it cannot be opened, and whoever writes it in a worker finds out why. */
export function openLog(log: JournalLog, file: string): number | null {
  try {
    return (log.fd ??= openSync(file, 'r+'))
  } catch {
    return null
  }
}

/** Nothing is written into it any more until it is settled. */
export function closeLog(log: JournalLog): void {
  const { fd } = log
  log.fd = null
  try {
    if (fd !== null) closeSync(fd)
  } catch {
    // What was acknowledged was flushed before. The number may be another file's by now.
  }
}
