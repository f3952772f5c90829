/** Payloads that land in lent memory: over every transport the bytes are right and the memory comes back. */
import t from 'tap'
import { randomBytes } from 'node:crypto'
import { connect } from 'node:net'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join as joinPath } from 'node:path'
import { KIB, MIB } from '../../../src/base/limits.js'
import { RpcChannel } from '../../../src/rpc/channel.js'
import {
  encodeHead,
  FrameParser,
  join,
  KIND,
  type Frame,
  type Landing,
  type PayloadMemory,
} from '../../../src/rpc/frame.js'
import { KeyRing } from '../../../src/rpc/key-ring.js'
import { PING } from '../../../src/rpc/method.js'
import { RpcServer } from '../../../src/rpc/server.js'
import { until } from '../../helpers/deadline.js'

t.setTimeout(300_000)

const KEY = KeyRing.of(Buffer.from('the key of a test'))
const CALL = { deadlineMs: 60_000 }

/** Spoils what comes back, so that whoever uses it afterwards is found out. */
class Memory implements PayloadMemory {
  readonly maxBytes = 4 * MIB
  taken = 0
  out = 0

  take(lengthBytes: number): Landing {
    const bytes = Buffer.from(new SharedArrayBuffer(lengthBytes))
    this.taken++
    this.out++
    let open = true
    const release = (): void => {
      if (!open) return
      open = false
      this.out--
      bytes.fill(0xee)
    }
    return { bytes, release }
  }
}

async function settled(memory: Memory): Promise<number> {
  await until('all is given back', () => memory.out === 0).catch(() => undefined)
  return memory.out
}

for (const transport of ['tcp', 'unix', 'tls'] as const) {
  t.test(
    `over ${transport} payloads of any length land, come back as they were, and their memory is given back`,
    async (t) => {
      const folder = mkdtempSync(joinPath(tmpdir(), 'ringfs-feed-'))
      t.teardown(() => rmSync(folder, { recursive: true, force: true }))
      const there = new Memory()
      const here = new Memory()
      const secure = transport === 'tls' ? { key: KEY } : {}
      const server = new RpcServer({ memory: there, ...secure })
      const address = await server.listen(transport === 'unix' ? `unix:${folder}/socket` : '127.0.0.1:0')
      const channel = new RpcChannel(address, secure)
      const sizes = [0, 1, 4 * KIB, 32 * KIB - 1, 32 * KIB, 64 * KIB, MIB + 17, 4 * MIB, 4 * MIB + 5]
      const echo = async (lengthBytes: number): Promise<boolean> => {
        const sent = randomBytes(lengthBytes)
        const { payload, release } = await channel.call(PING, {}, [sent], { ...CALL, memory: here })
        const same = join(payload).equals(sent)
        release()
        return same
      }
      for (let round = 0; round < 3; round++) {
        const same = await Promise.all([...sizes, ...sizes].map(echo))
        t.ok(same.every(Boolean))
      }
      t.ok(there.taken >= 3 * 2 * 4 && here.taken >= 3 * 2 * 4, 'long ones landed in lent memory')
      t.equal(await settled(there), 0)
      t.equal(here.out, 0)
      await channel.close()
      await server.close()
    },
  )
}

t.test('a request that is cut off, or cancelled, gives its memory back', async (t) => {
  const memory = new Memory()
  const server = new RpcServer({ memory })
  const address = await server.listen('127.0.0.1:0')
  const socket = connect(Number(address.split(':')[1]), '127.0.0.1')
  await once(socket, 'connect')
  socket.write(encodeHead(KIND.request, 1, Buffer.alloc(0), MIB, PING.number, 1000))
  socket.write(Buffer.alloc(300 * KIB))
  await until('some is taken', () => memory.taken > 0)
  socket.destroy()
  t.equal(await settled(memory), 0)

  const channel = new RpcChannel(address, {})
  const stop = new AbortController()
  const call = channel.call(PING, {}, [Buffer.alloc(4 * MIB)], { ...CALL, signal: stop.signal, memory })
  stop.abort()
  await t.rejects(call)
  t.equal((await channel.ping(CALL)).pid, process.pid)
  t.equal(await settled(memory), 0)
  await channel.close()
  await server.close()
})

t.test('frames that come in memory that is used again, or straight into what was lent, are the same frames', (t) => {
  const memory = new Memory()
  const frames: Frame[] = []
  const parser = new FrameParser(
    (frame) => frames.push(frame),
    ({ payloadBytes }) => memory.take(payloadBytes),
  )
  const payloads = [randomBytes(10), randomBytes(200 * KIB), randomBytes(31 * KIB), randomBytes(40 * KIB)]
  const stream = Buffer.concat(
    payloads.flatMap((payload, i) => [encodeHead(KIND.reply, i + 1, Buffer.from([i]), payload.length), payload]),
  )
  const scratch = Buffer.alloc(7 * KIB)
  for (let at = 0; at < stream.length;) {
    const room = parser.room()
    const into = room ?? scratch
    const count = Math.min(into.length, 5000, stream.length - at)
    stream.copy(into, 0, at, at + count)
    at += count
    if (room === null) {
      parser.push(scratch.subarray(0, count), 'passing')
      scratch.fill(0)
    } else parser.landed(count)
  }
  t.equal(frames.length, payloads.length)
  t.ok(frames.every((frame, i) => join(frame.payload).equals(payloads[i] ?? scratch) && frame.header[0] === i))
  t.equal(memory.out, 2, 'only the long ones')
  for (const frame of frames) frame.release()
  t.equal(memory.out, 0)
  t.end()
})
