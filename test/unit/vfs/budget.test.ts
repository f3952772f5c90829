import t from 'tap'
import { Budget } from '../../../src/base/budget.js'
import { ReadAhead } from '../../../src/vfs/readahead.js'
import { resolveLimits } from '../../../src/vfs/limits.js'
import { KIB, MIB } from '../../../src/base/limits.js'

t.test('a budget is given in the order it was asked for, large requests included', async (st) => {
  const asked: number[] = []
  const budget = new Budget(10, (amount) => asked.push(amount))
  const order: string[] = []
  await budget.take(6)
  const big = budget.take(8).then(() => order.push('big'))
  const small = budget.take(3).then(() => order.push('small'))
  st.equal(budget.tryTake(1), false, 'nobody takes past those who wait')
  budget.give(3)
  st.equal(budget.waiting, 2, 'not enough for the first, so the second waits, too')
  st.same(asked.at(-1), 8, 'and whoever can make room is asked')
  budget.give(3)
  await big
  st.same(order, ['big'])
  budget.give(8)
  await small
  st.equal(budget.used, 3)
})

t.test('read-ahead grows while reads follow each other, and ends with the first that does not', async (st) => {
  const ahead = new ReadAhead()
  const size = 100 * MIB
  const fetched: number[] = []
  let end = 0
  for (let at = 0; at < 40 * MIB; at += 128 * KIB) {
    const range = ahead.next(at, at + 128 * KIB, size, 16 * MIB)
    if (range === null) continue
    st.ok(range.start >= end, 'nothing is fetched twice')
    end = range.end
    st.ok(end <= at + 128 * KIB + 16 * MIB, 'never further than allowed')
    fetched.push(range.end - range.start)
  }
  st.equal(fetched[0], 256 * KIB)
  st.ok(
    fetched.some((bytes) => bytes >= 4 * MIB),
    'the fetches become large',
  )
  st.equal(ahead.next(5, 10, size, 16 * MIB), null)
  st.equal(ahead.next(99, 110, size, 16 * MIB), null)
  st.same(ahead.next(110, 120, 130, 16 * MIB), { start: 120, end: 130 }, 'not beyond the end of the file')
})

t.test('of what takes many times its bytes less is fetched ahead', async (st) => {
  const ahead = new ReadAhead()
  const farthest = (from: number): number => {
    let most = 0
    for (let at = from; at < from + 40 * MIB; at += MIB) {
      const range = ahead.next(at, at + MIB, 1000 * MIB, 16 * MIB)
      most = Math.max(most, (range?.end ?? 0) - at - MIB)
    }
    return most
  }
  st.equal(farthest(0), 16 * MIB)
  ahead.takes(2)
  st.equal(farthest(40 * MIB), 16 * MIB, 'twice as much is allowed for')
  ahead.takes(6)
  st.equal(farthest(80 * MIB), Math.floor((16 * MIB) / 3))
  ahead.takes(1)
  st.equal(farthest(120 * MIB), 16 * MIB)
})

t.test('limits are checked against each other', async (st) => {
  st.equal(resolveLimits({}, 4 * MIB).dirtyBytes, 128 * MIB)
  st.equal(resolveLimits({ packRestMs: Infinity }, 4 * MIB).packRestMs, Infinity)
  st.throws(() => resolveLimits({ dirtyBytes: Infinity }, 4 * MIB), { code: 'USAGE' })
  st.throws(() => resolveLimits({ dirtyBytes: 0 }, 4 * MIB), { code: 'USAGE' })
  st.throws(() => resolveLimits({ uploads: 1.5 }, 4 * MIB), { code: 'USAGE' })
  st.throws(() => resolveLimits({ dirtyInodeBytes: 7 * MIB }, 4 * MIB), { code: 'USAGE' })
  st.throws(() => resolveLimits({ dirtyBytes: 32 * MIB }, 4 * MIB), { code: 'USAGE' })
})
