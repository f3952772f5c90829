/** A partition's counters are counted anew, by pages, while clients change them (src/check/recount.ts). */
import t, { type Test } from 'tap'
import { recount, type RecountOptions } from '../../src/check/recount.js'
import type { RedisArg, RedisStore, RedisValue } from '../../src/cluster/contract.js'
import type { MetaStore } from '../../src/meta/contract.js'
import { PosixError } from '../../src/base/errno.js'
import { VolumeKeys } from '../../src/meta/keys.js'
import { readCounters, scanPartition, type Counters } from '../../src/meta/scan.js'
import { SCRIPTS } from '../../src/meta/scripts.js'
import { bound } from '../helpers/bound-redis.js'
import {
  PARTITIONS,
  ROOT,
  bytes,
  makeDir,
  makeDirIn,
  newFile,
  touch,
  volumesOn,
  writeAt,
  type MetaVolume,
} from '../helpers/meta.js'
import { randomFrom } from '../helpers/random.js'
import { startRedis } from '../helpers/redis.js'

t.setTimeout(300_000)

const MTIME = { sec: 1_700_000_000, nsec: 7 }
const PAGE = 7
const QUIET: RecountOptions = { mends: true, page: PAGE, onProgress: () => undefined }
const COUNTING = new Set([SCRIPTS.countList.name, SCRIPTS.countPage.name, SCRIPTS.setCounts.name])

const redis = await startRedis(t)
const open = volumesOn(t, redis)

interface Bed {
  readonly volume: MetaVolume
  readonly meta: MetaStore
  readonly keys: VolumeKeys
  /** What there is: to be asked while nothing changes. */
  readonly sumOf: (partition: number) => Promise<Counters>
  readonly countersOf: (partition: number) => Promise<Counters>
}

async function bed(atOnce = true): Promise<Bed> {
  const volume = await open()
  const meta = await volume.client({ atOnce, numbersAhead: 4 })
  const keys = new VolumeKeys(volume.settings.name, PARTITIONS)
  const sumOf = async (partition: number): Promise<Counters> => {
    const sum = { inodes: 0, bytes: 0, inline: 0 }
    const ignore = (): undefined => undefined
    await scanPartition(volume.redis, keys, partition, {
      inode: (_, { attr }) => {
        sum.inodes++
        sum.bytes += attr.allocatedBytes
      },
      body: (_, body) => void (sum.inline += body.length),
      ...{ unreadable: ignore, name: ignore, extents: ignore },
    })
    return sum
  }
  return { volume, meta, keys, sumOf, countersOf: (p) => readCounters(volume.redis, keys, p) }
}

/** `before` the `n`-th page, from 0, is asked for. */
function beforePages(store: RedisStore, before: (page: number) => Promise<unknown>): RedisStore {
  let page = 0
  return {
    ...bound(store),
    run: async (script, ...rest) => {
      if (script.name === SCRIPTS.countPage.name) await before(page++)
      return await store.run(script, ...rest)
    },
  }
}

async function skew({ volume, keys }: Bed, partition: number): Promise<void> {
  const { counters } = keys.partition(partition)
  await volume.redis.call('HINCRBY', counters, 'inodes', 7)
  await volume.redis.call('HINCRBY', counters, 'bytes', -4096)
  await volume.redis.call('HINCRBY', counters, 'inline', 11)
}

async function manyFiles({ meta }: Bed, parent: number, count: number): Promise<void> {
  for (let i = 0; i < count; i++) {
    const { ino } = await touch(meta, parent, `file${i}`)
    if (i % 3 === 0) await writeAt(meta, ino, 0, 1000 + i)
    if (i % 3 === 1) await keep(meta, ino, `body of ${i}`)
  }
}

async function keep(meta: MetaStore, ino: number, text: string): Promise<void> {
  const pieces = [{ fileOffset: 0, bytes: Buffer.from(text) }]
  await meta.commitInline(ino, { pieces, mode: 'at', allocatedDeltaBytes: text.length, mtime: MTIME })
}

/** Random changes of all that is counted, in directories of all partitions. */
class Changes {
  readonly #meta: MetaStore
  readonly #random: () => number
  readonly #folders: number[] = []
  #made = 0

  constructor(meta: MetaStore, seed: number) {
    this.#meta = meta
    this.#random = randomFrom(seed)
  }

  async prepare(): Promise<void> {
    for (let partition = 0; partition < PARTITIONS; partition++)
      this.#folders.push((await makeDirIn(this.#meta, ROOT, `folder${partition}`, { partition })).ino)
  }

  async some(count: number): Promise<void> {
    for (let i = 0; i < count; i++) {
      try {
        await this.#one()
      } catch (error) {
        if (!(error instanceof PosixError)) throw error
      }
    }
  }

  #among(count: number): number {
    return Math.floor(this.#random() * count)
  }

  /** Few names: they meet. */
  #name(): Buffer {
    return bytes(`name${this.#among(12)}`)
  }

  async #one(): Promise<void> {
    const meta = this.#meta
    const [folder = ROOT, other = ROOT] = [0, 1].map(() => this.#folders[this.#among(this.#folders.length)])
    const name = this.#name()
    const file = async (): Promise<number> => {
      const { attr } = await meta.create(folder, name, newFile(), { exclusive: false, open: false })
      return attr.ino
    }
    const size = this.#among(5000)
    const ways: (() => Promise<unknown>)[] = [
      () => touch(meta, folder, `new${this.#made++}`),
      () => meta.unlink(folder, name),
      async () => await writeAt(meta, await file(), this.#among(3) * 4096, 4096),
      async () => await keep(meta, await file(), 'x'.repeat(1 + this.#among(300))),
      async () => await meta.setattr(await file(), { sizeBytes: size }),
      () => meta.rename(folder, name, other, this.#name(), {}),
      async () => await meta.link(await file(), other, this.#name()),
      () => meta.mkdir(folder, bytes(`sub${this.#among(4)}`), 0o755, 0, 0),
      () => meta.rmdir(folder, bytes(`sub${this.#among(4)}`)),
      async () => meta.close((await meta.tmpfile(folder, newFile())).ino),
    ]
    await ways[this.#among(ways.length)]?.()
  }
}

for (const atOnce of [true, false]) {
  const how = atOnce ? 'one script' : 'several steps'
  t.test(`what is counted is exact while clients change it, across partitions in ${how}`, async (t) => {
    const seed = Date.now() % 1_000_000
    t.comment(`seed ${seed}`)
    const one = await bed(atOnce)
    const changes = new Changes(one.meta, seed)
    await changes.prepare()
    await changes.some(300)
    for (let partition = 0; partition < PARTITIONS; partition++) {
      await skew(one, partition)
      let pages = 0
      const store: RedisStore = {
        ...bound(one.volume.redis),
        run: async (script, ...rest) => {
          if (script.name === SCRIPTS.countPage.name) pages++
          if (COUNTING.has(script.name)) await changes.some(25)
          return await one.volume.redis.run(script, ...rest)
        },
      }
      const result = await recount(store, one.keys, partition, { ...QUIET, page: 4 })
      t.equal(result === null ? 0 : result.counted.inodes - result.actual.inodes, 7)
      t.equal(result === null ? 0 : result.counted.bytes - result.actual.bytes, -4096)
      t.equal(result === null ? 0 : result.counted.inline - result.actual.inline, 11)
      t.ok(pages > 2, `${pages} pages`)
    }
    await one.volume.close()
    for (let partition = 0; partition < PARTITIONS; partition++)
      t.same(await one.countersOf(partition), await one.sumOf(partition), `partition ${partition}`)
  })
}

/** A bed with a skewed partition of files in several pages. */
async function skewed(): Promise<Bed & { readonly folder: number; readonly partition: number }> {
  const one = await bed()
  const { ino: folder } = await makeDir(one.meta, ROOT, 'folder')
  await manyFiles(one, folder, 4 * PAGE)
  const partition = folder % PARTITIONS
  await skew(one, partition)
  return { ...one, folder, partition }
}

async function isRight(t: Test, one: Bed, partition: number): Promise<void> {
  t.same(await one.countersOf(partition), await one.sumOf(partition))
  t.equal(await one.volume.redis.call('HGET', one.keys.partition(partition).locks, 'C'), null, 'it has ended')
}

t.test('without a change counters are only looked at', async (t) => {
  const one = await skewed()
  const was = await one.countersOf(one.partition)
  const result = await recount(one.volume.redis, one.keys, one.partition, { ...QUIET, mends: false })
  t.same(result?.counted, was)
  t.same(result?.actual, await one.sumOf(one.partition))
  t.same(await one.countersOf(one.partition), was)
})

t.test('a page, and all else, that is asked for twice counts once', async (t) => {
  const one = await skewed()
  const twice: RedisStore = {
    ...bound(one.volume.redis),
    run: async (...call) => {
      const reply = await one.volume.redis.run(...call)
      return call[0].name === SCRIPTS.countEnd.name ? reply : await one.volume.redis.run(...call)
    },
  }
  t.ok(await recount(twice, one.keys, one.partition, QUIET))
  await isRight(t, one, one.partition)
})

t.test('late copies of what began it, and of a page, change nothing', async (t) => {
  const one = await skewed()
  const calls: [readonly string[], readonly RedisArg[], string][] = []
  let pages = 0
  const store: RedisStore = {
    ...bound(one.volume.redis),
    run: async (script, keys, args, options) => {
      if (script.name === SCRIPTS.countPage.name && pages++ === 2) {
        await touch(one.meta, one.folder, 'newer')
        await one.volume.redis.call('HINCRBY', one.keys.partition(one.partition).counters, 'n', 100)
        for (const [lateKeys, lateArgs, name] of calls)
          await one.volume.redis.run(name === 'begin' ? SCRIPTS.countBegin : SCRIPTS.countPage, lateKeys, lateArgs)
      }
      if (script.name === SCRIPTS.countBegin.name) calls.push([keys, args, 'begin'])
      if (script.name === SCRIPTS.countPage.name) calls.push([keys, args, 'page'])
      return await one.volume.redis.run(script, keys, args, options)
    },
  }
  t.ok(await recount(store, one.keys, one.partition, QUIET))
  await isRight(t, one, one.partition)
})

t.test('after a failover that lost pages it goes on from where the new server is', async (t) => {
  const one = await skewed()
  const { locks } = one.keys.partition(one.partition)
  let kept: RedisValue = null
  const pages: number[] = []
  const store = beforePages(one.volume.redis, async (page) => {
    pages.push(page)
    if (page === 1) kept = await one.volume.redis.call('HGET', locks, 'C')
    if (page === 3 && Buffer.isBuffer(kept)) await one.volume.redis.call('HSET', locks, 'C', kept)
  })
  t.ok(await recount(store, one.keys, one.partition, QUIET))
  t.ok(pages.length >= 7, `${pages.length} pages`)
  await isRight(t, one, one.partition)
})

t.test('another list of inodes is made where the server became another one meanwhile', async (t) => {
  const one = await skewed()
  let asked = 0
  let lists = 0
  const store: RedisStore = {
    ...bound(one.volume.redis),
    run: async (script, ...rest) => {
      if (script.name === SCRIPTS.countList.name) lists++
      if (script.name === SCRIPTS.history.name && ++asked === 2) return Buffer.from('another')
      return await one.volume.redis.run(script, ...rest)
    },
  }
  t.ok(await recount(store, one.keys, one.partition, QUIET))
  t.equal(asked, 4)
  t.ok(lists >= 2)
  await isRight(t, one, one.partition)
})

t.test('of two that count the later goes on; the first begins anew', async (t) => {
  const one = await skewed()
  let isTaken = false
  const store = beforePages(one.volume.redis, async (page) => {
    if (page !== 2 || isTaken) return
    isTaken = true
    t.ok(await recount(one.volume.redis, one.keys, one.partition, QUIET))
    await skew(one, one.partition)
  })
  const result = await recount(store, one.keys, one.partition, QUIET)
  t.equal(result === null ? 0 : result.counted.inodes - result.actual.inodes, 7)
  await isRight(t, one, one.partition)
})

t.test('where changes go past it, as of an older program, nothing is set', async (t) => {
  const one = await skewed()
  const { counters } = one.keys.partition(one.partition)
  const before = await one.countersOf(one.partition)
  let times = 0
  const store = beforePages(one.volume.redis, async () => {
    times++
    await one.volume.redis.call('HINCRBY', counters, 'bytes', 1)
  })
  t.equal(await recount(store, one.keys, one.partition, QUIET), null)
  t.same(await one.countersOf(one.partition), { ...before, bytes: before.bytes + times })
})

t.test('one that died costs nothing after its time: the next change takes its mark away', async (t) => {
  const one = await skewed()
  const { locks } = one.keys.partition(one.partition)
  const died = new Error('died')
  const store: RedisStore = {
    ...beforePages(one.volume.redis, async (page) => {
      if (page !== 2) return
      const mark = await one.volume.redis.call('HGET', locks, 'C')
      if (!Buffer.isBuffer(mark)) return
      // Its time is over.
      mark.writeUIntLE(1, 0, 6)
      await one.volume.redis.call('HSET', locks, 'C', mark)
      throw died
    }),
  }
  await t.rejects(recount(store, one.keys, one.partition, QUIET), died)
  t.not(await one.volume.redis.call('HGET', locks, 'C'), null)
  await touch(one.meta, one.folder, 'later')
  t.equal(await one.volume.redis.call('HGET', locks, 'C'), null)
  t.ok(await recount(one.volume.redis, one.keys, one.partition, QUIET))
  await isRight(t, one, one.partition)
})
