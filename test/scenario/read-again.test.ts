/** Files that are read a second time come from the kernel's pages: counted by the requests that a mount gets. */
import { join } from 'node:path'
import t from 'tap'
import { z } from 'zod'
import { Ringfs, sh } from '../helpers/ringfs.js'

t.setTimeout(120_000)

const line = z.object({ requests: z.record(z.string(), z.object({ count: z.int() })) })

/** In the metadata, in a chunk of their own, in several. */
const SIZES = [4_096, 300_000, 9_000_000]

t.test('files that were written here and read once are read again without a request', async (t) => {
  const ringfs = await Ringfs.in(t)
  await ringfs.ok('up', '--detach')
  const { mountpoint, folder } = ringfs
  const counted = async (request: string): Promise<number> => {
    const { requests } = line.parse(JSON.parse(await ringfs.ok('stats', mountpoint, '--once', '--json')))
    return requests[request]?.count ?? 0
  }
  const reads = (): Promise<number> => counted('read')
  const files = SIZES.map((size) => ({ size, wanted: join(folder, `${size}`), file: join(mountpoint, `${size}`) }))
  const compare = async (): Promise<void> => {
    for (const { wanted, file } of files) await sh('cmp', wanted, file)
  }
  const change = async (bytes: string): Promise<void> => {
    for (const path of files.flatMap(({ wanted, file }) => [wanted, file])) {
      await sh('sh', '-c', `printf ${bytes} | dd of=${path} bs=1 seek=1000 conv=notrunc 2>/dev/null`)
    }
  }
  for (const { size, wanted, file } of files) {
    await sh('sh', '-c', `head -c ${size} /dev/urandom > ${wanted} && cp ${wanted} ${file}`)
  }
  // The first reading changes the access time, so it comes to the mount.
  await compare()
  const first = await reads()
  t.ok(first >= files.length)
  const flushed = await counted('flush')
  await compare()
  t.equal(await counted('flush'), flushed, 'nor do their closes need one')
  t.equal(await reads(), first, 'as they were written')
  // Often enough that the extents are compacted when they are next read.
  for (const bytes of ['one', 'two', 'three', 'four']) await change(bytes)
  await compare()
  const changed = await reads()
  await compare()
  t.equal(await reads(), changed, 'changed in place')
})
