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
      const spent = await pace.ready()
      spent(500)
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

t.test('many that wait do not begin all at once', async (t) => {
  const clock = new ManualClock()
  const pace = new Pace(clock, () => 1000)
  let [inWork, most, done] = [0, 0, 0]
  const send = async (): Promise<void> => {
    for (let i = 0; i < 5; i++) {
      const spent = await pace.ready()
      most = Math.max(most, ++inWork)
      await clock.sleep(300)
      inWork--
      done++
      spent(1000)
    }
  }
  const sending = Promise.all([send(), send(), send(), send()])
  for (let step = 0; step < 110; step++) await clock.pass(100)
  t.ok(done >= 9 && done <= 12, `${done} of 1,000 bytes in 11 s`)
  t.equal(most, 1, 'each takes less than the second that it may cost')
  for (let step = 0; step < 110; step++) await clock.pass(100)
  await sending
})

t.test('a transfer that came to nothing costs nothing', async (t) => {
  const clock = new ManualClock()
  const pace = new Pace(clock, () => 1000)
  for (let i = 0; i < 10; i++) {
    const spent = await pace.ready()
    spent(0)
  }
  t.equal(pace.totalBytes, 0)
})

t.test('the rate that is shown is that of the time in which something was transferred', async (t) => {
  const clock = new ManualClock()
  const pace = new Pace(clock, () => 1000)
  let isOver = false
  const send = async (): Promise<void> => {
    while (!isOver) {
      const spent = await pace.ready()
      await clock.sleep(200)
      spent(500)
    }
  }
  const seconds = async (count: number): Promise<number> => {
    for (let step = 0; step < 10 * count; step++) {
      await clock.pass(100)
      t.ok(pace.bytesPerS >= 0)
    }
    return pace.bytesPerS
  }
  t.equal(pace.bytesPerS, 0)
  let sending = send()
  const soon = await seconds(4)
  t.ok(soon > 700 && soon < 2500, `${soon} after four seconds: it does not begin with nothing`)
  const rate = await seconds(20)
  t.ok(rate > 900 && rate < 1100, `${rate}: the limit`)
  isOver = true
  await seconds(2)
  await sending
  t.equal(await seconds(2), 0, 'nothing to do')
  await seconds(3600)
  isOver = false
  sending = send()
  const again = await seconds(2)
  t.ok(again > 800 && again < 1500, `${again}: an hour of rest has not lowered it`)
  isOver = true
  await seconds(2)
  await sending
})
