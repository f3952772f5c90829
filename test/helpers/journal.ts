/** The logs of small chunks in a node's folder, looked at and damaged from outside. */
import { readFileSync, writeFileSync } from 'node:fs'
import { JOURNAL_LOGS, logFile, type JournalPlace } from '../../src/chunk/node/journal-file.js'
import { contentOf, decodeLogHead } from '../../src/chunk/node/journal-format.js'

interface LogInUse {
  readonly file: string
  readonly bytes: Buffer
  /** The files of its chunks: views of `bytes`. */
  readonly chunks: readonly Buffer[]
}

/** Those that are not settled. Without a journal: none. */
export function logsInUse(folder: string, place?: JournalPlace): readonly LogInUse[] {
  return Array.from({ length: JOURNAL_LOGS }, (_, log) => logFile(folder, log, place)).flatMap((file) => {
    const bytes = contentsOf(file)
    const head = decodeLogHead(bytes)
    if (head?.state !== 'open') return []
    return [{ file, bytes, chunks: [...contentOf(bytes, head).chunks.values()] }]
  })
}

function contentsOf(file: string): Buffer {
  try {
    return readFileSync(file)
  } catch {
    return Buffer.alloc(0)
  }
}

/** One bit of the first chunk in each log that has more than one. Answers in how many. */
export function flipInLogs(folder: string): number {
  let flipped = 0
  for (const { file, bytes, chunks } of logsInUse(folder)) {
    const [first] = chunks
    if (first === undefined || chunks.length < 2) continue
    first.writeUInt8(first.readUInt8(first.length - 1) ^ 1, first.length - 1)
    writeFileSync(file, bytes, { flag: 'r+' })
    flipped++
  }
  return flipped
}
