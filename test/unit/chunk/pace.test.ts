import t from 'tap'
import { Pace } from '../../../src/chunk/node/pace.js'
import { ManualClock } from '../../helpers/manual-clock.js'

t.test('the pace keeps to its limit on average, and a raised limit is noticed', async (t) => {
  const clock = new ManualClock()
  let limit = 1000
  const pace = new Pace(clock, () => limit)
  let sent = 0
  const sending = (async () => {
    while (sent < 40) {
      await pace.ready()
      pace.spent(500)
      sent++
    }
  })()
  for (let step = 0; step < 50; step++) await clock.pass(100)
  t.ok(sent >= 10 && sent <= 13, `${sent} in 5 s`)
  limit = 10_000
  for (let step = 0; step < 25; step++) await clock.pass(100)
  await sending
  t.equal(pace.totalBytes, 20_000)
})
