import t from 'tap'
import { faultOf, parseInfo, transientOf } from '../../../src/cluster/redis-check.js'

t.test('INFO tells what makes a Redis unsafe', async (t) => {
  const safe = parseInfo('# Server\r\nredis_version:7.0.15\r\naof_enabled:1\r\nmaxmemory_policy:noeviction\r\n')
  t.equal(faultOf(safe, true), undefined)
  t.match(faultOf(new Map([...safe, ['redis_version', '6.2.1']]), false), /6\.2\.1.*7\.0/)
  t.match(faultOf(new Map([...safe, ['aof_enabled', '0']]), true), /appendonly/)
  t.equal(faultOf(new Map([...safe, ['aof_enabled', '0']]), false), undefined)
  t.match(faultOf(new Map([...safe, ['maxmemory_policy', 'allkeys-lru']]), true), /noeviction/)
})

t.test('a master that was replaced meanwhile, or loads, is no fault of its settings', async (t) => {
  const syncing = parseInfo('role:slave\r\nredis_version:7.0.15\r\naof_enabled:0\r\nloading:1\r\n')
  t.match(transientOf(syncing), /not a master/)
  t.match(transientOf(parseInfo('role:master\r\nloading:1\r\naof_enabled:0\r\n')), /loads/)
  t.equal(transientOf(parseInfo('role:master\r\nloading:0\r\naof_enabled:0\r\n')), undefined)
})
