/** What the kernel was given with a lifetime is remembered within bounds. */
import t from 'tap'
import { Handed } from '../../../src/fuse/kernel/handed.js'

t.test('what does not fit into a generation gets no lifetime until the next', (t) => {
  const handed = new Handed<number>(10, 2)
  t.same(
    [1, 2, 3, 1].map((key) => handed.add(key, { atMs: 0 })),
    [true, true, false, true],
  )
  t.ok(handed.add(4, { atMs: 9 }, true), 'but what paths go through')
  t.notOk(handed.add(3, { atMs: 9 }))
  t.ok(handed.add(3, { atMs: 10 }))
  t.same([...handed.keys(10)].sort(), [1, 2, 3, 4])
  t.same(handed.last(1, 10), { atMs: 0 })
  t.same([...handed.keys(20)], [3])
  t.end()
})
