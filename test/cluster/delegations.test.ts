/** Delegations on a real Redis: what they save, and that nobody is ever wrong because of them. */
import t from 'tap'
import type { RedisStore } from '../../src/cluster/contract.js'
import type { MetaStore } from '../../src/meta/contract.js'
import { SCRIPTS } from '../../src/meta/scripts.js'
import { CountingRedis } from '../helpers/counting-redis.js'
import {
  type ClientOptions,
  type MetaVolume,
  ROOT,
  bytes,
  claim,
  makeDirIn,
  newFile,
  outcome,
  pause,
  touch,
  until,
  volumesOn,
  writeAt,
} from '../helpers/meta.js'
import { startRedis, type TestRedis } from '../helpers/redis.js'

const EAGER: ClientOptions = { delegations: { quietMs: 0, restMs: 5 }, sessionTtlMs: 3_600_000 }

async function fieldsOf(volume: MetaVolume, ino: number): Promise<string[]> {
  const { name, partitions } = volume.settings
  const fields = await volume.redis.call('HKEYS', `{${name}.${ino % partitions}}:x`)
  return Array.isArray(fields) ? fields.map(String) : []
}

async function held(meta: MetaStore, ino: number): Promise<void> {
  await until(`a delegation of ${ino}`, () => meta.holds(ino))
}

t.test('delegations', { timeout: 300_000 }, async (t) => {
  const redis = await startRedis(t)
  const counters: CountingRedis[] = []
  const wrap = (store: RedisStore): RedisStore => {
    const counting = new CountingRedis(store)
    counters.push(counting)
    return counting
  }
  const open = volumesOn(t, redis, wrap)
  const check = (name: string, body: Parameters<typeof claim>[3]): void => claim(t, open, name, body)

  check('an open and a close under a delegation cost no round trip', async (t, volume) => {
    const meta = await volume.client(EAGER)
    const counter = counters.at(-1)
    if (counter === undefined) throw new Error('the store is wrapped')
    const { ino } = await touch(meta, ROOT, 'file')
    await held(meta, ino)
    const trips = await counter.during(async () => {
      for (let i = 0; i < 100; i++) {
        t.ok(meta.openHeld(ino))
        meta.close(ino)
      }
      await Promise.resolve()
    })
    t.equal(trips, 0)
  })

  check('one that is not enabled holds nothing', async (t, volume) => {
    const meta = await volume.client({ delegations: { enabled: false } })
    for (let i = 0; i < 5; i++) {
      t.notOk(meta.holds(ROOT))
      await pause(20)
    }
  })

  check('a change by another ends it before the change is done', async (t, volume) => {
    const [a, b] = [await volume.client(EAGER), await volume.client(EAGER)]
    const { ino } = await touch(a, ROOT, 'file')
    for (const change of [
      () => writeAt(b, ino, 0, 10),
      () => b.setattr(ino, { mode: 0o600 }),
      () => b.rename(ROOT, bytes('file'), ROOT, bytes('other'), {}),
      () => touch(b, ROOT, 'new'),
      () => b.mkdir(ROOT, bytes('dir'), 0o755, 0, 0),
      () => b.rmdir(ROOT, bytes('dir')),
      () => b.link(ino, ROOT, bytes('link')),
      () => b.setattr(ino, { sizeBytes: 3 }),
    ]) {
      await held(a, ROOT)
      await change()
      t.notOk(a.holds(ROOT), String(change))
    }
  })

  check('a change elsewhere that takes this partition in ends it, too', async (t, volume) => {
    const [a, b] = [await volume.client(EAGER), await volume.client(EAGER)]
    const dir = await makeDirIn(a, ROOT, 'dir', { not: ROOT })
    const { ino } = await touch(a, ROOT, 'file')
    await touch(a, dir.ino, 'over')
    await held(a, ROOT)
    await held(a, dir.ino)
    await b.rename(ROOT, bytes('file'), dir.ino, bytes('over'), {})
    t.notOk(a.holds(ROOT))
    t.notOk(a.holds(dir.ino))
    t.equal((await a.lookup(dir.ino, bytes('over'))).ino, ino)
  })

  check('many hold it, and reading, opening and locking end nothing', async (t, volume) => {
    const all = await Promise.all([1, 2, 3].map(() => volume.client(EAGER)))
    const [a, , c] = all
    if (a === undefined || c === undefined) throw new Error('three clients')
    const { ino } = await touch(a, ROOT, 'file')
    for (const meta of all) await held(meta, ino)
    await c.open(ino, { truncate: false })
    await c.getattr(ino)
    await c.readdir(ROOT, null, 10, true)
    await c.touch([])
    c.close(ino)
    for (const meta of all) t.ok(meta.holds(ino))
  })

  check('nothing is granted beside a prepared transaction', async (t, volume) => {
    const halted: (() => void)[] = []
    let goesOn = false
    const halt = (step: string): Promise<void> =>
      step.includes('prepared') && !goesOn ? new Promise((resolve) => halted.push(resolve)) : Promise.resolve()
    const a = await volume.client(EAGER)
    const b = await volume.client({ ...EAGER, onStep: halt })
    const dir = await makeDirIn(a, ROOT, 'dir', { not: ROOT })
    await touch(a, ROOT, 'file')
    const renaming = b.rename(ROOT, bytes('file'), dir.ino, bytes('file'), {})
    await until('it is prepared', () => halted.length > 0)
    for (let i = 0; i < 20; i++) {
      t.notOk(a.holds(ROOT))
      await pause(10)
    }
    goesOn = true
    for (const go of halted) go()
    await renaming
    await held(a, ROOT)
  })

  check('one is granted where the partition was frozen by somebody who died', async (t, volume) => {
    const { name, partitions } = volume.settings
    const { ino } = await touch(await volume.client(), ROOT, 'file')
    for (const ms of [1, 60_000]) {
      await volume.redis.run(SCRIPTS.freeze, [`{${name}.${ROOT % partitions}}:x`], ['nobody', ms])
      await pause(5)
      await held(await volume.client(EAGER), ino)
      t.ok((await fieldsOf(volume, ROOT)).includes('F'), 'nobody has thawed it')
    }
    await volume.redis.run(SCRIPTS.thaw, [`{${name}.${ROOT % partitions}}:x`], ['nobody'])
  })

  check(
    "a directory that is still to be born is in no grant's way, and nobody is wrong about it",
    async (t, volume) => {
      const halted: (() => void)[] = []
      const halt = (step: string): Promise<void> =>
        step === 'mkdir:committed' ? new Promise((resolve) => halted.push(resolve)) : Promise.resolve()
      const a = await volume.client(EAGER)
      const b = await volume.client({ ...EAGER, onStep: halt, random: () => (ROOT + 1.5) / volume.settings.partitions })
      const { ino } = await touch(a, ROOT, 'file')
      await held(a, ino)
      const making = b.mkdir(ROOT, bytes('dir'), 0o755, 0, 0)
      await until('its name is there', () => halted.length > 0)
      t.notOk(a.holds(ROOT), 'the name was recalled for')
      const marks = async (): Promise<number> =>
        (await fieldsOf(volume, ROOT)).filter((field) => field.startsWith('b')).length
      t.equal(await marks(), 1)
      await held(a, ROOT)
      t.equal(await marks(), 1, 'granted beside the mark')
      const dir = await a.lookup(ROOT, bytes('dir'))
      t.equal(dir.type, 'directory')
      t.ok(a.holds(ROOT), 'having it born changes nothing here')
      await held(a, dir.ino)
      await b.setattr(dir.ino, { mode: 0o700 })
      t.notOk(a.holds(dir.ino), 'a change of what was born is one like any other')
      halted.shift()?.()
      await making
    },
  )

  check('a directory that is born, and numbers that are reserved, recall nobody', async (t, volume) => {
    const { partitions } = volume.settings
    const [home, from] = [ROOT, ROOT + 1]
    const a = await volume.client(EAGER)
    const dir = await makeDirIn(a, ROOT, 'dir', { partition: from })
    await held(a, home)
    const b = await volume.client({ ...EAGER, random: () => (home + 0.5) / partitions })
    const made = await b.mkdir(dir.ino, bytes('dir'), 0o755, 0, 0)
    t.equal(made.ino % partitions, home, 'it lies where nobody was asked')
    await until('it is born', async () => (await outcome(a.getattr(made.ino))) === 'ok')
    t.ok(a.holds(home))
  })

  check('bytes that the metadata keeps are recalled for like others', async (t, volume) => {
    const [a, b] = [await volume.client(EAGER), await volume.client(EAGER)]
    const { ino } = await touch(a, ROOT, 'file')
    const pieces = [{ fileOffset: 0, bytes: bytes('some') }]
    await held(a, ino)
    const written = await b.commitInline(ino, {
      mode: 'at',
      pieces,
      allocatedDeltaBytes: 0,
      mtime: { sec: 1, nsec: 0 },
    })
    t.ok(written)
    t.notOk(a.holds(ino), 'written')
    await held(a, ino)
    t.ok(await b.spill(ino, written?.attr.dataVersion ?? 0, []))
    t.notOk(a.holds(ino), 'moved into chunks')
  })

  check('what is refused, or changes nothing, recalls nobody', async (t, volume) => {
    const [a, b] = [await volume.client(EAGER), await volume.client({ delegations: { enabled: false } })]
    const { ino } = await touch(b, ROOT, 'file')
    const dir = await makeDirIn(b, ROOT, 'dir', { not: ROOT })
    await touch(b, dir.ino, 'inside')
    await held(a, ROOT)
    const before = await statistic(redis, 'spublish')
    for (const [what, expected, ask] of refusals(b, ino)) t.equal(await outcome(ask()), expected, what)
    t.equal((await statistic(redis, 'spublish')) - before, 0, 'nobody was told')
    t.ok(a.holds(ROOT), 'and it is held still')
  })

  check('many changes beside a holder that is away ask and tell hardly more often than one', async (t, volume) => {
    const [a, b] = [await volume.client(EAGER), await volume.client({ delegations: { enabled: false } })]
    const { ino } = await touch(b, ROOT, 'file')
    await held(a, ino)
    volume.cut(a)
    const count = async (): Promise<number> =>
      (await statistic(redis, 'evalsha')) + (await statistic(redis, 'spublish'))
    const before = await count()
    const CHANGES = 200
    await Promise.all(Array.from({ length: CHANGES }, (_, i) => b.setattr(ino, { mode: 0o600 + (i % 8) })))
    // Each once, refused; then one of them again and again for 3 s; then each once more, and what they publish.
    t.ok((await count()) - before < 4 * CHANGES, `${(await count()) - before} scripts and messages`)
    volume.mend(a)
  })

  check('who changes attributes again and again is not asked to wait each time', async (t, volume) => {
    const quiet = { ...EAGER, delegations: { quietMs: 60_000, restMs: 5 } }
    const [a, b] = [await volume.client(quiet), await volume.client(quiet)]
    const { ino } = await touch(a, ROOT, 'file')
    await held(a, ino)
    let heard = 0
    a.onEvent((event) => (heard += event.kind === 'attr' ? 1 : 0))
    await b.setattr(ino, { mode: 0o600 })
    // Not by looking whether it is held, which asks for it: granted between the recall and the change it would be right.
    await until('the change was heard of', () => heard > 0)
    for (let i = 0; i < 10; i++) {
      t.notOk(a.holds(ino), 'nothing is asked for until it has been quiet for a while')
      await pause(5)
    }
  })

  check('reading, which sets access times, ends nothing', async (t, volume) => {
    const [a, b] = [await volume.client(EAGER), await volume.client(EAGER)]
    const { ino } = await touch(a, ROOT, 'file')
    await held(a, ino)
    const { atime } = await b.getattr(ino)
    let heard = 0
    a.onEvent((event) => (heard += event.kind === 'attr' ? 1 : 0))
    await b.touch([{ ino, replaces: atime, atime: { sec: atime.sec + 100, nsec: 0 } }])
    await until('it was heard of', () => heard > 0)
    t.ok(a.holds(ino))
  })

  check('a clock of Redis that was set back keeps nobody from being granted anything', async (_t, volume) => {
    const a = await volume.client(EAGER)
    const field = Buffer.alloc(31)
    const farMs = Date.now() + 3_600_000
    field.writeUIntLE(farMs, 0, 6)
    field.writeUInt16LE(5, 7)
    field.writeUIntLE(farMs, 9, 6)
    // Somebody else's, who died before.
    field.writeUInt32LE(999_999, 15)
    field.writeUIntLE(1, 19, 6)
    field.writeUIntLE(farMs, 25, 6)
    await volume.redis.call('HSET', `{${volume.settings.name}.${ROOT}}:x`, 'D', field)
    await held(a, ROOT)
  })

  check('a client that leaves lets nobody wait, whatever it had just asked for', async (t, volume) => {
    const b = await volume.client({ delegations: { enabled: false } })
    const { ino } = await touch(b, ROOT, 'file')
    const entries = async (): Promise<number> => {
      const field = await volume.redis.call('HGET', `{${volume.settings.name}.${ROOT}}:x`, 'D')
      return Buffer.isBuffer(field) ? (field.length - 15) / 16 : 0
    }
    const asking = await volume.client(EAGER)
    asking.holds(ino)
    asking.holds(ino)
    await asking.shutdown()
    t.equal(await entries(), 0, 'asked for')
    const lost = await volume.client(EAGER)
    await held(lost, ino)
    await redis.command(0, 'CLIENT', 'KILL', 'TYPE', 'pubsub')
    await until('it has lost it', () => !lost.holds(ino))
    await lost.shutdown()
    t.equal(await entries(), 0, 'lost')
  })

  check(
    'others wait for a holder that is away until its time is over, and it is wrong about nothing',
    async (t, volume) => {
      const [a, b] = [await volume.client(EAGER), await volume.client(EAGER)]
      const { ino } = await touch(a, ROOT, 'file')
      await held(a, ino)
      volume.cut(a)
      await writeAt(b, ino, 0, 10)
      t.notOk(a.holds(ino))
      volume.mend(a)
    },
  )

  for (const [how, remove] of removals()) {
    check(`a file that is open by a delegation outlives ${how}`, async (t, volume) => {
      const [a, b] = [await volume.client(EAGER), await volume.client(EAGER)]
      const dir = await makeDirIn(a, ROOT, 'dir', { not: ROOT })
      for (const by of [b, a]) {
        const { ino } = await touch(a, ROOT, 'file')
        await held(a, ino)
        t.ok(a.openHeld(ino))
        await remove(by, dir.ino)
        t.equal((await a.getattr(ino)).nlink, 0, by === a ? 'by itself' : 'by another')
        a.close(ino)
        await until('it is gone', async () => (await outcome(a.getattr(ino))) === 'ENOENT')
      }
    })
  }

  check(
    'a file that is opened by a delegation in a freeze outlives an unlink that waits for the thaw',
    async (t, volume) => {
      const [a, b] = [await volume.client(EAGER), await volume.client({ delegations: { enabled: false } })]
      const locks = `{${volume.settings.name}.${ROOT}}:x`
      const { ino } = await touch(b, ROOT, 'file')
      const other = await touch(b, ROOT, 'other')
      await a.open(other.ino, { truncate: false })
      await volume.redis.run(SCRIPTS.freeze, [locks], ['somebody', 600_000])
      // That it is closed cannot be told before the thaw.
      a.close(other.ino)
      await pause(50)
      await held(a, ino)
      t.ok(a.openHeld(ino))
      const openers = `{${volume.settings.name}.${ROOT}}:o`
      await until('it is registered', async () => (await volume.redis.call('HEXISTS', openers, ino)) === 1)
      await until('the delegation is over', async () => {
        const field = await volume.redis.call('HGET', locks, 'D')
        return !Buffer.isBuffer(field) || field.length === 15 || field.readUIntLE(25, 6) < Date.now()
      })
      const removing = b.unlink(ROOT, bytes('file'))
      await volume.redis.run(SCRIPTS.thaw, [locks], ['somebody'])
      await removing
      t.equal((await a.getattr(ino)).nlink, 0)
      a.close(ino)
      await until('it is gone', async () => (await outcome(a.getattr(ino))) === 'ENOENT')
    },
  )

  check('what stays open is registered soon, what is closed at once never', async (_t, volume) => {
    const a = await volume.client(EAGER)
    const { ino } = await touch(a, ROOT, 'file')
    await held(a, ino)
    a.openHeld(ino)
    a.close(ino)
    a.openHeld(ino)
    await until('it is registered', async () => {
      const openers = await volume.redis.call('HEXISTS', `{${volume.settings.name}.${ROOT}}:o`, ino)
      return openers === 1
    })
    a.close(ino)
    await until('it is not any more', async () => {
      const openers = await volume.redis.call('HEXISTS', `{${volume.settings.name}.${ROOT}}:o`, ino)
      return openers === 0
    })
  })

  check('a subscription that is lost takes everything along', async (_t, volume) => {
    const a = await volume.client(EAGER)
    await held(a, ROOT)
    await redis.command(0, 'CLIENT', 'KILL', 'TYPE', 'pubsub')
    await until('it has noticed', () => !a.holds(ROOT))
    await held(a, ROOT)
  })

  check('two that change in turns wait for each other less and less often', async (t, volume) => {
    const eager = { ...EAGER, delegations: { quietMs: 0, restMs: 100 } }
    const [a, b] = [await volume.client(eager), await volume.client(eager)]
    let held = 0
    for (let i = 0; i < 100; i++) {
      await touch(i % 2 === 0 ? a : b, ROOT, `f${i}`)
      if (a.holds(ROOT) || b.holds(ROOT)) held++
      await pause(10)
    }
    t.ok(held < 50, `held after ${held} of 100 changes`)
  })
})

/** Refused, or nothing to do. */
function refusals(by: MetaStore, ino: number): [string, string, () => Promise<unknown>][] {
  return [
    ['an unlink of nothing', 'ENOENT', () => by.unlink(ROOT, bytes('none'))],
    ['O_CREAT of a file that is there', 'ok', () => by.create(ROOT, bytes('file'), newFile(), OPEN_OLD)],
    ['O_EXCL', 'EEXIST', () => by.create(ROOT, bytes('file'), newFile(), { exclusive: true, open: false })],
    ['mkdir -p', 'EEXIST', () => by.mkdir(ROOT, bytes('dir'), 0o755, 0, 0)],
    ['rmdir of what is full', 'ENOTEMPTY', () => by.rmdir(ROOT, bytes('dir'))],
    ['a link over', 'EEXIST', () => by.link(ino, ROOT, bytes('file'))],
    ['a rename of nothing', 'ENOENT', () => by.rename(ROOT, bytes('none'), ROOT, bytes('x'), {})],
    ['a rename to itself', 'ok', () => by.rename(ROOT, bytes('file'), ROOT, bytes('file'), {})],
    ['an attribute that is not there', 'ENODATA', () => by.removexattr(ino, bytes('user.none'))],
    ['a cut of nothing', 'ENOENT', () => by.setattr(ino + 1_000_000 * ino, { sizeBytes: 0 })],
  ]
}

const OPEN_OLD = { exclusive: false, open: false }

async function statistic(redis: TestRedis, command: string): Promise<number> {
  const text = String(await redis.command(0, 'INFO', 'commandstats'))
  return Number(new RegExp(`cmdstat_${command}:calls=(\\d+)`).exec(text)?.[1] ?? 0)
}

function removals(): [string, (by: MetaStore, dir: number) => Promise<unknown>][] {
  return [
    ['an unlink', (by) => by.unlink(ROOT, bytes('file'))],
    [
      'a rename over it',
      async (by) => {
        await touch(by, ROOT, 'new')
        await by.rename(ROOT, bytes('new'), ROOT, bytes('file'), {})
        await by.unlink(ROOT, bytes('file'))
      },
    ],
    [
      'a rename over it from elsewhere',
      async (by, dir) => {
        await touch(by, dir, 'new')
        await by.rename(dir, bytes('new'), ROOT, bytes('file'), {})
        await by.unlink(ROOT, bytes('file'))
      },
    ],
  ]
}
