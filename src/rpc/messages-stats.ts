/** The messages of service StatsService. */
import { TIMER_BUCKETS, type MetricsSnapshot, type NamedValue, type TimerFigures } from '../base/metrics.js'
import { codec, defineMethod, EMPTY_CODEC } from './method.js'
import type { Fields } from './protobuf.js'

export interface ProcessFigures {
  readonly rssBytes: number
  readonly heapBytes: number
  readonly externalBytes: number
  /** User and system, of all threads. */
  readonly cpuUs: number
  readonly loopBusyUs: number
}

/** Since the process began. */
export interface StatsReply extends MetricsSnapshot {
  readonly pid: number
  readonly version: string
  readonly uptimeMs: number
  readonly process: ProcessFigures
}

const NAME_MAX_LENGTH = 255

function readTimer(fields: Fields): TimerFigures {
  const buckets = new Array<number>(TIMER_BUCKETS).fill(0)
  const counts = fields.uints('bucketCounts')
  for (const [at, bucket] of fields.uints('buckets').entries()) {
    if (bucket < TIMER_BUCKETS) buckets[bucket] = counts[at] ?? 0
  }
  return {
    group: fields.text('group', NAME_MAX_LENGTH),
    label: fields.text('label', NAME_MAX_LENGTH),
    count: fields.uint('count'),
    errors: fields.uint('errors'),
    totalMs: fields.uint('totalUs') / 1000,
    buckets,
  }
}

function timerFields({ buckets, totalMs, ...rest }: TimerFigures): object {
  const used = buckets.flatMap((count, bucket) => (count > 0 ? [bucket] : []))
  return {
    ...rest,
    totalUs: Math.round(totalMs * 1000),
    buckets: used,
    bucketCounts: used.map((bucket) => buckets[bucket] ?? 0),
  }
}

const readValue = (fields: Fields): NamedValue => ({
  name: fields.text('name', NAME_MAX_LENGTH),
  value: fields.uint('value'),
})

const readProcess = (fields: Fields): ProcessFigures => ({
  rssBytes: fields.uint('rssBytes'),
  heapBytes: fields.uint('heapBytes'),
  externalBytes: fields.uint('externalBytes'),
  cpuUs: fields.uint('cpuUs'),
  loopBusyUs: fields.uint('loopBusyUs'),
})

const statsReply = codec<StatsReply>(
  'StatsReply',
  (fields) => ({
    pid: fields.uint('pid'),
    version: fields.text('version', NAME_MAX_LENGTH),
    uptimeMs: fields.uint('uptimeMs'),
    timers: fields.messages('timers', 'TimerStats').map(readTimer),
    counters: fields.messages('counters', 'NamedValue').map(readValue),
    gauges: fields.messages('gauges', 'NamedValue').map(readValue),
    process: readProcess(fields.message('process', 'ProcessStats')),
  }),
  ({ timers, ...rest }) => ({ ...rest, timers: timers.map(timerFields) }),
)

export const STATS_READ = defineMethod('STATS_READ', EMPTY_CODEC, statsReply)

/** In the order of the service's declaration, which a test compares. */
export const STATS_METHODS = [STATS_READ] as const
