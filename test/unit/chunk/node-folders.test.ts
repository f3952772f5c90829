/** The data folders of a node: one a disk, and none of them mixed up with another's, or taken for new when it is missing. */
import t, { type Test } from 'tap'
import fs from 'node:fs'
import { syncBuiltinESMExports } from 'node:module'
import { cpSync, mkdirSync, readFileSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { openNodeFolders, type NodeFolders } from '../../../src/chunk/node/node-folders.js'
import { VOLUME, failureOf, openStore, poolOf, temporaryFolder } from '../../helpers/chunks.js'
import { isRoot, newFolders, tmpfs, unmount } from '../../helpers/disks.js'

const OTHER = '11111111-2222-4333-8444-555555555555'

async function look(folders: readonly string[], forget: readonly string[] = []): Promise<NodeFolders> {
  const opened = await openNodeFolders(folders, VOLUME, { forget })
  await opened.close()
  return opened
}

const idsOf = ({ disks }: NodeFolders): string[] => disks.map(({ disk }) => disk)

/** The paths of what is synced from now on, by this thread. */
function syncedIn(t: Test): Set<string> {
  const { fsyncSync } = fs
  const paths = new Set<string>()
  t.capture(fs, 'fsyncSync', (fd: number) => {
    paths.add(fs.readlinkSync(`/proc/self/fd/${fd}`))
    fsyncSync(fd)
  })
  syncBuiltinESMExports()
  return paths
}

t.test('folders that are made are on disk, with those above them', async (t) => {
  const above = temporaryFolder(t)
  const folder = join(above, 'a', 'b', 'c')
  const pool = poolOf(t)
  const synced = syncedIn(t)
  await look([folder])
  for (const at of [dirname(dirname(folder)), dirname(folder), folder, above]) t.ok(synced.has(at), at)
  await openStore(folder, pool)
  rmSync(join(folder, 'chunks'), { recursive: true })
  synced.clear()
  await openStore(folder, pool)
  t.ok(synced.has(folder), 'and what is in them')
})

t.test('so are those that a start has made which died before they were', async (t) => {
  const above = temporaryFolder(t)
  const folder = join(above, 'a', 'b', 'c')
  for (const made of [dirname(folder), folder]) {
    mkdirSync(made, { recursive: true })
    const synced = syncedIn(t)
    await look([folder])
    for (const at of [dirname(folder), dirname(dirname(folder)), above]) t.ok(synced.has(at), at)
    synced.clear()
    await look([folder])
    t.strictSame([...synced], [], 'once')
    rmSync(folder, { recursive: true })
  }
})

t.test('several folders are one node, each with a disk id of its own, kept over restarts', async (t) => {
  const folders = newFolders(t, 3)
  const first = await look(folders)
  t.equal(new Set(idsOf(first)).size, 3)
  const again = await look([...folders].reverse())
  t.equal(again.nodeId, first.nodeId)
  t.strictSame(idsOf(again), idsOf(first).reverse())
  t.same([again.missing, again.dropped], [[], []])
})

t.test('a disk is added, taken out, moved and brought back between starts', async (t) => {
  const [a = '', b = '', c = ''] = newFolders(t, 3)
  const one = await look([a])
  const two = await look([a, b])
  t.equal(two.nodeId, one.nodeId)
  t.equal(two.disks[0]?.disk, one.disks[0]?.disk)
  const b1 = { folder: b, disk: two.disks[1]?.disk }
  for (let starts = 0; starts < 2; starts++) t.match((await look([a])).missing, [b1], 'what is not given is missed')
  renameSync(b, c)
  const back = await look([a, c])
  t.strictSame(idsOf(back), idsOf(two))
  t.same(back.missing, [], 'whatever it is called')
  const alone = await look([c])
  t.equal(alone.nodeId, one.nodeId, 'each of them knows the node')
  t.match(alone.missing, [{ folder: a }], 'and the others')
})

t.test('a disk is known until it is given up, by its folder or id, while it is not in use', async (t) => {
  const [a = '', b = '', c = ''] = newFolders(t, 3)
  const all = await look([a, b, c])
  const [, ofB = '', ofC = ''] = idsOf(all)
  const both = await look([a, b], [b, c])
  t.match(both, { dropped: [{ disk: ofC }], disks: [{}, { disk: ofB }], missing: [] }, 'what is in use stays')
  t.match(await look([a, b], [c]), { dropped: [], missing: [] }, 'once')
  t.match(await look([a], [ofB]), { dropped: [{ disk: ofB }], missing: [] })
  t.match(await look([a, b]), { disks: [{}, { disk: ofB }], missing: [] }, 'given again, it is known again')
  t.match((await look([a])).missing, [{ disk: ofB }])
})

t.test('disks that were apart know together what either knew', async (t) => {
  const [a = '', b = '', c = '', d = '', e = ''] = newFolders(t, 5)
  const ids = idsOf(await look([a, b, e]))
  await look([a, c], [e])
  await look([b, d])
  const ofC = (await look([c, a])).disks[0]?.disk
  const both = await look([b, d, a])
  t.match(both.missing, [{ disk: ofC, folder: c }], 'but for what was given up')
  t.equal(both.missing.length, 1)
  t.match(idsOf(await look([a, b, c, d])), [ids[0], ids[1], ofC])
})

t.test('a first start that was cut short leaves no disk that is missed for ever', async (t) => {
  const [a = '', b = ''] = newFolders(t, 2)
  const one = await look([a])
  mkdirSync(b)
  mkdirSync(join(b, 'ringfs-node.json.new'))
  t.equal(await failureOf(openNodeFolders([a, b], VOLUME)), 'EISDIR')
  rmSync(join(b, 'ringfs-node.json.new'), { recursive: true })
  const both = await look([a, b])
  t.match(both, { nodeId: one.nodeId, missing: [] })
  t.strictSame(idsOf(await look([a, b])), idsOf(both))
})

t.test('folders of other nodes and volumes, twice the same and copies are refused, and not touched', async (t) => {
  const [a = '', b = '', c = ''] = newFolders(t, 3)
  const mine = await look([a])
  const theirs = await look([b])
  await t.rejects(openNodeFolders([a, b], VOLUME), {
    code: 'USAGE',
    message: new RegExp(`${b} belongs to node ${theirs.nodeId}, and ${a} to node ${mine.nodeId}`),
  })
  await (await openNodeFolders([c], OTHER)).close()
  t.equal(await failureOf(openNodeFolders([a, c], VOLUME)), 'NODE_WRONG_VOLUME')
  await t.rejects(openNodeFolders([a, a], VOLUME), { code: 'USAGE', message: /twice/ })
  await t.rejects(openNodeFolders([a, `${a}/`], VOLUME), { code: 'USAGE', message: /twice/ })
  const copy = join(temporaryFolder(t), 'copy')
  cpSync(a, copy, { recursive: true })
  await t.rejects(openNodeFolders([a, copy], VOLUME), { code: 'USAGE', message: /the same disk/ })
  const foreign = temporaryFolder(t)
  writeFileSync(join(foreign, 'thesis.tex'), 'do not lose')
  t.equal(await failureOf(openNodeFolders([a, foreign], VOLUME)), 'USAGE')
  t.strictSame(readdirSync(foreign), ['thesis.tex'])
  t.equal(await failureOf(openNodeFolders([a, join(foreign, 'thesis.tex')], VOLUME)), 'USAGE', 'never seen before')
  t.same(idsOf(await look([a])), idsOf(mine), 'no refusal has left a lock or a trace')
  t.equal((await look([b])).nodeId, theirs.nodeId)
})

t.test('each folder has a lock of its own', async (t) => {
  const [a = '', b = ''] = newFolders(t, 2)
  const open = await openNodeFolders([a, b], VOLUME)
  t.equal(await failureOf(openNodeFolders([b], VOLUME)), 'ALREADY_RUNNING')
  t.equal(await failureOf(openNodeFolders([a], VOLUME)), 'ALREADY_RUNNING')
  await open.close()
  await look([a, b])
})

t.test('a known disk that cannot be looked at is missing, and is itself again when it can', async (t) => {
  const [a = '', b = ''] = newFolders(t, 2)
  const both = await look([a, b])
  renameSync(b, `${b}.away`)
  writeFileSync(b, 'a file')
  const without = await look([a, b])
  t.match(without, { nodeId: both.nodeId, disks: [{ folder: a }], missing: [{ folder: b, disk: both.disks[1]?.disk }] })
  t.match(without.missing[0]?.why, /ENOTDIR/)
  rmSync(b)
  renameSync(`${b}.away`, b)
  t.strictSame(idsOf(await look([a, b])), idsOf(both))
})

t.test('an empty folder where a disk was is a new disk; the old one is missed', async (t) => {
  const [a = '', b = ''] = newFolders(t, 2)
  const both = await look([a, b])
  rmSync(b, { recursive: true })
  const after = await look([a, b])
  t.equal(after.nodeId, both.nodeId)
  t.match(after.missing, [{ disk: both.disks[1]?.disk, folder: b, why: /another disk is in its place/ }])
  t.not(after.disks[1]?.disk, both.disks[1]?.disk)
  t.match(await look([a, b], [b]), { dropped: after.missing.map(({ disk }) => ({ disk })), missing: [] })
})

t.test('a folder of a program that knew one folder a node gets a disk id, and keeps its node id', async (t) => {
  const [a = '', b = ''] = newFolders(t, 2)
  const node = '21111111-2222-4333-8444-555555555555'
  mkdirSync(a)
  const file = join(a, 'ringfs-node.json')
  writeFileSync(file, JSON.stringify({ format: 1, node, volume: VOLUME }))
  const opened = await look([a, b])
  t.equal(opened.nodeId, node)
  t.match(JSON.parse(readFileSync(file, 'utf8')), { node, volume: VOLUME, disk: opened.disks[0]?.disk })
  t.strictSame(idsOf(await look([a, b])), idsOf(opened))
})

if (isRoot) {
  t.test('such a folder on a disk without room is the same disk at each start', async (t) => {
    const folder = tmpfs(t, 256 << 10)
    const node = '21111111-2222-4333-8444-555555555555'
    writeFileSync(join(folder, 'ringfs-node.json'), JSON.stringify({ format: 1, node, volume: VOLUME }))
    mkdirSync(join(folder, 'chunks'))
    t.throws(() => writeFileSync(join(folder, 'chunks', 'filler'), Buffer.alloc(1 << 20)), { code: 'ENOSPC' })
    for (let starts = 0; starts < 2; starts++) t.strictSame(idsOf(await look([folder])), [node])
  })

  t.test('a disk that is not mounted is missing, and nothing is made below its bare mount point', async (t) => {
    const [a = ''] = newFolders(t, 1)
    const mount = tmpfs(t, 1 << 20)
    const b = join(mount, 'deep', 'ringfs')
    const both = await look([a, b])
    unmount(mount)
    const without = await look([a, b])
    t.match(without.missing, [{ folder: b, disk: both.disks[1]?.disk, why: `nothing is mounted on ${mount}` }])
    t.strictSame(readdirSync(mount), [])
    t.equal((await look([a, b])).missing.length, 1, 'it is remembered')
    tmpfs(t, 1 << 20, mount)
    const replaced = await look([a, b])
    t.match(replaced.missing, [{ why: /another disk is in its place/ }], 'a new one')
    t.not(replaced.disks[1]?.disk, both.disks[1]?.disk)
  })
}
