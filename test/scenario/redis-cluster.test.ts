/** `ringfs redis-cluster` as its user has it: started, looked at, hurt, interrupted, stopped and started again. */
import { mkdir, readFile, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { parseMetaUrl } from '../../src/cluster/url.js'
import { serverStatus, type ServerStatus } from '../../src/main/redis-cluster-status.js'
import { openRedisCluster } from '../../src/main/redis-cluster.js'
import { connectPatiently } from '../helpers/redis.js'
import { Ringfs, eventually, kill, sh } from '../helpers/ringfs.js'

t.setTimeout(600_000)

const USAGE = 2
const NOT_WHOLE = 4
const PACKAGE_MISSING = 81
const ALREADY_RUNNING = 82
const NOT_RUNNING = 83

interface Seen {
  readonly keeper: number | undefined
  readonly servers: readonly ServerStatus[]
}

async function statusOf(ringfs: Ringfs): Promise<Seen> {
  const { keeper, servers } = await openRedisCluster(join(ringfs.folder, 'redis'))
  return { keeper, servers: await serverStatus(servers) }
}

function isWhole({ servers }: Seen): boolean {
  return servers.every(({ state }) => state === 'ok')
}

async function keyOf(url: string, value?: string): Promise<string> {
  const store = await connectPatiently(parseMetaUrl(url))
  if (value !== undefined) await store.call('SET', '{key}', value)
  const found = String(await store.call('GET', '{key}'))
  await store.close()
  return found
}

t.test('a cluster is made, heals itself, survives what keeps it running, and has its data again', async (t) => {
  const ringfs = await Ringfs.in(t)
  const folder = join(ringfs.folder, 'redis')
  // Small: each server costs a second on a busy machine. Three masters with replicas are formed in test/cluster/redis.test.ts.
  const up = ['redis-cluster', 'up', 'redis', '--masters', '1', '--replicas', '1', '--detach'] as const
  const url = (await ringfs.ok(...up)).trim()
  t.equal(await keyOf(url, 'kept'), 'kept', 'the URL that it prints works')
  t.equal((await ringfs.ok('redis-cluster', 'status', 'redis', '--url')).trim(), url)
  const first = await eventually('it is whole', () => statusOf(ringfs), isWhole)
  t.match(
    first.servers.map(({ role }) => role),
    ['master', /^replica of/],
  )
  const password = (await readFile(join(folder, 'password'), 'utf8')).trim()
  t.notOk(url.includes(password), 'no secret is printed')
  t.equal((await stat(folder)).mode & 0o777, 0o700)
  for (const file of ['password', 'redis-cluster.json', '1/redis.conf', '1/ringfs-redis.json']) {
    t.equal((await stat(join(folder, file))).mode & 0o777, 0o600, file)
  }

  t.match(await ringfs.run(...up), { code: ALREADY_RUNNING, stderr: /in use by process \d+: .*redis-cluster down / })
  const [victim] = first.servers
  kill(victim?.pid ?? -1)
  const before = await eventually(
    'what died is started again',
    () => statusOf(ringfs),
    (seen) => isWhole(seen) && seen.servers[0]?.pid !== victim?.pid,
  )

  // Interrupted: the servers live on, and forming them was, as far as is known, not finished.
  kill(first.keeper ?? -1)
  await eventually(
    'nobody keeps it',
    () => statusOf(ringfs),
    ({ keeper }) => keeper === undefined,
  )
  const plan = join(folder, 'redis-cluster.json')
  await writeFile(plan, (await readFile(plan, 'utf8')).replace('"isFormed": true', '"isFormed": false'))
  t.equal((await ringfs.ok(...up)).trim(), url)
  const seen = await eventually('it is whole again', () => statusOf(ringfs), isWhole)
  t.same(
    seen.servers.map(({ pid }) => pid),
    before.servers.map(({ pid }) => pid),
    'they were taken over',
  )
  t.equal(await keyOf(url), 'kept')
  t.match(await ringfs.ok('redis-cluster', 'down', 'redis'), /is stopped; its data stay/)
  t.match(await ringfs.run('redis-cluster', 'status', 'redis'), { code: NOT_WHOLE, stdout: /does not answer/ })

  t.match(await ringfs.run('redis-cluster', 'up', 'redis', '--masters', '4'), { code: USAGE, stderr: /has 1 masters/ })
  await ringfs.ok(...up)
  t.equal(await keyOf(url), 'kept')
  // What an interrupted one left is ended, too.
  kill((await statusOf(ringfs)).keeper ?? -1)
  t.match(await ringfs.ok('redis-cluster', 'down', 'redis'), /is stopped; its data stay/)
  t.notOk(isWhole(await statusOf(ringfs)))
  t.match(await ringfs.run('redis-cluster', 'down', 'redis'), { code: NOT_RUNNING })
})

t.test('with --tls everything is TLS: clients, replication, status; a volume is used over it', async (t) => {
  const ringfs = await Ringfs.in(t)
  const folder = join(ringfs.folder, 'redis')
  const up = ['redis-cluster', 'up', 'redis', '--masters', '1', '--replicas', '1', '--tls', '--detach'] as const
  const url = (await ringfs.ok(...up, '--volume', 'home')).trim()
  t.match(url, /^rediss:\/\/127.*\/home\?ca=.*password-file=/)
  t.equal((await ringfs.ok('redis-cluster', 'status', 'redis', '--url', '--volume', 'home')).trim(), url)
  const { servers } = await eventually('it is whole', () => statusOf(ringfs), isWhole)
  t.match(
    servers.map(({ role, state }) => [role, state]),
    [
      ['master', 'ok'],
      [/^replica of/, 'ok'],
    ],
  )
  for (const [name, mode] of [
    ['tls', 0o700],
    ['tls/redis.key', 0o600],
    ['1/redis.conf', 0o600],
  ] as const) {
    t.equal((await stat(join(folder, name))).mode & 0o777, mode, name)
  }
  const plain = url.replace('rediss:', 'redis:').replace(/ca=[^&]*&/, '')
  t.not((await ringfs.run('format', plain)).code, 0, 'without TLS nobody is let in')
  t.not((await ringfs.run('format', url.replace(/ca=[^&]*&/, ''))).code, 0, 'a certificate that nobody vouches for')

  // Its replica must have what an fsync waits for.
  t.match(await ringfs.ok('format', url, '--meta-replicas', '1'), /each change waits for 1 Redis replica\n/)
  const node = ringfs.start('node', '--meta', url, '--data', join(ringfs.folder, 'data'), '--listen', '127.0.0.1:0')
  await eventually(
    'a node is up',
    () => ringfs.run('status', url, '--json'),
    ({ stdout }) => stdout.includes('"state": "up"'),
  )
  await mkdir(ringfs.mountpoint)
  await ringfs.ok('mount', url, ringfs.mountpoint, '--detach')
  const file = join(ringfs.mountpoint, 'a')
  await sh(
    'sh',
    '-ec',
    `head -c 300000 /dev/urandom > ${ringfs.folder}/a && cp ${ringfs.folder}/a ${file} && sync ${file}`,
  )
  kill(servers[0]?.pid ?? -1)
  await sh('sh', '-ec', `mv ${file} ${file}.b && cmp ${file}.b ${ringfs.folder}/a`)
  await ringfs.ok('umount', ringfs.mountpoint)
  node.kill('SIGTERM')
  await eventually(
    'it has ended',
    () => node.exitCode,
    (code) => code !== null,
  )
  t.match(await ringfs.ok('redis-cluster', 'down', 'redis'), /is stopped; its data stay/)
})

t.test('what is missing is named', async (t) => {
  const ringfs = await Ringfs.in(t)
  t.match(await ringfs.run('redis-cluster', 'status', 'redis'), { code: NOT_RUNNING, stderr: /holds no Redis Cluster/ })
  ringfs.env['PATH'] = '/nowhere'
  const answer = await ringfs.run('redis-cluster', 'up', 'redis')
  t.match(answer, { code: PACKAGE_MISSING, stderr: /apt-get install -y redis-server/ })
  t.match(await ringfs.run('redis-cluster', 'up', 'secure', '--tls'), {
    code: PACKAGE_MISSING,
    stderr: /install -y openssl/,
  })
  await mkdir(join(ringfs.folder, 'other'))
  await writeFile(join(ringfs.folder, 'other', 'mine'), '')
  t.match(await ringfs.run('redis-cluster', 'up', 'other'), { code: USAGE, stderr: /it has mine/ })
})
