/** What comes again and again is told once a minute. */
import t from 'tap'
import { Repeats } from '../../../src/base/repeats.js'
import { ManualClock } from '../../helpers/manual-clock.js'

t.test('each is told at once, and then once a minute with how often; the oldest of many is forgotten', async (t) => {
  const clock = new ManualClock()
  const repeats = new Repeats(clock)
  t.equal(repeats.times('a'), 1)
  for (let i = 0; i < 1_000; i++) t.equal(repeats.times('a'), 0)
  t.equal(repeats.times('b'), 1)
  await clock.pass(61_000)
  t.equal(repeats.times('a'), 1_001)
  t.equal(repeats.times('a'), 0)
  for (let i = 0; i < 255; i++) repeats.times(`other ${i}`)
  t.equal(repeats.times('a'), 0, 'it is remembered among many')
  repeats.times('one more')
  t.equal(repeats.times('a'), 1, 'but not among too many')
})
