/** `ringfs up` whose Redis has lost everything: rebuilt while it is down, and once more while it runs. */
import { randomBytes } from 'node:crypto'
import { readdir, rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { z } from 'zod'
import { parseMetaUrl } from '../../src/cluster/url.js'
import { Ringfs, sh } from '../helpers/ringfs.js'

t.setTimeout(600_000)

const rebuiltSchema = z.object({
  isAnew: z.boolean(),
  isComplete: z.boolean(),
  nodes: z.number(),
  files: z.array(z.object({ name: z.string(), sizeBytes: z.number() })),
  unknown: z.array(z.string()),
})

t.test('a lost Redis: what had chunks is in lost+found, whether ringfs up runs or not', async (t) => {
  const ringfs = await Ringfs.in(t)
  const second = join(ringfs.folder, 'second')
  await ringfs.ok('up', '--detach', '--nodes', '2', '--replicas', '2', '--data', ringfs.data, '--data', second)
  const local = [join(ringfs.folder, 'large'), join(ringfs.folder, 'medium')] as const
  await writeFile(local[0], randomBytes(5_000_000))
  await writeFile(local[1], randomBytes(70_000))
  await sh('cp', ...local, ringfs.mountpoint)
  await sh('sh', '-c', `echo small > ${ringfs.mountpoint}/small`)
  await ringfs.ok('down')
  await rm(join(ringfs.data, 'redis'), { recursive: true })
  const refused = await ringfs.run('up', '--detach')
  t.equal(refused.code, 23)
  t.match(refused.stderr, /ringfs rebuild --data/)

  const dry = async (): Promise<z.infer<typeof rebuiltSchema>> => {
    const { stdout } = await ringfs.run('rebuild', '--data', ringfs.data, '--dry-run', '--json')
    return rebuiltSchema.parse(JSON.parse(stdout))
  }
  await rename(second, `${second}.away`)
  const half = await dry()
  t.notOk(half.isComplete, 'a disk of each node is not there')
  t.match(half.unknown.join(' '), /not all of it: .*second\/nodes\/1: its folder was not given/)
  await rename(`${second}.away`, second)
  t.match(await dry(), { isAnew: true, isComplete: true, nodes: 2, files: [{}, {}] })
  t.match(await ringfs.ok('rebuild', '--data', ringfs.data), /2 files.*restored.*What the chunks do not tell/s)
  t.same(ringfs.processes(), [], 'its Redis is stopped again')
  const same = async (folder: string): Promise<void> => {
    const names = await readdir(folder)
    t.equal(names.length, 2)
    for (const name of names) {
      const of = (await sh('stat', '-c', '%s', join(folder, name))).trim() === '70000' ? local[1] : local[0]
      await sh('cmp', of, join(folder, name))
    }
  }
  await ringfs.ok('up', '--detach')
  await same(join(ringfs.mountpoint, 'lost+found'))
  t.equal(await ringfs.ok('rebuild', '--if-due'), 'no rebuild is due\n')

  await flush(ringfs)
  const again = rebuiltSchema.parse(JSON.parse(await ringfs.ok('rebuild', '--data', ringfs.data, '--json')))
  t.match(again, { isAnew: true, isComplete: true, nodes: 2, files: [{}, {}] })
  t.match(again.unknown.join('\n'), /up to 65536 bytes were kept on Redis/)
  await ringfs.ok('get', '-r', '/lost+found', join(ringfs.folder, 'got'))
  await same(join(ringfs.folder, 'got'))
  await ringfs.ok('down')
})

async function flush(ringfs: Ringfs): Promise<void> {
  const { hosts, password = '' } = parseMetaUrl(ringfs.runFile()?.metaUrl ?? '')
  await sh('redis-cli', '-p', String(hosts[0]?.port), '--no-auth-warning', '-a', password, 'FLUSHALL')
}
