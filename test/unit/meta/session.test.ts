/** What a session says of its replies with each change: nothing but the requests that are sent. */
import t from 'tap'
import { systemClock, type Clock } from '../../../src/base/clock.js'
import type { Log } from '../../../src/base/log.js'
import { silentLog } from '../../../src/base/log.js'
import { systemProcesses } from '../../../src/base/processes.js'
import type { RedisStore } from '../../../src/cluster/contract.js'
import { InFlight } from '../../../src/meta/in-flight.js'
import { VolumeKeys } from '../../../src/meta/keys.js'
import type { Replicas } from '../../../src/meta/replicas.js'
import { STATUS_FROZEN } from '../../../src/meta/reply.js'
import { SCRIPTS } from '../../../src/meta/scripts.js'
import { Session } from '../../../src/meta/session.js'
import { PATIENCE_MS, within } from '../../helpers/deadline.js'
import { CapturedLog } from '../../helpers/captured-log.js'
import { ManualClock } from '../../helpers/manual-clock.js'

const SESSION_ID = 5

function sessionOn(run: RedisStore['run'], clock: Clock, log: Log, ttlMs: number): Session {
  const store = { run, isLone: true } as unknown as RedisStore
  const replicas = {} satisfies Partial<Replicas> as unknown as Replicas
  const parts = { store, keys: new VolumeKeys('v', 2), clock, log, processes: systemProcesses, replicas }
  return new Session({ ...parts, ttlMs, operationDeadlineMs: 60_000 })
}

t.test(
  'a change that stands still in one partition keeps no replies of another one from being forgotten',
  async (t) => {
    const keys = new VolumeKeys('v', 2)
    const kept = new Set<string>()
    let release: () => void = () => undefined
    const standsStill = new Promise<void>((resolve) => (release = resolve))
    const run: RedisStore['run'] = async (script, [inodes], args) => {
      if (script === SCRIPTS.sessionBegin) return SESSION_ID
      if (inodes === keys.partition(0).inodes) await standsStill
      for (const one of String(args[3]).split(/[/ ]/)) kept.delete(one)
      kept.add(String(args[1]))
      return [0]
    }
    const store = { run, isLone: true } as unknown as RedisStore
    const replicas = {
      ofChange: (_script, _key, change) => change(),
    } satisfies Partial<Replicas> as unknown as Replicas
    const session = new Session({
      ...{ store, keys, clock: systemClock, log: silentLog, processes: systemProcesses, replicas },
      ...{ ttlMs: 3_600_000, operationDeadlineMs: 60_000 },
    })
    await session.open()
    t.teardown(() => session.stop())
    const still = session.change(SCRIPTS.unlink, 0, [], [])
    for (let i = 0; i < 500; i++) await session.change(SCRIPTS.unlink, 1, [], [])
    t.ok(kept.size < 50, `${kept.size} of 500`)
    release()
    await still
  },
)

t.test(
  'a renewal that took long is no step of the clock of Redis; a step that it hides is found by the next one',
  async (t) => {
    const clock = new ManualClock()
    const captured = new CapturedLog()
    let aheadMs = 1_000_000
    let [there, back] = [0, 0]
    const run: RedisStore['run'] = async (script) => {
      if (script === SCRIPTS.sessionBegin) return SESSION_ID
      await clock.pass(there)
      const redisMs = clock.monotonicMs() + aheadMs
      await clock.pass(back)
      return [SESSION_ID, redisMs]
    }
    const session = sessionOn(run, clock, captured.log, 3_600_000)
    await session.open()
    t.teardown(() => session.stop())
    const renew = async (thereMs: number, backMs: number): Promise<void> => {
      ;[there, back] = [thereMs, backMs]
      await clock.pass(4_000_000)
      await session.confirm()
    }
    const offMs = (): number => Math.abs((session.redisMs ?? 0) - clock.monotonicMs() - aheadMs)
    for (const [thereMs, backMs] of [
      [20_000, 0],
      [0, 20_000],
      [1, 1],
      [30_000, 0],
      [0, 30_000],
    ] as const) {
      await renew(thereMs, backMs)
      if (thereMs + backMs < 30_000) continue
      t.ok(offMs() <= 1, 'what is known of its clock is not lost')
    }
    t.same(captured.all('stepMs'), [])

    aheadMs -= 8_000
    await renew(4_000, 0)
    t.ok(offMs() > 5_000, 'not certain yet, and by what is known nobody is judged')
    await renew(1, 1)
    t.ok(offMs() <= 1)
    t.equal(captured.all('stepMs').length, 1)
    aheadMs += 60_000
    await renew(20_000, 0)
    t.equal(captured.all('stepMs').length, 2, 'more than it may have taken')
  },
)

t.test('a lease that ran out while the machine was suspended has run out at the first look', async (t) => {
  const clock = new ManualClock()
  let renewals = 0
  const run: RedisStore['run'] = async (script) => {
    if (script === SCRIPTS.sessionBegin) return SESSION_ID
    renewals++
    return [SESSION_ID, clock.monotonicMs()]
  }
  const session = sessionOn(run, clock, new CapturedLog().log, 30_000)
  const told: boolean[] = []
  const isTold = new Promise<void>((resolve) => {
    session.onLive = (live) => {
      told.push(live)
      if (live) resolve()
    }
  })
  await session.open()
  t.teardown(() => session.stop())
  await clock.pass(10_000)
  clock.suspend(15_000)
  t.equal(session.leaseLeftMs, 5_000)
  clock.suspend(-60_000)
  t.equal(session.leaseLeftMs, 20_000, 'a wall clock that is set back makes it no longer')
  clock.suspend(60_000 + 5_000)
  t.equal(session.leaseLeftMs, 0)
  t.notOk(session.isLive)
  // Nobody asks: it is found out, told, and renewed.
  await within(30_000, isTold, 'the renewal of a lease that ran out')
  t.same(told, [false, true])
  t.equal(renewals, 1)
  t.equal(session.leaseLeftMs, 30_000)
})

t.test('what is past in a partition: all that was under way there, and no more', async (t) => {
  const changes = new InFlight()
  t.equal(changes.begin(1, 1), 1)
  t.equal(changes.begin(2, 2), 2, 'each partition has its own')
  t.equal(changes.begin(1, 3), 1)
  t.equal(changes.past(1, 0), undefined)
  t.equal(changes.past(3, 9), undefined)
  let isPast = false
  const past = changes.past(1, 3)?.then(() => (isPast = true))
  changes.begin(1, 4)
  changes.end(1, 3)
  changes.end(2, 2)
  await Promise.resolve()
  t.notOk(isPast, 'the oldest is left')
  changes.end(1, 1)
  await past
  t.ok(isPast)
  t.equal(changes.begin(1, 5), 4)
})

t.test(
  'what is known of a change is known when it is sent again after a freeze or to a successor, and of no other',
  async (t) => {
    const clock = new ManualClock()
    const sent: { sequence: unknown; mayHaveRun: boolean | undefined }[] = []
    const run: RedisStore['run'] = async (script, _keys, args, options) => {
      if (script === SCRIPTS.sessionBegin) return SESSION_ID
      sent.push({ sequence: args[1], mayHaveRun: options?.doubt?.mayHaveRun })
      if (sent.length !== 2) return [sent.length < 3 ? STATUS_FROZEN : 0]
      // A reply was lost, and the copy of the request found the partition frozen.
      if (options?.doubt !== undefined) options.doubt.mayHaveRun = true
      return [STATUS_FROZEN]
    }
    const store = { run, isLone: true } as unknown as RedisStore
    const replicas = {
      ofChange: (_script, _key, change) => change().then(change),
    } satisfies Partial<Replicas> as unknown as Replicas
    const session = new Session({
      ...{ store, keys: new VolumeKeys('v', 2), clock, log: silentLog, processes: systemProcesses, replicas },
      ...{ ttlMs: 3_600_000, operationDeadlineMs: 60_000 },
    })
    await session.open()
    t.teardown(() => session.stop())
    const passing = async (change: Promise<unknown>): Promise<void> => {
      const running = { is: true }
      const done = change.finally(() => (running.is = false))
      for (let turn = 0; running.is && turn < 1_000; turn++) await clock.pass(5)
      await within(PATIENCE_MS, done, 'the change')
    }
    await passing(session.change(SCRIPTS.unlink, 0, [], []))
    const [first] = sent
    t.same(
      sent.map(({ mayHaveRun }) => mayHaveRun),
      [false, false, true, true],
    )
    t.ok(sent.every(({ sequence }) => sequence === first?.sequence))
    await passing(session.change(SCRIPTS.unlink, 0, [], []))
    t.same(
      sent.slice(4).map(({ mayHaveRun }) => mayHaveRun),
      [false, true],
    )
  },
)
