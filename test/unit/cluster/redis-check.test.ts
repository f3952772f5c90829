import t from 'tap'
import { faultOf, parseInfo } from '../../../src/cluster/redis-check.js'

t.test('INFO tells what makes a Redis unsafe', async (t) => {
  const safe = parseInfo('# Server\r\nredis_version:7.0.15\r\naof_enabled:1\r\nmaxmemory_policy:noeviction\r\n')
  t.equal(faultOf(safe, true), undefined)
  t.match(faultOf(new Map([...safe, ['redis_version', '6.2.1']]), false), /6\.2\.1.*7\.0/)
  t.match(faultOf(new Map([...safe, ['aof_enabled', '0']]), true), /appendonly/)
  t.equal(faultOf(new Map([...safe, ['aof_enabled', '0']]), false), undefined)
  t.match(faultOf(new Map([...safe, ['maxmemory_policy', 'allkeys-lru']]), true), /noeviction/)
})
