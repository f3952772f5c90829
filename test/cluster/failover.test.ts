/**
 * Redis masters are killed and paused, slots move, and the whole cluster is restarted, under a mounted workload: files that are
 * written and synced, renamed, linked, removed, and a counter that two mounts raise under a lock.
 *
 * Claims: nothing that fsync acknowledged is lost (the volume waits for one replica), no name is lost or doubled, no call fails or
 * hangs. The servers that die are started again, as whatever runs Redis does.
 */
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { makeScript } from '../../src/cluster/script.js'
import { SLOTS, keySlot } from '../../src/cluster/slot.js'
import { makeAuthority } from '../helpers/certificates.js'
import { Locker, compileLocker } from '../helpers/locker.js'
import { checkVolume } from '../helpers/meta-check.js'
import { until, volumesOn } from '../helpers/meta.js'
import { mountTest } from '../helpers/mount.js'
import { LoadProcess } from '../helpers/load-process.js'
import { startCounter } from '../helpers/mounted-load.js'
import { connectPatiently, startRedis, type TestRedis } from '../helpers/redis.js'

t.setTimeout(600_000)

const MASTERS = 3
const PARTITIONS = 16
const LANES = 3
const ROUNDS = 30
const MORE = 40
const NODE_TIMEOUT = 'cluster-node-timeout 3000'

/** As many steps more. Answers how long the longest call took, and what failed. */
async function goOn(load: LoadProcess, what: string): Promise<{ slowestMs: number; faults: readonly string[] }> {
  const first = await load.ask('look')
  const faults = [...first.faults]
  let { slowestMs } = first
  await until(
    what,
    async () => {
      const seen = await load.ask('look')
      faults.push(...seen.faults)
      slowestMs = Math.max(slowestMs, seen.slowestMs)
      return seen.steps >= first.steps + MORE || faults.length > 0
    },
    90_000,
  )
  return { slowestMs, faults }
}

async function promoted(redis: TestRedis, replica: number): Promise<void> {
  await until('the replica is promoted', () => redis.isMaster(replica), 60_000)
}

async function inStep(redis: TestRedis, replica: number): Promise<void> {
  await until(
    'it follows the new master',
    async () => String(await redis.command(replica, 'INFO', 'replication')).includes('master_link_status:up'),
    60_000,
  )
}

t.test('Redis fails under a mounted workload', async (t) => {
  const redis = await startRedis(t, { masters: MASTERS, replicas: 1, config: [NODE_TIMEOUT] })
  const volume = await volumesOn(t, redis)(PARTITIONS, 1)
  const { name } = volume.settings
  const folder = await mkdtemp(join(tmpdir(), 'ringfs-failover-'))
  t.teardown(() => rm(folder, { recursive: true, force: true, maxRetries: 50, retryDelay: 100 }))
  const options = { driver: 'kernel', backend: redis.urlText(name), chunksFolder: folder } as const
  const [one, two] = [await mountTest(t, options), await mountTest(t, options)]
  const load = new LoadProcess(t, one.mountpoint, LANES)
  await load.ask('start')
  const counter = await startCounter(one.mountpoint)
  const program = await compileLocker()
  const lockers = [one, two].map(() => new Locker(t, program))
  const [first, second] = lockers
  await first?.tell(`open 0 ${counter}`)
  await second?.tell(`open 0 ${join(two.mountpoint, 'counter')}`)
  let counted = 0

  /** One fault, with the counter being raised on both mounts meanwhile. Every claim is looked at through the other mount. */
  const during = async (t: Test, fault: () => Promise<void>): Promise<void> => {
    const before = await goOn(load, 'the workload flows')
    const counting = lockers.map((locker) => locker.tell(`count 0 ${ROUNDS} posix`))
    await fault()
    const { slowestMs, faults } = await goOn(load, 'the workload flows again')
    const told = await Promise.allSettled(counting)
    const answers = told.map((one) => (one.status === 'fulfilled' ? one.value : String(one.reason)))
    t.strictSame(answers, ['ok', 'ok'], 'locks')
    counted += 2 * ROUNDS
    t.strictSame([...before.faults, ...faults], [], 'no call failed')
    if (faults.length > 0 || answers.some((one) => one !== 'ok'))
      t.comment([one, two].map((mount) => mount.output()).join('\n'))
    t.equal(
      Number(await readFile(join(two.mountpoint, 'counter'), 'utf8')),
      counted,
      'no number was lost under the lock',
    )
    t.comment(`the longest call took ${slowestMs} ms`)
  }

  await t.test('a Redis slot moved while in use', async (t) => {
    await during(t, async () => {
      for (const p of [0, 5, 11]) {
        const slot = keySlot(`{${name}.${p}}`)
        const owner = Math.floor(slot / Math.ceil(SLOTS / MASTERS))
        const other = (owner + 1) % MASTERS
        // Key by key: a script of many keys finds some here and some there.
        await redis.moveSlot(slot, owner, other, 1)
        await redis.moveSlot(slot, other, owner, 1)
      }
    })
  })

  await t.test('any Redis master lost with its replica promoted: killed', async (t) => {
    await during(t, async () => {
      await redis.kill(0)
      await promoted(redis, MASTERS)
      await redis.restart(0)
      await inStep(redis, 0)
    })
  })

  await t.test('any Redis master lost with its replica promoted: paused, and back later', async (t) => {
    await during(t, async () => {
      redis.pause(1)
      await promoted(redis, MASTERS + 1)
      redis.resume(1)
      await inStep(redis, 1)
    })
  })

  await t.test('all Redis servers lost and started again', async (t) => {
    const store = await connectPatiently(redis.url(name))
    t.teardown(() => store.close())
    await store.call('XADD', `{${name}}:c:q:test`, '*', 't', 'task')
    await during(t, async () => {
      await redis.crashAll()
    })
    t.equal(await store.call('XLEN', `{${name}}:c:q:test`), 1, 'what was queued is there')
  })

  await load.ask('stop')
  t.strictSame((await load.ask('check', two.mountpoint)).faults, [], 'nothing that was acknowledged is lost or doubled')
  await Promise.all(lockers.map((locker) => locker.end()))
  for (const mount of [one, two]) mount.signal('SIGTERM')
  for (const mount of [one, two]) {
    await until(
      'everything is written and closed',
      () => mount.output().includes('ended with everything closed'),
      60_000,
    )
    t.equal(await mount.exited().catch(() => mount.output()), 0, 'and nothing keeps its process')
  }
  t.strictSame(await checkVolume(volume), [], 'the volume is whole')
})

t.test('any Redis master lost with its replica promoted: over TLS', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'ringfs-failover-tls-'))
  t.teardown(() => rm(folder, { recursive: true, force: true, maxRetries: 50, retryDelay: 100 }))
  const redis = await startRedis(t, {
    ...{ masters: MASTERS, replicas: 1, config: [NODE_TIMEOUT] },
    tls: await makeAuthority(folder),
  })
  const store = await connectPatiently(redis.url('v'))
  t.teardown(() => store.close())
  const add = makeScript('add', "return redis.call('INCR', KEYS[1])")
  const keys = Array.from({ length: 12 }, (_, i) => `{tls${i}}`)
  const addAll = () => Promise.all(keys.map((key) => store.run(add, [key], [])))
  await addAll()
  t.equal(await store.waitReplicas(keys, 1, 10_000), 1)
  await redis.kill(0)
  t.strictSame(new Set(await addAll()), new Set([2]), 'each call waited for the replica, and was done once')
})
