import t from 'tap'
import type { Clock } from '../../../src/base/clock.js'
import { ClockOffset, SharedClock } from '../../../src/cluster/clock-offset.js'

function clockAt(sec: number, nsec: number): Clock {
  const times = { now: () => ({ sec, nsec }), monotonicMs: () => 0, wallMs: () => 0 }
  return { ...times, sleep: () => Promise.resolve(), after: (ms, work) => setTimeout(work, ms) }
}

t.test('the offset is that of the quickest answer', (t) => {
  const offset = new ClockOffset()
  offset.note(400, 10_400, 10_000, 0)
  offset.note(2, 11_002, 10_950, 0)
  offset.note(600, 12_600, 12_000, 0)
  t.equal(offset.ms, 51)
  t.end()
})

t.test('a step of the clock is believed at once', (t) => {
  const offset = new ClockOffset()
  offset.note(2, 10_002, 10_001, 0)
  offset.note(10, 3_610_010, 10_005, 0)
  t.equal(offset.ms, 3_600_000)
  t.end()
})

t.test('a clock that is hours off tells the time of Redis; one that is nearly right tells its own', (t) => {
  const offset = new ClockOffset()
  const clock = new SharedClock(clockAt(100_000, 999_999_999), offset)
  // As the base has it: since it was measured it was not set.
  const ahead = 100_000_999.999999
  const note = (offsetMs: number): void => offset.note(0, ahead, ahead - offsetMs, 0)
  note(0)
  t.strictSame(clock.now(), { sec: 100_000, nsec: 999_999_999 })
  note(-700)
  t.strictSame(clock.now(), { sec: 100_000, nsec: 999_999_999 }, 'less than a second')
  note(7_200_500)
  t.strictSame(clock.now(), { sec: 92_800, nsec: 499_999_999 })
  note(-7_200_500)
  t.strictSame(clock.now(), { sec: 107_201, nsec: 499_999_999 }, 'behind')
  t.end()
})

t.test('a clock that was set since it was measured tells the right time at once', (t) => {
  let wall = 500_000
  let steady = 1_000
  const base = { ...clockAt(0, 0), now: () => ({ sec: wall / 1000, nsec: 0 }), monotonicMs: () => steady }
  const offset = new ClockOffset()
  const clock = new SharedClock(base, offset)
  offset.note(0, 500_000, 4_100_000, 1_000)
  t.equal(clock.now().sec, 4_100, 'an hour behind')
  steady += 2_000
  wall = 4_102_000
  t.equal(clock.now().sec, 4_102, 'set right: no hour is added any more')
  wall -= 7_200_000
  t.equal(clock.now().sec, 4_102, 'set wrong')
  offset.note(0, wall, 4_102_000, steady)
  t.equal(clock.now().sec, 4_102, 'and measured again')
  t.end()
})

t.test('a clock that is set while it is measured tells the right time at once', (t) => {
  for (const step of [-7_200_000, 7_200_000]) {
    let wall = 500_000
    let steady = 1_000
    const base = { ...clockAt(0, 0), now: () => ({ sec: wall / 1000, nsec: 0 }), monotonicMs: () => steady }
    const offset = new ClockOffset()
    const clock = new SharedClock(base, offset)
    offset.note(0, wall, 500_000, steady)
    steady += 100
    wall += 100 + step
    offset.note(100, wall, 500_050, steady)
    t.equal(Math.round(clock.now().sec * 1000), 500_100, 'it was set between the question and the answer')
    steady += 1_000
    wall += 1_000
    t.equal(Math.round(clock.now().sec * 1000), 501_100)
  }
  t.end()
})
