/**
 * A line of the fault model: "a disk full, returning EIO, or flipping bits". Three nodes with two disks each, three replicas, a workload
 * that goes on, and a checker that knows what was acknowledged.
 */
import { execFileSync } from 'node:child_process'
import { mkdirSync, readFileSync, readdirSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import t, { type Test } from 'tap'
import type { Member } from '../../src/cluster/contract.js'
import { ClusterKeys } from '../../src/cluster/keys.js'
import { chunkFile } from '../helpers/chunks.js'
import { flipInLogs, logsInUse } from '../helpers/journal.js'
import { startCluster, type ClusterNode, type TestCluster } from '../helpers/cluster.js'
import { SmallDisk, dyingDisk, isRoot, unmount } from '../helpers/disks.js'
import { eventually } from '../helpers/ringfs.js'

const DISK_BYTES = 512 << 20
const SOME = 15

t.setTimeout(600_000)

async function becomes(cluster: TestCluster, node: ClusterNode, is: (member: Member) => boolean): Promise<void> {
  await eventually(
    'the node is seen so',
    () => cluster.member(node),
    (member) => member !== undefined && is(member),
  )
}

/** Nothing is lacking anywhere, and no call has failed. */
async function isWhole(t: Test, cluster: TestCluster): Promise<void> {
  const { workload } = cluster
  await workload.stop()
  await cluster.whole('all copies are made')
  t.strictSame(await cluster.holes(), [], 'three good copies of each chunk')
  t.strictSame(workload.faults, [], 'no call failed, and no byte was wrong')
  workload.start()
}

/** In every third chunk file one bit is another; in place, so that who has the file open reads it so. Answers how many. */
function flipBits(folder: string): number {
  const names = readdirSync(join(folder, 'chunks'), { recursive: true, encoding: 'utf8' })
  const files = names.filter((name) => /[0-9a-f]{14}$/.test(name)).filter((_, index) => index % 3 === 0)
  for (const [index, name] of files.entries()) {
    const file = join(folder, 'chunks', name)
    const bytes = readFileSync(file)
    const at = (index * 7919) % bytes.length
    bytes.writeUInt8(bytes.readUInt8(at) ^ (1 << (index % 8)), at)
    writeFileSync(file, bytes, { flag: 'r+' })
  }
  return files.length
}

/** A thread of the node waits in the kernel from then on: opening a FIFO, as it would for a disk that hangs. */
async function hang({ volume: { peers, settings } }: TestCluster, node: ClusterNode, folder: string): Promise<void> {
  const id = 2 ** 50
  const file = chunkFile(folder, id)
  mkdirSync(dirname(file), { recursive: true })
  execFileSync('mkfifo', [file])
  const read = { volume: settings.uuid, id, offset: 0, lengthBytes: 1, withOrigin: false }
  await peers
    .get(node.id)
    .get(read, { deadlineMs: 1000 })
    .catch(() => undefined)
}

const damagedOf = (report: Member['report']): number =>
  report?.disks.reduce((sum, { damaged }) => sum + damaged, 0) ?? 0

const disksOf = ({ report }: Member): string[] => report?.disks.map(({ state }) => state) ?? []

if (!isRoot) t.pass('needs root to mount small disks')
else {
  t.test('a disk returning EIO, flipping bits, or full, with a workload that goes on', async (t) => {
    const cluster = await startCluster(t, 0)
    const { workload } = cluster
    const dying = dyingDisk(t, DISK_BYTES)
    const small = [0, 1, 2, 3, 4].map(() => new SmallDisk(t, DISK_BYTES))
    const [s0 = '', s1 = '', s2 = '', s3 = '', s4 = ''] = small.map(({ folder }) => folder)
    const eio = await cluster.addIn(s0, '--data', dying.folder)
    const full = await cluster.addIn(s1, '--data', s2)
    const flipped = await cluster.addIn(s3, '--data', s4)
    workload.start()
    await cluster.workload.goesOn(SOME)

    await t.test('returning EIO: it is named, not used any more, and healed like a dead node', async (t) => {
      const before = await cluster.member(eio)
      dying.die()
      await becomes(cluster, eio, (member) => disksOf(member).includes('failed'))
      await cluster.workload.goesOn(SOME)
      await becomes(cluster, eio, ({ totalBytes }) => totalBytes < (before?.totalBytes ?? 0))
      await becomes(cluster, eio, ({ state }) => state === 'up')
      const { stdout } = await cluster.ringfs('status')
      t.ok(stdout.includes(`! the disk ${dying.folder} of node ${eio.id} has failed: `), stdout)
      t.match(JSON.parse((await cluster.ringfs('status', '--json')).stdout), {
        problems: [new RegExp(`^the disk ${dying.folder} `)],
      })
      await isWhole(t, cluster)
    })

    await t.test('flipping bits: no wrong byte is read, and bad copies are replaced', async (t) => {
      await eventually(
        'small chunks have files',
        () => flipBits(s3) + flipBits(s4),
        (count) => count > SOME,
      )
      await cluster.workload.goesOn(SOME)
      await workload.checkAll()
      const scrub = await cluster.ringfs('scrub', '--now', '--limit', '1G')
      t.equal(scrub.code, 0, scrub.stdout)
      await isWhole(t, cluster)
    })

    await t.test(
      'flipping a bit in the log of small chunks: what it hits is missed and copied, and nothing else',
      async (t) => {
        const { volume } = cluster
        const walks = async (): Promise<number> =>
          Number(await volume.redis.call('HGET', new ClusterKeys(volume.settings.name).options, 'walks'))
        const before = await walks()
        await eventually(
          'small chunks are in a log',
          () => {
            // They stay there for seconds only: the node stands still from a look to its end.
            flipped.signal('SIGSTOP')
            const count = logsInUse(s3)[0]?.chunks.length ?? 0
            if (count <= 2) flipped.signal('SIGCONT')
            return count
          },
          (count) => count > 2,
        )
        await flipped.kill()
        const hit = [s3, s4].reduce((count, folder) => count + flipInLogs(folder), 0)
        t.ok(hit > 0)
        await flipped.start()
        await becomes(cluster, flipped, ({ report }) => damagedOf(report) === hit)
        await eventually('all are asked to look what is missing', walks, (now) => now > before)
        const { stdout } = await cluster.ringfs('status')
        t.match(stdout, /! .* gone bad on the disk .*, found at its start/)
        await isWhole(t, cluster)
      },
    )

    await t.test('full: others take the chunks, and the node gets them when there is room', async (t) => {
      // Not for long: what waits for room is tried again after as long as it has waited.
      small[1]?.fill()
      small[2]?.fill()
      await cluster.workload.goesOn(SOME)
      const member = await cluster.member(full)
      t.strictSame(member && disksOf(member), ['up', 'up'], 'a full disk has not failed')
      for (const disk of small) disk.fill()
      await eventually(
        'all are full',
        () => workload.faults.length,
        (count) => count > 1,
      )
      for (const disk of small) disk.clear()
      await cluster.workload.goesOn(SOME)
      await workload.stop()
      const other = workload.faults.splice(0).filter((fault) => !/^write of chunk \d+: ENOSPC/.test(fault))
      t.strictSame(other, [], 'a write is refused as ENOSPC, and nothing else fails')
      await isWhole(t, cluster)
    })

    await t.test('all disks of a node dead: it says so and leaves, and the others go on', async (t) => {
      await hang(cluster, eio, s0)
      unmount(s0)
      t.equal(await eio.exited(), 48)
      await becomes(cluster, eio, ({ state }) => state === 'down')
      await cluster.workload.goesOn(SOME)
      await workload.stop()
      await workload.checkAll()
      t.strictSame(workload.faults, [], 'all that was ever acknowledged is there')
    })
  })
}
