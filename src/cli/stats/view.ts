/** The figures of a mount for people, a screen high. */
import { counted, humanBytes, humanMs, table } from '../units.js'
import type { CacheFigures, Figures, NodeFigures, Rate } from './figures.js'

const OPERATIONS_MAX = 14
const SCRIPTS_MAX = 12

export interface Shown {
  readonly mountpoint: string
  readonly volume: string
  readonly driver: string
}

export function statsText({ mountpoint, volume, driver }: Shown, figures: Figures): string {
  const { pid, version, uptimeMs, intervalMs } = figures
  const isWhole = intervalMs === uptimeMs
  const over = isWhole ? 'since it began' : `in ${(intervalMs / 1000).toFixed(1)} s`
  const head = `${mountpoint}  volume ${volume}  ${driver}  process ${pid}  ringfs ${version}  up ${humanMs(uptimeMs)}`
  const parts = [
    `${head}\nfigures ${over}\n`,
    rateTable('REQUEST', figures.requests, OPERATIONS_MAX),
    cacheTable(figures.caches),
    rateTable('TO THE KERNEL', figures.invalidations, OPERATIONS_MAX),
    rateTable('REDIS', figures.redis, SCRIPTS_MAX),
    nodeTable(figures.nodes, intervalMs),
    lastLines(figures),
  ]
  return parts.filter((part) => part !== '').join('\n')
}

function rateTable(title: string, rates: Readonly<Record<string, Rate>>, max: number): string {
  const all = Object.entries(rates)
  if (all.length === 0) return ''
  const rows = all.slice(0, max).map(([name, rate]) => [name, ...rateCells(rate), rate.errors])
  const rest = all.slice(max).map(([, rate]) => rate)
  if (rest.length > 0) rows.push([`${rest.length} more`, sum(rest, 'count'), persec(rest), '', '', sum(rest, 'errors')])
  return table([title, 'COUNT', 'PER S', 'P50', 'P99', 'ERRORS'], rows)
}

function rateCells({ count, perSecond, p50Ms, p99Ms }: Rate): (string | number)[] {
  return [count, perSecondText(perSecond), timeText(p50Ms), timeText(p99Ms)]
}

const sum = (rates: readonly Rate[], field: 'count' | 'errors'): number =>
  rates.reduce((total, rate) => total + rate[field], 0)

const persec = (rates: readonly Rate[]): string =>
  perSecondText(rates.reduce((total, { perSecond }) => total + perSecond, 0))

function perSecondText(value: number): string {
  return value === 0 ? '' : value < 10 ? value.toFixed(1) : value.toFixed(0)
}

function timeText(ms: number | null): string {
  if (ms === null) return ''
  if (ms < 1) return `${Math.round(ms * 1000)} us`
  return ms < 10 ? `${ms.toFixed(1)} ms` : humanMs(ms)
}

function cacheTable(caches: Readonly<Record<string, CacheFigures>>): string {
  const asked = Object.entries(caches).filter(([, { hits, misses }]) => hits + misses > 0)
  if (asked.length === 0) return ''
  const rows = asked.map(([name, { hits, misses, hitShare }]) => [name, hits, misses, percent(hitShare ?? 0)])
  return table(['CACHE', 'HITS', 'MISSES', 'HIT'], rows)
}

function nodeTable(nodes: Readonly<Record<string, NodeFigures>>, intervalMs: number): string {
  const used = Object.entries(nodes)
  if (used.length === 0) return ''
  const bytes = (value: number): string => (value === 0 ? '' : `${humanBytes((value * 1000) / intervalMs)}/s`)
  const rows = used.map(([id, { put, get, sync, sentBytes, receivedBytes }]) => [
    id,
    ...[put.count, timeText(put.p50Ms), timeText(put.p99Ms), bytes(sentBytes)],
    ...[get.count, timeText(get.p50Ms), timeText(get.p99Ms), bytes(receivedBytes)],
    ...[sync.count, timeText(sync.p99Ms), put.errors + get.errors + sync.errors],
  ])
  const columns = ['PUT', 'P50', 'P99', 'SENT', 'GET', 'P50', 'P99', 'RECEIVED', 'SYNC', 'P99', 'ERRORS']
  return table(['NODE', ...columns], rows)
}

function lastLines(figures: Figures): string {
  const { chunks, packed, redisRetries, eventsReceived, partitionsHeard, buffers, openHandles, process } = figures
  const level = (name: string): string => humanBytes(buffers[name] ?? 0)
  const { rssBytes, heapBytes, externalBytes, cpuShare, loopBusyShare, awakeShare, loopLag } = process
  const lag = loopLag.p99Ms === null ? '' : `, late by ${timeText(loopLag.p50Ms)} (p99 ${timeText(loopLag.p99Ms)})`
  const awake = awakeShare === 0 ? '' : `, idle processors kept awake ${percent(awakeShare)}`
  const { hedges, retries, failures, bad } = chunks
  return [
    `chunks   ${hedges} hedges, ${retries} retries, ${failures} failed, ${bad} bad copies${packed.chunks === 0 ? '' : packedText(packed)}`,
    `events   ${eventsReceived} changes by others, ${partitionsHeard} partitions listened to, ${redisRetries} Redis calls repeated`,
    `small    ${smallText(figures)}`,
    `buffers  written ${level('dirtyBytes')} of ${level('dirtyMaxBytes')}, read cache ${level('readCacheBytes')} of ` +
      `${level('readCacheMaxBytes')}, lent ${level('lentBytes')}, ${openHandles} open handles`,
    `process  ${humanBytes(rssBytes)} (heap ${humanBytes(heapBytes)}, external ${humanBytes(externalBytes)}), ` +
      `CPU ${percent(cpuShare)}, event loop busy ${percent(loopBusyShare)}${lag}${awake}`,
    '',
  ].join('\n')
}

function packedText({ chunks, bytes }: Figures['packed']): string {
  return `, ${chunks} packed (${humanBytes(bytes)})`
}

/** Files that are kept in Redis. */
function smallText({ inline, moved }: Figures): string {
  const left =
    moved.files === 0 ? '' : `, ${counted(moved.files, 'file')} (${humanBytes(moved.bytes)}) moved to the nodes`
  return `${humanBytes(inline.usedBytes)} of ${humanBytes(inline.budgetBytes)} in Redis${left}`
}

function percent(share: number): string {
  return `${(share * 100).toFixed(share < 0.1 ? 1 : 0)}%`
}
