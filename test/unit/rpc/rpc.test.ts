import { createServer, connect, type AddressInfo, type Socket } from 'node:net'
import { mkdtemp, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import t from 'tap'
import type { Clock } from '../../../src/base/clock.js'
import { PosixError } from '../../../src/base/errno.js'
import { RingfsError } from '../../../src/base/errors.js'
import { MIB } from '../../../src/base/limits.js'
import { RpcChannel, type ChannelOptions } from '../../../src/rpc/channel.js'
import { encodeHead, FrameParser, join, KIND, type Frame } from '../../../src/rpc/frame.js'
import { KeyRing } from '../../../src/rpc/key-ring.js'
import { PING } from '../../../src/rpc/method.js'
import { RpcServer, type Handler, type ServerOptions } from '../../../src/rpc/server.js'
import { decodeError } from '../../../src/rpc/wire-errors.js'
import { CHUNK_INFO, CHUNK_REPORT_BAD } from '../../../src/rpc/messages-chunk.js'
import { PATIENCE_MS, until, within } from '../../helpers/deadline.js'

t.setTimeout(300_000)

type Bad = { readonly volume: string; readonly id: number }
const SOON = { deadlineMs: 60_000 }

/** A server whose REPORT_BAD does what the test says; every request names itself by its id. */
async function serve(t: Tap, handler: Handler<Bad, object>, options: ServerOptions = {}, address = '127.0.0.1:0') {
  const server = new RpcServer({ ...options, limits: { drainMs: 500, ...options.limits } })
  server.handle(CHUNK_REPORT_BAD, handler)
  t.teardown(() => server.close())
  return { server, address: await server.listen(address) }
}

type Tap = Pick<typeof t, 'teardown'>
type Asserts = Pick<typeof t, 'same'>

function channelTo(t: Tap, address: string, options: ChannelOptions = {}) {
  const channel = new RpcChannel(address, options)
  t.teardown(() => channel.close())
  const call = (
    id: number,
    payload: readonly Uint8Array[] = [],
    extra: { deadlineMs?: number; signal?: AbortSignal } = {},
  ) => channel.call(CHUNK_REPORT_BAD, { volume: 'v', id }, payload, { ...SOON, ...extra })
  return { channel, call }
}

/** Every one fails so; waited for together, as a rejection that nobody waits for ends the process. */
async function allReject(t: Asserts, calls: readonly Promise<unknown>[], code: string) {
  const ends = await Promise.allSettled(calls)
  t.same(
    ends.map((end) => (end.status === 'rejected' && end.reason instanceof RingfsError ? end.reason.code : end.status)),
    calls.map(() => code),
  )
}

const echo: Handler<Bad, object> = async (_request, payload) => ({ reply: {}, payload })
const never = () => new Promise<never>(() => undefined)

async function folder(t: Tap): Promise<string> {
  const dir = await mkdtemp(path.join(tmpdir(), 'ringfs-rpc-'))
  t.teardown(() => rm(dir, { recursive: true, force: true }))
  return dir
}

/** A socket that speaks frames by hand. */
async function rawClient(t: Tap, address: string) {
  const port = Number(address.split(':').at(-1))
  const socket = connect(port, '127.0.0.1')
  t.teardown(() => socket.destroy())
  const frames: Frame[] = []
  const parser = new FrameParser((frame) => frames.push(frame))
  socket.on('data', (data) => parser.push(data))
  socket.on('error', () => undefined)
  const closed = new Promise<void>((resolve) => socket.once('close', () => resolve()))
  await new Promise((resolve) => socket.once('connect', resolve))
  const until = async (count: number) => {
    while (frames.length < count) await new Promise((resolve) => setTimeout(resolve, 5))
  }
  return { socket, frames, closed, until }
}

t.test('payloads of every size come back byte for byte, over TCP and over a Unix socket', async (t) => {
  const dir = await folder(t)
  for (const target of ['127.0.0.1:0', `unix:${path.join(dir, 's')}`]) {
    const { address } = await serve(t, echo, {}, target)
    const { call } = channelTo(t, address)
    for (const bytes of [0, 1, 4095, 65_536, 1 * MIB + 3, 5 * MIB]) {
      const sent = Buffer.alloc(bytes, bytes % 251)
      const pieces = [sent.subarray(0, bytes >> 1), sent.subarray(bytes >> 1)]
      t.ok(join((await call(1, pieces)).payload).equals(sent), `${bytes} bytes over ${target}`)
    }
  }
})

t.test('1000 requests in flight on one connection are answered in any order, each with its own', async (t) => {
  const waiting: (() => void)[] = []
  const { address, server } = await serve(t, async (request) => {
    await new Promise<void>((resolve) => {
      waiting.push(resolve)
      if (waiting.length === 1000) for (const go of waiting.reverse()) go()
    })
    return { reply: {}, payload: [Buffer.from(String(request.id))] }
  })
  const { call } = channelTo(t, address)
  const replies = await Promise.all(Array.from({ length: 1000 }, (_, i) => call(i)))
  t.ok(replies.every(({ payload }, i) => join(payload).toString() === String(i)))
  t.equal(server.connections, 1)
})

t.test('errors keep their type, code and detail', async (t) => {
  const thrown = [
    new PosixError('ENOSPC', 'disk 1'),
    new PosixError('ENOENT'),
    new RingfsError('NODE_FULL', 'full: add one'),
    new Error('odd'),
  ]
  const { address } = await serve(t, async ({ id }) => {
    throw thrown[id] ?? new Error('no such case')
  })
  const { call } = channelTo(t, address)
  await t.rejects(call(0), { name: 'PosixError', code: 'ENOSPC', message: 'ENOSPC: disk 1' })
  await t.rejects(call(1), { name: 'PosixError', code: 'ENOENT', message: 'ENOENT' })
  await t.rejects(call(2), { name: 'RingfsError', code: 'NODE_FULL', message: 'full: add one' })
  await t.rejects(call(3), { name: 'RingfsError', code: 'INTERNAL', message: 'odd' })
})

t.test('an unknown method and a bad header are answered, and the connection lives', async (t) => {
  const { address, server } = await serve(t, echo)
  const { channel, call } = channelTo(t, address)
  await t.rejects(channel.call(CHUNK_INFO, {}, [], SOON), { code: 'METHOD_UNKNOWN' })
  await t.rejects(channel.callRaw(CHUNK_REPORT_BAD.number, Buffer.from([255, 255, 255]), [], SOON), {
    code: 'FRAME_BAD',
  })
  await call(1)
  t.equal(server.connections, 1)
  t.equal(channel.generation, 1)
})

t.test('what is no frame gets an error frame that says so, and the connection is closed', async (t) => {
  const { address } = await serve(t, echo)
  for (const [bytes, code] of [
    [Buffer.from('GET / HTTP/1.1\r\n\r\n'), 'FRAME_BAD'],
    [encodeHead(KIND.reply, 4), 'FRAME_BAD'],
    [Buffer.concat([encodeHead(KIND.request, 1).subarray(0, 24), Buffer.from([255, 255, 255, 255])]), 'FRAME_TOO_LONG'],
  ] as const) {
    const { socket, frames, closed } = await rawClient(t, address)
    socket.write(bytes)
    await closed
    t.equal(frames.length, 1)
    t.equal(frames[0]?.id, 0)
    t.match(decodeError(frames[0]?.header ?? Buffer.alloc(0)), { code })
  }
})

t.test('a client notices bytes of a server that are no frame', async (t) => {
  const server = createServer((socket) => socket.end('SSH-2.0-OpenSSH\r\n')).listen(0, '127.0.0.1')
  t.teardown(() => server.close())
  await new Promise((resolve) => server.once('listening', resolve))
  const { port } = server.address() as AddressInfo
  const { call } = channelTo(t, `127.0.0.1:${port}`)
  await t.rejects(call(1), { code: 'FRAME_BAD' })
})

t.test('a deadline ends the call on both sides', async (t) => {
  let reason: unknown = null
  const { address } = await serve(t, async (_request, _payload, context) => {
    await new Promise<void>((resolve) => context.signal.addEventListener('abort', () => resolve()))
    reason = context.signal.reason
    // A reply could be there before our own deadline.
    return never()
  })
  const { channel, call } = channelTo(t, address)
  // Connected: what is never sent ends on this side only.
  await channel.ping(SOON)
  await t.rejects(call(1, [], { deadlineMs: 500 }), { code: 'DEADLINE' })
  await until('it has ended there', () => reason !== null)
  t.match(reason, { name: 'RingfsError' })
  await channel.ping(SOON)
  t.equal(channel.generation, 1, 'the connection lives')
})

t.test('a cancelled call ends at once here, and its signal fires there', async (t) => {
  let started = 0
  let aborted = 0
  const { address } = await serve(t, async (_request, _payload, { signal }) => {
    signal.addEventListener('abort', () => aborted++)
    started++
    return never()
  })
  const { call } = channelTo(t, address)
  const controller = new AbortController()
  const calls = [1, 2, 3].map((id) => call(id, [Buffer.alloc(1000)], { signal: controller.signal }))
  await until('all have begun', () => started === 3)
  controller.abort()
  await allReject(t, calls, 'CANCELLED')
  await until('all have ended there', () => aborted === 3)
  await t.rejects(call(4, [], { signal: controller.signal }), { code: 'CANCELLED' })
})

t.test('a call that was withdrawn from the line is never sent', async (t) => {
  const seen: number[] = []
  const open: (() => void)[] = []
  const { address } = await serve(t, async ({ id }) => {
    seen.push(id)
    await new Promise<void>((resolve) => open.push(resolve))
    return { reply: {} }
  })
  const { call } = channelTo(t, address, { limits: { maxInFlight: 1 } })
  const first = call(1)
  await until('the first has begun', () => seen.length > 0)
  const controller = new AbortController()
  const second = call(2, [], { signal: controller.signal })
  const third = call(3)
  controller.abort()
  await t.rejects(second, { code: 'CANCELLED' })
  open[0]?.()
  await first
  await until('the next has begun', () => seen.length > 1)
  open[1]?.()
  await third
  t.same(seen, [1, 3])
})

t.test('queues are bounded on both sides: OVERLOADED, and the connection lives', async (t) => {
  let release = (): void => undefined
  const gate = new Promise<void>((resolve) => (release = resolve))
  let started = 0
  const { address } = await serve(
    t,
    async () => {
      started++
      await gate
      return { reply: {} }
    },
    { limits: { maxInFlight: 4, maxInFlightBytes: 1000 } },
  )
  const { call } = channelTo(t, address)
  const held = [1, 2].map((id) => call(id, [Buffer.alloc(400)]))
  await t.rejects(call(3, [Buffer.alloc(400)]), { code: 'OVERLOADED' }, 'bytes')
  held.push(call(4), call(5))
  await t.rejects(call(6), { code: 'OVERLOADED' }, 'requests')

  const { call: callNarrow } = channelTo(t, address, { limits: { maxInFlight: 1, maxWaiting: 1 } })
  held.push(
    callNarrow(1),
    Promise.resolve().then(() => callNarrow(2)),
  )
  await until('the first is at work', () => started === 5)
  await t.rejects(callNarrow(3), { code: 'OVERLOADED' }, 'here')
  release()
  await Promise.all(held)
})

t.test('requests of all connections together are bounded too', async (t) => {
  let release = (): void => undefined
  const gate = new Promise<void>((resolve) => (release = resolve))
  let started = 0
  const { address } = await serve(
    t,
    async () => {
      started++
      await gate
      return { reply: {} }
    },
    { limits: { maxTotalBytes: 1000 } },
  )
  const held = [channelTo(t, address), channelTo(t, address)].map(({ call }) => call(1, [Buffer.alloc(500)]))
  const third = channelTo(t, address)
  await t.resolves(third.channel.ping(SOON), 'what carries no payload is let in')
  await until('the others are at work', () => started === 2)
  await t.rejects(third.call(1, [Buffer.alloc(1)]), { code: 'OVERLOADED' })
  release()
  await Promise.all(held)
  await third.call(1, [Buffer.alloc(900)])
})

t.test('what a lost connection held is given back, replies that it never took included', async (t) => {
  let made = 0
  const { address, server } = await serve(
    t,
    async () => {
      made++
      return { reply: {}, payload: [Buffer.alloc(5 * MIB)] }
    },
    { limits: { maxTotalBytes: 1000 } },
  )
  const { socket } = await rawClient(t, address)
  socket.pause()
  const header = Buffer.from(CHUNK_REPORT_BAD.request.encode({ volume: 'v', id: 1 }))
  for (const id of [1, 2, 3]) {
    socket.write(encodeHead(KIND.request, id, header, 300, CHUNK_REPORT_BAD.number))
    socket.write(Buffer.alloc(300))
  }
  await until('all replies are made', () => made === 3)
  const { call } = channelTo(t, address)
  await t.rejects(call(1, [Buffer.alloc(900)]), { code: 'OVERLOADED' })
  socket.destroy()
  await until('the other one is gone', () => server.connections <= 1)
  await call(1, [Buffer.alloc(900)])
})

t.test('a client that does not read its replies stops the server from making more', async (t) => {
  let made = 0
  let reserved = 0
  const { address } = await serve(
    t,
    async (_request, _payload, context) => {
      await context.reserve(MIB)
      reserved = Math.max(reserved, context.connection.replies.usedBytes)
      made++
      return { reply: {}, payload: [Buffer.alloc(MIB)] }
    },
    { limits: { maxReplyBytes: 8 * MIB } },
  )
  const { socket, frames, until } = await rawClient(t, address)
  socket.pause()
  const header = Buffer.from(CHUNK_REPORT_BAD.request.encode({ volume: 'v', id: 1 }))
  for (let id = 1; id <= 64; id++)
    socket.write(Buffer.concat([encodeHead(KIND.request, id, header, 0, CHUNK_REPORT_BAD.number)]))
  let before = -1
  while (made === 0 || made !== before) {
    before = made
    await new Promise((resolve) => setTimeout(resolve, 200))
  }
  t.ok(made < 40, `${made} replies were made for a reader that sleeps`)
  socket.resume()
  await until(64)
  t.equal(made, 64)
  t.ok(reserved <= 8 * MIB)
  t.ok(frames.every((frame) => frame.payloadBytes === MIB))
})

t.test('a request that comes byte by byte is understood, and so is one among others', async (t) => {
  const { address } = await serve(t, echo)
  const { socket, frames, until } = await rawClient(t, address)
  const header = Buffer.from(CHUNK_REPORT_BAD.request.encode({ volume: 'v', id: 1 }))
  const bytes = Buffer.concat([
    encodeHead(KIND.request, 1, header, 3, CHUNK_REPORT_BAD.number),
    Buffer.from('abc'),
    encodeHead(KIND.ping, 2),
  ])
  socket.setNoDelay(true)
  for (const byte of bytes) {
    socket.write(Buffer.from([byte]))
    await new Promise((resolve) => setImmediate(resolve))
  }
  await until(2)
  t.equal(frames.find((frame) => frame.kind === KIND.reply)?.payload.join(''), 'abc')
  t.ok(frames.some((frame) => frame.kind === KIND.pong && frame.id === 2))
})

t.test(
  'a connection cut in the middle of a frame fails what was outstanding, and the next call makes a new one',
  async (t) => {
    const sockets: Socket[] = []
    const cutter = createServer((socket) => {
      sockets.push(socket)
      socket.on('error', () => undefined)
      socket.once('data', () => {
        if (sockets.length === 1) socket.end(encodeHead(KIND.reply, 1, Buffer.alloc(0), 100).subarray(0, 20))
        else socket.end(Buffer.concat([encodeHead(KIND.reply, 1)]))
      })
    }).listen(0, '127.0.0.1')
    t.teardown(() => cutter.close())
    await new Promise((resolve) => cutter.once('listening', resolve))
    const { port } = cutter.address() as AddressInfo
    const { channel, call } = channelTo(t, `127.0.0.1:${port}`)
    const calls = [call(1), call(2)]
    await allReject(t, calls, 'CONNECTION_LOST')
    await call(3)
    t.equal(channel.generation, 2)
  },
)

t.test('a server that sees the connection cut aborts the handlers of its calls', async (t) => {
  let aborted = 0
  let ended = 0
  const { address, server } = await serve(t, async (_request, _payload, context) => {
    context.connection.onClose(() => ended++)
    await new Promise<void>((resolve) => context.signal.addEventListener('abort', () => resolve()))
    aborted++
    return { reply: {} }
  })
  const { socket } = await rawClient(t, address)
  const header = Buffer.from(CHUNK_REPORT_BAD.request.encode({ volume: 'v', id: 1 }))
  socket.write(
    Buffer.concat([
      encodeHead(KIND.request, 1, header, 0, CHUNK_REPORT_BAD.number),
      encodeHead(KIND.ping, 5).subarray(0, 9),
    ]),
  )
  await until('it is connected', () => server.connections > 0)
  await new Promise((resolve) => setTimeout(resolve, 50))
  socket.destroy()
  await until('it is gone', () => aborted > 0 && server.connections === 0)
  t.equal(ended, 1)
})

t.test('a peer that answers nothing, not even pings, is given up', async (t) => {
  const mute = createServer((socket) => socket.resume().on('error', () => undefined)).listen(0, '127.0.0.1')
  t.teardown(() => mute.close())
  await new Promise((resolve) => mute.once('listening', resolve))
  const { port } = mute.address() as AddressInfo
  const { call } = channelTo(t, `127.0.0.1:${port}`, { limits: { keepAliveMs: 50 } })
  await t.rejects(call(1), { code: 'CONNECTION_LOST', message: /silent/ })
})

t.test('a slow answer is no dead peer', async (t) => {
  const { address } = await serve(t, async () => {
    await new Promise((resolve) => setTimeout(resolve, 4_000))
    return { reply: {} }
  })
  // Longer than this process, which is the peer as well, is likely to stand still.
  const { channel, call } = channelTo(t, address, { limits: { keepAliveMs: 1_000 } })
  await call(1)
  t.equal(channel.generation, 1)
})

t.test('a peer that takes no data is given up, and a call that gives up before leaves no buffer behind', async (t) => {
  const stuck = createServer((socket) => socket.pause().on('error', () => undefined)).listen(0, '127.0.0.1')
  t.teardown(() => stuck.close())
  await new Promise((resolve) => stuck.once('listening', resolve))
  const { port } = stuck.address() as AddressInfo
  const big = Array.from({ length: 30 }, () => Buffer.alloc(MIB))
  const { call } = channelTo(t, `127.0.0.1:${port}`, { limits: { stallMs: 200 } })
  await allReject(
    t,
    big.map((piece, id) => call(id, [piece])),
    'CONNECTION_LOST',
  )
  const { call: impatient } = channelTo(t, `127.0.0.1:${port}`)
  await allReject(
    t,
    big.map((piece, id) => impatient(id, [piece], { deadlineMs: 100 })),
    'DEADLINE',
  )
})

t.test('a peer that stops in the middle of a frame is given up, and one between two frames is not', async (t) => {
  const { address } = await serve(t, async () => ({ reply: {} }), { limits: { stallMs: 100 } })
  const { channel, call } = channelTo(t, address)
  await call(1)
  const head = encodeHead(KIND.request, 1, Buffer.alloc(0), MIB, CHUNK_REPORT_BAD.number, 60_000)
  for (const start of [head.subarray(0, 10), head, Buffer.concat([head, Buffer.alloc(MIB - 1)])]) {
    const socket = connect(Number(address.split(':')[1]), '127.0.0.1')
    t.teardown(() => socket.destroy())
    const closed = new Promise((resolve) => socket.resume().on('close', resolve))
    socket.on('error', () => undefined)
    socket.write(start)
    await within(PATIENCE_MS, closed, 'giving it up')
  }
  await call(2)
  t.equal(channel.generation, 1)
})

t.test('nobody there: NODE_UNREACHABLE, at once while backing off, and again tried after it', async (t) => {
  let nowMs = 0
  let dials = 0
  const clock: Clock = {
    ...{
      now: () => ({ sec: 0, nsec: 0 }),
      monotonicMs: () => nowMs,
      wallMs: () => nowMs,
      sleep: async () => undefined,
    },
    after: (ms, work) => setTimeout(work, ms),
  }
  const { call } = channelTo(t, '127.0.0.1:9', {
    clock,
    random: () => 0.5,
    dial: async () => {
      dials++
      throw new RingfsError('NODE_UNREACHABLE', 'nobody')
    },
  })
  await t.rejects(call(1), { code: 'NODE_UNREACHABLE' })
  await t.rejects(call(1), { code: 'NODE_UNREACHABLE' })
  t.equal(dials, 1)
  nowMs += 50
  await t.rejects(call(1), { code: 'NODE_UNREACHABLE' })
  t.equal(dials, 2)
  nowMs += 50
  await t.rejects(call(1), { code: 'NODE_UNREACHABLE' })
  t.equal(dials, 2, 'the pause doubles')

  const { call: real } = channelTo(t, '127.0.0.1:1')
  await t.rejects(real(1), { code: 'NODE_UNREACHABLE', message: /127\.0\.0\.1:1/ })
})

t.test('no call goes over a connection to somebody else; closing does not wait to hear who it is', async (t) => {
  let asked = 0
  const { address } = await serve(t, () => Promise.resolve({ reply: (asked++, {}) }))
  const stranger = channelTo(t, address, {
    greet: () => Promise.reject(new RingfsError('NODE_UNREACHABLE', 'another one')),
  })
  await t.rejects(stranger.call(1), { code: 'NODE_UNREACHABLE', message: 'another one' })
  t.equal(asked, 0)
  let met = 0
  const later = channelTo(t, address, {
    greet: async (connection) => {
      if (++met === 1) throw new RingfsError('NODE_UNREACHABLE', 'not yet')
      await connection.call(PING.number, PING.request.encode({}), [], SOON)
    },
    limits: { backoffMinMs: 1 },
  })
  await t.rejects(later.call(1), { message: 'not yet' })
  const isThrough = () =>
    later.call(2).then(
      () => true,
      () => false,
    )
  await until('it is greeted again', isThrough)
  t.strictSame([asked, met], [1, 2])
  const hung = createServer(() => undefined)
  await new Promise<void>((resolve) => hung.listen(0, '127.0.0.1', resolve))
  t.teardown(() => hung.close())
  const waiting = channelTo(t, `127.0.0.1:${(hung.address() as AddressInfo).port}`, {
    greet: async (connection) => {
      await connection.call(PING.number, PING.request.encode({}), [], SOON)
    },
  })
  const call = waiting.call(3)
  call.catch(() => undefined)
  await new Promise((resolve) => setTimeout(resolve, 50))
  await within(10_000, waiting.channel.close(), 'the channel is closed')
  await t.rejects(call, { code: 'CONNECTION_LOST' })
})

t.test('close lets requests in work finish and refuses new ones', async (t) => {
  let release = (): void => undefined
  const gate = new Promise<void>((resolve) => (release = resolve))
  let started = 0
  const { address, server } = await serve(t, async () => {
    started++
    await gate
    return { reply: {}, payload: [Buffer.from('done')] }
  })
  const { call } = channelTo(t, address)
  const running = call(1)
  await until('it has begun', () => started > 0)
  const closing = server.close()
  await t.rejects(call(2), { code: 'CONNECTION_LOST', message: /shutting down/ })
  release()
  t.equal(join((await running).payload).toString(), 'done')
  await closing
  await t.rejects(call(3), RingfsError)
})

t.test('an address that others can reach is refused without a key', async (t) => {
  for (const address of ['0.0.0.0:0', '[::]:0', '[::ffff:0.0.0.0]:0']) {
    await t.rejects(serve(t, echo, {}, address), { code: 'KEY_REQUIRED', message: /ringfs key new FILE/ }, address)
  }
  const { address } = await serve(t, echo, {}, 'localhost:0')
  await channelTo(t, address).call(1)
  const { address: wide } = await serve(t, echo, { key: KeyRing.of(Buffer.alloc(32, 1)) }, '0.0.0.0:0')
  t.match(wide, /^0\.0\.0\.0:\d+$/)
  await t.rejects(serve(t, echo, {}, 'no-such-host.invalid:0'), { code: 'LISTEN_FAILED' })
  await t.rejects(serve(t, echo, {}, address.replace('localhost', '127.0.0.1')), { code: 'LISTEN_FAILED' })
  for (const bad of ['127.0.0.1', 'host:99999', ':1', 'unix:relative', '']) {
    await t.rejects(serve(t, echo, {}, bad), { code: 'USAGE' }, bad)
  }
})

t.test('a Unix socket has mode 0600; a dead one is taken over, a live one and a file are not', async (t) => {
  const dir = await folder(t)
  const file = path.join(dir, 'sock')
  const { server } = await serve(t, echo, {}, `unix:${file}`)
  t.equal((await stat(file)).mode & 0o777, 0o600)
  await t.rejects(serve(t, echo, {}, `unix:${file}`), { code: 'LISTEN_FAILED', message: /another process/ })
  await channelTo(t, `unix:${file}`).channel.ping(SOON)
  await server.close()
  await t.rejects(stat(file), { code: 'ENOENT' })

  const { execFileSync } = await import('node:child_process')
  const leave = `require('net').createServer().listen(${JSON.stringify(file)}, () => process.kill(process.pid, 'SIGKILL'))`
  t.throws(() => execFileSync(process.execPath, ['-e', leave], { stdio: 'ignore' }))
  t.ok((await stat(file)).isSocket(), 'left behind')
  await serve(t, echo, {}, `unix:${file}`)
  await channelTo(t, `unix:${file}`).call(1)

  const plain = path.join(dir, 'plain')
  await writeFile(plain, 'precious')
  await t.rejects(serve(t, echo, {}, `unix:${plain}`), { code: 'LISTEN_FAILED', message: /a file is in the way/ })
  await t.rejects(serve(t, echo, {}, `unix:${dir}/${'x'.repeat(120)}`), { code: 'USAGE', message: /107/ })
  await t.rejects(serve(t, echo, {}, `unix:${dir}/none/sock`), { code: 'LISTEN_FAILED' })
})

t.test('two servers that find the same dead socket at once: one gets it', async (t) => {
  const dir = await folder(t)
  const file = path.join(dir, 'sock')
  const { execFileSync } = await import('node:child_process')
  const leave = `require('net').createServer().listen(${JSON.stringify(file)}, () => process.kill(process.pid, 'SIGKILL'))`
  t.throws(() => execFileSync(process.execPath, ['-e', leave], { stdio: 'ignore' }))
  const tries = await Promise.allSettled([1, 2, 3, 4].map(() => serve(t, echo, {}, `unix:${file}`)))
  t.equal(tries.filter((one) => one.status === 'fulfilled').length, 1)
  await channelTo(t, `unix:${file}`).call(1)
})

t.test('ping answers with the pid and the payload', async (t) => {
  const { address } = await serve(t, echo)
  const { channel } = channelTo(t, address)
  const { pid, payload } = await channel.ping(SOON, Buffer.from('hello'))
  t.equal(pid, process.pid)
  t.equal(payload.toString(), 'hello')
  t.equal(PING.number, 1)
})
