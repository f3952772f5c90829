/** What was measured, as a table and as JSON. */
import { percentileMs } from '../../base/metrics.js'
import { MIB } from '../../base/limits.js'
import { table } from '../units.js'
import type { Step } from './plan.js'
import type { Together } from './threads.js'

export interface Figure {
  readonly name: string
  readonly group: string
  readonly title: string
  readonly unit: string
  /** In that unit; higher is better. */
  readonly rate: number
  readonly operations: number
  readonly bytes: number
  readonly seconds: number
  /** Of one operation; right to an eighth. */
  readonly p50Ms: number | null
  readonly p99Ms: number | null
}

export interface Skipped {
  readonly name: string
  readonly reason: string
}

export interface Report {
  /** Of this form. */
  readonly format: 1
  readonly path: string
  readonly fsType: string
  readonly startedAt: string
  readonly seconds: number
  readonly threads: number
  readonly sizeBytes: number
  readonly files: number
  readonly figures: readonly Figure[]
  readonly skipped: readonly Skipped[]
  /** false: it was stopped before the end. */
  readonly isComplete: boolean
}

export function figureOf(step: Step, { operations, bytes, seconds, buckets }: Together): Figure {
  const { name, group, title, unit } = step
  const amount = unit === 'MiB/s' ? bytes / MIB : operations
  const rate = Number((amount / Math.max(seconds, 1e-9)).toPrecision(5))
  const [p50Ms, p99Ms] = [percentileMs(buckets, 0.5) ?? null, percentileMs(buckets, 0.99) ?? null]
  return { name, group, title, unit, rate, operations, bytes, seconds, p50Ms, p99Ms }
}

export function reportText({ path, fsType, threads, figures, skipped, seconds, isComplete }: Report): string {
  const many = threads === 1 ? 'one thread' : `${threads} threads`
  const rows = figures.map(({ group, title, rate, unit, p50Ms, p99Ms }, at) => [
    figures[at - 1]?.group === group ? '' : group,
    title,
    rateText(rate).padStart(RATE_WIDTH),
    unit,
    timeText(p50Ms).padStart(TIME_WIDTH),
    timeText(p99Ms).padStart(TIME_WIDTH),
  ])
  const head = ['', '', 'RATE'.padStart(RATE_WIDTH), '', 'P50'.padStart(TIME_WIDTH), 'P99'.padStart(TIME_WIDTH)]
  return [
    `${path} (${fsType}), ${many}${isComplete ? '' : ', stopped before the end'}\n\n`,
    table(head, rows),
    '\nTimes are of one operation: the median and the 99th percentile.\n',
    ...(skipped.length === 0 ? [] : [`left out: ${reasons(skipped)}\n`]),
    `${seconds.toFixed(1)} s\n`,
  ].join('')
}

const RATE_WIDTH = 9
const TIME_WIDTH = 8

function reasons(skipped: readonly Skipped[]): string {
  const why = new Set(skipped.map(({ reason }) => reason))
  return [...why]
    .map((reason) => {
      const names = skipped.filter((one) => one.reason === reason).map(({ name }) => name)
      return `${names.join(', ')} (${reason})`
    })
    .join('; ')
}

/** Three digits that count. */
export function rateText(rate: number): string {
  if (rate >= 100) return Math.round(rate).toLocaleString('en-US')
  return rate.toPrecision(3)
}

function timeText(ms: number | null): string {
  if (ms === null) return ''
  if (ms < 1) return `${Math.round(ms * 1000)} us`
  return ms < 100 ? `${ms.toFixed(1)} ms` : `${Math.round(ms)} ms`
}
