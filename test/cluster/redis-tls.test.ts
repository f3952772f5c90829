/** Redis over TLS with client certificates and ACL users: the connections, the cluster, the subscription, and what is refused. */
import { createHash } from 'node:crypto'
import { chmod, mkdtemp, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { hasCode } from '../../src/base/errors.js'
import { silentLog } from '../../src/base/log.js'
import { connectRedis } from '../../src/cluster/redis.js'
import { makeScript } from '../../src/cluster/script.js'
import { formatHost, type MetaUrl } from '../../src/cluster/url.js'
import { makeAuthority, type Authority } from '../helpers/certificates.js'
import { PATIENCE_MS } from '../helpers/deadline.js'
import { connectPatiently, startRedis, type TestRedis } from '../helpers/redis.js'
import { eventually } from '../helpers/ringfs.js'

t.setTimeout(600_000)

const ADD = makeScript('add', "return redis.call('INCRBY', KEYS[1], ARGV[1])")

/** docs/operations.md names these rules. */
const RULES = (await rulesOf(new URL('../../../docs/operations.md', import.meta.url))).replaceAll('home', 'v')

async function rulesOf(file: URL): Promise<string> {
  const line = (await readFile(file, 'utf8')).split('\n').find((one) => one.trim().startsWith('user ringfs on '))
  return (line ?? '').trim().replace(/^user ringfs on \S+ /, '')
}

async function folderOf(t: { teardown(done: () => unknown): void }): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'ringfs-tls-'))
  t.teardown(() => rm(folder, { recursive: true, force: true, maxRetries: 50, retryDelay: 100 }))
  return folder
}

async function refusal(url: MetaUrl, connectTimeoutMs: number): Promise<unknown> {
  try {
    const redis = await connectRedis(url, { log: silentLog, connectTimeoutMs })
    await redis.close()
    return 'let in'
  } catch (error) {
    return error
  }
}

t.test('a server that wants certificates: who is let in, and what the others are told', async (t) => {
  const folder = await folderOf(t)
  const authority = await makeAuthority(folder)
  const other = await makeAuthority(folder, 'other')
  const passwordFile = join(folder, 'password')
  await writeFile(passwordFile, 'of ann\n', { mode: 0o600 })
  const redis = await startRedis(t, { tls: authority, config: [`user ann on "#${sha256('of ann')}" ${RULES}`] })
  const { password, ...url } = redis.url('v')
  t.ok(password)
  const ann = { ...url, user: 'ann', passwordFile }

  const store = await connectPatiently(ann)
  t.teardown(() => store.close())
  t.equal(await store.run(ADD, ['{v}:m:test'], [5]), 5)
  t.equal(await store.run(ADD, ['{v}:m:test'], [2]), 7)
  const large = Buffer.alloc(3_000_000, 'x')
  await store.call('SET', '{v}:m:large', large)
  t.ok(large.equals(bufferOf(await store.call('GET', '{v}:m:large'))), 'longer than any buffer on the way')
  await t.rejects(store.call('GET', '{w}:m:test'), { code: 'REDIS_AUTH', message: /NOPERM/ }, 'another volume')
  await t.rejects(store.call('FLUSHALL', '{v}:m:test'), { code: 'REDIS_AUTH' }, 'an administrator’s command')

  const told = async (bad: MetaUrl, code: 'REDIS_TLS' | 'REDIS_AUTH' | 'REDIS_UNREACHABLE' | 'USAGE') => {
    // Only who is told nothing gives up when his time is over.
    const error = await refusal(bad, code === 'REDIS_UNREACHABLE' ? 1_500 : PATIENCE_MS)
    t.ok(hasCode(error, code), `${code}: ${String(error)}`)
    return String(error)
  }
  t.match(await told({ ...ann, tls: { ...url.tls, caFile: other.ca } }, 'REDIS_TLS'), /not trusted.*\?ca=FILE/)
  t.match(await told({ ...ann, tls: { caFile: authority.ca } }, 'REDIS_TLS'), /\?cert=FILE/)
  const stranger = await other.issue('127.0.0.1')
  const strange = { caFile: authority.ca, certFile: stranger.certFile, keyFile: stranger.keyFile }
  await told({ ...ann, tls: strange }, 'REDIS_TLS')
  t.match(await told({ ...ann, tls: { ...url.tls, name: 'redis.example' } }, 'REDIS_TLS'), /another name/)
  await told({ hosts: ann.hosts, volume: 'v', user: 'ann', passwordFile }, 'REDIS_UNREACHABLE')
  const wrongFile = join(folder, 'wrong')
  await writeFile(wrongFile, 'wrong', { mode: 0o600 })
  await told({ ...ann, passwordFile: wrongFile }, 'REDIS_AUTH')
  await chmod(passwordFile, 0o644)
  t.match(await told(ann, 'USAGE'), /chmod 600/)
  await told({ ...ann, passwordFile: join(folder, 'missing') }, 'USAGE')
  const cleartext = await startRedis(t)
  const { hosts } = cleartext.url('v')
  // It waits for the end of a line that never comes.
  await told({ ...ann, hosts, passwordFile: await secretIn(folder) }, 'REDIS_UNREACHABLE')
})

async function secretIn(folder: string): Promise<string> {
  await writeFile(join(folder, 'another'), 'secret', { mode: 0o600 })
  return join(folder, 'another')
}

function bufferOf(value: unknown): Buffer {
  return Buffer.isBuffer(value) ? value : Buffer.alloc(0)
}

function sha256(text: string): string {
  return createHash('sha256').update(text).digest('hex')
}

t.test(
  'three masters over TLS: every slot, a slot that moves, messages, and a password changed meanwhile',
  async (t) => {
    const folder = await folderOf(t)
    const authority: Authority = await makeAuthority(folder)
    const passwordFile = join(folder, 'password')
    await writeFile(passwordFile, 'first', { mode: 0o600 })
    const redis = await startRedis(t, {
      ...{ masters: 3, replicas: 0, tls: authority },
      config: [`user ann on "#${sha256('first')}" ${RULES}`],
    })
    const { hosts, tls } = redis.url('v')
    const url = { hosts, volume: 'v', ...(tls && { tls }) }
    const store = await connectPatiently({ ...url, user: 'ann', passwordFile })
    t.teardown(() => store.close())
    const masters = await store.masters()
    t.same(new Set(masters.map(({ address }) => address)), new Set(url.hosts.map(formatHost)), 'the ports with TLS')
    const partitions = Array.from({ length: 64 }, (_, p) => `{v.${p}}`)
    const addAll = () => Promise.all(partitions.map((tag) => store.run(ADD, [`${tag}:c`], [1])))
    await addAll()

    const seen: string[] = []
    const states: boolean[] = []
    const channels = partitions.map((tag) => `${tag}:v`)
    const subscription = await store.subscribe(
      channels,
      (channel, message) => void seen.push(`${channel} ${message.toString()}`),
      (isHealthy) => void states.push(isHealthy),
    )
    t.teardown(() => subscription.close())
    t.same(states, [true])
    const publishAll = async (text: string) => {
      seen.length = 0
      await Promise.all(channels.map((channel) => store.call('SPUBLISH', channel, text)))
      await eventually(
        'all have come',
        () => new Set(seen).size,
        (count) => count === channels.length,
      )
    }
    await publishAll('hello')

    await moveOne(redis)
    await addAll()
    await eventually(
      'subscribed again',
      () => states.at(-1),
      (isHealthy) => isHealthy === true,
    )
    await publishAll('after the move')

    // The new password beside the old one; the file; the old one taken away; every connection made anew.
    for (const index of redis.ports.keys()) await redis.command(index, 'ACL', 'SETUSER', 'ann', '>second')
    await writeFile(`${passwordFile}.new`, 'second', { mode: 0o600 })
    await rename(`${passwordFile}.new`, passwordFile)
    for (const index of redis.ports.keys()) {
      await redis.command(index, 'ACL', 'SETUSER', 'ann', '<first')
      await redis.command(index, 'CLIENT', 'KILL', 'USER', 'ann')
    }
    t.equal((await addAll())[0], 3, 'each was added once, and no call failed')
    await eventually(
      'subscribed again',
      () => states.at(-1),
      (isHealthy) => isHealthy === true,
    )
    await publishAll('after the change')
  },
)

/** The slot of the first partition, wherever it is. */
async function moveOne(redis: TestRedis): Promise<void> {
  const slot = Number(await redis.command(0, 'CLUSTER', 'KEYSLOT', '{v.0}:c'))
  const from = Math.floor(slot / Math.ceil(16_384 / 3))
  await redis.moveSlot(slot, from, (from + 1) % 3)
}
