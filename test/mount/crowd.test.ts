/** Several clients at work in one folder, each through a mount of its own, caches on. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t, { type Test } from 'tap'
import { lineOf } from '../coherence/crowd.js'
import { mountTest, sh, type MountProcess } from '../helpers/mount.js'
import { startRedis } from '../helpers/redis.js'

t.setTimeout(600_000)

const MOUNTS = 3
const WORKERS = 6
const LINES = 60
const MOVES = 60
const crowd = fileURLToPath(new URL('../coherence/crowd.js', import.meta.url))
const redis = await startRedis(t)
let volumes = 0

async function mounts(t: Test): Promise<readonly MountProcess[]> {
  const backend = redis.urlText(`crowd${++volumes}`)
  const chunksFolder = await mkdtemp(join(tmpdir(), 'ringfs-crowd-'))
  t.teardown(() => rm(chunksFolder, { recursive: true, force: true, maxRetries: 50, retryDelay: 100 }))
  const made: MountProcess[] = []
  for (let i = 0; i < MOUNTS; i++) made.push(await mountTest(t, { driver: 'kernel', backend, chunksFolder }))
  return made
}

/** All at once, spread over the mounts; each must have met nothing that it should not. */
async function work(
  t: Test,
  on: readonly MountProcess[],
  folder: string,
  words: (worker: number) => readonly [string, string, string],
): Promise<void> {
  const workers = Array.from({ length: WORKERS }, (_, worker) => {
    const [what, name, count] = words(worker)
    const mountpoint = on[worker % on.length]?.mountpoint ?? ''
    return sh(process.execPath, crowd, what, join(mountpoint, folder), name, count)
  })
  t.strictSame(
    await Promise.all(workers),
    Array.from({ length: WORKERS }, () => 'done'),
  )
}

t.test('lines that many clients append to one file are all there, once and whole, each one`s in order', async (t) => {
  const on = await mounts(t)
  await work(t, on, '', (worker) => ['append', `w${worker}`, String(LINES)])
  for (const { mountpoint } of on) {
    const lines = (await sh('cat', join(mountpoint, 'log')))
      .trimEnd()
      .split('\n')
      .map((line) => `${line}\n`)
    t.equal(lines.length, WORKERS * LINES)
    for (let worker = 0; worker < WORKERS; worker++) {
      const own = lines.filter((line) => line.startsWith(`w${worker} `))
      const wanted = Array.from({ length: LINES }, (_, index) => lineOf(`w${worker}`, index))
      t.ok(own.join('') === wanted.join(''), `those of w${worker}`)
    }
  }
})

t.test(
  'directories moved crosswise and into each other by many clients: none is lost, none is in itself',
  async (t) => {
    const on = await mounts(t)
    const names = Array.from({ length: 8 }, (_, index) => `d${index}`)
    const [first] = on
    if (first === undefined) throw new Error('there are mounts')
    const made = names.map((name) => `mkdir -p ${name} && echo ${name} > ${name}/in-${name}`).join(' && ')
    await sh('sh', '-c', `mkdir "$0/tree" && cd "$0/tree" && ${made}`, first.mountpoint)
    const seed = Date.now() % 2 ** 31
    t.comment(`seed ${seed}`)
    await work(t, on, 'tree', (worker) => ['rename', String(seed + worker * 7919), String(MOVES)])
    const wanted = [...names, ...names.map((name) => `in-${name}`)].sort()
    const trees = on.map(({ mountpoint }) => sh('sh', '-c', 'cd "$0/tree" && find . -mindepth 1 | sort', mountpoint))
    const seen = await Promise.all(trees)
    for (const tree of seen) {
      t.equal(tree, seen[0], 'all see the same')
      const found = tree
        .trim()
        .split('\n')
        .map((path) => path.split('/').at(-1))
      t.strictSame(found.sort(), wanted, `each is there once (seed ${seed})`)
    }
    for (const { mountpoint } of on) {
      const texts = await sh('sh', '-c', 'cd "$0/tree" && find . -type f -exec cat {} + | sort', mountpoint)
      t.equal(texts.trimEnd(), names.join('\n'))
    }
  },
)
