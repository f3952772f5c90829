import { randomUUID } from 'node:crypto'
import t from 'tap'
import { systemClock, type Clock } from '../../src/base/clock.js'
import type { RingfsError } from '../../src/base/errors.js'
import { silentLog } from '../../src/base/log.js'
import { diskProblems } from '../../src/cli/status-disks.js'
import type { ClusterView, Member, RedisStore, RedisValue } from '../../src/cluster/contract.js'
import { ClusterKeys } from '../../src/cluster/keys.js'
import {
  REGISTER,
  askForWalk,
  changeState,
  register,
  setHealLimit,
  setMembershipTimes,
  setScrubTime,
  type Registration,
} from '../../src/cluster/membership.js'
import { planOf } from '../../src/cluster/plan.js'
import { NOTHING_HEALED } from '../../src/cluster/report.js'
import { fetchView, ringMembers, watchView } from '../../src/cluster/watcher.js'
import { connectPatiently, startRedis } from '../helpers/redis.js'
import { until } from '../helpers/deadline.js'

const log = silentLog
const SPACE = { totalBytes: 2 ** 52 + 1, freeBytes: 123_456_789_012_345, chunks: 7 }

/** One incarnation of a node; `lost` is what it was told when it had to stop. */
class TestNode {
  readonly lost: RingfsError[] = []
  constructor(
    readonly store: RedisStore,
    readonly volume: string,
    readonly id: string = randomUUID(),
  ) {}

  join(address = '127.0.0.1:1', beatIntervalMs = 100): Promise<Registration> {
    return register(this.store, {
      volume: this.volume,
      identity: { id: this.id, address, zone: 'z', weight: 0.5, pid: 42 },
      space: () => SPACE,
      log,
      beatIntervalMs,
      onLost: (error) => this.lost.push(error),
    })
  }

  async member(): Promise<Member | undefined> {
    return (await fetchView(this.store, this.volume)).members.find((member) => member.id === this.id)
  }
}

t.setTimeout(600_000)

t.test('membership', { timeout: 300_000 }, async (t) => {
  const redis = await startRedis(t)
  const store = await connectPatiently(redis.url('v'), { log, replyTimeoutMs: 1_000 })
  t.teardown(() => store.close())
  /** Silence that nobody means to keep, on a machine with much else to do, is to be shorter than these. */
  const times = { suspectMs: 2_500, downMs: 6_000 }
  for (const volume of ['a', 'b', 'c', 'd', 'e', 'f', 'g', 'k', 'l', 'm', 'n', 'o'])
    await setMembershipTimes(store, volume, times)

  t.test('a node registers, is up with its figures, and leaves at once', async (t) => {
    const node = new TestNode(store, 'a')
    const registration = await node.join('10.0.0.1:7')
    t.match(await node.member(), {
      id: node.id,
      address: '10.0.0.1:7',
      zone: 'z',
      weight: 0.5,
      state: 'up',
      pid: 42,
      incarnation: registration.incarnation,
      ...SPACE,
      queueLength: 0,
    })
    const before = await fetchView(store, 'a')
    await registration.leave()
    const after = await fetchView(store, 'a')
    t.equal(after.members[0]?.state, 'down')
    t.ok(after.epoch > before.epoch, 'each change has a new epoch')
    await registration.leave()
    t.equal((await fetchView(store, 'a')).epoch, after.epoch, 'leaving twice changes nothing')
    await registration.beat()
    t.equal((await node.member())?.state, 'down', 'a late heartbeat does not bring back who has left')
    await (await node.join('10.0.0.2:8')).leave()
    t.match(await node.member(), { address: '10.0.0.2:8', state: 'down' }, 'it may come back elsewhere')
  })

  t.test('silence makes suspect, then down, and a heartbeat brings back', async (t) => {
    const node = new TestNode(store, 'b')
    const watcher = await watchView(store, { volume: 'b', log, intervalMs: 100 })
    t.teardown(() => watcher.close())
    const seen: string[] = []
    watcher.onChange((view) => seen.push(view.members[0]?.state ?? 'none'))
    const registration = await node.join('h:1', 60_000)
    await until('it is down', () => seen.includes('down'))
    await registration.beat()
    await until('it is up again', () => seen.at(-1) === 'up')
    t.strictSame(
      seen.filter((state) => state !== 'joining'),
      ['up', 'suspect', 'down', 'up'],
    )
    t.strictSame(watcher.current().ring.owners(5, 3), [node.id])
    await registration.leave()
  })

  t.test('a node whose disks all hang says so and is silent: it is down until they answer', async (t) => {
    let why = ''
    const room = { totalBytes: 1, freeBytes: 1, chunks: 1, damaged: 0, waiting: 0 }
    const rest = { unlisted: 0, unlistedWhy: '', leaving: 'no' } as const
    const disks = () => [{ disk: 'd', folder: '/disk', state: 'up' as const, why, ...room, ...rest }]
    const registration = await register(store, {
      volume: 'n',
      identity: { id: 'stuck', address: 'h:1', zone: '', weight: 1, pid: 1 },
      space: () => SPACE,
      report: () => ({ unreachable: [], heal: NOTHING_HEALED, disks: disks() }),
      isStuck: () => why !== '',
      log,
      beatIntervalMs: 100,
      onLost: () => t.fail('it is still the same'),
    })
    const look = () => fetchView(store, 'n')
    await until('it is up', async () => (await look()).members[0]?.state === 'up')
    t.strictSame(diskProblems(await look()), [])
    why = 'it takes too long'
    await until('it is down', async () => (await look()).members[0]?.state === 'down')
    t.match(diskProblems(await look()), ['the disk /disk of node stuck is slow: it takes too long'])
    why = ''
    await until('it is up again', async () => (await look()).members[0]?.state === 'up')
    await registration.leave()
  })

  t.test(
    'who is down for long loses its place until its next heartbeat, but never more than half of all',
    async (t) => {
      await setMembershipTimes(store, 'k', { ...times, outMs: 7_000 })
      const nodes = [0, 1, 2, 3].map(() => new TestNode(store, 'k'))
      const registrations = await Promise.all(nodes.map((node) => node.join('h:1', 60_000)))
      const watcher = await watchView(store, { volume: 'k', log, intervalMs: 100 })
      t.teardown(() => watcher.close())
      const beating = setInterval(() => void registrations[0]?.beat(), 100)
      t.teardown(() => clearInterval(beating))
      const out = (): number => watcher.current().view.members.filter((one) => one.isOut).length
      await until('two of four are out', () => out() === 2)
      await new Promise((resolve) => setTimeout(resolve, 1_000))
      t.equal(out(), 2, 'half of them stay')
      const { ring, former } = watcher.current()
      t.equal(ring.preference(1).length, 2)
      t.equal(former.preference(1).length, 4, 'who had their chunks before is known')
      for (const registration of registrations) await registration.beat()
      await until('all are back', () => watcher.current().ring.preference(1).length === 4)
      t.equal(out(), 0)
      clearInterval(beating)
      await Promise.all(registrations.map((one) => one.leave()))
    },
  )

  t.test('a node says of itself whom it does not reach and how far off its clock is', async (t) => {
    const ahead: Clock = {
      now: () => ({ sec: systemClock.now().sec + 7_200, nsec: 0 }),
      monotonicMs: () => systemClock.monotonicMs(),
      wallMs: () => systemClock.wallMs(),
      sleep: (ms) => systemClock.sleep(ms),
      after: (ms, work) => systemClock.after(ms, work),
    }
    const heal = { ...NOTHING_HEALED, plan: 'p', walked: 3 }
    const unreachable = [{ id: 'x', address: 'h:9', why: 'no answer', forMs: 5 }]
    const registration = await register(store, {
      volume: 'l',
      identity: { id: 'n', address: 'h:1', zone: '', weight: 1, pid: 42 },
      space: () => SPACE,
      report: () => ({ unreachable, heal, disks: [] }),
      log,
      clock: { ...ahead, monotonicMs: () => systemClock.monotonicMs(), sleep: (ms) => systemClock.sleep(ms) },
      beatIntervalMs: 60_000,
      onLost: () => undefined,
    })
    await registration.beat()
    const [member] = (await fetchView(store, 'l')).members
    t.match(member?.report, { unreachable, heal })
    const offMs = member?.report?.clockOffsetMs ?? 0
    t.ok(Math.abs(offMs - 7_200_000) < 60_000, `${offMs} ms`)
    await registration.leave()
  })

  t.test('settings reach everybody with the view', async (t) => {
    await setHealLimit(store, 'l', 5_000_000)
    t.equal(await askForWalk(store, 'l'), 1)
    await t.rejects(setMembershipTimes(store, 'l', { ...times, outMs: 1 }), { code: 'USAGE' })
    const { settings } = await fetchView(store, 'l')
    t.match(settings, {
      ...times,
      outMs: 300_000,
      healBytesPerS: 5_000_000,
      walks: 1,
      surplusMs: 60_000,
      scrubMs: 7 * 86_400_000,
    })
    await setScrubTime(store, 'l', 86_400_000)
    t.equal((await fetchView(store, 'l')).settings?.scrubMs, 86_400_000)
  })

  t.test('of two live processes with one identity the second is refused, and the first goes on', async (t) => {
    const first = new TestNode(store, 'c')
    const registration = await first.join('h:1')
    const second = new TestNode(store, 'c', first.id)
    await t.rejects(second.join('h:2'), { code: 'NODE_IDENTITY_CLAIMED', message: /process 42 at h:1/ })
    await registration.beat()
    t.strictSame(first.lost, [])
    t.match(await first.member(), { address: 'h:1', state: 'up' })
    await registration.leave()
  })

  t.test('an identity whose holder died is taken over, and the holder learns it if it was only asleep', async (t) => {
    const first = new TestNode(store, 'd')
    const sleeper = await first.join('h:1', 60_000)
    const second = new TestNode(store, 'd', first.id)
    const registration = await second.join('h:2')
    t.match(await second.member(), { address: 'h:2', state: 'up' })
    await sleeper.beat()
    await sleeper.beat().catch(() => undefined)
    t.equal(first.lost.length, 1, 'told once')
    t.match(first.lost[0], { code: 'NODE_IDENTITY_CLAIMED' })
    t.match(await second.member(), { address: 'h:2', state: 'up' }, 'the sleeper changed nothing')
    await sleeper.leave()
    t.match(await second.member(), { address: 'h:2', state: 'up' }, 'nor can it say goodbye for the other')
    await registration.leave()
  })

  t.test('a node that Redis has forgotten comes back with its next heartbeat', async (t) => {
    const node = new TestNode(store, 'e')
    const registration = await node.join()
    await store.call('DEL', new ClusterKeys('e').members)
    await until('it is back', async () => (await node.member())?.state === 'up')
    await registration.leave()
    t.pass()
  })

  t.test('while Redis was away nobody was silent', async (t) => {
    const node = new TestNode(store, 'f')
    const registration = await node.join('h:1', 60_000)
    await fetchView(store, 'f')
    await redis.kill(0)
    await new Promise((resolve) => setTimeout(resolve, times.downMs))
    await redis.restart(0)
    t.equal((await node.member())?.state, 'up')
    await until('silence counts again', async () => (await node.member())?.state === 'down')
    await registration.leave()
  })

  t.test(
    'a clock of Redis that is set back makes no node live for hours that is dead, nor keeps its successor out',
    async (t) => {
      const keys = new ClusterKeys('m')
      const dead = new TestNode(store, 'm')
      const silent = await dead.join('h:1', 60_000)
      // As if all had been so five hours later, and the clock were set back now.
      const setBack = async (): Promise<void> => {
        const laterMs = Date.now() + 5 * 3_600_000
        await store.call('HSET', keys.options, 'tick', laterMs, 'resumed', laterMs)
        await store.call('HSET', keys.beats, dead.id, `${laterMs} 1 2 3`)
      }
      await setBack()
      t.match(await dead.member(), { state: 'up', totalBytes: 1, freeBytes: 2, chunks: 3 }, 'it was not silent yet')
      await until('it is suspect', async () => (await dead.member())?.state === 'suspect')
      await setBack()
      const looking = setInterval(() => void dead.member().catch(() => undefined), 50)
      const successor = await new TestNode(store, 'm', dead.id).join('h:2').finally(() => clearInterval(looking))
      t.match(await dead.member(), { state: 'up', address: 'h:2' })
      await successor.leave()
      await silent.leave()
    },
  )

  t.test('a full Redis does not make nodes look dead', async (t) => {
    const node = new TestNode(store, 'g')
    const registration = await node.join()
    await redis.command(0, 'CONFIG', 'SET', 'maxmemory', 1)
    await new Promise((resolve) => setTimeout(resolve, 2 * times.suspectMs))
    await registration.beat()
    t.match(await node.member(), { state: 'up' })
    await redis.command(0, 'CONFIG', 'SET', 'maxmemory', 0)
    await registration.leave()
  })

  t.test('draining keeps its state over heartbeats and restarts, and has no place on the ring', async (t) => {
    const node = new TestNode(store, 'h')
    const registration = await node.join()
    t.equal(await changeState(store, 'h', node.id, 'draining', ['up', 'suspect']), 'draining')
    t.equal(await changeState(store, 'h', node.id, 'up', ['down']), 'draining', 'not from this state')
    t.equal(await changeState(store, 'h', 'nobody', 'gone', ['up']), undefined)
    await registration.beat()
    const before = await fetchView(store, 'h')
    await registration.leave()
    t.equal((await node.member())?.state, 'draining', 'nor does it get its place back by being stopped')
    const again = await node.join()
    const after = await fetchView(store, 'h')
    t.equal(after.settings?.rings, before.settings?.rings)
    const watcher = await watchView(store, { volume: 'h', log })
    t.match(watcher.current().view.members, [{ state: 'draining' }])
    t.strictSame(watcher.current().ring.preference(1), [])
    t.equal(await changeState(store, 'h', node.id, 'gone', ['draining']), 'gone')
    await again.beat()
    t.match(node.lost, [{ code: 'CANCELLED' }])
    await (await node.join()).leave()
    t.equal((await node.member())?.state, 'down', 'a node that was given up may come back')
    watcher.close()
  })

  t.test(
    'a node that starts again keeps its place, and its identity is its own before its first heartbeat',
    async (t) => {
      const node = new TestNode(store, 'r')
      await (await node.join()).leave()
      const before = await fetchView(store, 'r')
      const { membership } = new ClusterKeys('r')
      const registerAs = (incarnation: string): Promise<RedisValue> =>
        store.run(REGISTER, membership, [node.id, incarnation, 'h:2', 'z', 0.5, 42, 3, 2, 1])
      t.match(await registerAs('first'), [Buffer.from('ok')])
      const after = await fetchView(store, 'r')
      t.match(after.members, [{ state: 'suspect', incarnation: 'first' }])
      t.strictSame(ringMembers(after), ringMembers(before))
      t.equal(after.settings?.rings, before.settings?.rings, 'no node has to look what has changed')
      t.match(await registerAs('second'), [Buffer.from('claimed')], 'of a copied folder, started at once with it')
      t.match((await fetchView(store, 'r')).members, [{ incarnation: 'first' }])
    },
  )

  t.test('each change of the ring is noted, also one that is taken back, and suspicion is none', async (t) => {
    const node = new TestNode(store, 'o')
    const registration = await node.join('h:1', 60_000)
    const looks: ClusterView[] = [await fetchView(store, 'o')]
    await changeState(store, 'o', node.id, 'draining', ['up'])
    await changeState(store, 'o', node.id, 'up', ['draining'])
    looks.push(await fetchView(store, 'o'))
    await until('it is suspect', async () => (await node.member())?.state === 'suspect')
    looks.push(await fetchView(store, 'o'))
    // As of a volume that was made before changes were counted.
    await store.call('HDEL', new ClusterKeys('o').options, 'rings', 'changed')
    looks.push(await fetchView(store, 'o'))
    await registration.beat()
    await changeState(store, 'o', node.id, 'draining', ['up'])
    looks.push(await fetchView(store, 'o'))
    const rings = looks.map(({ settings }) => settings?.rings ?? NaN)
    const plans = looks.map(planOf)
    t.ok((rings[1] ?? 0) >= (rings[0] ?? 0) + 2)
    t.equal(rings[2], rings[1])
    t.equal(rings[3], 0)
    t.ok((rings[4] ?? 0) > 0)
    t.not(plans[0], plans[1], 'the same ring, but not all the time')
    t.equal(plans[1], plans[2])
    await registration.leave()
  })

  t.test('who knows the epoch is told members again where a promoted replica gives that epoch to others', async (t) => {
    await setMembershipTimes(store, 'p', { suspectMs: 60_000, downMs: 60_000 })
    const keys = new ClusterKeys('p')
    const [first, lost, other] = [
      new TestNode(store, 'p', 'first'),
      new TestNode(store, 'p', 'lost'),
      new TestNode(store, 'p', 'other'),
    ]
    const registrations = [await first.join('h:1', 60_000)]
    // What the replica has.
    const [members, options] = await Promise.all([keys.members, keys.options].map((key) => store.call('DUMP', key)))
    if (!Buffer.isBuffer(members) || !Buffer.isBuffer(options)) throw new Error('no dump')
    registrations.push(await lost.join('h:2', 60_000))
    const late: (() => void)[] = []
    let isHeld = false
    const clock: Clock = {
      now: () => systemClock.now(),
      monotonicMs: () => systemClock.monotonicMs(),
      wallMs: () => systemClock.wallMs(),
      sleep: (ms) => systemClock.sleep(ms),
      after: (ms, work) =>
        systemClock.after(ms, () => {
          if (isHeld) late.push(work)
          else work()
        }),
    }
    const watcher = await watchView(store, { volume: 'p', log, clock, intervalMs: 50, figuresMs: 3_600_000 })
    t.teardown(() => watcher.close())
    const told: (readonly string[])[] = []
    watcher.onChange((view) => told.push(view.members.map(({ id }) => id)))
    const { epoch } = watcher.current().view
    isHeld = true
    await until('it looks no more', () => late.length > 0)
    await store.call('RESTORE', keys.members, 0, members, 'REPLACE')
    await store.call('RESTORE', keys.options, 0, options, 'REPLACE')
    registrations.push(await other.join('h:3', 60_000))
    t.equal((await fetchView(store, 'p')).epoch, epoch, 'the same once more')
    isHeld = false
    for (const work of late) work()
    await until('the other one is there', () => told.some((ids) => ids.includes('other')))
    t.strictSame(
      watcher.current().view.members.map(({ id }) => id),
      ['first', 'other'],
    )
    await Promise.all(registrations.map((one) => one.leave()))
  })

  t.test('zones and weights that cannot be are USAGE errors', async (t) => {
    const identity = { id: 'x', address: 'h:1', zone: '', weight: 1, pid: 1 }
    const options = { volume: 'l', space: () => SPACE, log, onLost: () => undefined }
    for (const bad of [{ zone: 'a b' }, { weight: 0 }, { weight: NaN }, { weight: 1e9 }]) {
      await t.rejects(register(store, { ...options, identity: { ...identity, ...bad } }), { code: 'USAGE' })
    }
    await t.rejects(setMembershipTimes(store, 'l', { suspectMs: 10, downMs: 5 }), { code: 'USAGE' })
  })
})
