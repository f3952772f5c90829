import t from 'tap'
import { parseSlots, resolveAddress } from '../../../src/cluster/redis-topology.js'

t.test('CLUSTER SLOTS without an address means the server that was asked', async (t) => {
  const b = (text: string): Buffer => Buffer.from(text)
  const reply = [
    [0, 99, [b(''), 7000, b('id')]],
    [100, 16383, [b('10.0.0.2'), 7001, b('id')], [b('::1'), 7002, b('id')]],
  ]
  const { ranges, addresses } = parseSlots(reply, 'asked:1')
  t.strictSame(ranges, [
    { first: 0, last: 99, master: 'asked:7000' },
    { first: 100, last: 16383, master: '10.0.0.2:7001' },
  ])
  t.strictSame([...addresses], ['asked:7000', '10.0.0.2:7001', '[::1]:7002'])
  t.throws(() => parseSlots(null, 'asked:1'), { code: 'INTERNAL' })
})

t.test('MOVED without an address means the server that was asked, too', (t) => {
  t.equal(resolveAddress(':7000', 'asked:1'), 'asked:7000')
  t.equal(resolveAddress('?:7000', '[::1]:1'), '[::1]:7000')
  t.equal(resolveAddress('10.0.0.2:7000', 'asked:1'), '10.0.0.2:7000')
  t.end()
})
