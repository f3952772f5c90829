/**
 * What a process beside this node has written into its folder (nearby-journal.ts), as far as it is not in files yet. The node
 * only reads these logs: it looks into them when it is asked for a chunk that it does not have, and makes files of them when it
 * is asked to put such a chunk on disk. When all chunks of a log have files, its writer uses it again.
 *
 * Invariants:
 * - A record is taken only if it is whole and its data match its hashes: one that is being written is none yet.
 * - A log is read on from where the last look ended, within one generation. Of a generation that is over nothing is left to read.
 * - What was removed from this node does not come back by a look at the log. (By a start of the node it may: unnamed, as what a
 *   node's own journal had no room to note. journal.ts)
 */
import { closeSync, openSync } from 'node:fs'
import { codeOf } from '../outcome.js'
import type { JournalChunk } from './journal.js'
import { JOURNAL_LOGS, JOURNAL_START, idsIn, logFile, openGeneration, readRecord } from './journal-file.js'
import { keptOf } from './kept.js'

interface SeenLog {
  readonly file: string
  generation: number
  position: number
  readonly chunks: Map<number, JournalChunk>
}

export class NearLogs {
  readonly #logs: readonly SeenLog[]

  constructor(folder: string) {
    this.#logs = Array.from({ length: JOURNAL_LOGS }, (_, log) => {
      const file = logFile(folder, log, 'near')
      return { file, generation: 0, position: JOURNAL_START, chunks: new Map<number, JournalChunk>() }
    })
  }

  /** Looks into the logs if it is not known. */
  get(id: number): JournalChunk | undefined {
    const known = this.known(id)
    if (known !== undefined) return known
    this.refresh()
    return this.known(id)
  }

  /** All that are there now. */
  all(): JournalChunk[] {
    this.refresh()
    return this.#logs.flatMap(({ chunks }) => [...chunks.values()])
  }

  /** These have files, or are not wanted. */
  forget(ids: readonly number[]): void {
    for (const { chunks } of this.#logs) for (const id of ids) chunks.delete(id)
  }

  /** Errors: what the disk says, but that there is no such log. */
  refresh(): void {
    for (const log of this.#logs) lookInto(log)
  }

  /** As far as the last look. */
  known(id: number): JournalChunk | undefined {
    for (const { chunks } of this.#logs) {
      const found = chunks.get(id)
      if (found !== undefined) return found
    }
    return undefined
  }
}

function lookInto(log: SeenLog): void {
  const fd = openLog(log.file)
  if (fd === null) return
  try {
    const generation = openGeneration(fd)
    if (generation === null || generation !== log.generation) {
      log.chunks.clear()
      Object.assign(log, { generation: generation ?? 0, position: JOURNAL_START })
    }
    if (generation !== null) readOn(fd, log)
  } finally {
    closeSync(fd)
  }
}

function readOn(fd: number, log: SeenLog): void {
  for (;;) {
    const record = readRecord(fd, log.position, log.generation)
    if (record === null) return
    log.position = record.end
    if (record.kind === 'removed') for (const id of idsIn(record.body)) log.chunks.delete(id)
    else {
      const chunk = keptOf(record.body)
      log.chunks.set(chunk.id, chunk)
    }
  }
}

function openLog(file: string): number | null {
  try {
    return openSync(file, 'r')
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return null
    throw error
  }
}
