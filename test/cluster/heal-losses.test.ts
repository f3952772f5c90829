/** Five real nodes, three replicas: two lost for good at once, another one restarted while their chunks are made anew, surplus given up. */
import { randomBytes } from 'node:crypto'
import { truncateSync, unlinkSync } from 'node:fs'
import t from 'tap'
import { KIB } from '../../src/base/limits.js'
import type { ChunkRef } from '../../src/chunk/contract.js'
import { readBootNote, writeBootNote } from '../../src/chunk/node/boot-note.js'
import { ChunkPaths } from '../../src/chunk/node/paths.js'
import { setHealLimit, setSurplusTime } from '../../src/cluster/membership.js'
import { startCluster, type TestCluster } from '../helpers/cluster.js'
import { eventually } from '../helpers/ringfs.js'

const CHUNKS = 60
const BYTES = 48 * KIB
/** So that healing takes seconds: it is to be met in the middle. */
const SLOWLY = 768 * KIB

t.setTimeout(600_000)

/** On three nodes each: the workload's writer waits for two. */
async function fill({ client }: TestCluster, sync = true): Promise<readonly ChunkRef[]> {
  const refs: ChunkRef[] = []
  const extents = [{ fileOffset: 0, chunkOffset: 0, lengthBytes: BYTES }]
  for (let id = 1; id <= CHUNKS; id++) {
    const options = { durability: 'all', sync } as const
    refs.push(await client.write(id, [contentsOf(id)], { ino: 1, order: id, extents }, options))
  }
  return refs
}

const filling = randomBytes(BYTES)

function contentsOf(id: number): Buffer {
  const bytes = Buffer.from(filling)
  bytes.writeUInt32LE(id, 0)
  return bytes
}

async function checkAll({ client }: TestCluster, refs: readonly ChunkRef[]): Promise<readonly string[]> {
  const wrong: string[] = []
  for (const ref of refs) {
    const bytes = await client.read(ref, 0, ref.lengthBytes)
    if (!bytes.equals(contentsOf(ref.id))) wrong.push(`chunk ${ref.id}`)
  }
  return wrong
}

t.test('two of five are lost for good at once, a third one restarts in the middle of healing', async (t) => {
  const cluster = await startCluster(t, 5)
  const { redis, settings, watcher } = cluster.volume
  await setHealLimit(redis, settings.name, SLOWLY)
  await setSurplusTime(redis, settings.name, 2_000)
  const refs = await fill(cluster)
  const first = watcher.current().ring
  const [one, two, third] = [cluster.node(0), cluster.node(1), cluster.node(2)]
  const copied = async (): Promise<number> =>
    (await watcher.refresh()).members.reduce((sum, { report }) => sum + (report?.heal.copied ?? 0), 0)

  await Promise.all([one.kill(), two.kill()])
  await eventually('some of their chunks are made anew', copied, (count) => count > 3)
  await third.kill()
  await third.start()
  const isOut = async (): Promise<boolean> =>
    (await cluster.member(one))?.isOut === true && (await cluster.member(two))?.isOut === true
  await eventually('both have lost their places', isOut, (out) => out)
  await cluster.whole('three nodes have all copies')
  t.strictSame(await cluster.holes(refs), [], 'three good copies of each chunk')
  t.strictSame(await checkAll(cluster, refs), [], 'nothing was lost')

  t.comment('one of them comes back after all: what it has is surplus elsewhere')
  await setHealLimit(redis, settings.name, 0)
  await one.start()
  await cluster.whole('with it all is whole')
  const copies = async (): Promise<number> =>
    (await watcher.refresh()).members.filter(({ state }) => state === 'up').reduce((sum, { chunks }) => sum + chunks, 0)
  await eventually('surplus is given up', copies, (count) => count === 3 * CHUNKS)
  const retired = async (): Promise<boolean> =>
    (await watcher.refresh()).members.some(({ report }) => (report?.heal.retired ?? 0) > 0)
  await eventually('it is told that it was', retired, (isTold) => isTold)
  const ring = watcher.current().ring
  const fresh = refs.filter(({ id }) => ring.owners(id, 3).includes(one.id) && !first.owners(id, 3).includes(one.id))
  t.equal((await cluster.member(one))?.report?.heal.copied, fresh.length, 'it fetched only what it did not own before')
  t.strictSame(await cluster.holes(refs), [], 'nothing was given up that somebody needs')
  t.strictSame(await checkAll(cluster, refs), [])
})

t.test('a machine loses power, and is back before its node has lost its place', async (t) => {
  const cluster = await startCluster(t, 3)
  const refs = await fill(cluster, false)
  const node = cluster.node(0)
  await eventually(
    'its start is noted',
    () => readBootNote(node.folder),
    (note) => note !== null,
  )
  await node.kill()
  // Not flushed: of some there is the name, and no bytes, of some nothing.
  const paths = new ChunkPaths(node.folder)
  for (const { id } of refs.slice(0, 10)) truncateSync(paths.fileOf(id))
  for (const { id } of refs.slice(10, 20)) unlinkSync(paths.fileOf(id))
  writeBootNote({ folder: node.folder, boot: 'before', fromMs: null })
  await node.start()
  const isLookedAt = (): boolean => {
    const note = readBootNote(node.folder)
    return note !== null && note.boot !== 'before' && note.fromMs === null
  }
  await eventually('what it wrote last was looked at', isLookedAt, (isDone) => isDone)
  await cluster.whole('all is whole')
  t.strictSame(await cluster.holes(refs), [], 'three good copies of each chunk')
  t.strictSame(await checkAll(cluster, refs), [])
})
