/** The cluster key: who is let in, what the others are told, and how keys are changed while calls are on their way. */
import { execFile } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { connect, createServer, type AddressInfo, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { connect as connectTls, createServer as createTlsServer, TLSSocket } from 'node:tls'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import t from 'tap'
import { RingfsError } from '../../../src/base/errors.js'
import { MIB } from '../../../src/base/limits.js'
import { RpcChannel, type ChannelOptions } from '../../../src/rpc/channel.js'
import { CLUSTER_KEYS_MAX, KeyRing, clusterKey, parseKeys } from '../../../src/rpc/key-ring.js'
import { CHUNK_REPORT_BAD } from '../../../src/rpc/messages-chunk.js'
import { Refusals } from '../../../src/rpc/refusals.js'
import { RpcServer, type ServerOptions } from '../../../src/rpc/server.js'
import { dial } from '../../../src/rpc/transport.js'
import { ManualClock } from '../../helpers/manual-clock.js'
import { CapturedLog } from '../../helpers/captured-log.js'
import { makeAuthority } from '../../helpers/certificates.js'
import { until } from '../../helpers/deadline.js'

t.setTimeout(300_000)

type Tap = Pick<typeof t, 'teardown'>
const A = Buffer.from('a cluster key of decent length')
const B = Buffer.from('another key of decent length..')
const C = Buffer.from('a third key, of decent length')
const CALL = { deadlineMs: 60_000 }
const run = promisify(execFile)

async function serve(t: Tap, options: ServerOptions, address = '127.0.0.1:0') {
  const server = new RpcServer(options)
  server.handle(CHUNK_REPORT_BAD, async (_request, payload) => ({ reply: {}, payload }))
  t.teardown(() => server.close())
  return { server, address: await server.listen(address) }
}

function channelTo(t: Tap, address: string, options: ChannelOptions = {}) {
  const channel = new RpcChannel(address, options)
  t.teardown(() => channel.close())
  const call = async (payload: readonly Uint8Array[] = []) => {
    const { payload: back } = await channel.call(CHUNK_REPORT_BAD, { volume: 'v', id: 1 }, payload, CALL)
    return Buffer.concat(back)
  }
  return { channel, call }
}

t.test(
  'who knows the key is let in, in TLS 1.3 with a key exchange of its own; both sides tell who does not',
  async (t) => {
    const told = new CapturedLog()
    const { address } = await serve(t, { key: KeyRing.of(A), log: told.log })
    const big = Buffer.alloc(3 * MIB, 3)
    t.ok((await channelTo(t, address, { key: KeyRing.of(A) }).call([big])).equals(big))

    const socket = await dial(address, { key: KeyRing.of(A), timeoutMs: 60_000 })
    t.ok(socket instanceof TLSSocket)
    if (socket instanceof TLSSocket) {
      t.equal(socket.getProtocol(), 'TLSv1.3')
      t.match(socket.getEphemeralKeyInfo(), { type: 'ECDH' }, 'a key that leaks later opens nothing that was recorded')
    }
    socket.destroy()

    const wrong = channelTo(t, address, { key: KeyRing.of(B) }).call()
    await t.rejects(wrong, { code: 'KEY_REQUIRED', message: new RegExp(`not the same.*${clusterKey(B).id}`) })
    await until('the listener tells of the wrong key', () => told.tells('reason', clusterKey(B).id))
    await t.rejects(channelTo(t, address).call(), { code: 'CONNECTION_LOST', message: /cluster key/ })
    await until('the listener tells of no key', () => told.tells('reason', 'has no cluster key'))
    const { address: open } = await serve(t, {})
    await t.rejects(channelTo(t, open, { key: KeyRing.of(A) }).call(), {
      code: 'KEY_REQUIRED',
      message: /has no cluster key/,
    })
    t.throws(() => KeyRing.of(Buffer.from('short')), { code: 'KEY_REQUIRED', message: /at least 16/ })
  },
)

t.test('who only names a key that the listener has is not let in', async (t) => {
  const told = new CapturedLog()
  const { address } = await serve(t, { key: KeyRing.of(A), log: told.log })
  const forged = new KeyRing([{ id: clusterKey(A).id, psk: clusterKey(B).psk }])
  await t.rejects(channelTo(t, address, { key: forged }).call(), { code: 'KEY_REQUIRED' })
  await until('the listener tells', () => told.tells('reason', 'does not know it'))
})

t.test('a session ticket lets nobody in without a key', async (t) => {
  const key = clusterKey(A)
  const { address } = await serve(t, { key: new KeyRing([key]) })
  const at = { host: '127.0.0.1', port: Number(address.split(':').at(-1)), rejectUnauthorized: false }
  const suite = { minVersion: 'TLSv1.3', ciphers: 'TLS_AES_128_GCM_SHA256' } as const
  const pskCallback = () => ({ identity: `ringfs/${key.id}`, psk: key.psk })
  const first = connectTls({ ...at, ...suite, pskCallback, checkServerIdentity: () => undefined })
  t.teardown(() => first.destroy())
  const session = await new Promise<Buffer>((resolve, reject) => {
    first.once('session', resolve)
    first.once('error', reject)
  })
  const again = connectTls({ ...at, ...suite, session })
  t.teardown(() => again.destroy())
  const end = await new Promise<string>((resolve) => {
    again.once('secureConnect', () => resolve('let in'))
    again.once('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? ''))
  })
  t.match(end, /^ERR_SSL/)
})

t.test('a listener that shows a good certificate in place of the key is not believed', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'ringfs-keys-'))
  t.teardown(() => rm(folder, { recursive: true, force: true }))
  const authority = await makeAuthority(folder)
  const server = createTlsServer(await authority.issue('127.0.0.1'), (socket) => socket.on('error', () => undefined))
  server.on('tlsClientError', () => undefined)
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.teardown(() => server.close())
  const address = `127.0.0.1:${portOf(server.address())}`
  // In a process of its own, which trusts the authority for everything else that it does.
  const transport = fileURLToPath(new URL('../../../src/rpc/transport.js', import.meta.url))
  const rings = fileURLToPath(new URL('../../../src/rpc/key-ring.js', import.meta.url))
  const program = `
    import { dial } from ${JSON.stringify(transport)}
    import { KeyRing } from ${JSON.stringify(rings)}
    const key = KeyRing.of(Buffer.alloc(32, 7))
    await dial(${JSON.stringify(address)}, { key, timeoutMs: 5000 }).then(() => console.log('TAKEN'), (error) => console.log(error.code))
    process.exit(0)`
  const env = { ...process.env, NODE_EXTRA_CA_CERTS: authority.ca }
  const { stdout } = await run(process.execPath, ['--input-type=module', '-e', program], { env, timeout: 120_000 })
  t.equal(stdout.trim(), 'KEY_REQUIRED')
})

function portOf(address: AddressInfo | string | null): number {
  return typeof address === 'object' && address !== null ? address.port : 0
}

t.test('a refused key is not tried again and again, and a new one is tried at once', async (t) => {
  const told = new CapturedLog()
  const { address, server } = await serve(t, { key: KeyRing.of(A), log: told.log })
  let connections = 0
  const key = KeyRing.of(B)
  const { call } = channelTo(t, address, {
    key,
    limits: { backoffMinMs: 1, backoffMaxMs: 2 },
    dial: (target, options) => {
      connections++
      return dial(target, options)
    },
  })
  for (let i = 0; i < 50; i++) {
    await t.rejects(call(), { code: 'KEY_REQUIRED' })
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
  t.equal(connections, 1)
  await until('it is told', () => told.all('reason').length > 0)
  t.equal(told.all('reason').length, 1, 'once in the log of the listener')
  key.replace(KeyRing.of(A).keys)
  await call()
  t.equal(connections, 2)
  t.equal(server.connections, 1)
})

t.test('keys are changed on both sides in any order, and no call of many fails', async (t) => {
  for (const order of ['server first', 'client first'] as const) {
    const limits = { keyGraceMs: 300 }
    const serverKey = KeyRing.of(A)
    const clientKey = KeyRing.of(A)
    const { address, server } = await serve(t, { key: serverKey, limits })
    const { channel, call } = channelTo(t, address, { key: clientKey, limits: { keyRetryMs: 50 } })
    let done = 0
    let stop = false
    const load = Promise.all(
      Array.from({ length: 8 }, async () => {
        const data = Buffer.alloc(200_000, 9)
        while (!stop) {
          if (!(await call([data])).equals(data)) throw new Error('other bytes came back')
          done++
        }
      }),
    )
    load.catch(() => undefined)
    const both = order === 'server first' ? [serverKey, clientKey] : [clientKey, serverKey]
    for (const secrets of [[B, A], [B]]) {
      for (const ring of both) {
        ring.replace(KeyRing.of(...secrets).keys)
        const before = done
        await until('calls go on', () => done > before + 20)
      }
      // Both know the new one: before the old one goes the connection is to be made anew.
      await until('there is a connection by the new key', () => channel.generation === 2)
    }
    const generation = channel.generation
    const before = done
    // Past the grace: connections with the old key would be ended now.
    await new Promise((resolve) => setTimeout(resolve, 600))
    await until('calls go on', () => done > before + 20)
    stop = true
    await load
    t.equal(channel.generation, generation, `${order}: the connection was made with the new key long before`)
    t.equal(generation, 2, `${order}: one connection more, no other`)
    t.equal(server.connections, 1)
    await t.rejects(
      channelTo(t, address, { key: KeyRing.of(A) }).call(),
      { code: 'KEY_REQUIRED' },
      'the old key is out',
    )
  }
})

t.test('who goes on with a key that was taken away is sent off after the grace', async (t) => {
  const key = KeyRing.of(A)
  const { address, server } = await serve(t, { key, limits: { keyGraceMs: 100 } })
  const { call } = channelTo(t, address, { key: KeyRing.of(A) })
  await call()
  key.replace(KeyRing.of(C).keys)
  t.equal(server.connections, 1)
  await until('it is sent off', () => server.connections === 0)
  await t.rejects(call(), { code: 'KEY_REQUIRED' })
})

t.test('strangers who never finish their handshake do not keep out who knows the key', async (t) => {
  const key = KeyRing.of(A)
  const { address } = await serve(t, { key })
  const port = Number(address.split(':').at(-1))
  const silent: Socket[] = []
  t.teardown(() => silent.forEach((socket) => socket.destroy()))
  for (let i = 0; i < 300; i++) {
    const socket = connect(port, '127.0.0.1')
    socket.on('error', () => undefined)
    silent.push(socket)
  }
  await until('there are too many', () => silent.filter((socket) => socket.destroyed).length >= 44)
  await channelTo(t, address, { key }).call()
  t.equal(silent.filter((socket) => !socket.destroyed).length <= 256, true)
})

t.test('the log tells of each peer and reason once a minute, with how often', async (t) => {
  const clock = new ManualClock()
  const { log, lines } = new CapturedLog()
  const refusals = new Refusals(log, clock)
  for (let i = 0; i < 100; i++) refusals.add('10.0.0.1', 'no key')
  refusals.add('10.0.0.2', 'no key')
  t.match(lines, [
    { peer: '10.0.0.1', reason: 'no key', times: 1 },
    { peer: '10.0.0.2', reason: 'no key', times: 1 },
  ])
  await clock.pass(61_000)
  refusals.add('10.0.0.1', 'no key')
  t.equal(lines.length, 3)
  t.match(lines[2], { peer: '10.0.0.1', reason: 'no key', times: 100 })
  t.equal(refusals.count, 102)
})

t.test('a key file has a key a line, the newest first', (t) => {
  const [a, b] = [A, B].map((secret) => clusterKey(secret).id)
  t.same(
    parseKeys(`# of the test\n\n${B.toString()}\r\n ${A.toString()} \n${B.toString()}`).map(({ id }) => id),
    [b, a],
  )
  for (const bad of ['', '\n# nothing\n', 'short', `${A.toString()}\nshort`]) {
    t.throws(() => parseKeys(bad), RingfsError, bad)
    t.throws(() => parseKeys(bad), { code: 'KEY_REQUIRED' }, bad)
  }
  const many = Array.from({ length: CLUSTER_KEYS_MAX + 1 }, (_, i) => `a key of decent length ${i}`)
  t.throws(() => parseKeys(many.join('\n')), { code: 'KEY_REQUIRED' })
  t.equal(parseKeys(many.slice(1).join('\n')).length, CLUSTER_KEYS_MAX)
  t.end()
})

t.test('a listener that is no ringfs at all is no hang', async (t) => {
  const server = createServer((socket) => socket.end('HTTP/1.1 400 Bad Request\r\n\r\n'))
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.teardown(() => server.close())
  const address = `127.0.0.1:${portOf(server.address())}`
  await t.rejects(channelTo(t, address, { key: KeyRing.of(A) }).call(), RingfsError)
})
