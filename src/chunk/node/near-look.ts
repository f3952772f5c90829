/** Looks into the logs that a process beside the node writes (near-logs.ts). Synchronous: runs in a worker, or where the disk is quick. */
import { closeSync, openSync } from 'node:fs'
import { codeOf } from '../outcome.js'
import { JOURNAL_START, openGeneration, readRecord, type RecordKind } from './journal-file.js'

/** How far a log was read. */
export interface NearPosition {
  readonly file: string
  readonly generation: number
  readonly position: number
}

export interface NearFound {
  readonly generation: number
  readonly position: number
  /** Another generation than before: of that nothing is left. */
  readonly isOther: boolean
  readonly records: readonly { readonly kind: RecordKind; readonly body: Uint8Array }[]
}

/** What was written since; null: there is no such log. Errors: what the disk says. */
export function lookNear(logs: readonly NearPosition[]): readonly (NearFound | null)[] {
  return logs.map(lookInto)
}

function lookInto(log: NearPosition): NearFound | null {
  const fd = openLog(log.file)
  if (fd === null) return null
  try {
    const generation = openGeneration(fd)
    const isOther = generation === null || generation !== log.generation
    const from = isOther ? JOURNAL_START : log.position
    if (generation === null) return { generation: 0, position: from, isOther, records: [] }
    return { generation, isOther, ...readOn(fd, from, generation) }
  } finally {
    closeSync(fd)
  }
}

function readOn(fd: number, from: number, generation: number): Pick<NearFound, 'position' | 'records'> {
  const records: NearFound['records'][number][] = []
  for (let position = from; ;) {
    const record = readRecord(fd, position, generation)
    if (record === null) return { position, records }
    records.push({ kind: record.kind, body: record.body })
    position = record.end
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
