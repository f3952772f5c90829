/**
 * A folder of chunks that its disk cannot list: what is in it is served, and nothing is believed to be absent, or there, because of a list that
 * lacks it. Run by unlisted-folders.test.ts, on a disk that answers so (helpers/c/faulty-disk.c). Argument: the folder of that disk's notes.
 */
import { rmSync, truncateSync, unlinkSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'
import t, { type Test } from 'tap'
import { headOf, inventory } from '../../../src/check/nodes.js'
import { systemClock } from '../../../src/base/clock.js'
import { CHUNK_BUCKETS } from '../../../src/chunk/contract.js'
import { lackedOf } from '../../../src/chunk/node/compare.js'
import { digestOf, digestsOfDisk, idsOnDisk, placesOf } from '../../../src/chunk/node/digest.js'
import type { ChunkDisk } from '../../../src/chunk/node/disk.js'
import { Pace } from '../../../src/chunk/node/pace.js'
import { ChunkPaths, bucketOf } from '../../../src/chunk/node/paths.js'
import type { ChunkStore } from '../../../src/chunk/node/store.js'
import { AuditCluster, REPLICAS } from '../../helpers/audit-cluster.js'
import {
  CALL,
  VOLUME,
  chunkFile,
  failureOf,
  openStore,
  originOf,
  poolOf,
  randomChunk,
  startCluster,
  temporaryFolder,
  type TestChunk,
} from '../../helpers/chunks.js'
import { newFolders, openDisks } from '../../helpers/disks.js'
import { FaultyDisk } from '../../helpers/faulty-disk.js'
import { until } from '../../helpers/meta.js'

const ALL = { volume: VOLUME, fromBucket: 0, toBucket: CHUNK_BUCKETS, fromId: 0, limit: 100_000, headers: false }
/** Linux has no name for it in Node: the file system finds its own notes damaged. */
const EUCLEAN = 117
const CHUNKS = 200

t.setTimeout(300_000)

const [, , told = ''] = process.argv
const faulty = await FaultyDisk.make(told)

/** For the rest of the test, or until it is told otherwise: who removes its folders lists them. */
function cannotList(t: Test, folders: readonly string[], errno?: number): void {
  t.teardown(() => faulty.cannotList([]))
  faulty.cannotList(folders, errno)
}

const some = (first: number, count: number, bytes = 100): TestChunk[] =>
  Array.from({ length: count }, (_, index) => randomChunk(first + index, bytes))

async function listed(store: Pick<ChunkDisk, 'list'>): Promise<{ ids: number[]; gaps: number[] }> {
  const ids: number[] = []
  const gaps = new Set<number>()
  const onGaps = (buckets: readonly number[]): void => buckets.forEach((bucket) => gaps.add(bucket))
  for await (const page of idsOnDisk(store, VOLUME, 0, CHUNK_BUCKETS, onGaps)) ids.push(...page)
  return { ids: ids.sort((a, b) => a - b), gaps: [...gaps] }
}

async function isRead(store: Pick<ChunkDisk, 'read'>, { id, bytes }: TestChunk): Promise<boolean> {
  const range = await store.read(id, 0, bytes.length)
  const isSame = range.data.equals(bytes)
  range.release()
  return isSame
}

interface Filled {
  readonly folder: string
  readonly written: readonly TestChunk[]
  /** In the folder that is not listed. */
  readonly hidden: readonly number[]
  readonly others: readonly number[]
  readonly place: string
  readonly open: () => Promise<ChunkStore>
}

/** A store that was closed, with chunks that have files; one of its folders has several. */
async function filled(t: Test): Promise<Filled> {
  const folder = temporaryFolder(t)
  const pool = poolOf(t)
  const [first] = some(1, 1)
  if (first === undefined) throw new Error('there is one')
  // Of the same folder: positions are hashes.
  const more: TestChunk[] = []
  for (let id = 1000; more.length < 3; id++) if (bucketOf(id) === bucketOf(1)) more.push(randomChunk(id, 100))
  const written = [first, ...some(2, 20), ...more]
  const store = await openStore(folder, pool)
  for (const chunk of written) await store.put(chunk, chunk.data)
  await store.settle()
  store.abandon()
  const hidden = written.map(({ id }) => id).filter((id) => bucketOf(id) === bucketOf(1))
  const others = written.map(({ id }) => id).filter((id) => bucketOf(id) !== bucketOf(1))
  const open = (): Promise<ChunkStore> => openStore(folder, pool)
  return { folder, written, hidden, others, place: dirname(chunkFile(folder, 1)), open }
}

for (const [what, errno] of [
  ['EIO', undefined],
  ['EUCLEAN', EUCLEAN],
] as const)
  t.test(`${what}: a store opens, serves what is in the folder, and says which it is`, async (t) => {
    const { written, hidden, others, place, open } = await filled(t)
    cannotList(t, [place], errno)
    const store = await open()
    t.equal(store.chunks, others.length, 'as far as they can be counted')
    t.match(store.unlisted, { count: 1, why: place })
    for (const chunk of written) t.ok(await isRead(store, chunk), `chunk ${chunk.id} is read`)
    t.strictSame(await listed(store), { ids: others, gaps: [bucketOf(1)] })
    const here = { ...ALL, fromBucket: bucketOf(1), toBucket: bucketOf(1) + 1 }
    t.equal(await failureOf(store.list(here)), 'EIO', 'nobody gets a list with a gap unawares')
    const range = { ...ALL, fromBucket: bucketOf(1) + 1 }
    t.equal((await store.list(range)).gaps, undefined, 'nor is told of one that is elsewhere')
    const [gone = 0, ...left] = hidden
    await store.remove([gone])
    t.strictSame(await store.lacks([...hidden, ...others], false), [gone], 'asked for by name: true')
    t.strictSame(await store.lacks([...left, ...others], true), left, 'but nothing to give up another copy for')
    cannotList(t, [])
    t.strictSame(await listed(store), { ids: [...left, ...others].sort((a, b) => a - b), gaps: [] })
    t.equal(store.unlisted.count, 0)
    t.strictSame(await store.lacks([...left, ...others], true), [])
    store.abandon()
  })

t.test('the folder above, or all of them: what has a name is listed, else it is told', async (t) => {
  const { folder, others, hidden, place, open } = await filled(t)
  const { chunks } = new ChunkPaths(folder)
  cannotList(t, [dirname(place), chunks])
  const store = await open()
  const { ids, gaps } = await listed(store)
  t.strictSame(
    ids,
    [...hidden, ...others].sort((a, b) => a - b),
    'folders are known by their names',
  )
  const above = bucketOf(1) - (bucketOf(1) % 16)
  t.ok(gaps.length > 0 && gaps.every((bucket) => bucket >= above && bucket < above + 16 && bucket !== bucketOf(1)))
  t.match(store.unlisted.why, `scandir '${dirname(place)}'`)
  store.abandon()
  // Something else in its place.
  rmSync(place, { recursive: true })
  writeFileSync(place, '')
  cannotList(t, [])
  const after = await open()
  t.strictSame(await listed(after), { ids: others, gaps: [bucketOf(1)] })
  after.abandon()
})

t.test('a folder for what is half-written, too', async (t) => {
  const { folder, written, open } = await filled(t)
  cannotList(t, [new ChunkPaths(folder).temporary])
  const store = await open()
  t.equal(store.chunks, written.length)
  store.abandon()
})

t.test('a digest lacks what cannot be listed, and who asks for it by name is told the truth', async (t) => {
  const { folder, hidden, others, place, open } = await filled(t)
  const store = await open()
  const [lost = 0, ...left] = hidden
  unlinkSync(chunkFile(folder, lost))
  cannotList(t, [place])
  const digest = (groups: Parameters<typeof digestsOfDisk>[2]) => digestsOfDisk(store, VOLUME, groups)
  const all = [placesOf(0, CHUNK_BUCKETS)]
  t.strictSame(await digest([all]), [digestOf(others)])
  const lacks = (ids: readonly number[]) => store.lacks(ids, false)
  t.strictSame(await lackedOf([...hidden, ...others], all, { digest, lacks }), [lost], 'of who has all of it')
  t.strictSame(await lackedOf(others, all, { digest, lacks }), [], 'of who cannot list it either')
  t.strictSame(await lackedOf([...left, 7_000_000], all, { digest, lacks }), [7_000_000])
  store.abandon()
})

t.test('nodes compare all the rest with each other, both ways, and what is lost of the folder is copied', async (t) => {
  const nodes = ['n0', 'n1', 'n2', 'n3']
  const pool = poolOf(t)
  const folders = new Map(nodes.map((id) => [id, temporaryFolder(t)]))
  const disks = new Map<string, ChunkStore>()
  for (const [id, folder] of folders) disks.set(id, await openStore(folder, pool))
  const cluster = new AuditCluster(t, { disks })
  const on = (id: string): ChunkStore => disks.get(id) ?? fail()
  const fileOn = (id: string, chunk: number): string => chunkFile(folders.get(id) ?? fail(), chunk)
  const ownersOf = (id: number): readonly string[] => cluster.ring.owners(id, REPLICAS)
  const chunks = some(2 ** 24, CHUNKS)
  for (const chunk of chunks) for (const node of ownersOf(chunk.id)) await on(node).put(chunk, chunk.data)
  for (const store of disks.values()) await store.settle()
  const mine = chunks.map(({ id }) => id).filter((id) => ownersOf(id).includes('n0'))
  const [hidden = 0, mineToo = 0, theirs = 0] = mine
  // A second one in that folder, which only n0 has any more: nobody else can offer it.
  const place = dirname(fileOn('n0', hidden))
  let twin = 2 ** 30
  while (bucketOf(twin) !== bucketOf(hidden)) twin++
  const last = randomChunk(twin, 100)
  await on('n0').put(last, last.data)
  await on('n0').settle()
  cannotList(t, [place])
  for (const id of [hidden, mineToo]) unlinkSync(fileOn('n0', id))
  const others = ownersOf(theirs).filter((id) => id !== 'n0')
  for (const id of others) unlinkSync(fileOn(id, theirs))
  await cluster.audit()
  t.strictSame(await on('n0').lacks(mine, false), [], 'others have offered what it had lost')
  for (const id of others) t.strictSame(await on(id).lacks([theirs], false), [], 'and it what only it had')
  t.match(cluster.report('n0'), { isDone: true, unlisted: 1, walked: CHUNK_BUCKETS })
  for (const id of nodes.slice(1)) t.match(cluster.report(id), { isDone: true, unlisted: 0 })
  t.ok(await isRead(on('n0'), last), 'the last copy is read')
  cannotList(t, [])
  await cluster.audit()
  t.match(cluster.report('n0'), { isDone: true, unlisted: 0 })
  for (const node of ownersOf(twin)) t.strictSame(await on(node).lacks([twin], false), [], 'and offered now')
  for (const store of disks.values()) store.abandon()
})

t.test('scrubbing goes on with the other folders, and says what it has left out', async (t) => {
  const cluster = await startCluster(t, { nodes: 2, replicas: 2 })
  const [node = fail(), other = fail()] = cluster.nodes
  t.teardown(() => node.service.scrubber.stop())
  const write = { durability: 'all', sync: false } as const
  for (const id of [1, 2, 3]) await cluster.client.write(id, [Buffer.alloc(50_000, id)], originOf(50_000), write)
  for (const { store } of [node, other]) await store.settle()
  cannotList(t, [dirname(chunkFile(node.folder, 2))])
  for (const id of [1, 3]) truncateSync(chunkFile(node.folder, id), 20_000)
  await node.api.scrub({ volume: VOLUME, action: 'start', bytesPerSecond: 2 ** 30 }, CALL)
  const status = { volume: VOLUME, action: 'status', bytesPerSecond: 0 } as const
  await until('the round is over', async () => !(await node.api.scrub(status, CALL)).isHasty)
  const found = { checked: 2, bad: 2, replaced: 2, unread: 0, unlisted: 1 }
  t.match(await node.api.scrub(status, CALL), found)
})

t.test('a disk of several is asked whether it works; one that is emptied is not called empty', async (t) => {
  const folders = newFolders(t, 2)
  const [out = ''] = folders
  const written = some(1, 12, 10_000)
  const pool = poolOf(t, 2)
  const ends: (() => unknown)[] = []
  const before = await openDisks({ teardown: (end) => void ends.unshift(end) }, pool, [out])
  for (const chunk of written) await before.put(chunk, chunk.data, true)
  for (const end of ends) await end()
  const place = dirname(chunkFile(out, 5))
  const unlistedFound: string[] = []
  const [id = ''] = before.states().map(({ disk: one }) => one)
  const disks = await openDisks(t, pool, folders, { leaving: [id], onUnlisted: () => unlistedFound.push(out) })
  cannotList(t, [place])
  const stop = new AbortController()
  const parts = { onBad: () => Promise.resolve(), pace: new Pace(systemClock, () => 0) }
  const emptying = disks.empty(parts, stop.signal)
  const leaving = (): string | undefined => disks.states().find(({ folder }) => folder === out)?.leaving
  await until('all else has gone', async () => (await listed(disks)).ids.length === 11 && leaving() === 'stuck')
  t.strictSame(unlistedFound, [out], 'told once')
  t.match(disks.states(), [
    { state: 'up', unlisted: 1, unlistedWhy: place },
    { state: 'up', unlisted: 0 },
  ])
  for (const chunk of written) t.ok(await isRead(disks, chunk))
  stop.abort()
  await emptying
  cannotList(t, [])
  const again = new AbortController()
  const rest = disks.empty(parts, again.signal)
  await until('it is empty', () => Promise.resolve(leaving() === 'empty'))
  again.abort()
  await rest
  for (const chunk of written) t.ok(await isRead(disks, chunk))
})

t.test('after a start of the machine all other folders are looked at, and all of them at the next start', async (t) => {
  const [folder = ''] = newFolders(t, 1)
  const disks = await openDisks(t, poolOf(t), [folder])
  const written = some(1, 5, 10_000)
  for (const chunk of written) await disks.put(chunk, chunk.data)
  const look = async (boot: string): Promise<readonly number[]> => {
    const bad: number[] = []
    const onBad = (id: number): Promise<void> => Promise.resolve(void bad.push(id))
    await disks.lookAfterRestart({ boot, startMs: Date.now() + 1000, onBad }, new AbortController().signal)
    return bad.sort((a, b) => a - b)
  }
  t.strictSame(await look('one'), [])
  for (const id of [2, 4]) truncateSync(chunkFile(folder, id), 5_000)
  cannotList(t, [dirname(chunkFile(folder, 2))])
  t.strictSame(await look('two'), [4])
  t.ok(disks.isAfterRestart('two'), 'not all were looked at')
  cannotList(t, [])
  t.strictSame(await look('two'), [2, 4])
  t.notOk(disks.isAfterRestart('two'))
})

t.test('fsck finds by name what no list has, and knows that a list is not all', async (t) => {
  const cluster = await startCluster(t, { nodes: 2, replicas: 2 })
  const write = { durability: 'all', sync: false } as const
  for (const id of [1, 2]) await cluster.client.write(id, [Buffer.alloc(50_000, id)], originOf(50_000), write)
  for (const { store } of cluster.nodes) await store.settle()
  const parts = {
    volume: VOLUME,
    view: () => ({ epoch: 1, members: [] }),
    holders: () => cluster.nodes.map(({ id }) => id),
    node: (id: string) => cluster.node(id).api,
  }
  const [{ folder } = fail()] = cluster.nodes
  const whole = await headOf(parts, 'node-0', 1, bucketOf(1))
  cannotList(t, [dirname(chunkFile(folder, 1))])
  const [away, short] = [new Map<string, string>(), new Map<string, string>()]
  const copies = new Map<number, readonly string[]>()
  for await (const page of inventory(parts, true, away, short)) for (const one of page.copies) copies.set(...one)
  t.strictSame(
    [...copies].sort(([a], [b]) => a - b).map(([id, on]) => [id, [...on].sort()]),
    [
      [1, ['node-1']],
      [2, ['node-0', 'node-1']],
    ],
  )
  t.strictSame([[...away.keys()], [...short.keys()]], [[], ['node-0']])
  t.strictSame(await headOf(parts, 'node-0', 1, bucketOf(1)), whole)
  truncateSync(chunkFile(folder, 1), 100)
  t.strictSame(await headOf(parts, 'node-0', 1, bucketOf(1)), { id: 1 }, 'it is there, and bad')
  unlinkSync(chunkFile(folder, 1))
  t.equal(await headOf(parts, 'node-0', 1, bucketOf(1)), null)
})

function fail(): never {
  throw new Error('there is one')
}
