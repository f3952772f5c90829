import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { PosixError } from '../../src/base/errno.js'
import { MIB } from '../../src/base/limits.js'
import { silentLog } from '../../src/base/log.js'
import type { RedisStore } from '../../src/cluster/contract.js'
import { connectRedis } from '../../src/cluster/redis.js'
import { makeScript } from '../../src/cluster/script.js'
import { SLOTS, keySlot } from '../../src/cluster/slot.js'
import type { MetaUrl } from '../../src/cluster/url.js'
import { replicasThere } from '../../src/meta/format.js'
import { PATIENCE_MS, until } from '../helpers/deadline.js'
import { connectPatiently, freePorts, startRedis } from '../helpers/redis.js'

const options = { log: silentLog, connectTimeoutMs: 5_000, replyTimeoutMs: 1_000 }
const APPEND = makeScript(
  'append',
  "redis.call('RPUSH', KEYS[1], ARGV[1]) return {redis.call('LLEN', KEYS[1]), ARGV[1]}",
)

async function codeOf(promise: Promise<unknown>): Promise<string> {
  try {
    await promise
    return 'none'
  } catch (error) {
    if (error instanceof PosixError) return error.code
    return error instanceof Error && 'code' in error ? String(error.code) : String(error)
  }
}

t.setTimeout(600_000)

/** Where one of the two stands still meanwhile, that is told and nothing is known: then they are asked again. */
async function replicasOf(store: RedisStore, ...asked: Parameters<RedisStore['waitReplicas']>): Promise<number> {
  let count = -1
  await until('replicas are counted', async () => {
    count = await store.waitReplicas(...asked).catch(() => -1)
    return count >= 0
  })
  return count
}

/** A Redis that is no cluster, as a package manager starts it. */
async function startPlain(t: Test): Promise<MetaUrl> {
  const [port = 0] = await freePorts(1)
  const folder = await mkdtemp(join(tmpdir(), 'ringfs-plain-'))
  const args = ['--port', String(port), '--bind', '127.0.0.1', '--dir', folder, '--save', '']
  const child = spawn('redis-server', args, { stdio: 'ignore' })
  t.teardown(async () => {
    const gone = once(child, 'exit')
    child.kill('SIGKILL')
    await gone
    await rm(folder, { recursive: true, force: true, maxRetries: 50, retryDelay: 100 })
  })
  return { hosts: [{ host: '127.0.0.1', port }], volume: 'v' }
}

t.test('one master', { timeout: 300_000 }, async (t) => {
  const redis = await startRedis(t, { masters: 1 })
  const store = await connectPatiently(redis.url('v'), options)
  t.teardown(() => store.close())

  t.test('bulk strings are Buffers, nil is null, numbers are numbers, arrays are arrays', async (t) => {
    const binary = Buffer.from([0, 255, 13, 10, 128])
    t.strictSame(await store.call('SET', '{a}b', binary), Buffer.from('OK'))
    t.strictSame(await store.call('get', '{a}b'), binary)
    t.equal(await store.call('GET', '{a}none'), null)
    t.equal(await store.call('STRLEN', '{a}b'), 5)
    await store.call('HSET', '{a}h', 'x', 1)
    t.strictSame(await store.call('hgetall', '{a}h'), [Buffer.from('x'), Buffer.from('1')], 'not reshaped by ioredis')
  })

  t.test('a script that the server does not know, or has forgotten, is loaded', async (t) => {
    t.strictSame(await store.run(APPEND, ['{s}l'], ['x']), [1, Buffer.from('x')])
    await redis.command(0, 'SCRIPT', 'FLUSH')
    t.strictSame(await store.run(APPEND, ['{s}l'], ['y']), [2, Buffer.from('y')])
  })

  t.test('other errors are INTERNAL with the text of Redis', async (t) => {
    await store.call('SET', '{e}s', 'x')
    await t.rejects(store.call('LPUSH', '{e}s', 'x'), { code: 'INTERNAL', message: /WRONGTYPE/ })
    const broken = makeScript('broken', 'this is no Lua')
    await t.rejects(store.run(broken, ['{e}s'], []), { code: 'INTERNAL', message: /compiling|broken/i })
    const failing = makeScript('failing', "return redis.error_reply('EBAD of ours')")
    await t.rejects(store.run(failing, ['{e}s'], []), { code: 'INTERNAL', message: /EBAD of ours/ })
  })

  t.test('masters are told with their slots', async (t) => {
    t.strictSame(await store.masters(), [{ address: `127.0.0.1:${redis.ports[0]}`, slots: [[0, 16383]] }])
  })

  t.test('waitReplicas counts none where there are none', async (t) => {
    t.equal(await replicasOf(store, ['{a}b'], 1, 50), 0)
    t.equal(await replicasThere(store, 'v'), 0, 'so a volume asks for none')
  })

  t.test('calls survive kill -9 and restart, and each is carried out at least once', async (t) => {
    const pending = Array.from({ length: 200 }, async (_, i) => {
      await new Promise((resolve) => setTimeout(resolve, i * 5))
      await store.run(APPEND, ['{k}l'], [i])
    })
    await new Promise((resolve) => setTimeout(resolve, 200))
    await redis.kill(0)
    await redis.restart(0)
    await Promise.all(pending)
    const values = await store.call('LRANGE', '{k}l', 0, -1)
    t.equal(new Set(Array.isArray(values) ? values.map(String) : []).size, 200)
  })

  t.test('a paused server loses no call', async (t) => {
    redis.pause(0)
    const calls = Promise.all(Array.from({ length: 20 }, (_, i) => store.call('SADD', '{p}s', i)))
    await new Promise((resolve) => setTimeout(resolve, 2_500))
    redis.resume(0)
    await calls
    t.equal(await store.call('SCARD', '{p}s'), 20)
  })

  t.test('a call past its deadline is REDIS_UNREACHABLE and names the address', async (t) => {
    redis.pause(0)
    const call = store.run(APPEND, ['{d}l'], ['x'], { deadlineMs: 300 })
    await t.rejects(call, { code: 'REDIS_UNREACHABLE', message: new RegExp(`127.0.0.1:${redis.ports[0]}`) })
    redis.resume(0)
    await store.call('SET', '{d}x', 1)
  })

  t.test('out of memory is ENOSPC, and reading and deleting still work', async (t) => {
    await store.call('SET', '{o}old', 'x'.repeat(1000))
    await redis.command(0, 'CONFIG', 'SET', 'maxmemory', 1)
    t.equal(await codeOf(store.call('SET', '{o}x', 'y')), 'ENOSPC')
    t.equal(await codeOf(store.run(APPEND, ['{o}l'], ['y'])), 'ENOSPC')
    t.equal(await store.call('STRLEN', '{o}old'), 1000)
    t.equal(await store.call('DEL', '{o}old'), 1)
    await redis.command(0, 'CONFIG', 'SET', 'maxmemory', 0)
    await store.call('SET', '{o}x', 'y')
  })

  t.test('a repeat that is refused says nothing of the attempt whose reply was lost', async (t) => {
    const fill = makeScript('fill', "return redis.call('SET', KEYS[1], string.rep('x', ARGV[1]))")
    await store.run(fill, ['{o}big'], [1])
    const used = /used_memory:(\d+)/.exec(String(await redis.command(0, 'INFO', 'memory')))?.[1]
    await redis.command(0, 'CONFIG', 'SET', 'maxmemory', Number(used) + MIB)
    redis.pause(0)
    const call = store.run(fill, ['{o}big'], [4 * MIB])
    const ended = t.rejects(call, {
      code: 'REDIS_UNREACHABLE',
      message: /whether it was carried out before is not known/,
    })
    await new Promise((resolve) => setTimeout(resolve, 2_500))
    redis.resume(0)
    await ended
    t.equal(await store.call('STRLEN', '{o}big'), 4 * MIB, 'it was')
    await store.call('DEL', '{o}big')
    await redis.command(0, 'CONFIG', 'SET', 'maxmemory', 0)
  })

  t.test('a closed store refuses calls', async (t) => {
    const other = await connectPatiently(redis.url('v'), options)
    await other.close()
    t.equal(await codeOf(other.call('GET', 'x')), 'CANCELLED')
  })
})

t.test('what cannot be used is told apart', { timeout: 300_000 }, async (t) => {
  /** For who is told nothing, and gives up. */
  const quick = { ...options, connectTimeoutMs: 700 }
  /** For who is told. */
  const patient = { ...options, connectTimeoutMs: PATIENCE_MS }
  const redis = await startRedis(t)
  const url = redis.url('v')

  await t.rejects(connectRedis({ ...url, password: 'wrong' }, patient), { code: 'REDIS_AUTH' })
  const { hosts, volume } = url
  await t.rejects(connectRedis({ hosts, volume }, patient), { code: 'REDIS_AUTH', message: /password/ })

  const [port = 0] = await freePorts(1)
  const nowhere = { hosts: [{ host: '127.0.0.1', port }], volume }
  await t.rejects(connectRedis(nowhere, options), {
    code: 'REDIS_UNREACHABLE',
    message: new RegExp(`127.0.0.1:${port} .*ECONNREFUSED.*redis-server`),
  })
  const both = await connectRedis({ ...url, hosts: [...nowhere.hosts, ...hosts] }, patient)
  t.ok(await both.call('SET', 'x', 1), 'one host of several is enough')
  await both.close()

  await redis.command(0, 'CONFIG', 'SET', 'appendonly', 'no')
  await t.rejects(connectRedis(url, patient), { code: 'REDIS_UNSAFE', message: /appendonly yes/ })
  await (await connectRedis(url, { ...patient, requirePersistence: false })).close()
  await redis.command(0, 'CONFIG', 'SET', 'appendonly', 'yes', 'maxmemory-policy', 'allkeys-lru')
  await t.rejects(connectRedis(url, patient), { code: 'REDIS_UNSAFE', message: /noeviction/ })

  redis.pause(0)
  await t.rejects(connectRedis(url, quick), { code: 'REDIS_UNREACHABLE' })
  redis.resume(0)

  for (const greeting of ['', 'HTTP/1.1 400 Bad Request\r\n\r\n']) {
    const stranger = createServer((socket) => {
      socket.on('error', () => undefined)
      socket.write(greeting)
    })
    stranger.listen(0, '127.0.0.1')
    await once(stranger, 'listening')
    t.teardown(() => stranger.close())
    const address = stranger.address()
    if (address === null || typeof address === 'string') throw new Error('no port')
    const there = { hosts: [{ host: '127.0.0.1', port: address.port }], volume }
    await t.rejects(connectRedis(there, quick), { code: 'REDIS_UNREACHABLE', message: new RegExp(`:${address.port}`) })
  }

  const lonely = await startPlain(t)
  await t.rejects(connectRedis(lonely, patient), { code: 'REDIS_NOT_CLUSTER', message: /cluster-enabled yes/ })

  const plain = await startRedis(t, { masters: 1, config: ['cluster-announce-ip ""'] })
  const alone = await connectPatiently(plain.url('v'), options)
  t.ok(await alone.call('SET', 'x', 1), 'a lone server without a known address is used at the address asked')
  await alone.close()

  await redis.command(0, 'CONFIG', 'SET', 'maxmemory-policy', 'noeviction')
  await redis.command(0, 'CLUSTER', 'DELSLOTS', 5)
  await t.rejects(connectRedis(url, options), { code: 'REDIS_UNREACHABLE', message: /1 of 16384 hash slots/ })
})

t.test('three masters', { timeout: 300_000 }, async (t) => {
  const redis = await startRedis(t, { masters: 3 })
  const store = await connectPatiently(redis.url('v'), options)
  t.teardown(() => store.close())

  t.test('scripts are made known to all of them ahead', async (t) => {
    const scripts = [1, 2].map((n) => makeScript(`ahead${n}`, `return {${n}, KEYS[1]}`))
    await store.prepare(scripts)
    await store.prepare(scripts)
    const known = [0, 1, 2].map((master) =>
      redis.command(master, 'SCRIPT', 'EXISTS', ...scripts.map(({ sha1 }) => sha1)),
    )
    for (const reply of await Promise.all(known)) t.strictSame(reply, [1, 1])
  })

  t.test('keys go to their masters', async (t) => {
    await Promise.all(Array.from({ length: 300 }, (_, i) => store.call('SET', `k${i}`, i)))
    const got = await Promise.all(Array.from({ length: 300 }, (_, i) => store.call('GET', `k${i}`)))
    t.strictSame(
      got.map(String),
      Array.from({ length: 300 }, (_, i) => String(i)),
    )
    t.equal((await store.masters()).length, 3)
  })

  t.test('slots that move while calls run lose and double no reply', async (t) => {
    const slot = keySlot('{m}')
    const owner = Math.floor(slot / Math.ceil(SLOTS / 3))
    // One that gives up an answer and asks again would be counted twice.
    const patient = await connectPatiently(redis.url('v'), { ...options, replyTimeoutMs: PATIENCE_MS })
    t.teardown(() => patient.close())
    let running = true
    let count = 0
    const callers = Array.from({ length: 4 }, async (_, caller) => {
      while (running) {
        const id = `${caller}.${count++}`
        await patient.run(APPEND, [`{m}l${caller}`], [id])
      }
    })
    const other = (owner + 1) % 3
    for (let round = 0; round < 3; round++) {
      await redis.moveSlot(slot, owner, other)
      await redis.moveSlot(slot, other, owner)
    }
    running = false
    await Promise.all(callers)
    let stored = 0
    for (let caller = 0; caller < 4; caller++) stored += Number(await store.call('LLEN', `{m}l${caller}`))
    t.equal(stored, count, 'redirections are not repetitions')
  })

  t.test('the others go on while one master is away', async (t) => {
    await redis.kill(2)
    const keys = ['a', 'b', 'c', 'd', 'e', 'f', 'g'].filter((key) => keySlot(key) < 10_923)
    // Until the cluster has noticed, those that live answer; afterwards all say CLUSTERDOWN and calls wait.
    const calls = Promise.all(keys.map((key) => store.call('SET', key, 1)))
    const lost = store.call('SET', '{m3}x', 1)
    await redis.restart(2)
    await calls
    await lost
    t.pass()
  })
})

t.test('three masters with replicas', { timeout: 300_000 }, async (t) => {
  const redis = await startRedis(t, { masters: 3, replicas: 1, config: ['cluster-node-timeout 4000'] })
  const store = await connectPatiently(redis.url('v'), options)
  t.teardown(() => store.close())
  const keys = Array.from({ length: 12 }, (_, i) => `{w${i}}x`)

  t.test('waitReplicas answers the least of the masters concerned', async (t) => {
    await Promise.all(keys.map((key) => store.call('SET', key, 1)))
    t.equal(await replicasOf(store, keys, 1, PATIENCE_MS), 1)
    t.equal(await replicasThere(store, 'v'), 1, 'so a volume asks for one')
    redis.pause(4)
    await Promise.all(keys.map((key) => store.call('SET', key, 2)))
    t.equal(await replicasOf(store, keys, 1, 100), 0, 'one replica hangs')
    const others = keys.filter((key) => Math.floor(keySlot(key) / Math.ceil(SLOTS / 3)) !== 1)
    t.equal(await replicasOf(store, others, 1, PATIENCE_MS), 1)
    redis.resume(4)
    t.equal(await replicasOf(store, keys, 1, PATIENCE_MS), 1)
    t.equal(await replicasOf(store, [], 1, 100), 0)
    const marks = await Promise.all(keys.map((key) => store.call('EXISTS', key.replace(/x$/, ':wait'))))
    const written = marks.reduce<number>((sum, one) => sum + Number(one), 0)
    t.ok(written >= 3, 'a write to each master went before: from 7.2 on WAIT looks at nothing else')
    await redis.command(0, 'CONFIG', 'SET', 'maxmemory', 1)
    t.equal(await replicasOf(store, keys, 1, PATIENCE_MS), 1, 'also where there is no memory')
    await redis.command(0, 'CONFIG', 'SET', 'maxmemory', 0)
  })

  t.test('when a master dies its replica takes over, and calls wait for it', async (t) => {
    const states: boolean[] = []
    const got: string[] = []
    const channels = keys.map((key) => `${key}:c`)
    await store.subscribe(
      channels,
      (channel) => got.push(channel),
      (healthy) => states.push(healthy),
    )
    await redis.kill(0)
    // Long for a connection, and less than the replica takes to notice.
    const comesNow = connectRedis(redis.url('v'), { ...options, connectTimeoutMs: 2_500 })
    comesNow.catch(() => undefined)
    await Promise.all(keys.map((key, i) => store.run(APPEND, [`${key}:l`], [i])))
    await t.resolves(
      comesNow.then((other) => other.close()),
      'who connects meanwhile waits, too, and not for a connection only',
    )
    const addresses = (await store.masters()).map((master) => master.address)
    t.ok(addresses.includes(`127.0.0.1:${redis.ports[3]}`), 'the replica is a master now')
    await until('its subscriptions are back', () => states.at(-1) === true)
    t.strictSame(states, [true, false, true])
    await Promise.all(channels.map((channel) => store.call('SPUBLISH', channel, 'x')))
    await until('all have arrived', () => got.length >= channels.length)
    t.strictSame(got.sort(), channels.sort(), 'each message once')
  })

  t.test('a manual failover, which ends no connection, is followed too', async (t) => {
    const states: boolean[] = []
    const key = keys.find((one) => Math.floor(keySlot(one) / Math.ceil(SLOTS / 3)) === 2) ?? ''
    let count = 0
    await store.subscribe(
      [`${key}:c`],
      () => count++,
      (healthy) => states.push(healthy),
    )
    await redis.command(5, 'CLUSTER', 'FAILOVER')
    await until('the new master is known', async () => {
      await store.call('INCR', key)
      return (await store.masters()).some((master) => master.address.endsWith(`:${redis.ports[5]}`))
    })
    await until('its subscription is back', () => states.length >= 3 && states.at(-1) === true)
    await until('it has arrived', async () => {
      const told = states.length
      await store.call('SPUBLISH', `${key}:c`, 'x')
      // On a busy machine the subscription may be lost once more; then that is told, and a message with it.
      await until('it has, or a loss is told', () => count > 0 || states.length > told)
      return count > 0
    })
    t.strictSame(states.slice(0, 3), [true, false, true])
    t.equal(count, 1)
  })
})
