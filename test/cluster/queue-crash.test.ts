/**
 * Replication queues that are full when all chunk nodes and all Redis servers are killed at once: tasks that wait for a node which is away,
 * tasks that wait for the limit of healing, and tasks in work.
 */
import { randomBytes } from 'node:crypto'
import { readdir } from 'node:fs/promises'
import { basename, join } from 'node:path'
import t from 'tap'
import { KIB } from '../../src/base/limits.js'
import { idOfFile } from '../../src/chunk/node/paths.js'
import type { ChunkRef } from '../../src/chunk/contract.js'
import { ClusterKeys } from '../../src/cluster/keys.js'
import { setHealLimit, setMembershipTimes, setSurplusTime } from '../../src/cluster/membership.js'
import { decodeTask } from '../../src/cluster/queue-task.js'
import { arrayOf, numberOf, textOf } from '../../src/cluster/reply.js'
import { MEMBERSHIP_TIMES, startCluster, type ClusterNode, type TestCluster } from '../helpers/cluster.js'
import { eventually } from '../helpers/ringfs.js'

const CHUNKS = 80
/** More than a small chunk: each copy is a file of its own, that can be seen when its node is dead. */
const BYTES = 80 * KIB
/** About a chunk in ten seconds: queues are still full when all that belongs there has come into them, at one node after the other. */
const SLOWLY = BYTES / 10
/** Of the chunks that one node may come to lack; how many it is depends on where the nodes stand on the ring. */
const SOME = 3
const HOUR_MS = 3_600_000

t.setTimeout(600_000)

/** Each is on the disks of a write quorum. */
async function fill({ client }: TestCluster, contents: Map<ChunkRef, Buffer>, from: number, to: number): Promise<void> {
  const extents = [{ fileOffset: 0, chunkOffset: 0, lengthBytes: BYTES }]
  for (let id = from; id < to; id++) {
    const bytes = randomBytes(BYTES)
    const options = { durability: 'quorum', sync: true } as const
    contents.set(await client.write(id, [bytes], { ino: 1, order: id, extents }, options), bytes)
  }
}

async function wrong({ client }: TestCluster, contents: ReadonlyMap<ChunkRef, Buffer>): Promise<readonly string[]> {
  const found: string[] = []
  for (const [ref, bytes] of contents) {
    const read = await client.read(ref, 0, ref.lengthBytes)
    if (!read.equals(bytes)) found.push(`chunk ${ref.id}`)
  }
  return found
}

/** Chunks that stand in the node's queue to be copied, each as often as it stands there. */
async function queued({ volume }: TestCluster, { id }: ClusterNode): Promise<readonly number[]> {
  const entries = await volume.redis.call('XRANGE', new ClusterKeys(volume.settings.name).queue(id), '-', '+')
  return arrayOf(entries, 'XRANGE').flatMap((entry) => {
    const [, fields] = arrayOf(entry, 'XRANGE')
    const [, text] = arrayOf(fields, 'XRANGE')
    const task = decodeTask(textOf(text, 'XRANGE'))
    return task?.kind === 'copy' ? [task.chunk] : []
  })
}

/** Tasks of the node's queue that somebody had taken, and not finished. */
async function inWork({ volume }: TestCluster, { id }: ClusterNode): Promise<number> {
  const pending = await volume.redis.call('XPENDING', new ClusterKeys(volume.settings.name).queue(id), 'r')
  return numberOf(arrayOf(pending, 'XPENDING')[0], 'XPENDING')
}

/** Looked at, not asked for: the node may be dead. */
async function onDisk({ folder }: ClusterNode): Promise<ReadonlySet<number>> {
  const names = await readdir(join(folder, 'chunks'), { recursive: true })
  return new Set(names.flatMap((name) => idOfFile(basename(name)) ?? []))
}

t.test('all nodes and all of Redis are killed while the queues are full: they are worked off, once', async (t) => {
  const cluster = await startCluster(t, 4, { masters: 3 })
  const { nodes, redis, volume } = cluster
  const { name } = volume.settings
  const away = cluster.node(0)
  const others = nodes.slice(1)
  const contents = new Map<ChunkRef, Buffer>()
  const perNode = <T>(look: (node: ClusterNode) => Promise<T>): Promise<T[]> => Promise.all(nodes.map(look))
  await setSurplusTime(volume.redis, name, HOUR_MS)
  await setHealLimit(volume.redis, name, SLOWLY)
  await fill(cluster, contents, 1, CHUNKS / 2)

  t.comment('one is away: what it misses waits in its queue')
  await setMembershipTimes(volume.redis, name, { ...MEMBERSHIP_TIMES, outMs: HOUR_MS })
  await away.kill()
  await fill(cluster, contents, CHUNKS / 2, CHUNKS)
  const { ring } = volume.watcher.current()
  const missed = [...contents.keys()].filter(({ id }) => id >= CHUNKS / 2 && ring.owners(id, 3).includes(away.id))
  t.ok(missed.length > SOME)
  const waiting = new Set(await queued(cluster, away))
  t.strictSame(
    missed.filter(({ id }) => !waiting.has(id)),
    [],
    'every chunk that it misses',
  )
  // As an enqueue does of which the reply was lost.
  await volume.queue.enqueue(
    away.id,
    missed.map(({ id, root }) => ({ kind: 'copy', chunk: id, root, sources: [] })),
  )

  t.comment('it loses its place: the others are to have what it had, slowly')
  await setMembershipTimes(volume.redis, name, MEMBERSHIP_TIMES)
  const ofOthers = async (): Promise<number[]> =>
    Promise.all(others.map(async (node) => new Set(await queued(cluster, node)).size))
  await eventually('their queues are filled', ofOthers, (lengths) => lengths.every((length) => length > SOME))
  const atWork = (): Promise<number> => inWork(cluster, cluster.node(1))
  await eventually('one of them is at work', atWork, (count) => count > 0)

  const before = await perNode((node) => queued(cluster, node))
  await Promise.all([redis.killAll(), ...nodes.map((node) => node.kill())])
  const dead = await perNode(onDisk)

  await redis.restartAll()
  const after = await perNode((node) => queued(cluster, node))
  const lost = nodes.flatMap(({ id }, index) => {
    const there = new Set(after[index])
    const undone = (before[index] ?? []).filter((chunk) => dead[index]?.has(chunk) !== true)
    return undone.filter((chunk) => !there.has(chunk)).map((chunk) => `chunk ${chunk} for node ${id}`)
  })
  t.strictSame(lost, [], 'what was queued is done, or is in its queue')
  t.ok((await inWork(cluster, cluster.node(1))) > 0, 'tasks that were in work are among them')
  t.comment(
    `in the queues: ${before.map((tasks) => tasks.length).join(', ')}; then ${after.map((tasks) => tasks.length).join(', ')}`,
  )

  await setHealLimit(volume.redis, name, 0)
  await Promise.all(nodes.map((node) => node.start()))
  const isUp = async (): Promise<boolean> =>
    (await perNode((node) => cluster.member(node))).every((member) => member?.state === 'up')
  await eventually('all are up', isUp, (up) => up)
  await cluster.whole('the queues are worked off')
  t.strictSame(await cluster.holes([...contents.keys()]), [], 'three good copies of each chunk')
  t.strictSame(await wrong(cluster, contents), [], 'every byte is there')
  await eventually(
    'queues are empty',
    () => perNode(({ id }) => volume.queue.length(id)),
    (lengths) => lengths.every((length) => length === 0),
  )
  const now = await perNode(onDisk)
  for (const [index, node] of nodes.entries()) {
    const fetched = [...(now[index] ?? [])].filter((chunk) => dead[index]?.has(chunk) !== true).length
    const copied = async (): Promise<number> => (await cluster.member(node))?.report?.heal.copied ?? 0
    await eventually('what it has fetched is told', copied, (count) => count >= fetched)
    t.equal(await copied(), fetched, `node ${index} fetched what it lacked, each chunk once`)
  }
})
