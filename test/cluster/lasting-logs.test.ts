/**
 * A line of the fault model: "a disk full, returning EIO, or flipping bits", of a node that is killed with small chunks in its log and started
 * again. Three nodes, three replicas, a workload that goes on, and a checker that knows what was acknowledged.
 */
import { readFileSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { messageOf } from '../../src/base/errors.js'
import type { DiskReport } from '../../src/cluster/contract.js'
import { temporaryFolder } from '../helpers/chunks.js'
import { startCluster, type ClusterNode, type TestCluster } from '../helpers/cluster.js'
import { SmallDisk, isRoot } from '../helpers/disks.js'
import { FaultyDisk } from '../helpers/faulty-disk.js'
import { logsInUse } from '../helpers/journal.js'
import { eventually } from '../helpers/ringfs.js'

const DISK_BYTES = 512 << 20
const BLOCK = 4096
const SOME = 15

t.setTimeout(600_000)

/** With small chunks in a log, which stay there for seconds only: it stands still from a look to its end. */
async function killWithLog(node: ClusterNode, folder: string): Promise<ReturnType<typeof logsInUse>> {
  await eventually(
    'small chunks are in a log',
    () => {
      node.signal('SIGSTOP')
      const logs = logsInUse(folder)
      if ((logs[0]?.chunks.length ?? 0) <= 2) node.signal('SIGCONT')
      return logs
    },
    ([first]) => (first?.chunks.length ?? 0) > 2,
  )
  await node.kill()
  return logsInUse(folder)
}

async function diskBecomes(cluster: TestCluster, node: ClusterNode, is: (disk: DiskReport) => boolean): Promise<void> {
  await eventually(
    'its disk is seen so',
    async () => (await cluster.member(node))?.report?.disks[0],
    (disk) => disk !== undefined && is(disk),
  )
}

async function isWhole(t: Test, cluster: TestCluster): Promise<void> {
  const { workload } = cluster
  await workload.stop()
  await cluster.whole('all copies are made')
  t.strictSame(await cluster.holes(), [], 'three good copies of each chunk')
  await workload.checkAll()
  t.strictSame(workload.faults, [], 'no call failed, and no byte was wrong')
  workload.start()
}

if (!isRoot) t.pass('needs root to mount small disks')
else {
  t.test('a node is killed with small chunks in its log, and is back on a disk that', async (t) => {
    const faulty = await FaultyDisk.make(temporaryFolder(t))
    const cluster = await startCluster(t, 0, { env: (index) => (index === 0 ? faulty.env : {}) })
    const small = new SmallDisk(t, DISK_BYTES)
    const node = await cluster.addIn(small.folder)
    await cluster.add()
    await cluster.add()
    const { volume, workload } = cluster
    workload.start()
    await cluster.workload.goesOn(SOME)

    await t.test('is full: it serves what is in the log, says so, and is whole when there is room', async (t) => {
      const ids = (await killWithLog(node, small.folder)).flatMap(({ chunks }) => chunks.map((file) => idIn(file)))
      small.fill()
      await node.start()
      await diskBecomes(cluster, node, ({ state, waiting }) => state === 'up' && waiting > 0)
      const { stdout } = await cluster.ringfs('status')
      t.match(stdout, /! the disk .* takes no files: \d+ small chunks wait/)
      const api = volume.peers.get(node.id)
      for (const id of ids) {
        const read = { volume: volume.settings.uuid, id, offset: 0, lengthBytes: 1, check: true }
        await api.get(read, { deadlineMs: 60_000 }).then(
          ({ release }) => release(),
          (error: unknown) => t.fail(`chunk ${id}: ${messageOf(error)}`),
        )
      }
      await cluster.workload.goesOn(SOME)
      small.clear()
      await diskBecomes(cluster, node, ({ waiting }) => waiting === 0)
      await isWhole(t, cluster)
    })

    await t.test('cannot read a block of the log: what is in it is missed, told and copied', async (t) => {
      const [log] = await killWithLog(node, small.folder)
      const at = log?.bytes.indexOf(log.chunks[1] ?? '') ?? 0
      const from = Math.ceil(at / BLOCK) * BLOCK
      faulty.cannotRead([{ file: log?.file ?? '', from, to: from + BLOCK }])
      await node.start()
      await diskBecomes(cluster, node, ({ state, damaged }) => state === 'up' && damaged > 0)
      const { stdout } = await cluster.ringfs('status')
      t.match(stdout, /! .* gone bad on the disk .*, found at its start/)
      const quarantine = join(small.folder, 'quarantine')
      const aside = readdirSync(quarantine).filter((name) => name.startsWith('journal.log-'))
      t.equal(aside.length, 1)
      t.ok(readFileSync(join(quarantine, aside[0] ?? '')).equals(log?.bytes ?? Buffer.alloc(0)), 'the log itself')
      await isWhole(t, cluster)
    })
    await workload.stop()
  })
}

/** Of a chunk file. */
function idIn(file: Buffer): number {
  return Number(file.readBigUInt64LE(32))
}
