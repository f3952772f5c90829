import t from 'tap'
import { Lru } from '../../../src/vfs/lru.js'

t.test('what was used longest ago is forgotten first, by reading and by writing', (t) => {
  const forgotten: string[] = []
  const lru = new Lru<string, number>(3, (key) => forgotten.push(key))
  for (const [key, value] of [
    ['a', 1],
    ['b', 2],
    ['c', 3],
  ] as const) {
    lru.set(key, value)
  }
  t.equal(lru.get('a'), 1)
  lru.set('b', 4)
  t.ok(lru.has('c'))
  lru.set('d', 5)
  t.strictSame(forgotten, ['c'], 'has() is no use')
  t.strictSame([...lru].sort(), [
    ['a', 1],
    ['b', 4],
    ['d', 5],
  ])
  t.end()
})

t.test('it is as a list kept in order is', (t) => {
  const max = 5
  let last: number | undefined
  const lru = new Lru<number, number>(max, (key) => (last = key))
  let model: [number, number][] = []
  let seed = 7
  const next = (below: number): number => (seed = (seed * 48_271) % 2_147_483_647) % below
  for (let step = 0; step < 20_000; step++) {
    const key = next(9)
    const kind = next(10)
    const found = model.find(([one]) => one === key)
    if (kind === 0) {
      lru.delete(key)
      model = model.filter(([one]) => one !== key)
    } else if (kind < 5) {
      if (lru.get(key) !== found?.[1]) t.fail(`step ${step}: not the value of ${key}`)
      if (found !== undefined) model = [...model.filter((one) => one !== found), found]
    } else {
      const forgotten = found === undefined && model.length === max ? model.shift()?.[0] : undefined
      last = undefined
      lru.set(key, step)
      if (last !== forgotten) t.fail(`step ${step} forgot another than ${forgotten}`)
      model = [...model.filter(([one]) => one !== key), [key, step]]
    }
    if (step === 10_000) {
      lru.clear()
      model = []
    }
    if (lru.size !== model.length) t.fail(`step ${step}: ${lru.size} entries in place of ${model.length}`)
  }
  t.strictSame([...lru].sort(), [...model].sort())
  t.end()
})

t.test('what must stay stays, and goes when it may', (t) => {
  const forgotten: number[] = []
  const used = new Set([1, 2, 3])
  const lru = new Lru<number, number>(
    3,
    (key) => forgotten.push(key),
    (key) => !used.has(key),
  )
  for (let key = 1; key <= 6; key++) {
    lru.set(key, key)
    t.ok(lru.has(key), 'not what has just come')
  }
  t.strictSame(forgotten, [4, 5], 'the oldest of the others')
  used.add(6).add(7)
  for (let key = 7; key <= 30; key++) lru.set(key, key)
  t.strictSame([...lru.keys()].filter((key) => key <= 7).sort(), [1, 2, 3, 6, 7], 'more than it has room for')
  used.clear()
  for (let key = 31; key <= 40; key++) lru.set(key, key)
  t.equal(lru.size, 3)
  t.strictSame([...lru.keys()].sort(), [38, 39, 40])
  t.end()
})
