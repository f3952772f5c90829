import t from 'tap'
import { hashTag, keySlot } from '../../../src/cluster/slot.js'

t.test('slots are those of the cluster specification', async (t) => {
  t.equal(keySlot('123456789'), 0x31c3, 'its own test vector')
  t.equal(keySlot('foo'), 12182)
  t.equal(keySlot('{user1000}.following'), keySlot('{user1000}.followers'))
  t.equal(keySlot('foo{}{bar}'), keySlot('foo{}{bar}'))
  t.equal(keySlot(''), 0)
})

t.test('the hash tag is what stands between the first { and the next }', async (t) => {
  t.equal(hashTag('{vol.7}:x'), 'vol.7')
  t.equal(hashTag('foo{}{bar}'), 'foo{}{bar}')
  t.equal(hashTag('foo{{bar}}zap'), '{bar')
  t.equal(hashTag('foo{bar}{zap}'), 'bar')
  t.equal(hashTag('foo{bar'), 'foo{bar')
})
