import t from 'tap'
import { Metrics } from '../../../src/base/metrics.js'
import { figuresBetween } from '../../../src/cli/stats/figures.js'
import { statsText } from '../../../src/cli/stats/view.js'
import type { StatsReply } from '../../../src/rpc/messages-stats.js'

const process = { rssBytes: 100 * 2 ** 20, heapBytes: 2 ** 20, externalBytes: 0, cpuUs: 500_000, loopBusyUs: 250_000 }
const shown = { mountpoint: '/mnt/home', volume: 'home', driver: 'kernel' }

function reply(metrics: Metrics, uptimeMs: number, more: Partial<StatsReply> = {}): StatsReply {
  return { pid: 7, version: '1.0.0', uptimeMs, ...metrics.snapshot(), process, ...more }
}

t.test('figures of an interval are what happened in it, by the second', async (t) => {
  const metrics = new Metrics()
  let hits = 5
  metrics.counter('cache.names.hits', () => hits)
  metrics.counter('cache.names.misses', () => 5)
  metrics.timer('fuse', 'read').record(100)
  metrics.timer('fuse', 'write').record(1)
  const before = reply(metrics, 1_000)
  for (let i = 0; i < 10; i++) metrics.timer('fuse', 'read').record(1)
  hits = 8
  const now = reply(metrics, 3_000, { process: { ...process, cpuUs: 1_500_000 } })
  const { intervalMs, requests, caches, process: own } = figuresBetween(before, now)
  t.equal(intervalMs, 2_000)
  t.same(Object.keys(requests), ['read'], 'write was not asked meanwhile')
  t.match(requests['read'], { count: 10, perSecond: 5, errors: 0 })
  const { p50Ms = null, p99Ms = null } = requests['read'] ?? {}
  t.ok(p50Ms !== null && p99Ms !== null && p50Ms > 0.8 && p99Ms < 1.2, 'the slow one was before')
  t.same(caches['names'], { hits: 3, misses: 0, hitShare: 1 })
  t.equal(own.cpuShare, 0.5)
})

t.test('the first figures are those since the process began', async (t) => {
  const metrics = new Metrics()
  metrics.timer('redis', 'create').record(1)
  metrics.timer('redis', 'create').errors++
  const { redis, intervalMs, requests } = figuresBetween(null, reply(metrics, 4_000))
  t.equal(intervalMs, 4_000)
  t.match(redis['create'], { count: 1, perSecond: 0.3, errors: 1 })
  t.same(requests, {})
})

t.test('the view names what was done and leaves out what was not', async (t) => {
  const metrics = new Metrics()
  for (let i = 0; i < 30; i++) metrics.timer('fuse', `operation${i}`).record(1)
  metrics.timer('chunk.put', 'node-a').record(2)
  let sent = 0
  metrics.counter('chunk.sent.node-a', () => sent)
  metrics.counter('chunk.received.node-a', () => 0)
  metrics.gauge('buffers.dirtyBytes', () => 3 * 2 ** 20)
  sent = 4 * 2 ** 20
  const text = statsText(shown, figuresBetween(null, reply(metrics, 2_000)))
  t.match(text, '/mnt/home  volume home  kernel  process 7')
  t.match(text, /^16 more +16 /m, 'many operations fit on a screen')
  t.match(text, /^node-a .*2\.0 MiB\/s/m)
  t.match(text, 'written 3.0 MiB of')
  t.notMatch(text, 'REDIS')
  t.ok(text.split('\n').length < 40)
})

t.test('small files that were moved are counted', async (t) => {
  for (const [files, text] of [
    [0, /in Redis$/m],
    [1, /in Redis, 1 file \(5 B\) moved to the nodes$/m],
    [2, /in Redis, 2 files \(5 B\) moved to the nodes$/m],
  ] as const) {
    const metrics = new Metrics()
    metrics.counter('moving.files', () => files)
    metrics.counter('moving.bytes', () => 5)
    t.match(statsText(shown, figuresBetween(null, reply(metrics, 2_000))), text)
  }
})
