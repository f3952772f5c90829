/** Files that are read a second time come from the kernel's pages: counted by the requests that a mount gets. */
import { join } from 'node:path'
import t from 'tap'
import { RpcChannel } from '../../src/rpc/channel.js'
import { STATS_READ } from '../../src/rpc/messages-stats.js'
import { Ringfs, sh } from '../helpers/ringfs.js'

t.setTimeout(600_000)

/** In the metadata, in a chunk of their own, in several. */
const SIZES = [4_096, 300_000, 9_000_000]

/** Kernels that reclaim what nobody used for seconds (DAMON) take single pages away, as does a `ringfs bench` beside. */
const ATTEMPTS = 8

t.test('files that were written here and read once are read again without a request', async (t) => {
  const ringfs = await Ringfs.in(t)
  await ringfs.ok('up', '--detach')
  const { mountpoint, folder } = ringfs
  const run = ringfs.runFiles().find((one) => one.mountpoint === mountpoint)
  const channel = new RpcChannel(`unix:${run?.socket ?? ''}`)
  t.teardown(() => channel.close())
  const counted = async (request: string): Promise<number> => {
    const { reply } = await channel.call(STATS_READ, {}, [], { deadlineMs: 60_000 })
    return reply.timers.find(({ group, label }) => group === 'fuse' && label === request)?.count ?? 0
  }
  for (const size of SIZES) {
    const [wanted, file] = [join(folder, `${size}`), join(mountpoint, `${size}`)]
    const readsOfCompare = async (): Promise<number> => {
      const before = await counted('read')
      await sh('cmp', wanted, file)
      return (await counted('read')) - before
    }
    const change = async (bytes: string): Promise<void> => {
      for (const path of [wanted, file]) {
        await sh('sh', '-c', `printf ${bytes} | dd of=${path} bs=1 seek=1000 conv=notrunc 2>/dev/null`)
      }
    }
    const again = async (first: number, what: string): Promise<void> => {
      let fewest = first
      for (let attempt = 0; attempt < ATTEMPTS && fewest > 0; attempt++) {
        fewest = Math.min(fewest, await readsOfCompare())
      }
      t.ok(fewest < first / 2, `${size} bytes ${what}: ${first} requests, then ${fewest}`)
    }
    await sh('sh', '-c', `head -c ${size} /dev/urandom > ${wanted} && cp ${wanted} ${file}`)
    // The first reading changes the access time, so it comes to the mount.
    const first = await readsOfCompare()
    t.ok(first >= 1)
    const flushed = await counted('flush')
    await again(first, 'as they were written')
    t.equal(await counted('flush'), flushed, 'nor do their closes need one')
    // Often enough that the extents are compacted when they are next read.
    for (const bytes of ['one', 'two', 'three', 'four']) await change(bytes)
    await readsOfCompare()
    await again(first, 'changed in place')
  }
})
