/** A Redis that takes connections and is slow to say its first word, as on a machine that is very busy; and one that is not there. */
import { connect, createServer, type AddressInfo, type Socket } from 'node:net'
import t, { type Test } from 'tap'
import { silentLog } from '../../src/base/log.js'
import { connectRedis } from '../../src/cluster/redis.js'
import type { MetaUrl } from '../../src/cluster/url.js'
import { CapturedLog } from '../helpers/captured-log.js'
import { until } from '../helpers/deadline.js'
import { freePorts, startRedis } from '../helpers/redis.js'

t.setTimeout(300_000)

/** In front of a server: holds what comes until `release`. */
async function slowDoor(
  t: Test,
  port: number,
): Promise<{ readonly port: number; readonly came: () => number; release: () => void }> {
  const held: Socket[] = []
  const all: Socket[] = []
  let isOpen = false
  let came = 0
  const join = (socket: Socket): void => {
    const inner = connect(port, '127.0.0.1')
    all.push(inner)
    inner.on('error', () => socket.destroy())
    socket.pipe(inner).pipe(socket)
  }
  const server = createServer((socket) => {
    came++
    all.push(socket)
    socket.on('error', () => socket.destroy())
    if (isOpen) join(socket)
    else held.push(socket)
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.teardown(() => {
    server.close()
    for (const socket of all) socket.destroy()
  })
  const release = (): void => {
    isOpen = true
    held.splice(0).forEach(join)
  }
  const { port: own }: AddressInfo = addressOf(server.address())
  return { port: own, came: () => came, release }
}

function addressOf(address: ReturnType<ReturnType<typeof createServer>['address']>): AddressInfo {
  if (address === null || typeof address === 'string') throw new Error('no address')
  return address
}

t.test('the first answer', async (t) => {
  const redis = await startRedis(t)
  const real = redis.url('v')
  const [port = 0] = real.hosts.map((host) => host.port)
  const at = (other: number): MetaUrl => ({ ...real, hosts: [{ host: '127.0.0.1', port: other }] })

  t.test('is waited for by who goes on for long, with new connections and a line in the log', async (t) => {
    const door = await slowDoor(t, port)
    const captured = new CapturedLog()
    const quick = { log: captured.log, connectTimeoutMs: 1_000, firstAnswerMs: 200_000 }
    const connecting = connectRedis(at(door.port), quick)
    connecting.catch(() => undefined)
    await until('it says what it waits for', () => captured.tells('msg', `127.0.0.1:${door.port} has not answered yet`))
    await until('it has tried again', () => door.came() > 1)
    door.release()
    const store = await connecting
    t.ok(await store.call('SET', 'x', 1))
    await store.close()
  })

  t.test('is not waited for longer by others', async (t) => {
    const door = await slowDoor(t, port)
    await t.rejects(connectRedis(at(door.port), { log: silentLog, connectTimeoutMs: 1_000 }), {
      code: 'REDIS_UNREACHABLE',
      message: /tried for 1000 ms/,
    })
  })

  t.test('nor where nobody listens', async (t) => {
    const [nowhere = 0] = await freePorts(1)
    const captured = new CapturedLog()
    const options = { log: captured.log, connectTimeoutMs: 3_000, firstAnswerMs: 200_000 }
    await t.rejects(connectRedis(at(nowhere), options), {
      code: 'REDIS_UNREACHABLE',
      message: /ECONNREFUSED.*tried for 3000 ms/,
    })
    t.notOk(captured.tells('msg', 'has not answered'))
  })
})
