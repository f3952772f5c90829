import t from 'tap'
import type { Clock } from '../../../src/base/clock.js'
import { ClockOffset, SharedClock } from '../../../src/cluster/clock-offset.js'

function clockAt(sec: number, nsec: number): Clock {
  const times = { now: () => ({ sec, nsec }), monotonicMs: () => 0 }
  return { ...times, sleep: () => Promise.resolve(), after: (ms, work) => setTimeout(work, ms) }
}

t.test('the offset is that of the quickest answer', (t) => {
  const offset = new ClockOffset()
  offset.note(10_000, 10_400, 10_000)
  offset.note(11_000, 11_002, 10_950)
  offset.note(12_000, 12_600, 12_000)
  t.equal(offset.ms, 51)
  t.end()
})

t.test('a step of the clock is believed at once, an impossible measurement never', (t) => {
  const offset = new ClockOffset()
  offset.note(10_000, 10_002, 10_001)
  offset.note(3_610_000, 3_610_010, 10_005)
  t.equal(offset.ms, 3_600_000)
  offset.note(20_000, 19_000, 20_000)
  t.equal(offset.ms, 3_600_000)
  t.end()
})

t.test('a clock that is hours off tells the time of Redis; one that is nearly right tells its own', (t) => {
  const offset = new ClockOffset()
  const clock = new SharedClock(clockAt(100_000, 999_999_999), offset)
  offset.note(0, 2, 1)
  t.strictSame(clock.now(), { sec: 100_000, nsec: 999_999_999 })
  offset.note(0, 2, 701)
  t.strictSame(clock.now(), { sec: 100_000, nsec: 999_999_999 }, 'less than a second')
  offset.note(7_200_500, 7_200_502, 1)
  t.strictSame(clock.now(), { sec: 92_800, nsec: 499_999_999 })
  offset.note(0, 2, 7_200_501)
  t.strictSame(clock.now(), { sec: 107_201, nsec: 499_999_999 }, 'behind')
  t.end()
})

t.test('a clock that was set since it was measured tells the right time at once', (t) => {
  let wall = 500_000
  let steady = 1_000
  const base = { ...clockAt(0, 0), now: () => ({ sec: wall / 1000, nsec: 0 }), monotonicMs: () => steady }
  const offset = new ClockOffset()
  const clock = new SharedClock(base, offset)
  offset.note(500_000, 500_000, 4_100_000, 1_000)
  t.equal(clock.now().sec, 4_100, 'an hour behind')
  steady += 2_000
  wall = 4_102_000
  t.equal(clock.now().sec, 4_102, 'set right: no hour is added any more')
  wall -= 7_200_000
  t.equal(clock.now().sec, 4_102, 'set wrong')
  offset.note(wall, wall, 4_102_000, steady)
  t.equal(clock.now().sec, 4_102, 'and measured again')
  t.end()
})
