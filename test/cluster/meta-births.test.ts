/**
 * A directory's name is made in one partition and its inode a moment later in another (src/meta/births.ts). Here the making of
 * the inode is held back, lost or comes much too late, and others use the name meanwhile.
 */
import t, { type Test } from 'tap'
import { RingfsError } from '../../src/base/errors.js'
import type { RedisStore } from '../../src/cluster/contract.js'
import type { Attr, MetaStore } from '../../src/meta/contract.js'
import { bound } from '../helpers/bound-redis.js'
import { CountingRedis } from '../helpers/counting-redis.js'
import { checkVolume } from '../helpers/meta-check.js'
import {
  PARTITIONS,
  ROOT,
  bytes,
  claim,
  makeDirIn,
  names,
  outcome,
  touch,
  volumesOn,
  type MetaVolume,
} from '../helpers/meta.js'
import { startRedis } from '../helpers/redis.js'

/** Nothing is awaited but the name: the inode may be held back. */
function nameDir(meta: MetaStore, parent: number, name: string): Promise<Attr> {
  return meta.mkdir(parent, bytes(name), 0o755, 1000, 1000)
}

/** What one client sends of births and sweeps. */
class Midwife {
  /** Births are not sent, and fail. */
  isAway = false
  readonly late: (() => Promise<unknown>)[] = []
  #counting: CountingRedis | undefined

  wrap(store: RedisStore): RedisStore {
    const counting = new CountingRedis(store)
    this.#counting = counting
    const run = counting.run.bind(counting)
    counting.run = async (script, keys, args, options) => {
      if (script.name === 'born') {
        this.late.push(() => store.run(script, keys, args, options))
        if (this.isAway) throw new RingfsError('REDIS_UNREACHABLE', 'held back by the test')
      }
      return await run(script, keys, args, options)
    }
    return counting
  }

  get counting(): CountingRedis {
    if (this.#counting === undefined) throw new Error('no client yet')
    return this.#counting
  }
}

interface Ground {
  readonly volume: MetaVolume
  /** Its births are held back from when it has made directory `x` in `parent`. */
  readonly maker: MetaStore
  readonly midwife: Midwife
  readonly other: MetaStore
  /** In partition 2; another in 3. */
  readonly parent: Attr
  readonly far: Attr
  readonly x: Attr
}

const redis = await startRedis(t)
let wrapNext: Midwife | undefined
const open = volumesOn(t, redis, (store) => {
  const wrapped = wrapNext?.wrap(store) ?? store
  wrapNext = undefined
  return wrapped
})

async function client(volume: MetaVolume, midwife: Midwife, numbersAhead = 1): Promise<MetaStore> {
  wrapNext = midwife
  return volume.client({ numbersAhead, sessionTtlMs: 3_600_000 })
}

/** A directory that has a name and no inode. */
async function unborn(volume: MetaVolume): Promise<Ground> {
  const midwife = new Midwife()
  const maker = await client(volume, midwife)
  const other = await volume.client()
  const parent = await makeDirIn(maker, ROOT, 'parent', { partition: 2 })
  const far = await makeDirIn(maker, ROOT, 'far', { partition: 3 })
  await midwife.counting.settle()
  midwife.isAway = true
  let x = await nameDir(maker, parent.ino, 'x')
  while (x.ino % PARTITIONS === 2) {
    await maker.rename(parent.ino, bytes('x'), parent.ino, bytes(`near${x.ino}`), {})
    x = await nameDir(maker, parent.ino, 'x')
  }
  return { volume, maker, midwife, other, parent, far, x }
}

const USES: readonly { readonly what: string; readonly use: (t: Test, ground: Ground) => Promise<unknown> }[] = [
  {
    what: 'looked up',
    use: async (t, { other, parent, x }) => t.same(await other.lookup(parent.ino, bytes('x')), x),
  },
  {
    what: 'listed and used',
    use: async (t, { other, parent, x }) => {
      t.strictSame((await names(other, parent.ino)).includes('x'), true)
      await touch(other, x.ino, 'file')
      t.strictSame(await names(other, x.ino), ['file'])
    },
  },
  {
    what: 'made again',
    use: async (t, { other, parent }) => t.equal(await outcome(nameDir(other, parent.ino, 'x')), 'EEXIST'),
  },
  {
    what: 'made again as a file',
    use: async (t, { other, parent }) => {
      const create = other.create(parent.ino, bytes('x'), { type: 'file', mode: 0o644, uid: 0, gid: 0 }, SHARED)
      t.equal((await create).attr.type, 'directory')
    },
  },
  {
    what: 'removed',
    use: async (t, { other, parent }) => {
      await other.rmdir(parent.ino, bytes('x'))
      t.equal(await outcome(other.lookup(parent.ino, bytes('x'))), 'ENOENT')
    },
  },
  {
    what: 'removed by its inode',
    use: async (t, { other, parent, x }) => {
      await other.rmdir(parent.ino, bytes('x'), undefined, x.ino)
      t.equal(await outcome(other.lookup(parent.ino, bytes('x'))), 'ENOENT')
    },
  },
  {
    what: 'renamed',
    use: async (t, { other, parent, x }) => {
      await other.rename(parent.ino, bytes('x'), parent.ino, bytes('y'), {})
      t.equal((await other.lookup(parent.ino, bytes('y'))).ino, x.ino)
    },
  },
  {
    what: 'moved',
    use: async (t, { other, parent, far, x }) => {
      await other.rename(parent.ino, bytes('x'), far.ino, bytes('y'), {})
      t.match(await other.lookup(far.ino, bytes('y')), { ino: x.ino, parent: far.ino })
    },
  },
  {
    what: 'replaced',
    use: async (t, { other, parent, far }) => {
      const { ino } = await nameDir(other, far.ino, 'z')
      await other.rename(far.ino, bytes('z'), parent.ino, bytes('x'), {})
      t.equal((await other.lookup(parent.ino, bytes('x'))).ino, ino)
    },
  },
  {
    what: 'exchanged',
    use: async (t, { other, parent, far, x }) => {
      await touch(other, parent.ino, 'f')
      await other.rename(parent.ino, bytes('x'), parent.ino, bytes('f'), { exchange: true })
      t.equal((await other.lookup(parent.ino, bytes('f'))).ino, x.ino)
      await touch(other, far.ino, 'g')
      await other.rename(parent.ino, bytes('f'), far.ino, bytes('g'), { exchange: true })
      t.match(await other.lookup(far.ino, bytes('g')), { ino: x.ino, parent: far.ino })
    },
  },
]

const SHARED = { exclusive: false, open: false }

for (const { what, use } of USES) {
  claim(t, open, `a directory whose inode is still to be made can be ${what}`, async (t, volume) => {
    const ground = await unborn(volume)
    await use(t, ground)
    ground.midwife.isAway = false
  })

  claim(t, open, `the same by who made it: ${what}`, async (t, volume) => {
    const ground = await unborn(volume)
    ground.midwife.isAway = false
    await use(t, { ...ground, other: ground.maker })
  })
}

claim(
  t,
  open,
  'what makes an inode makes it once, also when it comes after the directory was removed',
  async (t, volume) => {
    const { midwife, other, parent, x } = await unborn(volume)
    await other.lookup(parent.ino, bytes('x'))
    await other.rmdir(parent.ino, bytes('x'))
    t.ok(midwife.late.length > 0)
    for (const late of midwife.late) await late()
    t.equal(await outcome(other.getattr(x.ino)), 'ENOENT')
    midwife.isAway = false
  },
)

claim(t, open, 'what a client has not made yet it makes before it ends', async (t, volume) => {
  const { maker, midwife, other, parent, x } = await unborn(volume)
  midwife.isAway = false
  await maker.shutdown()
  t.same(await other.getattr(x.ino), x)
  t.equal((await other.lookup(ROOT, bytes('parent'))).ino, parent.ino)
})

t.test(
  'a directory that a late copy of a request names while its client ends is made, too',
  { timeout: 300_000 },
  async (t) => {
    let copy: (() => Promise<unknown>) | undefined
    const lossy = volumesOn(t, redis, (store) => {
      const run: RedisStore['run'] = async (script, keys, args, options) => {
        if (script.name === 'mkdir') {
          copy ??= () => store.run(script, keys, args, options)
          throw new RingfsError('REDIS_UNREACHABLE', 'lost by the test')
        }
        // What the session left has been listed by then, and its numbers are about to go.
        if (script.name === 'unreserve' || (script.name === 'reap' && args.at(-1) !== 0)) {
          const late = copy
          copy = undefined
          await late?.()
        }
        return await store.run(script, keys, args, options)
      }
      return { ...bound(store), run }
    })
    const volume = await lossy()
    const meta = await volume.client({ random: () => (ROOT + 1.5) / PARTITIONS })
    await t.rejects(nameDir(meta, ROOT, 'late'), { code: 'REDIS_UNREACHABLE' })
    t.ok(copy !== undefined)
    await meta.shutdown()
    t.equal(copy, undefined, 'it came')
    const other = await volume.client()
    const { ino } = await other.lookup(ROOT, bytes('late'))
    t.not(ino % PARTITIONS, ROOT % PARTITIONS)
    t.strictSame(await names(other, ino), [])
    await other.rmdir(ROOT, bytes('late'))
    await volume.close()
    t.strictSame(await checkVolume(volume), [], 'the volume is whole afterwards')
  },
)

claim(t, open, 'of two who make one directory at once one does, and the other loses nothing', async (t, volume) => {
  const [one, two] = [await volume.client({ numbersAhead: 16 }), await volume.client({ numbersAhead: 16 })]
  for (let i = 0; i < 40; i++) {
    const make = (meta: MetaStore): Promise<string> => outcome(nameDir(meta, ROOT, `d${i}`))
    t.strictSame((await Promise.all([make(one), make(two)])).sort(), ['EEXIST', 'ok'])
  }
})

claim(t, open, 'who makes a directory while its parent is removed makes it there or not at all', async (t, volume) => {
  const [one, two] = [await volume.client({ numbersAhead: 16 }), await volume.client()]
  for (let i = 0; i < 40; i++) {
    const { ino } = await nameDir(one, ROOT, `d${i}`)
    const [made, removed] = await Promise.all([
      outcome(nameDir(one, ino, 'x')),
      outcome(two.rmdir(ROOT, bytes(`d${i}`), undefined, ino)),
    ])
    const expected = removed === 'ok' ? ['ENOENT', 'ok'] : ['ok', 'ENOTEMPTY']
    t.strictSame([made, removed], expected)
  }
})

claim(t, open, 'directories spread over all partitions', async (t, volume) => {
  const meta = await volume.client({ numbersAhead: 16 })
  const homes = Array.from({ length: PARTITIONS }, () => 0)
  for (let i = 0; i < 4 * 16 * PARTITIONS; i++) {
    const { ino } = await nameDir(meta, ROOT, `d${i}`)
    homes[ino % PARTITIONS] = (homes[ino % PARTITIONS] ?? 0) + 1
  }
  t.strictSame(
    homes,
    homes.map(() => 64),
  )
})

t.test(
  'mkdir takes one round trip, and what follows in the new directory waits for no other',
  { timeout: 300_000 },
  async (t) => {
    const volume = await open()
    const midwife = new Midwife()
    const meta = await client(volume, midwife, 1_000)
    const parent = await nameDir(meta, ROOT, 'parent')
    const { counting } = midwife
    for (let i = 0; i < 5; i++) {
      t.equal(await counting.during(() => nameDir(meta, parent.ino, `d${i}`)), 1)
      await counting.settle()
      const { ino } = await nameDir(meta, parent.ino, `e${i}`)
      t.equal(await outcome(touch(meta, ino, 'file')), 'ok', 'sent behind the birth')
    }
    await volume.close()
    t.strictSame(await checkVolume(volume), [])
  },
)
