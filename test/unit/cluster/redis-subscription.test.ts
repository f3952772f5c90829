/** Where a subscription counts: servers that answer as they are told to. */
import t, { type Test } from 'tap'
import { createServer, type Socket } from 'node:net'
import { systemClock } from '../../../src/base/clock.js'
import { silentLog } from '../../../src/base/log.js'
import { ShardSubscription } from '../../../src/cluster/redis-subscription.js'
import { Topology } from '../../../src/cluster/redis-topology.js'
import { keySlot } from '../../../src/cluster/slot.js'
import { until } from '../../helpers/deadline.js'

t.setTimeout(300_000)

const LOWER_HALF = 8_191
const CHANNEL = Array.from({ length: 64 }, (_, p) => `{v.${p}}:v`).find((one) => keySlot(one) <= LOWER_HALF) ?? ''

interface Node {
  readonly port: number
  readonly subscribed: string[]
}

function bulk(text: string): string {
  return `$${text.length}\r\n${text}\r\n`
}

/** It takes every subscription, and says that it has every slot. */
async function startNode(t: Test, slots: () => string): Promise<Node> {
  const subscribed: string[] = []
  const sockets = new Set<Socket>()
  const answer = (words: readonly string[]): string => {
    const [name = '', first = ''] = words
    switch (name.toUpperCase()) {
      case 'CLUSTER':
        return slots()
      case 'HELLO':
        return `%1\r\n${bulk('proto')}:3\r\n`
      case 'SSUBSCRIBE':
        subscribed.push(first)
        return `>3\r\n${bulk('ssubscribe')}${bulk(first)}:1\r\n`
      case 'EXISTS':
        return ':0\r\n'
      default:
        return '+OK\r\n'
    }
  }
  const server = createServer((socket) => {
    sockets.add(socket)
    socket.on('error', () => undefined)
    socket.on('data', (bytes) => {
      for (const command of bytes.toString().split(/(?=\*\d+\r\n)/)) {
        const words = command.split('\r\n').filter((_, line) => line > 0 && line % 2 === 0)
        socket.write(answer(words))
      }
    })
  })
  t.teardown(() => {
    for (const socket of sockets) socket.destroy()
    server.close()
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const address = server.address()
  if (address === null || typeof address === 'string') throw new Error('no port')
  return { port: address.port, subscribed }
}

t.test(
  'a master that stood still while it was replaced, and has not heard so, has no subscription that counts',
  async (t) => {
    const nodes: Node[] = []
    let isPromoted = false
    const half = (first: number, last: number, index: number): string =>
      `*3\r\n:${first}\r\n:${last}\r\n*3\r\n${bulk('127.0.0.1')}:${nodes[index]?.port ?? 0}\r\n${bulk(String(index))}`
    const slots = (): string => `*2\r\n${half(0, LOWER_HALF, isPromoted ? 2 : 0)}${half(LOWER_HALF + 1, 16_383, 1)}`
    for (let i = 0; i < 3; i++) nodes.push(await startNode(t, slots))
    const [former, other, successor] = nodes.map(({ port }) => `127.0.0.1:${port}`)
    const topology = new Topology({
      ...{ clock: systemClock, log: silentLog, seeds: [other ?? ''], credentials: () => Promise.resolve({}) },
      ...{ connectTimeoutMs: 20_000, replyTimeoutMs: 60_000, protocol: 2 },
    })
    t.teardown(() => topology.close())
    await topology.refresh()
    t.equal(topology.owner(keySlot(CHANNEL)), former)
    isPromoted = true
    const ownersWhenHealthy: (string | undefined)[] = []
    const subscription = new ShardSubscription({
      ...{ topology, clock: systemClock, random: Math.random, log: silentLog, channels: [CHANNEL] },
      onMessage: () => undefined,
      onState: (isHealthy) => {
        if (isHealthy) ownersWhenHealthy.push(topology.owner(keySlot(CHANNEL)))
      },
    })
    t.teardown(() => subscription.close())
    await subscription.start()
    await until('it is subscribed', () => ownersWhenHealthy.length > 0)
    t.strictSame(ownersWhenHealthy, [successor])
    t.same(nodes[0]?.subscribed, [CHANNEL], 'it was asked, and not believed')
    t.same(nodes[2]?.subscribed, [CHANNEL])
  },
)
