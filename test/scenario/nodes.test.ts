/** Three node processes and three replicas: one node is killed in the middle of a copy. */
import { open } from 'node:fs/promises'
import { getPriority } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { z } from 'zod'
import { mayLowerNice } from '../helpers/priority.js'
import { Ringfs, eventually, kill, sh } from '../helpers/ringfs.js'

const statusSchema = z.object({
  nodes: z.array(
    z.object({ id: z.string(), pid: z.number(), state: z.string(), queueLength: z.number(), chunks: z.number() }),
  ),
})

async function nodesOf(ringfs: Ringfs): Promise<z.infer<typeof statusSchema>['nodes']> {
  return statusSchema.parse(JSON.parse(await ringfs.ok('status', '--json'))).nodes
}

t.test('a node killed in the middle of a copy loses nothing, and gets what it missed when it is back', async (t) => {
  const ringfs = await Ringfs.in(t)
  await ringfs.ok('up', '--detach', '--nodes', '3', '--replicas', '3', '--nice', '-7')
  const before = await eventually(
    'three nodes are up',
    () => nodesOf(ringfs),
    (nodes) => nodes.length === 3 && nodes.every(({ state }) => state === 'up'),
  )
  const own = getPriority()
  const nice = mayLowerNice() ? -7 : own
  const niceOf = (pids: readonly number[]): readonly number[] => pids.map((pid) => getPriority(pid))
  const nodes = before.map(({ pid }) => pid)
  t.same(niceOf(nodes), [nice, nice, nice], 'programs wait for the nodes')
  const others = niceOf(ringfs.processes().filter((pid) => !nodes.includes(pid)))
  t.equal(others.filter((value) => value === nice).length, nice === own ? others.length : 2, 'for up and for Redis')
  const original = join(ringfs.folder, 'original')
  await sh('sh', '-c', `head -c 80000000 /dev/urandom > ${original}`)
  const copy = join(ringfs.mountpoint, 'copy')
  const copying = sh('dd', `if=${original}`, `of=${copy}`, 'bs=1M', 'conv=fsync')
  await eventually(
    'the copy is under way',
    () => sizeOf(copy),
    (size) => size > 10_000_000,
  )
  const victim = before[1]
  kill(victim?.pid ?? 0)
  await copying
  await sh('cmp', original, copy)
  t.pass('the copy went on and every byte is there')

  // Each node tells of its chunks with its next heartbeat.
  const back = await eventually(
    'the node is back and has got what it missed: every node has every chunk',
    () => nodesOf(ringfs),
    (nodes) =>
      nodes.every((node) => node.state === 'up' && node.queueLength === 0) &&
      new Set(nodes.map((node) => node.chunks)).size === 1,
  )
  const same = back.find((node) => node.id === victim?.id)
  t.not(same?.pid, victim?.pid, 'it is another process with the same identity')
  t.ok((same?.chunks ?? 0) >= 80_000_000 / (4 * 1024 * 1024), 'and it has all of them')
  await ringfs.ok('down')
  t.same(ringfs.processes(), [])

  await ringfs.ok('up', '--detach')
  t.equal((await nodesOf(ringfs)).length, 3, 'three nodes again, without saying so')
  await sh('cmp', original, copy)
  await ringfs.ok('down')
})

async function sizeOf(path: string): Promise<number> {
  // A process of its own waits for the mount.
  return Number(await sh('sh', '-c', `stat -c %s ${path} 2>/dev/null || echo 0`))
}

t.test('a chunk file that is flipped on disk is read from another node', async (t) => {
  const ringfs = await Ringfs.in(t)
  await ringfs.ok('up', '--detach', '--nodes', '2', '--replicas', '2')
  const original = join(ringfs.folder, 'original')
  await sh('sh', '-c', `head -c 3000000 /dev/urandom > ${original}`)
  await sh('cp', original, join(ringfs.mountpoint, 'file'))
  await ringfs.ok('down')
  const found = await sh('find', join(ringfs.data, 'nodes', '1'), '-type', 'f', '-size', '+1000k')
  for (const file of found.trim().split('\n')) {
    const handle = await open(file, 'r+')
    await handle.write(Buffer.from('flipped'), 0, 7, 500_000)
    await handle.close()
  }
  await ringfs.ok('up', '--detach')
  await sh('cmp', original, join(ringfs.mountpoint, 'file'))
  t.pass('every byte is right')
  await ringfs.ok('down')
})
