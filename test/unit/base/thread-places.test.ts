/** Of threads that share places no more than there are work at once, and none waits for ever. */
import t from 'tap'
import { once } from 'node:events'
import { Worker } from 'node:worker_threads'
import { inPlace, threadPlaces } from '../../../src/base/thread-places.js'

t.setTimeout(120_000)

const MODULE = new URL('../../../src/base/thread-places.js', import.meta.url).href
const THREADS = 4

/** How many work, and how many did at most. */
const WORK = `
import(${JSON.stringify(MODULE)}).then(({ inPlace }) => {
  const { parentPort, workerData: { places, counts } } = require('node:worker_threads')
  for (let times = 0; times < 200; times++) {
    inPlace(places, () => {
      const now = Atomics.add(counts, 0, 1) + 1
      for (let most; now > (most = Atomics.load(counts, 1));) Atomics.compareExchange(counts, 1, most, now)
      for (let i = 0; i < 20_000; i++) Atomics.load(counts, 2)
      Atomics.sub(counts, 0, 1)
    }, 60_000)
  }
  parentPort.postMessage('done')
})`

for (const count of [1, 2]) {
  t.test(`of ${count}`, async (t) => {
    const places = threadPlaces(count)
    const counts = new Int32Array(new SharedArrayBuffer(12))
    const threads = Array.from({ length: THREADS }, () => {
      return new Worker(WORK, { eval: true, workerData: { places, counts } })
    })
    await Promise.all(threads.map((thread) => once(thread, 'exit')))
    t.ok((counts[1] ?? 0) >= 1)
    t.ok((counts[1] ?? 0) <= count, `${counts[1]} at once`)
    t.equal(places[0], count, 'all are given back')
  })
}

t.test('one that is never given back holds nobody up for ever', (t) => {
  const places = threadPlaces(1)
  const answer = inPlace(places, () => inPlace(places, () => 'without a place', 10))
  t.equal(answer, 'without a place')
  t.equal(places[0], 1, 'what was not taken is not given back')
  t.end()
})

t.test('what the work throws gives the place back', (t) => {
  const places = threadPlaces(1)
  t.throws(() =>
    inPlace(places, () => {
      throw new Error('thrown by the work')
    }),
  )
  t.equal(places[0], 1)
  t.end()
})
