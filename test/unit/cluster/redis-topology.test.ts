import t, { type Test } from 'tap'
import { createServer, type Socket } from 'node:net'
import { systemClock } from '../../../src/base/clock.js'
import { silentLog } from '../../../src/base/log.js'
import type { RedisLink } from '../../../src/cluster/redis-link.js'
import { Topology, parseSlots, resolveAddress } from '../../../src/cluster/redis-topology.js'
import { NO_PREFIX } from '../../../src/cluster/resp-commands.js'

t.setTimeout(300_000)

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

/** A node that answers CLUSTER SLOTS with what `slots` says, holds INCR until it is let go, and says OK to the rest. */
async function startNode(t: Test, slots: () => string): Promise<{ port: number; release: () => void }> {
  const held: Socket[] = []
  const sockets = new Set<Socket>()
  const server = createServer((socket) => {
    sockets.add(socket)
    socket.on('error', () => undefined)
    socket.on('data', (bytes) => {
      const text = bytes.toString()
      if (/SLOTS/i.test(text)) socket.write(slots())
      else if (text.includes('INCR')) held.push(socket)
      else socket.write('+OK\r\n'.repeat(text.match(/\*\d+\r\n/g)?.length ?? 0))
    })
  })
  t.teardown(() => {
    for (const socket of sockets) socket.destroy()
    server.close()
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const address = server.address()
  if (address === null || typeof address === 'string') throw new Error('no port')
  const release = (): void => {
    for (const socket of held) if (socket.writable) socket.write(':1\r\n')
  }
  return { port: address.port, release }
}

/** Of a call on the link. */
function outcomeOf(link: RedisLink): Promise<string> {
  return new Promise((resolve) => {
    link.enqueue(
      NO_PREFIX,
      ['INCR'],
      ['key'],
      () => resolve('believed'),
      () => resolve('rejected'),
    )
  })
}

t.test('a former master is not believed when our own map changed while it stood still', async (t) => {
  const ports: number[] = []
  let isPromoted = false
  const node = (index: number): string => `*3\r\n$9\r\n127.0.0.1\r\n:${ports[index] ?? 0}\r\n$1\r\n${index}\r\n`
  const slots = (): string =>
    `*2\r\n*3\r\n:0\r\n:8191\r\n${node(isPromoted ? 2 : 0)}*3\r\n:8192\r\n:16383\r\n${node(1)}`
  const nodes = [await startNode(t, slots), await startNode(t, slots), await startNode(t, slots)]
  ports.push(...nodes.map(({ port }) => port))
  const [former, other, successor] = ports.map((port) => `127.0.0.1:${port}`)
  if (former === undefined || other === undefined) throw new Error('no nodes')
  const topology = new Topology({
    ...{ clock: systemClock, log: silentLog, seeds: [other], credentials: () => Promise.resolve({}) },
    ...{ connectTimeoutMs: 20_000, replyTimeoutMs: 60_000, protocol: 2 },
  })
  t.teardown(() => topology.close())
  await topology.refresh()
  t.equal(topology.owner(0), former)
  const link = await topology.connect(former)
  const outcome = outcomeOf(link)
  isPromoted = true
  await topology.refresh()
  t.equal(topology.owner(0), successor)
  nodes[0]?.release()
  t.equal(await outcome, 'rejected')
  const again = await topology.connect(former)
  const late = outcomeOf(again)
  await new Promise((resolve) => setTimeout(resolve, 100))
  nodes[0]?.release()
  t.equal(await late, 'rejected', 'nor on a new link')
})
