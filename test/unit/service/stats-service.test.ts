import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { Metrics } from '../../../src/base/metrics.js'
import { RpcChannel } from '../../../src/rpc/channel.js'
import { STATS_READ, type StatsReply } from '../../../src/rpc/messages-stats.js'
import { RpcServer } from '../../../src/rpc/server.js'
import { StatsService } from '../../../src/service/stats-service.js'
import { ManualClock } from '../../helpers/manual-clock.js'

async function serve(t: Test): Promise<{ metrics: Metrics; clock: ManualClock; read: () => Promise<StatsReply> }> {
  const folder = await mkdtemp(join(tmpdir(), 'ringfs-stats-'))
  const [metrics, clock, server] = [new Metrics(), new ManualClock(), new RpcServer()]
  new StatsService(metrics, { clock, version: '1.2.3' }).register(server)
  const address = await server.listen(`unix:${join(folder, 's')}`)
  const channel = new RpcChannel(address)
  t.teardown(async () => {
    await channel.close()
    await server.close()
    await rm(folder, { recursive: true })
  })
  const read = async (): Promise<StatsReply> => (await channel.call(STATS_READ, {}, [], { deadlineMs: 60_000 })).reply
  return { metrics, clock, read }
}

t.test('figures come over the wire as they are counted', async (t) => {
  const { metrics, read } = await serve(t)
  metrics.timer('fuse', 'read').record(2.5)
  metrics.timer('fuse', 'read').record(0)
  metrics.timer('fuse', 'read').errors++
  metrics.counter('hits', () => 2 ** 40)
  metrics.gauge('bytes', () => 0)
  const { timers, counters, gauges, pid, version, process: own } = await read()
  t.same({ timers, counters, gauges }, metrics.snapshot())
  t.equal(pid, process.pid)
  t.equal(version, '1.2.3')
  t.ok(own.rssBytes > 2 ** 20 && own.cpuUs > 0 && own.loopBusyUs > 0)
})

t.test('how late timers fire is measured only while somebody looks', async (t) => {
  const { metrics, clock, read } = await serve(t)
  const measured = (): number => metrics.timer('loop', 'lag').count
  await clock.pass(60_000)
  t.equal(measured(), 0)
  await read()
  await clock.pass(5_000)
  await read()
  const meanwhile = measured()
  t.ok(meanwhile > 100, `${meanwhile} times`)
  await clock.pass(60_000)
  const end = measured()
  await clock.pass(600_000)
  t.equal(measured(), end, 'nobody looks any more')
  await read()
  await clock.pass(5_000)
  t.ok(measured() > end)
})
