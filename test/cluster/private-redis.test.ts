import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmod, mkdtemp, readFile, readdir, rm, stat, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import t, { type Test } from 'tap'
import { systemClock } from '../../src/base/clock.js'
import { codeOf } from '../../src/base/errors.js'
import { MIB } from '../../src/base/limits.js'
import { silentLog } from '../../src/base/log.js'
import {
  findPrivateRedis,
  startPrivateRedis,
  stopLeftPrivateRedis,
  type PrivateRedis,
} from '../../src/cluster/private-redis.js'
import { RedisLink } from '../../src/cluster/redis-link.js'
import { PATIENCE_MS, until, within } from '../helpers/deadline.js'
import { isRoot, tmpfs } from '../helpers/disks.js'
import { connectPatiently } from '../helpers/redis.js'

const log = silentLog
const CHILD = fileURLToPath(new URL('../helpers/private-redis-child.js', import.meta.url))

t.setTimeout(600_000)

async function temporaryFolder(t: Test, name = 'redis'): Promise<string> {
  const parent = await mkdtemp(join(tmpdir(), 'ringfs-private-'))
  t.teardown(async () => {
    await stopLeftPrivateRedis({ folder: join(parent, name), log })
    await rm(parent, { recursive: true, force: true, maxRetries: 50, retryDelay: 100 })
  })
  return join(parent, name)
}

async function start(t: Test, folder: string): Promise<PrivateRedis> {
  const redis = await startPrivateRedis({ folder, log })
  t.teardown(() => redis.stop())
  return redis
}

async function put(redis: { url: PrivateRedis['url'] }, value: string): Promise<void> {
  const store = await connectPatiently(redis.url('v'))
  await store.call('SET', 'key', value)
  await store.close()
}

async function get(redis: { url: PrivateRedis['url'] }): Promise<string> {
  const store = await connectPatiently(redis.url('v'))
  const value = await store.call('GET', 'key')
  await store.close()
  return String(value)
}

/** Not so a zombie: what nobody waits for stays in the process table where there is no init. */
async function isAlive(pid: number): Promise<boolean> {
  const text = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => ') Z')
  return !text.slice(text.lastIndexOf(')')).startsWith(') Z')
}

/** The pid and port of a Redis whose `up` has just been killed. */
async function crashed(folder: string): Promise<{ pid: number; port: number }> {
  const child = spawn(process.execPath, [CHILD, folder], { stdio: ['ignore', 'pipe', 'inherit'] })
  const data = await new Promise((resolve) => child.stdout.once('data', resolve))
  child.kill('SIGKILL')
  await once(child, 'exit')
  const [pid = 0, port = 0] = String(data).split(' ').map(Number)
  return { pid, port }
}

t.test('a private Redis is usable, found, stopped, and has its data when it starts again', async (t) => {
  const folder = await temporaryFolder(t, 'with "quotes" and späces')
  t.equal(await findPrivateRedis(folder), undefined)
  const first = await startPrivateRedis({ folder, log })
  t.notOk(first.isAdopted)
  await put(first, 'kept')
  const found = await findPrivateRedis(folder)
  t.match(found, { port: first.port, pid: first.pid })
  await first.stop()
  t.notOk(await isAlive(first.pid))
  t.equal(await findPrivateRedis(folder), undefined)
  const second = await start(t, folder)
  t.equal(second.port, first.port, 'the port is remembered')
  t.equal(await get(second), 'kept')
  for (const name of ['ringfs-redis.json', 'redis.conf']) {
    t.equal((await stat(join(folder, name))).mode & 0o777, 0o600, `only the owner reads ${name}`)
  }
  t.equal((await stat(folder)).mode & 0o777, 0o700)
})

t.test('the second of two in one folder is ALREADY_RUNNING and does no harm', async (t) => {
  const folder = await temporaryFolder(t)
  const first = await start(t, folder)
  await t.rejects(startPrivateRedis({ folder, log }), {
    code: 'ALREADY_RUNNING',
    message: new RegExp(`process ${process.pid}`),
  })
  await t.rejects(stopLeftPrivateRedis({ folder, log }), { code: 'ALREADY_RUNNING' })
  await put(first, 'x')
  t.equal(await get(first), 'x')
})

t.test('of many that start at the same time one wins', async (t) => {
  const folder = await temporaryFolder(t)
  const results = await Promise.allSettled(Array.from({ length: 4 }, () => startPrivateRedis({ folder, log })))
  const won = results.filter((result) => result.status === 'fulfilled')
  t.equal(won.length, 1)
  await won[0]?.value.stop()
})

t.test('one left running by a crash is adopted with all its data', async (t) => {
  const folder = await temporaryFolder(t)
  const left = await crashed(folder)
  t.ok(await isAlive(left.pid), 'it outlives the crash')
  const redis = await start(t, folder)
  t.ok(redis.isAdopted)
  t.equal(redis.pid, left.pid)
  await put(redis, 'x')
  await redis.stop()
  t.notOk(await isAlive(left.pid))
})

t.test('one left running can be stopped without starting anything', async (t) => {
  const folder = await temporaryFolder(t)
  const left = await crashed(folder)
  t.ok(await stopLeftPrivateRedis({ folder, log }))
  t.notOk(await isAlive(left.pid))
  t.notOk(await stopLeftPrivateRedis({ folder, log }))
})

t.test('one left hanging is ended and replaced', async (t) => {
  const folder = await temporaryFolder(t)
  const left = await crashed(folder)
  process.kill(left.pid, 'SIGSTOP')
  const redis = await startPrivateRedis({ folder, log, readyTimeoutMs: 10_000 })
  t.teardown(() => redis.stop())
  t.notOk(redis.isAdopted)
  t.notOk(await isAlive(left.pid))
  await put(redis, 'x')
})

t.test('a Redis that died with its `up` loses nothing that was written a second ago', async (t) => {
  const folder = await temporaryFolder(t)
  const left = await crashed(folder)
  const found = await findPrivateRedis(folder)
  if (found === undefined) throw new Error('not found')
  await put(found, 'kept')
  // The operating system has it after each write; only a power cut could take the last second.
  process.kill(left.pid, 'SIGKILL')
  const redis = await start(t, folder)
  t.notOk(redis.isAdopted)
  t.equal(await get(redis), 'kept')
})

t.test(
  'on a disk that gets full it takes removals and nothing new, until there is room',
  { skip: !isRoot },
  async (t) => {
    const disk = tmpfs(t, 100 * MIB)
    const redis = await startPrivateRedis({ folder: join(disk, 'redis'), log })
    t.teardown(() => redis.stop())
    const store = await connectPatiently(redis.url('v'))
    t.teardown(() => store.close())
    const set = (key: string): Promise<string> =>
      store.call('SET', key, 'x').then(
        () => 'taken',
        (error: unknown) => codeOf(error),
      )
    t.equal(await set('a'), 'taken')
    await writeFile(join(disk, 'more'), Buffer.alloc(97 * MIB))
    await until('nothing new is taken', async () => (await set('b')) === 'ENOSPC')
    t.equal(await store.call('DEL', 'a'), 1)
    t.equal(await store.call('GET', 'a'), null)
    await rm(join(disk, 'more'))
    await until('it takes what is new again', async () => (await set('b')) === 'taken')
  },
)

t.test('when the port is taken another is chosen and remembered', async (t) => {
  const folder = await temporaryFolder(t)
  const first = await startPrivateRedis({ folder, log })
  await put(first, 'kept')
  await first.stop()
  const squatter = createServer((socket) => socket.destroy()).listen(first.port, '127.0.0.1')
  t.teardown(() => squatter.close())
  await once(squatter, 'listening')
  const second = await startPrivateRedis({ folder, log })
  t.not(second.port, first.port)
  t.equal(await get(second), 'kept')
  const port = second.port
  await second.stop()
  t.equal((await start(t, folder)).port, port)
})

t.test('an end that nobody asked for is told', async (t) => {
  const redis = await start(t, await temporaryFolder(t))
  // Watching it alone keeps no process alive.
  const alive = setInterval(() => undefined, 1_000)
  t.teardown(() => clearInterval(alive))
  process.kill(redis.pid, 'SIGKILL')
  await within(PATIENCE_MS, redis.ended, 'its end')
  t.pass()
})

t.test('loading a large file is progress, not a failure', async (t) => {
  const folder = await temporaryFolder(t)
  const first = await startPrivateRedis({ folder, log })
  const store = await connectPatiently(first.url('v'))
  await store.call('SET', 'key', 'x')
  // Long enough to be seen: a pause after each command, and Redis answers after every 1,024.
  await Promise.all(Array.from({ length: 20_000 }, (_, i) => store.call('SET', `k${i}`, i)))
  await store.close()
  await first.stop()
  const slow = join(folder, '..', 'slow-redis')
  await writeFile(slow, '#!/bin/sh\nexec redis-server "$@" --key-load-delay 400\n')
  await chmod(slow, 0o755)
  const said: string[] = []
  const second = await startPrivateRedis({ folder, log, binary: slow, onProgress: (text) => said.push(text) })
  t.teardown(() => second.stop())
  t.equal(await get(second), 'x')
  t.match(said[0], /loading its data: [\d.]+ %/)
})

t.test('what cannot start says why', async (t) => {
  const folder = await temporaryFolder(t)
  await t.rejects(startPrivateRedis({ folder, log, binary: 'no-such-redis-server' }), {
    code: 'PACKAGE_MISSING',
    message: /apt-get install -y redis-server/,
  })
  await t.rejects(startPrivateRedis({ folder, log, binary: '/bin/false' }), {
    code: 'REDIS_UNREACHABLE',
    message: /ended at once/,
  })
  await writeFile(join(folder, 'nodes.conf'), 'this is no cluster configuration\n')
  await t.rejects(startPrivateRedis({ folder, log }), {
    code: 'REDIS_UNREACHABLE',
    message: /corrupted cluster config/,
  })
  await writeFile(join(folder, 'ringfs-redis.json'), '{}')
  await t.rejects(startPrivateRedis({ folder, log }), { code: 'USAGE', message: /ringfs-redis.json/ })
  const file = join(folder, '..', 'file')
  await writeFile(file, '')
  await t.rejects(startPrivateRedis({ folder: join(file, 'x'), log }))
})

t.test('who is on its machine speaks to it through its Unix socket, and through TCP when that is gone', async (t) => {
  const folder = await temporaryFolder(t)
  const redis = await start(t, folder)
  const store = await connectPatiently(redis.url('v'))
  t.teardown(() => store.close())
  const info = async (): Promise<string> => String(await store.call('CLIENT', 'INFO'))
  t.match(await info(), /addr=\S+redis\.sock:0/)
  await rm(join(folder, 'redis.sock'))
  t.match(await info(), /addr=\S+redis\.sock:0/, 'a connection that is there stays')
  await store.call('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'no')
  t.match(await info(), /addr=127\.0\.0\.1:/)
})

/** Has Redis begin a new append-only file. */
async function rewriteAof(redis: PrivateRedis): Promise<void> {
  const url = redis.url('v')
  const link = new RedisLink(`127.0.0.1:${redis.port}`, {
    clock: systemClock,
    credentials: () => Promise.resolve(url.password === undefined ? {} : { password: url.password }),
    connectTimeoutMs: PATIENCE_MS,
    replyTimeoutMs: PATIENCE_MS,
    protocol: 2,
  })
  try {
    await link.connect()
    await link.send('BGREWRITEAOF', [])
    while (String(await link.send('INFO', ['persistence'])).includes('aof_rewrite_in_progress:1')) await sleep(20)
  } finally {
    link.abort()
  }
}

t.test('what was acknowledged is in the file that syncLocal puts on disk, before and after a rewrite', async (t) => {
  const folder = await temporaryFolder(t)
  const redis = await start(t, folder)
  const store = await connectPatiently(redis.url('v'))
  t.teardown(() => store.close())
  const growing = async (): Promise<string> => {
    const names = await readdir(join(folder, 'appendonlydir'))
    const files = names.filter((name) => name.endsWith('.incr.aof'))
    // After a rewrite Redis removes the old one behind its answers.
    const texts = files.map((name) => readFile(join(folder, 'appendonlydir', name), 'latin1').catch(() => ''))
    return (await Promise.all(texts)).join('')
  }
  await store.call('SET', 'key', 'acknowledged-one')
  t.match(await growing(), /acknowledged-one/, 'Redis writes before it replies')
  t.ok(await store.syncLocal(), 'the Redis is ours')
  await rewriteAof(redis)
  await store.call('SET', 'key', 'acknowledged-two')
  t.match(await growing(), /acknowledged-two/)
  t.ok(await store.syncLocal())
})
