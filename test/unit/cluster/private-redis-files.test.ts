import t from 'tap'
import { quote } from '../../../src/cluster/private-redis-files.js'

t.test('redis.conf strings are escaped byte by byte', async (t) => {
  t.equal(quote('/a b'), '"/a b"')
  t.equal(quote('"\\\n'), '"\\x22\\x5c\\x0a"')
  t.equal(quote('é'), '"\\xc3\\xa9"')
})
