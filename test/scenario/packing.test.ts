/** A file of many small synced writes on a mount as its user has it: packed when it is read, and as it was. */
import { join } from 'node:path'
import t from 'tap'
import { z } from 'zod'
import { parseMountOptions } from '../../src/fuse/mount-options.js'
import { remount } from '../../src/fuse/remount.js'
import { until } from '../helpers/deadline.js'
import { isRoot } from '../helpers/disks.js'
import { Ringfs, sh, sleep } from '../helpers/ringfs.js'

t.setTimeout(600_000)

const Stats = z.object({ packed: z.object({ chunks: z.int(), bytes: z.int() }) })

t.test('a file of synced blocks is packed when a mount reads it, and reads as before', async (t) => {
  const ringfs = await Ringfs.in(t)
  const up = (): Promise<string> => ringfs.ok('up', '--detach', '--nodes', '2', '-o', 'pack-after=1')
  await up()
  const { mountpoint, folder } = ringfs
  const [wanted, file] = [join(folder, 'wanted'), join(mountpoint, 'file')]
  await sh(
    'sh',
    '-c',
    `head -c 1048576 /dev/urandom > ${wanted} && head -c 1048576 /dev/zero > ${file} && sync ${file}`,
  )
  await sh('dd', `if=${wanted}`, `of=${file}`, 'bs=4096', 'conv=notrunc', 'oflag=dsync', 'status=none')
  const packed = async (): Promise<z.infer<typeof Stats>['packed']> =>
    Stats.parse(JSON.parse(await ringfs.ok('stats', mountpoint, '--once', '--json'))).packed
  await ringfs.ok('down')
  await up()
  const read = (): Promise<string> => sh('dd', `if=${file}`, 'of=/dev/null', 'bs=1M', 'iflag=direct', 'status=none')
  if (isRoot) {
    await remount(mountpoint, parseMountOptions(['ro']))
    // Longer than it takes to begin.
    for (let n = 0; n < 10; n++) await read().then(() => sleep(1_000))
    t.equal((await packed()).bytes, 0, 'nothing is written where the mount is read-only by now')
    await remount(mountpoint, parseMountOptions(['rw']))
  }
  await until('it is packed', async () => {
    await read()
    return (await packed()).bytes > 0
  })
  t.ok((await packed()).chunks >= 1)
  await sh('dd', `if=${wanted}`, `of=${file}`, 'bs=4096', 'count=3', 'conv=notrunc', 'oflag=dsync', 'status=none')
  await sh('cmp', wanted, file)
  await ringfs.ok('fsck')
  await ringfs.ok('down')
  await up()
  await sh('cmp', wanted, file)
  await ringfs.ok('down')
})
