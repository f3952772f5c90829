/**
 * Copies that share chunks, on a real redis-server and real chunk stores: whatever is copied, written over, cut and removed
 * while janitors work without a grace period, every file reads as it should; and at the end no chunk is left.
 */
import t from 'tap'
import { PosixError } from '../../src/base/errno.js'
import { silentLog } from '../../src/base/log.js'
import { GIB, KIB, MIB, ROOT_INO, WINDOW_BYTES } from '../../src/base/limits.js'
import type { RedisStore } from '../../src/cluster/contract.js'
import type { MetaStore } from '../../src/meta/contract.js'
import { VolumeKeys } from '../../src/meta/keys.js'
import type { VfsContract } from '../../src/vfs/contract.js'
import { createVfs } from '../../src/vfs/vfs.js'
import { startCluster } from '../helpers/chunks.js'
import { CountingRedis } from '../helpers/counting-redis.js'
import { MemoryChunks } from '../helpers/memory-chunks.js'
import { cloneRange, collected, namedChunks } from '../helpers/meta-clones.js'
import { ROOT, bytes, outcome, touch, volumesOn, writeAt, type MetaVolume } from '../helpers/meta.js'
import { propertyRun } from '../helpers/property.js'
import { startRedis } from '../helpers/redis.js'
import { randomFrom } from '../helpers/random.js'

const CALLER = { uid: 0, gid: 0, pid: 1 }
const O_RDWR = 2
const O_CREAT = 0o100
const PUNCH = 3
/** Around the border of two windows. */
const BASE = WINDOW_BYTES - 512 * KIB
const SPAN = MIB
/** Of copies without bytes in a run, at least. */
const COPIES_MIN = 10

const redis = await startRedis(t)

/** Janitors that work without a grace period, one after the other and, as the lease is broken, at once. */
class Janitors {
  readonly #volume: MetaVolume
  readonly #metas: readonly MetaStore[]
  readonly #remove: (ids: readonly number[]) => Promise<void>
  #stopped = false
  readonly #running: Promise<unknown>

  constructor(volume: MetaVolume, metas: readonly MetaStore[], remove: (ids: readonly number[]) => Promise<void>) {
    this.#volume = volume
    this.#metas = metas
    this.#remove = remove
    this.#running = Promise.all(metas.map((meta) => this.#work(meta)))
  }

  async #work(meta: MetaStore): Promise<void> {
    const lease = new VolumeKeys(this.#volume.settings.name, this.#volume.settings.partitions).wide('j')
    while (!this.#stopped) {
      await this.#volume.redis.call('DEL', lease)
      await meta.collectGarbage(this.#remove, 0)
      await new Promise((resolve) => setTimeout(resolve, 1))
    }
  }

  async stop(): Promise<void> {
    this.#stopped = true
    await this.#running
    for (let round = 0; round < 3; round++) for (const meta of this.#metas) await meta.collectGarbage(this.#remove, 0)
  }
}

interface Model {
  bytes: Buffer
  size: number
}

/** Files as they should read, from BASE on; what lies before is a hole. */
class Files {
  readonly #vfses: readonly VfsContract[]
  readonly #random: () => number
  readonly #models = new Map<string, Model>()
  #fill = 0
  copies = 0

  constructor(vfses: readonly VfsContract[], random: () => number) {
    this.#vfses = vfses
    this.#random = random
  }

  #nat(below: number): number {
    return Math.floor(this.#random() * below)
  }

  #client(): VfsContract {
    const vfs = this.#vfses[this.#nat(this.#vfses.length)]
    if (vfs === undefined) throw new Error('there are clients')
    return vfs
  }

  #name(): string {
    return 'abcd'.charAt(this.#nat(4))
  }

  #model(name: string): Model {
    const known = this.#models.get(name) ?? { bytes: Buffer.alloc(SPAN), size: 0 }
    this.#models.set(name, known)
    return known
  }

  async #with<T>(vfs: VfsContract, name: string, work: (handle: number, ino: number) => Promise<T>): Promise<T> {
    const { attr, handle } = await vfs.create(CALLER, ROOT_INO, bytes(name), 0o644, O_RDWR | O_CREAT)
    try {
      if (attr.sizeBytes < BASE) await vfs.setattr(CALLER, attr.ino, { sizeBytes: BASE }, handle)
      return await work(handle, attr.ino)
    } finally {
      await vfs.release(handle)
    }
  }

  async step(): Promise<void> {
    const kind = this.#random()
    const name = this.#name()
    const offset = this.#nat(SPAN - 1)
    const length = 1 + this.#nat(SPAN - offset)
    if (kind < 0.3) await this.#write(name, offset, Math.min(length, 200_000))
    else if (kind < 0.65) await this.#copy(name, this.#name())
    else if (kind < 0.75) await this.#punch(name, offset, length)
    else if (kind < 0.8) await this.#truncate(name, offset)
    else if (kind < 0.85) await this.#unlink(name)
    else await this.check(name)
  }

  async #write(name: string, offset: number, length: number): Promise<void> {
    const model = this.#model(name)
    const data = Buffer.alloc(length, (this.#fill = (this.#fill % 250) + 1))
    const vfs = this.#client()
    await this.#with(vfs, name, (handle) => vfs.write(handle, BASE + offset, data))
    data.copy(model.bytes, offset)
    model.size = Math.max(model.size, offset + length)
  }

  async #copy(from: string, to: string): Promise<void> {
    const [source, target] = [this.#model(from), this.#model(to)]
    const [start, at] = [this.#nat(SPAN / 2), this.#nat(SPAN / 2)]
    const length = 64 * KIB + this.#nat(SPAN / 2 - 64 * KIB)
    const vfs = this.#client()
    const done = await this.#with(vfs, from, (one) =>
      this.#with(vfs, to, (other) =>
        vfs.copyRange(one, BASE + start, other, BASE + at, length).catch((error: unknown) => {
          // Too little, overlapping, or the janitor was at it: the kernel copies the bytes.
          if (error instanceof PosixError && ['EOPNOTSUPP', 'EINVAL'].includes(error.code)) return 0
          throw error
        }),
      ),
    )
    if (done === 0) return
    this.copies++
    Buffer.from(source.bytes.subarray(start, start + done)).copy(target.bytes, at)
    target.size = Math.max(target.size, at + done)
  }

  async #punch(name: string, offset: number, length: number): Promise<void> {
    const vfs = this.#client()
    await this.#with(vfs, name, (handle) => vfs.fallocate(handle, PUNCH, BASE + offset, length))
    this.#model(name).bytes.fill(0, offset, offset + length)
  }

  async #truncate(name: string, size: number): Promise<void> {
    const vfs = this.#client()
    await this.#with(vfs, name, (handle, ino) => vfs.setattr(CALLER, ino, { sizeBytes: BASE + size }, handle))
    const model = this.#model(name)
    model.bytes.fill(0, size)
    model.size = size
  }

  async #unlink(name: string): Promise<void> {
    await this.#client()
      .unlink(CALLER, ROOT_INO, bytes(name))
      .catch(() => undefined)
    this.#models.delete(name)
  }

  async check(name: string): Promise<void> {
    const vfs = this.#client()
    const model = this.#model(name)
    const read = await this.#with(vfs, name, (handle) => vfs.read(handle, BASE, SPAN))
    const expected = model.bytes.subarray(0, model.size)
    if (read.equals(expected)) return
    const at = read.findIndex((byte, i) => byte !== expected[i])
    throw new Error(`${name}: ${read.length} bytes, not ${model.size}; first difference at ${at}`)
  }

  /** Checks all and removes them. */
  async end(): Promise<void> {
    for (const name of 'abcd') {
      await this.check(name)
      await this.#unlink(name)
    }
  }
}

t.test('files that share chunks read as they should while janitors work', { timeout: 300_000 }, async (t) => {
  const { numRuns, seed } = propertyRun(t, 4)
  for (let run = 0; run < numRuns; run++) {
    const volume = await volumesOn(t, redis)(4)
    const cluster = await startCluster(t, { nodes: 1, replicas: 1, writeQuorum: 1 })
    const metas = [await volume.client(), await volume.client()]
    const vfses = metas.map((meta) => createVfs({ meta, chunks: cluster.client, log: silentLog }))
    const files = new Files(vfses, randomFrom(seed + run))
    const janitors = new Janitors(volume, [await volume.client(), await volume.client()], (ids) =>
      cluster.client.remove(ids),
    )
    // Some seeds take longer to come to what it is about.
    for (let step = 0; step < 120 || files.copies <= COPIES_MIN; step++) await files.step()
    await files.end()
    for (const vfs of vfses) await vfs.shutdown()
    for (const meta of metas) await meta.shutdown()
    await janitors.stop()
    t.ok(files.copies > COPIES_MIN, `${files.copies} copies without bytes`)
    t.equal(cluster.nodes[0]?.store.chunks, 0, 'no chunk is left')
    await volume.close()
  }
})

t.test('clients at the same files, stopped and slowed between their steps', { timeout: 300_000 }, async (t) => {
  const { numRuns, seed } = propertyRun(t, 6)
  for (let run = 0; run < numRuns; run++) {
    const random = randomFrom(seed + run)
    const slow = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, random() < 0.3 ? random() * 8 : 0))
    const volume = await volumesOn(t, redis)(4)
    const clients = await Promise.all([1, 2, 3].map(() => volume.client({ onStep: slow })))
    const [first] = clients
    if (first === undefined) throw new Error('there are clients')
    const inos = (await Promise.all(['a', 'b', 'c'].map((name) => touch(first, ROOT, name)))).map(({ ino }) => ino)
    const removed = new Set<number>()
    const sweepers = await Promise.all([1, 2].map(() => volume.client({ onStep: slow })))
    const janitors = new Janitors(volume, sweepers, (ids) => {
      for (const id of ids) removed.add(id)
      return Promise.resolve()
    })
    let clones = 0
    const made = new Set<number>()
    const work = clients.map(async (meta) => {
      for (let step = 0; step < 50; step++) {
        const pick = (): number => inos[Math.floor(random() * inos.length)] ?? 0
        const place = (): number => Math.floor(random() * 2) * WINDOW_BYTES + Math.floor(random() * 5) * 10
        const kind = random()
        if (kind < 0.3) made.add((await writeAt(meta, pick(), place(), 10)).chunk?.id ?? 0)
        else if (kind < 0.85) {
          if ((await cloneRange(meta, pick(), place(), pick(), place(), 30)) !== null) clones++
        } else await outcome(meta.setattr(pick(), { sizeBytes: place() }))
      }
    })
    await Promise.all(work)
    const lost: number[] = []
    for (const ino of inos) for (const id of await namedChunks(first, ino)) if (removed.has(id)) lost.push(id)
    t.same(lost, [], `seed ${seed + run}: no chunk that is named was deleted, in ${clones} clones`)
    t.ok(clones > 5, `${clones} clones`)
    for (const name of ['a', 'b', 'c']) await first.unlink(ROOT, bytes(name))
    await janitors.stop()
    for (const id of await collected(first)) removed.add(id)
    t.same(
      [...made].filter((id) => !removed.has(id)),
      [],
      'no chunk is left',
    )
    await volume.close()
  }
})

t.test('a copy of 1 GiB asks a bounded number of questions and moves no byte', { timeout: 300_000 }, async (t) => {
  let counting: CountingRedis | undefined
  const wrap = (store: RedisStore): RedisStore => (counting = new CountingRedis(store))
  const volume = await volumesOn(t, redis, wrap)(8)
  const meta = await volume.client()
  if (counting === undefined) throw new Error('the store is wrapped')
  const chunks = new MemoryChunks()
  let touched = 0
  chunks.before = () => {
    touched++
  }
  // The chunks of this test are names only.
  chunks.sync = () => Promise.resolve()
  const vfs = createVfs({ meta, chunks, log: silentLog })
  const { attr, handle } = await vfs.create(CALLER, ROOT_INO, bytes('from'), 0o644, O_RDWR | O_CREAT)
  for (let at = 0; at < GIB; at += 4 * MIB) await writeAt(meta, attr.ino, at, 4 * MIB)
  const target = await vfs.create(CALLER, ROOT_INO, bytes('to'), 0o644, O_RDWR | O_CREAT)
  let copied = 0
  const trips = await counting.during(async () => {
    copied = await vfs.copyRange(handle, 0, target.handle, 0, 2 * GIB)
  })
  t.equal(copied, GIB)
  // 16 windows of each file at once, and five steps.
  t.ok(trips <= 2 * 16 + 5, `${trips} questions`)
  t.equal(touched, 0)
  t.same(await namedChunks(meta, target.attr.ino), await namedChunks(meta, attr.ino))
  await vfs.shutdown()
  await volume.close()
})
