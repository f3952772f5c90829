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
  /** Commands that come from here on are answered when it is released. */
  readonly hold: (...names: string[]) => void
  readonly isHolding: () => boolean
  /** The next command of this name. */
  readonly refuse: (name: string) => void
  readonly release: () => void
  /** To all who are connected. */
  readonly push: (bytes: string) => void
  readonly disconnect: () => void
}

function bulk(text: string): string {
  return `$${text.length}\r\n${text}\r\n`
}

function left(channel: string): string {
  return `>3\r\n${bulk('sunsubscribe')}${bulk(channel)}:0\r\n`
}

function message(channel: string, text: string): string {
  return `>3\r\n${bulk('smessage')}${bulk(channel)}${bulk(text)}`
}

/** It takes every subscription, and says that it has every slot. */
async function startNode(t: Test, slots: () => string): Promise<Node> {
  const subscribed: string[] = []
  const sockets = new Set<Socket>()
  const held = new Set<string>()
  let refused = ''
  let waiting: (() => void)[] = []
  const answer = (words: readonly string[]): string => {
    const [name = '', first = ''] = words
    if (name.toUpperCase() === refused) {
      refused = ''
      return '-ERR not now\r\n'
    }
    switch (name.toUpperCase()) {
      case 'CLUSTER':
        return slots()
      case 'HELLO':
        return `%1\r\n${bulk('proto')}:3\r\n`
      case 'SSUBSCRIBE':
        subscribed.push(first)
        return `>3\r\n${bulk('ssubscribe')}${bulk(first)}:1\r\n`
      case 'SUNSUBSCRIBE':
        return left(first)
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
        const send = (): void => void socket.write(answer(words))
        if (held.has(words[0]?.toUpperCase() ?? '')) waiting.push(send)
        else send()
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
  return {
    port: address.port,
    subscribed,
    hold: (...names) => {
      for (const name of names) held.add(name)
    },
    refuse: (name) => {
      refused = name
    },
    isHolding: () => waiting.length > 0,
    release: () => {
      held.clear()
      for (const send of waiting.splice(0)) send()
    },
    push: (bytes) => {
      for (const socket of sockets) socket.write(bytes)
    },
    disconnect: () => {
      waiting = []
      for (const socket of sockets) socket.destroy()
    },
  }
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

interface Ground {
  readonly node: Node
  readonly second: Node
  readonly subscription: ShardSubscription
  readonly messages: string[]
  readonly states: boolean[]
}

const ONE = CHANNEL
const OTHER = Array.from({ length: 64 }, (_, p) => `{v.${p}}:v`).find((one) => keySlot(one) > LOWER_HALF) ?? ''

/** Two servers with half of the slots each, or one with all, and a healthy subscription of two channels: the first is of the first server. */
async function ground(t: Test, servers: 1 | 2 = 1): Promise<Ground> {
  const nodes: Node[] = []
  const half = (first: number, last: number, index: number): string =>
    `*3\r\n:${first}\r\n:${last}\r\n*3\r\n${bulk('127.0.0.1')}:${nodes[index]?.port ?? 0}\r\n${bulk(String(index))}`
  const slots = (): string => `*2\r\n${half(0, LOWER_HALF, 0)}${half(LOWER_HALF + 1, 16_383, servers - 1)}`
  for (let i = 0; i < servers; i++) nodes.push(await startNode(t, slots))
  const [node, second = node] = nodes
  if (node === undefined || second === undefined) throw new Error('no server')
  const { port } = node
  const topology = new Topology({
    ...{ clock: systemClock, log: silentLog, seeds: [`127.0.0.1:${port}`], credentials: () => Promise.resolve({}) },
    ...{ connectTimeoutMs: 20_000, replyTimeoutMs: 60_000, protocol: 2 },
  })
  t.teardown(() => topology.close())
  await topology.refresh()
  const [messages, states]: [string[], boolean[]] = [[], []]
  const subscription = new ShardSubscription({
    ...{ topology, clock: systemClock, random: Math.random, log: silentLog, channels: [ONE, OTHER] },
    onMessage: (channel, text) => messages.push(`${channel} ${text.toString()}`),
    onState: (isHealthy) => states.push(isHealthy),
  })
  t.teardown(() => subscription.close())
  await subscription.start()
  await until('it is healthy', () => states.length > 0)
  states.length = 0
  for (const one of nodes) one.subscribed.length = 0
  return { node, second, subscription, messages, states }
}

/** Whether it has ended, as soon as somebody asks. */
function ended(promise: Promise<void>): () => boolean {
  let isEnded = false
  void promise.then(() => (isEnded = true))
  return () => isEnded
}

t.test('a channel that is ignored and listened to again: nothing is lost from when that is confirmed', async (t) => {
  const { node, subscription, messages, states } = await ground(t)
  subscription.ignore(ONE)
  await subscription.caughtUp()
  node.hold('EXISTS')
  const isHeard = ended(subscription.listen(ONE))
  await until('it is asked for', () => node.subscribed.length > 0)
  node.push(message(ONE, 'early'))
  await until('it has come', () => messages.length > 0)
  t.notOk(isHeard(), 'who took it may be no master any more')
  node.release()
  await until('it is heard', isHeard)
  node.push(message(ONE, 'late') + message(OTHER, 'too'))
  await until('both have come', () => messages.length > 2)
  t.strictSame(messages, [`${ONE} early`, `${ONE} late`, `${OTHER} too`])
  t.strictSame(node.subscribed, [ONE])
  t.strictSame(states, [])
})

t.test(
  'a channel that is left because somebody asked for it is no loss; one that is taken away at the same time is',
  async (t) => {
    const { node, subscription, states } = await ground(t)
    node.hold('SUNSUBSCRIBE')
    subscription.ignore(ONE)
    node.release()
    await subscription.caughtUp()
    t.strictSame(states, [])
    node.hold('SUNSUBSCRIBE')
    subscription.ignore(OTHER)
    node.push(left(OTHER))
    node.release()
    await until('it is told', () => states.length > 0)
    await until('it is mended', () => states.at(-1) === true)
    t.strictSame(states, [false, true])
    t.strictSame(node.subscribed, [], 'nobody listens to either')
  },
)

t.test(
  'a connection that ends while a channel is asked for: that is told before anybody believes to hear it',
  async (t) => {
    const { node, subscription, states } = await ground(t)
    subscription.ignore(ONE)
    await subscription.caughtUp()
    node.hold('SSUBSCRIBE')
    let statesWhenEnded: boolean[] | undefined
    void subscription.listen(ONE).then(() => (statesWhenEnded = [...states]))
    await until('it is asked for', node.isHolding)
    node.disconnect()
    await until('it has ended', () => statesWhenEnded !== undefined)
    t.strictSame(statesWhenEnded, [false])
    t.strictSame(states, [false], 'not healthy without it')
    node.release()
    await until('it is mended', () => states.at(-1) === true)
    t.ok(node.subscribed.includes(ONE))
    t.ok(node.subscribed.includes(OTHER))
  },
)

t.test(
  'what becomes wanted while it is mended is subscribed before it is healthy, and nothing that is not wanted',
  async (t) => {
    const { node, subscription, states } = await ground(t)
    subscription.ignore(ONE)
    subscription.ignore(OTHER)
    await subscription.caughtUp()
    node.hold('EXISTS')
    node.disconnect()
    await until('it is broken', () => states.length > 0)
    await subscription.listen(ONE)
    node.release()
    await until('it is mended', () => states.at(-1) === true)
    t.strictSame(node.subscribed, [ONE])
  },
)

t.test('what becomes wanted while another server is away is subscribed before it is healthy', async (t) => {
  const { node, second, subscription, states } = await ground(t, 2)
  subscription.ignore(ONE)
  await subscription.caughtUp()
  second.hold('EXISTS')
  second.disconnect()
  await until('it is broken', () => states.length > 0)
  await subscription.listen(ONE)
  second.release()
  await until('it is mended', () => states.at(-1) === true)
  t.strictSame(node.subscribed, [ONE])
})

t.test('a server that does not take a channel: that is told, and it is tried again', async (t) => {
  for (const command of ['SSUBSCRIBE', 'EXISTS']) {
    const { node, subscription, states } = await ground(t)
    subscription.ignore(ONE)
    await subscription.caughtUp()
    node.refuse(command)
    await subscription.listen(ONE)
    t.strictSame(states, [false])
    await until('it is mended', () => states.at(-1) === true)
    t.ok(node.subscribed.includes(ONE))
  }
})

t.test('who waits for all messages until now knows of a loss before he goes on', async (t) => {
  const { node, subscription, states } = await ground(t)
  node.hold('PING')
  const known = subscription.caughtUp().then(() => [...states])
  await until('it is asked', node.isHolding)
  // The server takes a channel away: the connection is given up, and with it the answer.
  node.push(left(ONE))
  t.strictSame(await known, [false])
})
