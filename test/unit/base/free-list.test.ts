/** Memory that is used again: what a burst needed does not stay for ever. */
import t from 'tap'
import { FreeList } from '../../../src/base/free-list.js'
import { ManualClock } from '../../helpers/manual-clock.js'

const LOOK_MS = 10_000

t.test('what is given back is used again, by size, and kept up to a limit', async (t) => {
  const free = new FreeList<string>({ keepBytes: 10, clock: new ManualClock() })
  t.equal(free.take(4), undefined)
  free.give(4, 'a')
  free.give(4, 'b')
  free.give(4, 'too much')
  t.equal(free.freeBytes, 8)
  t.equal(free.take(2), undefined, 'of another size')
  t.equal(free.take(4), 'b')
  t.equal(free.take(4), 'a')
  t.equal(free.take(4), undefined)
  t.equal(free.freeBytes, 0)
})

t.test('what nobody has needed between two looks is dropped, and no more', async (t) => {
  const clock = new ManualClock()
  const free = new FreeList<number>({ keepBytes: 100, clock })
  for (let i = 0; i < 10; i++) free.give(5, i)
  await clock.pass(LOOK_MS)
  t.equal(free.freeBytes, 50, 'it has been there for less than a look')
  // Three of ten are in use now and then.
  for (let look = 0; look < 3; look++) {
    const taken = [free.take(5), free.take(5), free.take(5)]
    for (const one of taken) if (one !== undefined) free.give(5, one)
    await clock.pass(LOOK_MS)
    t.equal(free.freeBytes, 15, `look ${look}`)
  }
  await clock.pass(LOOK_MS)
  t.equal(free.freeBytes, 0)
  free.give(5, 1)
  await clock.pass(2 * LOOK_MS)
  t.equal(free.freeBytes, 0, 'it is looked at again')
})
