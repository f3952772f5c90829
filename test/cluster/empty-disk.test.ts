/** A disk of a node is emptied and taken out, with a workload that goes on, and a node that is killed meanwhile. */
import { existsSync, readdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import type { DiskReport } from '../../src/cluster/contract.js'
import { temporaryFolder } from '../helpers/chunks.js'
import { startCluster, type ClusterNode, type TestCluster } from '../helpers/cluster.js'
import { eventually } from '../helpers/ringfs.js'

const SOME = 40

t.setTimeout(600_000)

function chunksIn(folder: string): number {
  const names = readdirSync(join(folder, 'chunks'), { recursive: true, encoding: 'utf8' })
  return names.filter((name) => /[0-9a-f]{14}$/.test(name)).length
}

async function leaves(cluster: TestCluster, node: ClusterNode, leaving: DiskReport['leaving']): Promise<void> {
  await eventually(
    `its disk is ${leaving}`,
    async () => (await cluster.member(node))?.report?.disks.map((disk) => disk.leaving),
    (states) => states?.includes(leaving) === true,
  )
}

t.test('a disk is emptied, over a death of its node, taken out and given up, and nothing is missed', async (t) => {
  const cluster = await startCluster(t, 2)
  const { workload } = cluster
  const [root, out] = [temporaryFolder(t), temporaryFolder(t)]
  const stays = join(root, 'stays')
  const both = ['--data', stays]
  const first = await cluster.addIn(out, ...both)
  workload.start()
  await cluster.workload.goesOn(SOME)
  await cluster.workload.goesOn(SOME)
  await first.kill()
  t.ok(chunksIn(out) > 10)

  const second = await cluster.addIn(out, ...both, '--empty', out)
  await cluster.workload.goesOn(SOME)
  await second.kill()
  const third = await cluster.addIn(out, ...both, '--empty', out)
  await cluster.workload.goesOn(SOME)
  await leaves(cluster, third, 'empty')
  t.equal(chunksIn(out), 0)
  const { stdout } = await cluster.ringfs('status')
  t.match(stdout, new RegExp(`${out} +empty `))
  t.match(JSON.parse((await cluster.ringfs('status', '--json')).stdout), { problems: [] })
  await third.kill()

  rmSync(join(out, 'chunks'), { recursive: true })
  const last = await cluster.addIn(stays, '--forget', out, '--force')
  await cluster.workload.goesOn(SOME)
  await workload.stop()
  await cluster.whole('all copies are made')
  t.strictSame(await cluster.holes(), [], 'three good copies of each chunk')
  t.strictSame(workload.faults, [], 'no call failed, and no byte was wrong')
  t.equal((await cluster.member(last))?.report?.disks.length, 1)
  t.notOk(existsSync(join(out, 'chunks')))
  await last.kill()
  const refused = await cluster.ringfs('node', '--data', stays, '--empty', stays, '--listen', '127.0.0.1:0')
  t.equal(refused.code, 2, refused.stderr)
  t.match(refused.stderr, /no disk would be left/)
})
