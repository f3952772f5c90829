/**
 * A line of the fault model: "a disk … returning EIO", of the folders on it. Three nodes, three replicas, a workload that goes on; one node has
 * folders of chunks that its disk cannot list, in which chunks are lost.
 */
import { existsSync, readdirSync, unlinkSync } from 'node:fs'
import { dirname, join } from 'node:path'
import t from 'tap'
import { temporaryFolder } from '../helpers/chunks.js'
import { startCluster } from '../helpers/cluster.js'
import { FaultyDisk } from '../helpers/faulty-disk.js'
import { eventually } from '../helpers/ringfs.js'

const SOME = 15

t.setTimeout(600_000)

/** A chunk file of each folder that has any. */
function filesIn(folder: string): string[] {
  const names = readdirSync(join(folder, 'chunks'), { recursive: true, encoding: 'utf8' })
  const files = names.filter((name) => /[0-9a-f]{14}$/.test(name)).map((name) => join(folder, 'chunks', name))
  return [...new Map(files.map((file) => [dirname(file), file])).values()]
}

t.test(
  'a node whose disk cannot list folders of chunks starts, serves, says so, and is healed as far as that goes',
  async (t) => {
    const faulty = await FaultyDisk.make(temporaryFolder(t))
    const cluster = await startCluster(t, 3, { env: (index) => (index === 0 ? faulty.env : {}) })
    const { workload } = cluster
    const node = cluster.node(0)
    const seen = (unlisted: number): Promise<unknown> =>
      eventually(
        'it is seen so',
        () => cluster.member(node),
        (member) => member?.state === 'up' && member.report?.disks[0]?.unlisted === unlisted,
      )
    const areBack = (...files: readonly string[]): Promise<unknown> =>
      eventually(
        'what was lost is made anew',
        () => files.every((file) => existsSync(file)),
        (isThere) => isThere,
      )
    workload.start()
    await workload.goesOn(4 * SOME)
    await eventually(
      'small chunks have files',
      () => filesIn(node.folder).length,
      (count) => count > SOME,
    )
    const [first = '', second = '', third = ''] = filesIn(node.folder)

    await t.test('from its start', async (t) => {
      await node.kill()
      for (const file of [first, second]) unlinkSync(file)
      faulty.cannotList([dirname(first)])
      await node.start()
      await seen(1)
      await workload.goesOn(SOME)
      await areBack(first, second)
      await cluster.whole('all copies are made')
      const { stdout } = await cluster.ringfs('status')
      t.match(
        stdout,
        new RegExp(`! the disk ${node.folder} of node ${node.id} cannot list a folder .*EIO.*${dirname(first)}`),
      )
      t.match(stdout, new RegExp(`chunks on all their owners, as far as ${node.id} can list them`))
      await workload.checkAll()
    })

    await t.test('while it runs, as soon as it is found out', async (t) => {
      faulty.cannotList([dirname(first), dirname(third)])
      unlinkSync(third)
      const scrub = await cluster.ringfs('scrub', '--now', '--limit', '1G')
      t.equal(scrub.code, 4)
      t.match(scrub.stdout, new RegExp(`! node ${node.id} has left out 0 chunks .*, and 2 folders`))
      await seen(2)
      await areBack(third)
    })

    await t.test('until they can be listed: all is as if nothing had been', async (t) => {
      faulty.cannotList([])
      t.equal((await cluster.ringfs('rebalance')).code, 0)
      await seen(0)
      await workload.stop()
      await cluster.whole('all copies are made')
      t.strictSame(await cluster.holes(), [], 'three good copies of each chunk')
      t.strictSame(workload.faults, [], 'no call failed, and no byte was wrong')
      t.equal((await cluster.ringfs('scrub', '--now', '--limit', '1G')).code, 0)
      t.notMatch((await cluster.ringfs('status')).stdout, /cannot list|as far as/)
    })
  },
)
