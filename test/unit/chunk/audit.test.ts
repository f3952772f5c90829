/** Nodes that compare all that they have with each other, with real disks: what that costs, and what it finds. */
import { unlinkSync } from 'node:fs'
import t from 'tap'
import type { ChunkDisk } from '../../../src/chunk/node/disk.js'
import { AuditCluster, REPLICAS } from '../../helpers/audit-cluster.js'
import { chunkFile, openStore, poolOf, randomChunk, temporaryFolder, type TestChunk } from '../../helpers/chunks.js'

t.setTimeout(300_000)

const NODES = ['n0', 'n1', 'n2', 'n3', 'n4']
const CHUNKS = 300

async function ground(t: Parameters<typeof temporaryFolder>[0]) {
  const pool = poolOf(t)
  const folders = new Map(NODES.map((id) => [id, temporaryFolder(t)]))
  const disks = new Map<string, ChunkDisk>()
  for (const [id, folder] of folders) disks.set(id, await openStore(folder, pool))
  const cluster = new AuditCluster(t, { disks })
  const ownersOf = (id: number): readonly string[] => cluster.ring.owners(id, REPLICAS)
  const put = async (chunk: TestChunk, nodes: readonly string[] = ownersOf(chunk.id)): Promise<void> => {
    for (const node of nodes) await disks.get(node)?.put(chunk, chunk.data)
  }
  const chunks = Array.from({ length: CHUNKS }, (_, index) => randomChunk(2 ** 24 + index, 64))
  for (const chunk of chunks) await put(chunk)
  const lose = (node: string, id: number): void => unlinkSync(chunkFile(folders.get(node) ?? '', id))
  const lacks = async (node: string, id: number): Promise<boolean> =>
    (await disks.get(node)?.lacks([id], false))?.length === 1
  return { cluster, disks, chunks, ownersOf, put, lose, lacks }
}

const { cluster, disks, chunks, ownersOf, put, lose, lacks } = await ground(t)

t.test('comparing what is whole sends no ids; what is lost is found, with few, and made anew', async (t) => {
  const whole = await cluster.audit()
  t.equal(whole.ids, 0, 'no ids')
  t.equal(whole.messages, 2 * NODES.length * (NODES.length - 1), 'one question from each to each')
  t.equal(whole.digests, NODES.length * (NODES.length - 1))
  t.strictSame(cluster.queued, [])

  for (const index of [7, 200]) {
    const id = chunks[index]?.id ?? 0
    const [first, second, third] = ownersOf(id)
    if (first === undefined || second === undefined || third === undefined) throw new Error('it has owners')
    lose(index === 7 ? third : first, id)
    t.ok(await lacks(index === 7 ? third : first, id))
  }
  const found = await cluster.audit()
  t.strictSame(new Set(cluster.queued.map(({ task }) => task.chunk)), new Set([chunks[7]?.id, chunks[200]?.id]))
  for (const { id } of chunks) for (const node of ownersOf(id)) t.notOk(await lacks(node, id))
  t.ok(found.ids < 600, `${found.ids} ids`)
  t.equal((await cluster.audit()).ids, 0, 'whole again')
})

t.test('what is being written or deleted while it is compared is left alone', async (t) => {
  cluster.queued.splice(0)
  const [written, unwanted] = [randomChunk(2 ** 30, 64), chunks[11]]
  if (unwanted === undefined) throw new Error('there are chunks')
  const [last = '', ...before] = ownersOf(written.id)
  await put(written, before)
  await disks.get(ownersOf(unwanted.id)[0] ?? '')?.remove([unwanted.id])
  const met = new Set<number>()
  // As soon as somebody has seen that it is not everywhere, it gets there.
  cluster.onAnswered = async (_node, method, ids) => {
    if (method === 'digest') return
    for (const id of ids) met.add(id)
    if (met.has(written.id)) await put(written, [last])
    if (met.has(unwanted.id)) for (const disk of disks.values()) await disk.remove([unwanted.id])
  }
  await cluster.audit()
  cluster.onAnswered = () => undefined
  t.ok(met.has(written.id) && met.has(unwanted.id), 'both were seen to differ')
  t.strictSame(cluster.queued, [])
  for (const node of ownersOf(written.id)) t.notOk(await lacks(node, written.id))
  for (const node of ownersOf(unwanted.id)) t.ok(await lacks(node, unwanted.id))
})

t.test('a node that came back without its chunks is sent lists at once', async (t) => {
  cluster.queued.splice(0)
  const mine = chunks
    .filter((_, index) => index !== 11)
    .map(({ id }) => id)
    .filter((id) => ownersOf(id).includes('n2'))
  await disks.get('n2')?.remove(mine)
  await cluster.audit()
  t.strictSame(await disks.get('n2')?.lacks(mine, true), [])
  t.equal(new Set(cluster.queued.map(({ task }) => task.chunk)).size, mine.length)
  t.ok(cluster.queued.every(({ node }) => node === 'n2'))
})

t.test('a node of a version without digests is asked by lists', async (t) => {
  const pool = poolOf(t)
  const disks = new Map<string, ChunkDisk>()
  for (const id of NODES.slice(0, 3)) disks.set(id, await openStore(temporaryFolder(t), pool))
  const cluster = new AuditCluster(t, { disks, hasDigests: false })
  const chunks = Array.from({ length: 60 }, (_, index) => randomChunk(index, 64))
  for (const [id, disk] of disks)
    for (const chunk of chunks) if (id !== 'n1' || chunk.id !== 7) await disk.put(chunk, chunk.data)
  const asked = await cluster.audit()
  t.equal(asked.digests, 0)
  t.ok(asked.ids >= 6 * 59)
  t.strictSame(await disks.get('n1')?.lacks([7], true), [])
})

t.test('what a node is still to remove, for longer than it waits for its queue, it offers to nobody', async (t) => {
  const pool = poolOf(t)
  const disks = new Map<string, ChunkDisk>()
  for (const id of NODES.slice(0, 3)) disks.set(id, await openStore(temporaryFolder(t), pool))
  const chunks = Array.from({ length: 60 }, (_, index) => randomChunk(index, 64))
  const deleted = [3, 33]
  const missed = 20
  for (const [id, disk] of disks) {
    const others = id === 'n0' ? [] : [...deleted, missed]
    for (const chunk of chunks) if (!others.includes(chunk.id)) await disk.put(chunk, chunk.data)
  }
  const cluster = new AuditCluster(t, { disks, removals: new Map([['n0', new Set(deleted)]]) })
  await cluster.audit()
  for (const id of ['n1', 'n2']) t.strictSame(await disks.get(id)?.lacks([...deleted, missed], false), deleted)
})
