/** Looks into the logs that a process beside the node writes (near-logs.ts). Synchronous: runs in a worker, or where the disk is quick. */
import { codeOf } from '../../base/errors.js'
import { closeSync, openSync, statSync } from 'node:fs'
import { openUse } from './journal-file.js'
import {
  JOURNAL_BYTES,
  RECORD_HEAD_MAX_BYTES,
  badPlaceAt,
  recordAt,
  recordBytes,
  startOf,
  type BadPlace,
  type JournalRecord,
  type LogUse,
  type RecordKind,
} from './journal-format.js'
import { readAround } from './log-reads.js'

/** How far a log was read. */
export interface NearPosition {
  readonly file: string
  /** null: none yet. */
  readonly use: LogUse | null
  /** The end: it has lost its head, which was told. */
  readonly position: number
  /** Number of the record before. */
  readonly above: number
}

export interface NearTask {
  readonly logs: readonly NearPosition[]
  /** What lies behind a bad place is looked for, too: that costs reading the whole log. */
  readonly isThorough: boolean
}

export interface NearFound extends Omit<NearPosition, 'file'> {
  /** Another use than before: of that nothing is left. */
  readonly isOther: boolean
  readonly records: readonly { readonly kind: RecordKind; readonly body: Uint8Array }[]
  readonly bad: readonly BadPlace[]
}

const NOTHING = { use: null, above: 0, isOther: true, records: [] } as const
const ALL: BadPlace = { from: 0, to: JOURNAL_BYTES, id: null, number: 0, isLast: false, isUnreadable: false }

/** What was written since; null: there is no such log. Errors: what the disk says, but for what it cannot read. */
export function lookNear({ logs, isThorough }: NearTask): readonly (NearFound | null)[] {
  return logs.map((log) => lookInto(log, isThorough))
}

function lookInto(log: NearPosition, isThorough: boolean): NearFound | null {
  const fd = openLog(log.file)
  if (fd === null) return null
  try {
    const use = openUse(fd)
    if (use === 'lost') return { ...NOTHING, position: JOURNAL_BYTES, bad: log.position === JOURNAL_BYTES ? [] : [ALL] }
    if (use === null) return { ...NOTHING, position: 0, bad: [] }
    const isOther = use.generation !== log.use?.generation || use.salt !== log.use.salt
    const from = isOther ? { position: startOf(use), above: 0 } : log
    return { use: { generation: use.generation, salt: use.salt }, isOther, ...readOn(fd, from, use, isThorough) }
  } finally {
    closeSync(fd)
  }
}

type Read = Pick<NearFound, 'position' | 'above' | 'records' | 'bad'>

function readOn(fd: number, from: Pick<NearPosition, 'position' | 'above'>, use: LogUse, isThorough: boolean): Read {
  let { position, above } = from
  const records: JournalRecord[] = []
  const bad: BadPlace[] = []
  for (;;) {
    const record = readRecord(fd, position, use)
    if (record !== null) {
      records.push(record)
      position = record.end
      above = record.number
      continue
    }
    const place = isThorough ? badPlaceIn(fd, position, use, above) : null
    // It may be good by now: it was being written, and what follows it was written since.
    if (place !== null && readRecord(fd, position, use) !== null) continue
    if (place !== null) bad.push(place)
    // The last one may be one that is being written.
    if (place === null || place.isLast) return { position, above, records, bad }
    position = place.to
  }
}

/** null: there is none yet, or a bad one. */
function readRecord(fd: number, position: number, use: LogUse): JournalRecord | null {
  const wanted = recordBytes(readAround(fd, position, RECORD_HEAD_MAX_BYTES).bytes, use)
  if (wanted === null || position + wanted > JOURNAL_BYTES) return null
  const record = recordAt(readAround(fd, position, wanted).bytes, 0, use)
  return record === null ? null : { ...record, end: position + record.end }
}

function badPlaceIn(fd: number, position: number, use: LogUse, above: number): BadPlace | null {
  const { bytes, unreadable } = readAround(fd, position, JOURNAL_BYTES - position)
  const place = badPlaceAt(bytes, 0, use, above, unreadable)
  return place === null ? null : { ...place, from: position, to: position + place.to }
}

function openLog(file: string): number | null {
  // Mostly there is none, and an error takes longer to make than this question.
  if (statSync(file, { throwIfNoEntry: false }) === undefined) return null
  try {
    return openSync(file, 'r')
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return null
    throw error
  }
}
