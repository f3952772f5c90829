/** Changes across partitions of one server in one script (src/meta/transaction.ts), beside the same step by step. */
import t from 'tap'
import { VolumeKeys } from '../../src/meta/keys.js'
import { SCRIPTS } from '../../src/meta/scripts.js'
import type { Attr, MetaEvent, MetaStore } from '../../src/meta/contract.js'
import { PosixError } from '../../src/base/errno.js'
import { RingfsError } from '../../src/base/errors.js'
import { WINDOW_BYTES } from '../../src/base/limits.js'
import { DEFAULT, aclOf } from '../helpers/acls.js'
import { act } from '../helpers/meta-actions.js'
import { describe, walk } from '../helpers/meta-check.js'
import { SCENARIOS, decisions, type Scenario } from '../helpers/meta-scenarios.js'
import {
  ROOT,
  bytes,
  claim,
  listen,
  makeDirIn,
  outcome,
  touch,
  until,
  volumesOn,
  writeAt,
  type MetaVolume,
} from '../helpers/meta.js'
import { startRedis } from '../helpers/redis.js'
import { ScriptSpy } from '../helpers/script-spy.js'

const LONG_TTL_MS = 3_600_000
const PLACES = { sessionTtlMs: LONG_TTL_MS, random: () => 0 }

const redis = await startRedis(t)
const spy = new ScriptSpy()
const open = volumesOn(t, redis, (store) => spy.wrap(store))
const check = (name: string, body: Parameters<typeof claim>[3]): void => claim(t, open, name, body)
const keysOf = ({ settings }: MetaVolume): VolumeKeys => new VolumeKeys(settings.name, settings.partitions)

/** What a scenario leaves, and what others are told of it. */
interface Trace {
  readonly tree: readonly string[]
  /** Inodes whose times changed, and which of the two. */
  readonly times: readonly string[]
  readonly events: readonly string[]
  readonly decisions: readonly string[]
  /** By partition: what is to be freed, and the counters. */
  readonly rest: readonly string[]
}

async function trace(volume: MetaVolume, scenario: Scenario, atOnce: boolean): Promise<Trace> {
  const owner = await volume.client(PLACES)
  const { action } = await scenario.prepare(owner)
  const before = await walk(owner)
  const bob = await volume.client({ sessionTtlMs: LONG_TTL_MS })
  await until('it hears', () => bob.coherent)
  const events = listen(bob)
  const actor = await volume.client({ sessionTtlMs: LONG_TTL_MS, random: () => 0.6, atOnce })
  spy.take('')
  await act(actor, action)
  // What goes on behind the answer.
  await actor.shutdown()
  await bob.caughtUp()
  const after = await walk(owner)
  const told = new Set(events.map(inWords))
  return {
    tree: after.problems.length > 0 ? after.problems : describe(after),
    times: [...after.attrs].flatMap(([ino, attr]) => changedTimes(before.attrs.get(ino), ino, attr)).sort(),
    events: [...told].sort(),
    decisions: await decisions(volume),
    rest: await rest(volume),
  }
}

async function rest(volume: MetaVolume): Promise<string[]> {
  const keys = keysOf(volume)
  const found: string[] = []
  for (let p = 0; p < keys.partitions; p++) {
    const { zombies, garbage, counters } = keys.partition(p)
    const inos = await volume.redis.call('HKEYS', zombies)
    const claims = await volume.redis.call('LLEN', garbage)
    const counts = await volume.redis.call('HMGET', counters, 'inodes', 'bytes', 'inline')
    found.push([inos, claims, counts].map(String).join(' | '))
  }
  return found
}

function changedTimes(before: Attr | undefined, ino: number, after: Attr): string[] {
  if (before === undefined) return []
  const kinds = ['atime', 'mtime', 'ctime', 'btime'] as const
  const changed = kinds.filter((kind) => JSON.stringify(before[kind]) !== JSON.stringify(after[kind]))
  return changed.map((kind) => `${ino} ${kind}`)
}

function inWords(event: MetaEvent): string {
  if (event.kind === 'entry') return `entry ${event.parent} ${event.name.toString()}`
  return 'ino' in event ? `${event.kind} ${event.ino}` : event.kind
}

/** What leaves something behind in the partition of the inode. */
const MORE: readonly Scenario[] = [
  {
    name: 'rmdir of a directory with a default ACL',
    async prepare(meta) {
      const a = await makeDirIn(meta, ROOT, 'a', { partition: 2 })
      const x = await makeDirIn(meta, a.ino, 'x', { partition: 4 })
      await meta.setxattr(x.ino, DEFAULT, aclOf('u::rwx,u:1000:rwx,g::r-x,m::rwx,o::---'), 'any')
      return { action: { op: 'rmdir', parent: a.ino, name: 'x' }, touched: [] }
    },
  },
  ...['unlink of', 'rename onto'].map((what): Scenario => ({
    name: `${what} the last name of a file with contents and attributes, far`,
    async prepare(meta) {
      const a = await makeDirIn(meta, ROOT, 'a', { partition: 2 })
      const b = await makeDirIn(meta, ROOT, 'b', { partition: 3 })
      const { ino } = await touch(meta, a.ino, 'f')
      await writeAt(meta, ino, 0, 100)
      await writeAt(meta, ino, WINDOW_BYTES, 100)
      await meta.setxattr(ino, bytes('user.x'), bytes('v'), 'any')
      const small = await touch(meta, a.ino, 'small')
      await writeAt(meta, small.ino, 0, 100)
      await meta.rename(a.ino, bytes('f'), b.ino, bytes('y'), {})
      await touch(meta, b.ino, 'over')
      if (what === 'unlink of') return { action: { op: 'unlink', parent: b.ino, name: 'y' }, touched: [] }
      return {
        action: { op: 'rename', parent: b.ino, name: 'over', newParent: b.ino, newName: 'y' },
        touched: [],
      }
    },
  })),
]

for (const scenario of [...SCENARIOS, ...MORE]) {
  if (scenario.name.startsWith('mkdir')) continue
  void t.test(`${scenario.name}: at once is as step by step`, { timeout: 300_000 }, async (t) => {
    const volumes = [await open(), await open()] as const
    const steps = await trace(volumes[0], scenario, false)
    t.not(spy.take('tx-prepare').length, 0, 'step by step')
    const once = await trace(volumes[1], scenario, true)
    t.equal(spy.ran.filter(({ script }) => /^tx-(prepare|commit|finish)$/.test(script)).length, 0, 'no steps')
    t.strictSame(
      spy.take('tx-whole').map(([status]) => status),
      [0],
    )
    t.strictSame(once, steps)
    t.strictSame(once.decisions, [])
    for (const volume of volumes) await volume.close()
  })
}

/** A client that stops after a step until `go` is called; `there` waits until it has come so far. */
async function halting(
  volume: MetaVolume,
  isStep: (step: string) => boolean,
): Promise<{ meta: MetaStore; there: () => Promise<void>; go: () => void }> {
  let isThere = false
  let go = (): void => undefined
  const gate = new Promise<void>((resolve) => (go = resolve))
  const meta = await volume.client({
    sessionTtlMs: LONG_TTL_MS,
    onStep: async (step) => {
      if (!isStep(step)) return
      isThere = true
      await gate
    },
  })
  return { meta, there: () => until('it has come so far', () => isThere), go: () => go() }
}

/** Directories in the partitions 2 to 5, and a file `f` in the first. */
async function ground(meta: MetaStore): Promise<{ a: number; b: number; c: number; d: number; file: number }> {
  const made: number[] = []
  for (const [at, name] of ['a', 'b', 'c', 'd'].entries()) {
    made.push((await makeDirIn(meta, ROOT, name, { partition: at + 2 })).ino)
  }
  const [a = 0, b = 0, c = 0, d = 0] = made
  return { a, b, c, d, file: (await touch(meta, a, 'f')).ino }
}

type Grounds = Awaited<ReturnType<typeof ground>>

/** `first` is prepared and stops; `second` meets what it has locked. */
const MEETINGS: readonly {
  readonly name: string
  readonly at: string
  readonly first: (meta: MetaStore, places: Grounds) => Promise<unknown>
  readonly second: (meta: MetaStore, places: Grounds) => Promise<unknown>
  /** How its script is answered at first: 1 a lock in its own partition, 17 one in another. */
  readonly meets: number
  readonly outcomes: readonly [string, string]
}[] = [
  {
    name: 'a directory that is being removed is removed',
    at: 'rmdir:prepared',
    first: (meta) => meta.rmdir(ROOT, bytes('d')),
    second: (meta) => meta.rmdir(ROOT, bytes('d')),
    meets: 17,
    outcomes: ['ok', 'ENOENT'],
  },
  {
    name: 'a file is linked into a directory that is being removed',
    at: 'rmdir:prepared',
    first: (meta) => meta.rmdir(ROOT, bytes('d')),
    second: (meta, { d, file }) => meta.link(file, d, bytes('link')),
    meets: 1,
    outcomes: ['ok', 'ENOENT'],
  },
  {
    name: 'a file that is being moved is linked',
    at: 'rename:prepared',
    first: (meta, { a, b }) => meta.rename(a, bytes('f'), b, bytes('f'), {}),
    second: (meta, { c, file }) => meta.link(file, c, bytes('link')),
    meets: 17,
    outcomes: ['ok', 'ok'],
  },
  {
    name: 'a name is replaced that is being exchanged',
    at: 'exchange:prepared',
    first: async (meta, { a, b }) => {
      await touch(meta, b, 'g')
      await meta.rename(a, bytes('f'), b, bytes('g'), { exchange: true })
    },
    second: async (meta, { a, c }) => {
      await touch(meta, c, 'h')
      await meta.rename(c, bytes('h'), a, bytes('f'), {})
    },
    meets: 1,
    outcomes: ['ok', 'ok'],
  },
]

for (const { name, at, first, second, meets, outcomes } of MEETINGS) {
  check(`${name}: what is prepared holds for one script, too`, async (t, volume) => {
    const places = await ground(await volume.client(PLACES))
    const { meta: ann, there, go } = await halting(volume, (step) => step.startsWith(at))
    const bob = await volume.client({ sessionTtlMs: LONG_TTL_MS, intentTimeoutMs: LONG_TTL_MS })
    const one = outcome(first(ann, places))
    await there()
    spy.take('')
    let isDone = false
    const two = outcome(second(bob, places)).finally(() => (isDone = true))
    await until('it has met the lock', () => spy.ran.some(({ script }) => script === 'tx-whole'))
    await until('it has asked', () => spy.ran.some(({ script }) => script === 'tx-decide'))
    t.equal(isDone, false, 'it waits')
    t.equal(spy.take('tx-whole')[0]?.[0], meets)
    go()
    t.strictSame(await Promise.all([one, two]), outcomes)
  })
}

for (const atOnce of [true, false]) {
  check(
    `a file that gets another name while it loses one is not called gone, ${atOnce ? 'at once' : 'step by step'}`,
    async (t, volume) => {
      const ann = await volume.client({ ...PLACES, atOnce })
      const bob = await volume.client(PLACES)
      const { a, b, file } = await ground(ann)
      await ann.link(file, b, bytes('link'))
      t.match(await ann.unlink(a, bytes('f')), { nlink: 1 })
      spy.instead.set(atOnce ? 'tx-whole' : 'tx-prepare', async (send) => {
        spy.instead.clear()
        await bob.link(file, a, bytes('late'))
        return send()
      })
      t.match(await ann.unlink(b, bytes('link')), { ino: file, nlink: 1 })
      t.match(await ann.unlink(a, bytes('late')), { ino: file, nlink: 0 })
    },
  )
}

check("another partition's delegation is given back before one script changes it", async (t, volume) => {
  const eager = { ...PLACES, delegations: { quietMs: 0, restMs: 5 } }
  const ann = await volume.client(eager)
  const { a, b, file } = await ground(ann)
  await ann.link(file, b, bytes('link'))
  await until('it is held', () => ann.holds(file))
  const bob = await volume.client({ sessionTtlMs: LONG_TTL_MS })
  t.ok(ann.openHeld(file))
  spy.take('')
  await bob.unlink(b, bytes('link'))
  await bob.unlink(a, bytes('f'))
  t.same(spy.take('tx-whole')[0], [17, 0], 'not before')
  t.equal((await ann.getattr(file)).nlink, 0, 'and what was opened by it is open')
  ann.close(file)
})

check('a partition that is held still keeps one script from changing it', async (t, volume) => {
  const ann = await volume.client(PLACES)
  await ground(ann)
  const { locks } = keysOf(volume).partition(5)
  await volume.redis.run(SCRIPTS.freeze, [locks], ['test', 60_000])
  spy.take('')
  let isDone = false
  const removing = ann.rmdir(ROOT, bytes('d')).finally(() => (isDone = true))
  await until('it waits', () => spy.ran.some(({ script, answer }) => script === 'tx-prepare' && answer[0] === 16))
  t.same(spy.take('tx-whole'), [[17, 0]])
  t.equal(isDone, false)
  await volume.redis.run(SCRIPTS.thaw, [locks], ['test'])
  await removing
  t.equal(await outcome(ann.lookup(ROOT, bytes('d'))), 'ENOENT')
})

check('a copy that comes late does nothing', async (t, volume) => {
  const ann = await volume.client({ ...PLACES, operationDeadlineMs: 1_000 })
  const { b, c, file } = await ground(ann)
  await ann.link(file, b, bytes('link'))
  let late: (() => Promise<unknown>) | undefined
  spy.instead.set('tx-whole', (send) => {
    late = send
    return send()
  })
  await ann.unlink(b, bytes('link'))
  spy.instead.clear()
  await ann.link(file, b, bytes('link'))
  spy.take('')
  await late?.()
  t.equal((await ann.getattr(file)).nlink, 2, 'its reply is known')
  // So many that the server was told to forget it.
  for (let i = 0; i < 40; i++) await touch(ann, b, `n${i}`)
  await late?.()
  t.equal((await ann.getattr(file)).nlink, 2, 'nor when it is not any more')
  t.same(
    spy.take('tx-whole').map(([status]) => status),
    [0, 6],
  )
  const lost = spy.lose('tx-whole')
  await t.rejects(ann.unlink(b, bytes('link')), { code: 'REDIS_UNREACHABLE' })
  t.equal((await ann.getattr(file)).nlink, 2, 'one whose answer never came')
  const bob = await volume.client({ sessionTtlMs: LONG_TTL_MS })
  const heard = listen(ann)
  await lost()
  await ann.caughtUp()
  t.equal((await bob.getattr(file)).nlink, 1, 'is done when it comes')
  t.ok(
    heard.some((event) => event.kind === 'attr' && event.ino === file),
    'and told to who does not know of it, in every partition',
  )
  t.equal(await outcome(ann.link(file, c, bytes('link'))), 'ok')
})

check('removing a directory that is made just now', async (t, volume) => {
  const ann = await volume.client({ sessionTtlMs: LONG_TTL_MS, numbersAhead: 16 })
  const bob = await volume.client({ sessionTtlMs: LONG_TTL_MS, numbersAhead: 16 })
  for (let i = 0; i < 50; i++) {
    await ann.mkdir(ROOT, bytes('new'), 0o755, 0, 0)
    spy.take('')
    t.equal(await outcome((i % 2 === 0 ? ann : bob).rmdir(ROOT, bytes('new'))), 'ok')
    const scripts = spy.ran.filter(({ script }) => script.startsWith('tx-')).map(({ script }) => script)
    // One alone, where the directory came to lie in the partition of its parent.
    if (i % 2 === 0) t.match(scripts.join(), /^tx-(whole|commit)$/)
  }
})

check('a move of a directory that Redis refuses for certain gives the lease back', async (t, volume) => {
  const ann = await volume.client({ ...PLACES, numbersAhead: 16 })
  const a = await makeDirIn(ann, ROOT, 'a', { partition: 2 })
  const b = await makeDirIn(ann, ROOT, 'b', { partition: 3 })
  for (const [error, given] of [
    [new PosixError('ENOSPC', 'refused by the test'), 1],
    [new RingfsError('REDIS_UNREACHABLE', 'lost by the test'), 0],
  ] as const) {
    spy.instead.set('tx-whole', () => {
      spy.instead.clear()
      return Promise.reject(error)
    })
    spy.take('')
    await t.rejects(ann.rename(ROOT, bytes('a'), b.ino, bytes('a'), {}))
    t.equal(spy.take('lease-give').length, given, `${error.code}: whether it may still be done`)
  }
  t.equal((await ann.getattr(a.ino)).parent, ROOT)
})
