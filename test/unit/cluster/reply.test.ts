import t from 'tap'
import { arrayOf, mapOf, numberOf, textOf } from '../../../src/cluster/reply.js'

t.test('replies of another shape are errors, not undefined', async (t) => {
  t.strictSame([...mapOf([Buffer.from('a'), 1], 'x')], [['a', 1]])
  t.equal(numberOf(Buffer.from('1.5'), 'x'), 1.5)
  for (const value of [null, undefined, Buffer.from('z'), []])
    t.throws(() => numberOf(value, 'x'), { code: 'INTERNAL' })
  for (const value of [null, undefined, []]) t.throws(() => textOf(value, 'x'), { code: 'INTERNAL' })
  for (const value of [null, undefined, 1, Buffer.from('z')]) t.throws(() => arrayOf(value, 'x'), { code: 'INTERNAL' })
})
