/**
 * A Redis master stands still until its replica is promoted, and goes on. What stands in its sockets it carries out before it hears that it
 * was replaced: it says OK to writes that are lost, and what is read there is old.
 */
import t from 'tap'
import type { RedisStore } from '../../src/cluster/contract.js'
import { keySlot } from '../../src/cluster/slot.js'
import { connectPatiently, startRedis } from '../helpers/redis.js'
import { eventually, sleep } from '../helpers/ringfs.js'

const MASTERS = 3
const KEY = '{a}:key'
/** Until what was sent is in the sockets of whom it was sent to. */
const SENT_MS = 300

t.setTimeout(600_000)

t.test('a master that was replaced while it stood still is not believed when it goes on', async (t) => {
  const redis = await startRedis(t, { masters: 3, replicas: 1, config: ['cluster-node-timeout 3000'] })
  const connect = async (): Promise<RedisStore> => {
    const store = await connectPatiently(redis.url('v'))
    t.teardown(() => store.close())
    return store
  }
  const [active, writer, reader] = [await connect(), await connect(), await connect()]
  for (const store of [active, writer, reader]) await store.call('SET', KEY, 'before')
  const master = Math.floor((keySlot(KEY) * MASTERS) / 16_384)
  const role = (index: number, text: string): Promise<unknown> =>
    eventually(
      `server ${index} says ${text}`,
      () => redis.command(index, 'INFO', 'replication').then(String, () => ''),
      (info) => info.includes(text),
    )

  redis.pause(master)
  await role(master + MASTERS, 'role:master')
  t.equal(String(await active.call('SET', KEY, 'meanwhile')), 'OK', 'one that needs it finds the new master')
  const [written, read] = [writer.call('INCR', '{a}:count'), reader.call('GET', KEY)]
  await sleep(SENT_MS)
  redis.resume(master)
  t.equal(String(await read), 'meanwhile', 'nothing old is read')
  t.equal(await written, 1)
  await role(master, 'master_link_status:up')
  t.equal(String(await active.call('GET', '{a}:count')), '1', 'what was acknowledged is there, once')
})
