/** `ringfs stats` of real mounts. */
import { existsSync } from 'node:fs'
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { z } from 'zod'
import { Ringfs, eventually, kill, sh } from '../helpers/ringfs.js'

t.setTimeout(600_000)

const rate = z.strictObject({
  count: z.int().nonnegative(),
  perSecond: z.number().nonnegative(),
  p50Ms: z.number().nullable(),
  p99Ms: z.number().nullable(),
  errors: z.int().nonnegative(),
})
const rates = z.record(z.string(), rate)
const bytes = z.int().nonnegative()
/** What scripts of users read: nothing may disappear from it. */
const line = z.strictObject({
  time: z.iso.datetime(),
  ...{ mountpoint: z.string(), volume: z.string(), driver: z.string(), version: z.string(), pid: z.int() },
  ...{ uptimeMs: z.int(), intervalMs: z.int() },
  requests: rates,
  caches: z.record(z.string(), z.strictObject({ hits: bytes, misses: bytes, hitShare: z.number().nullable() })),
  invalidations: rates,
  eventsReceived: bytes,
  partitionsHeard: bytes,
  redis: rates,
  redisRetries: bytes,
  nodes: z.record(
    z.string(),
    z.strictObject({ put: rate, get: rate, sync: rate, sentBytes: bytes, receivedBytes: bytes }),
  ),
  chunks: z.strictObject({ hedges: bytes, retries: bytes, failures: bytes, bad: bytes }),
  packed: z.strictObject({ chunks: bytes, bytes }),
  moved: z.strictObject({ files: bytes, bytes }),
  inline: z.strictObject({ usedBytes: bytes, budgetBytes: bytes }),
  buffers: z.strictObject({
    ...{ lentBytes: bytes, dirtyBytes: bytes, dirtyMaxBytes: bytes, readCacheBytes: bytes, readCacheMaxBytes: bytes },
  }),
  openHandles: bytes,
  process: z.strictObject({
    ...{ rssBytes: bytes, heapBytes: bytes, externalBytes: bytes, cpuShare: z.number(), loopBusyShare: z.number() },
    awakeShare: z.number(),
    loopLag: rate,
  }),
})

const parse = (text: string): z.infer<typeof line> => line.parse(JSON.parse(text))

t.test('the figures of an up are those of what was done on it, at once and by the interval', async (t) => {
  const ringfs = await Ringfs.in(t)
  await ringfs.ok('up', '--detach')
  const { mountpoint } = ringfs
  const before = parse(await ringfs.ok('stats', mountpoint, '--once', '--json'))
  await sh('sh', '-c', `cd ${mountpoint} && for i in 1 2 3 4 5; do mkdir d$i && head -c 200000 /dev/zero > d$i/f; done`)
  await sh('sh', '-c', `! rmdir ${mountpoint}/d1 2>/dev/null`)
  const after = parse(await ringfs.ok('stats', mountpoint, '--once', '--json'))
  const more = (what: 'requests' | 'redis', name: string): number =>
    (after[what][name]?.count ?? 0) - (before[what][name]?.count ?? 0)
  t.equal(more('requests', 'mkdir'), 5)
  t.equal(more('requests', 'create'), 5)
  t.equal(after.requests['rmdir']?.errors, 1, 'it is not empty')
  t.ok(more('redis', 'commit') >= 5)
  const sent = Object.values(after.nodes).reduce((sum, { sentBytes }) => sum + sentBytes, 0)
  t.ok(sent >= 1_000_000, `${sent} bytes sent`)
  t.equal(after.mountpoint, mountpoint)
  t.match(await ringfs.ok('stats', mountpoint, '--once'), /REQUEST[^]*mkdir +5 [^]*REDIS[^]*process /)

  const live = ringfs.start('stats', mountpoint, '--json', '--interval', '0.3')
  let text = ''
  live.stdout?.on('data', (data: Buffer) => (text += data.toString()))
  const lines = (): string[] => text.split('\n').slice(0, -1)
  await eventually('two lines', lines, (seen) => seen.length >= 2)
  await sh('mkdir', join(mountpoint, 'late'))
  await eventually(
    'the late one',
    () => lines().slice(1).map(parse),
    (seen) => seen.some(({ requests }) => requests['mkdir']?.count === 1),
  )
  const ended = new Promise<number | null>((resolve) => live.once('exit', resolve))
  live.kill('SIGINT')
  t.equal(await ended, 0, 'Ctrl-C is how it ends')
  t.equal(parse(lines()[0] ?? '').requests['mkdir']?.count, 5, 'the first line: since it began')
  await ringfs.ok('down')
})

const noDevice = existsSync('/dev/cpu_dma_latency') ? false : 'this kernel has no /dev/cpu_dma_latency'
t.test('idle processors stay awake while calls follow each other, unless it is off', { skip: noDevice }, async (t) => {
  const ringfs = await Ringfs.in(t)
  const { mountpoint } = ringfs
  // Each asks the mount: the name was never heard of.
  let names = 0
  const askMuch = async (): Promise<void> => {
    names += 500
    await sh('sh', '-c', `i=${names}; while [ $i -gt ${names - 500} ]; do [ -e ${mountpoint}/$i ]; i=$((i-1)); done`)
  }
  const awake = async (): Promise<number> =>
    parse(await ringfs.ok('stats', mountpoint, '--once', '--json')).process.awakeShare
  await ringfs.ok('up', '--detach', '-o', 'stay-awake=on')
  const work = async (): Promise<number> => {
    await askMuch()
    return await awake()
  }
  await eventually('calls that follow each other closely', work, (share) => share > 0)
  t.match(await ringfs.ok('stats', mountpoint, '--once'), /idle processors kept awake \d/)
  await ringfs.ok('down')

  await ringfs.ok('up', '--detach', '-o', 'stay-awake=off')
  for (let i = 0; i < 5; i++) await askMuch()
  t.equal(await awake(), 0)
  t.notMatch(await ringfs.ok('stats', mountpoint, '--once'), /kept awake/)
  await ringfs.ok('down')
})

t.test('what is no mount of ringfs, or does not answer, is said clearly', async (t) => {
  const ringfs = await Ringfs.in(t)
  await mkdir(join(ringfs.folder, 'plain'))
  const plain = await ringfs.run('stats', 'plain')
  t.equal(plain.code, 83)
  t.match(plain.stderr, /^ringfs: no ringfs is mounted on plain: /)
  t.match(await ringfs.run('stats', 'missing'), { code: 30, stderr: /does not exist/ })
  t.match(await ringfs.run('stats', '.', '--interval', '0'), { code: 2 })

  await ringfs.ok('up', '--detach')
  const pid = ringfs.runFile()?.pid ?? 0
  kill(pid, 'SIGSTOP')
  const hanging = await ringfs.run('stats', ringfs.mountpoint)
  t.equal(hanging.code, 63)
  t.match(hanging.stderr, new RegExp(`process ${pid}, which serves .*mnt, does not answer within 5 s`))
  kill(pid, 'SIGCONT')
  await ringfs.ok('down')
})
