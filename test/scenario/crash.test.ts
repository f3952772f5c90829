/** `ringfs up` is killed, with no chance to clean up. */
import { join } from 'node:path'
import t from 'tap'
import { readMounts } from '../../src/fuse/mounts.js'
import { Ringfs, eventually, kill, sh } from '../helpers/ringfs.js'

async function killUp(ringfs: Ringfs): Promise<void> {
  const pid = ringfs.runFile()?.pid ?? 0
  kill(pid)
  await eventually(
    'the process has ended',
    () => ringfs.processes(),
    (pids) => !pids.includes(pid),
  )
}

t.test(
  'after kill -9 of up, up again finds what was synced, over the dead mount and the Redis left behind',
  async (t) => {
    const ringfs = await Ringfs.in(t)
    await ringfs.ok('up', '--detach')
    const file = join(ringfs.mountpoint, 'file')
    await sh('sh', '-c', `head -c 5000000 /dev/urandom > ${ringfs.folder}/original`)
    await sh('dd', `if=${ringfs.folder}/original`, `of=${file}`, 'bs=1M', 'conv=fsync')
    await killUp(ringfs)
    t.equal(ringfs.processes().length, 1, 'the Redis is left')
    t.ok(
      (await readMounts()).some((mount) => mount.mountpoint === ringfs.mountpoint),
      'and a dead mount',
    )
    await ringfs.ok('up', '--detach')
    await sh('cmp', `${ringfs.folder}/original`, file)
    await sh('sh', '-c', `echo works > ${ringfs.mountpoint}/new`)
    await ringfs.ok('down')
    t.same(ringfs.processes(), [])
  },
)

t.test('after kill -9 of up, down ends the Redis and takes off the dead mount', async (t) => {
  const ringfs = await Ringfs.in(t)
  await ringfs.ok('up', '--detach')
  await sh('sh', '-c', `echo kept > ${ringfs.mountpoint}/file && sync -f ${ringfs.mountpoint}/file`)
  await killUp(ringfs)
  t.match(await ringfs.ok('down', '--data', ringfs.data), /left running .* stopped/)
  t.same(ringfs.processes(), [])
  t.notOk((await readMounts()).some((mount) => mount.mountpoint === ringfs.mountpoint))
  await ringfs.ok('up', '--detach')
  t.equal(await sh('cat', join(ringfs.mountpoint, 'file')), 'kept\n')
  await ringfs.ok('down')
})

t.test('node processes do not outlive an up that is killed', async (t) => {
  const ringfs = await Ringfs.in(t)
  await ringfs.ok('up', '--detach', '--nodes', '2', '--replicas', '2')
  t.equal(ringfs.processes().length, 4, 'up, Redis and two nodes')
  await killUp(ringfs)
  await eventually(
    'only Redis is left',
    () => ringfs.processes(),
    (pids) => pids.length === 1,
  )
  await ringfs.ok('down', '--data', ringfs.data)
  t.same(ringfs.processes(), [])
})

t.test('a private Redis that is killed is started again, and the mount goes on', async (t) => {
  const ringfs = await Ringfs.in(t)
  await ringfs.ok('up', '--detach')
  await sh('sh', '-c', `echo before > ${ringfs.mountpoint}/file && sync -f ${ringfs.mountpoint}/file`)
  const up = ringfs.runFile()?.pid
  const [redis] = ringfs.processes().filter((pid) => pid !== up)
  kill(redis ?? 0)
  t.equal(await sh('cat', join(ringfs.mountpoint, 'file')), 'before\n')
  await sh('sh', '-c', `echo after > ${ringfs.mountpoint}/file2`)
  t.equal(await ringfs.ok('cat', '/file2'), 'after\n')
  t.equal(ringfs.runFile()?.pid, up, 'the same up')
  await ringfs.ok('down')
  t.same(ringfs.processes(), [])
})
