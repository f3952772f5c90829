import fc from 'fast-check'
import t from 'tap'
import { bucketStartUs, Metrics, percentileMs, TIMER_BUCKETS, Timer } from '../../../src/base/metrics.js'

const LONGEST_MS = 2 ** 31 / 1000

function timerOf(times: readonly number[]): Timer {
  const timer = new Timer()
  for (const ms of times) timer.record(ms)
  return timer
}

t.test('every time falls into one bucket, that begins below it and ends above it', async () => {
  fc.assert(
    fc.property(fc.double({ min: 0, max: LONGEST_MS * 2, noNaN: true }), (ms) => {
      const { buckets } = timerOf([ms])
      const bucket = buckets.indexOf(1)
      const us = Math.min(Math.floor(ms * 1000), 2 ** 31 - 1)
      return (
        buckets.reduce((sum, count) => sum + count) === 1 &&
        bucketStartUs(bucket) <= us &&
        us < bucketStartUs(bucket + 1)
      )
    }),
  )
})

t.test('a percentile is right to an eighth of its value and a microsecond', async () => {
  const times = fc.array(fc.double({ min: 0, max: 60_000, noNaN: true }), { minLength: 1, maxLength: 200 })
  fc.assert(
    fc.property(times, fc.constantFrom(0.5, 0.9, 0.99, 1), (all, share) => {
      const sorted = [...all].sort((a, b) => a - b)
      const exact = sorted[Math.max(1, Math.ceil(sorted.length * share)) - 1] ?? 0
      const found = percentileMs(timerOf(all).buckets, share) ?? -1
      return Math.abs(found - exact) <= exact / 8 + 0.001
    }),
  )
})

t.test('nothing was done: there is no percentile', async (t) => {
  t.equal(percentileMs(new Timer().buckets, 0.5), undefined)
})

t.test('a clock that goes back, and a time beyond all buckets, are counted all the same', async (t) => {
  const { count, buckets } = timerOf([-5, 1e12])
  t.equal(count, 2)
  t.equal(buckets[0], 1)
  t.equal(buckets[TIMER_BUCKETS - 1], 1)
})

t.test('the same name is the same timer; what was never used is not shown', async (t) => {
  const metrics = new Metrics()
  metrics.timer('fuse', 'read').record(2)
  metrics.timer('fuse', 'read').record(4)
  metrics.timer('fuse', 'write')
  metrics.timer('redis', 'read').errors++
  const { timers } = metrics.snapshot()
  t.same(
    timers.map(({ group, label, count, errors, totalMs }) => ({ group, label, count, errors, totalMs })),
    [
      { group: 'fuse', label: 'read', count: 2, errors: 0, totalMs: 6 },
      { group: 'redis', label: 'read', count: 0, errors: 1, totalMs: 0 },
    ],
  )
})

t.test('counters and gauges are read when somebody asks, and not before', async (t) => {
  const metrics = new Metrics()
  let asked = 0
  metrics.counter('hits', () => ++asked)
  metrics.gauge('bytes', () => 7)
  t.equal(asked, 0)
  t.same(metrics.snapshot().counters, [{ name: 'hits', value: 1 }])
  t.same(metrics.snapshot().gauges, [{ name: 'bytes', value: 7 }])
  t.equal(asked, 2)
})
