/** The logs of small chunks in a node's folder, looked at and damaged from outside. */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { encodePrefix } from '../../src/chunk/format.js'
import { JOURNAL_LOGS, logFile, type JournalPlace } from '../../src/chunk/node/journal-file.js'
import {
  JOURNAL_BYTES,
  contentOf,
  decodeLogHead,
  encodeIds,
  encodeLogHead,
  encodeRecord,
} from '../../src/chunk/node/journal-format.js'
import { VOLUME, type TestChunk } from './chunks.js'

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

/** What a process that was killed leaves: logs in use, with these chunks, and these removed again. */
export function leaveLogs(
  folder: string,
  logs: readonly { readonly chunks: readonly TestChunk[]; readonly removed?: readonly number[] }[],
  place: JournalPlace = 'journal',
): void {
  mkdirSync(join(folder, place), { recursive: true })
  for (let log = 0; log < JOURNAL_LOGS; log++) {
    const { chunks = [], removed = [] } = logs[log] ?? {}
    const use = { generation: 7 + log, salt: 0x9e37_79b9_7f4a_7c15n + BigInt(log) }
    const head = encodeLogHead(log < logs.length ? 'open' : 'settled', use)
    const records = chunks.map((chunk, at) => {
      const prefix = prefixOf(chunk)
      const name = { kind: 'chunk', number: at + 1, id: chunk.id } as const
      return encodeRecord(name, use.salt, [prefix, chunk.bytes], prefix.length)
    })
    const ids = encodeIds(removed)
    if (removed.length > 0)
      records.push(encodeRecord({ kind: 'removed', number: chunks.length + 1, id: 0 }, use.salt, [ids], ids.length))
    const bytes = Buffer.alloc(JOURNAL_BYTES)
    Buffer.concat([head, ...records]).copy(bytes)
    writeFileSync(logFile(folder, log, place), bytes)
  }
}

function prefixOf({ id, bytes, root, leaves, origin }: TestChunk): Buffer {
  return encodePrefix({ volume: VOLUME, id, lengthBytes: bytes.length, root, origin }, leaves)
}
