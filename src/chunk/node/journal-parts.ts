/** What goes into a journal (journal.ts). */
import type { RecordBody, RecordKind } from './journal-format.js'
import type { JournalLog } from './journal-log.js'
import type { LogWrite } from './log-writes.js'
import type { ChunkLayout } from './tasks.js'

/** A chunk in the journal. */
export interface JournalChunk {
  readonly id: number
  /** 32 bytes. */
  readonly root: Buffer
  readonly layout: ChunkLayout
  /** All that will be in its file. */
  readonly file: Buffer
}

/** One that somebody else writes, together with what goes to other journals. */
export interface JournalEntry {
  readonly chunk: JournalChunk
  /** As it stands in the record. */
  readonly body: RecordBody
  /** Not taken if this file exists. */
  readonly path: string
}

/** To be written and answered in the tick in which it was asked for. */
export interface JournalBatch {
  readonly writes: readonly LogWrite[]
  /** null: all of it is on disk. */
  done(error: Error | null): void
}

/** A record that is to be written. */
export interface Waiting {
  readonly kind: RecordKind
  /** Of a chunk; else 0. */
  readonly id: number
  readonly body: readonly Uint8Array[]
  readonly bound: number
  /** It is not written, and not taken, if this file exists. */
  readonly unless: string | undefined
  /** The log that it must go to, or null: the active one. */
  readonly log: JournalLog | null
  /** Called in the tick in which it is known to be on disk. */
  readonly onWritten: (log: JournalLog) => void
  /** null: it was not written. */
  done(log: JournalLog | null): void
  fail(error: unknown): void
}

export interface Writing {
  readonly waiting: Waiting
  readonly record: Buffer
}
