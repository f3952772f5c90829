/** `ringfs bench` on a plain folder and on a mount. Rates are not judged: only that they are there, and what is left behind. */
import type { ChildProcess } from 'node:child_process'
import { mkdir, readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { z } from 'zod'
import { GROUPS, STEPS } from '../../src/cli/bench/plan.js'
import { Ringfs, eventually, kill, sh } from '../helpers/ringfs.js'

t.setTimeout(400_000)

const figure = z.strictObject({
  ...{ name: z.string(), group: z.enum(GROUPS), title: z.string(), unit: z.enum(['MiB/s', 'per second']) },
  ...{ rate: z.number().positive(), operations: z.int().positive(), bytes: z.int().nonnegative() },
  ...{ seconds: z.number().positive(), p50Ms: z.number().nonnegative(), p99Ms: z.number().nonnegative() },
})
/** What scripts of users read: nothing may disappear from it. */
const report = z.strictObject({
  ...{ format: z.literal(1), path: z.string(), fsType: z.string(), startedAt: z.iso.datetime(), seconds: z.number() },
  ...{ threads: z.int(), sizeBytes: z.int(), files: z.int(), isComplete: z.boolean() },
  figures: z.array(figure),
  skipped: z.array(z.strictObject({ name: z.string(), reason: z.string() })),
})

const parse = (text: string): z.infer<typeof report> => report.parse(JSON.parse(text))
const SMALL = ['--size', '4M', '--files', '60']

async function plainFolder(ringfs: Ringfs): Promise<string> {
  const folder = join(ringfs.folder, 'plain')
  await mkdir(folder)
  return folder
}

t.test('every figure is measured or left out with a reason, and nothing stays in the folder', async (t) => {
  const ringfs = await Ringfs.in(t)
  const folder = await plainFolder(ringfs)
  const { figures, skipped, isComplete, path, threads } = parse(await ringfs.ok('bench', folder, '--json', ...SMALL))
  t.same([...figures, ...skipped].map(({ name }) => name).sort(), STEPS.map(({ name }) => name).sort())
  const warm = STEPS.filter(({ cold }) => !cold).map(({ name }) => name)
  for (const { name } of skipped) t.notOk(warm.includes(name), `${name} needs no root`)
  t.match({ isComplete, path, threads }, { isComplete: true, path: folder, threads: 1 })
  t.same(await readdir(folder), [])
})

t.test('on a mount, with several threads, each does its share; the table has units', async (t) => {
  const ringfs = await Ringfs.in(t)
  await ringfs.ok('up', '--detach')
  const { mountpoint } = ringfs
  const words = ['bench', mountpoint, '--threads', '3', '--seconds', '60', ...SMALL]
  const { figures, fsType } = parse(await ringfs.ok(...words, '--json'))
  t.equal(fsType, 'fuse.ringfs')
  const of = (name: string): unknown => figures.find((one) => one.name === name)
  t.match(of('create'), { operations: 60, bytes: 60 * 4096 })
  t.match(of('large_write'), { operations: 3, bytes: 3 * 2 ** 20 })
  t.match(of('unlink'), { operations: 60 })
  const text = await ringfs.ok(...words, '--only', 'small')
  t.match(text, /\(fuse\.ringfs\), 3 threads[^]*create files of 4 KiB +[\d.,]+ +per second +[\d.]+ (us|ms)/)
  t.notMatch(text, 'MiB/s', 'only small')
  t.same(await readdir(mountpoint), [])
  await ringfs.ok('down')
})

t.test('many threads begin together, however long their folders take to be made', async (t) => {
  const ringfs = await Ringfs.in(t)
  await ringfs.ok('up', '--detach')
  const words = ['--threads', '24', '--size', '24M', '--files', '48', '--only', 'directories']
  const { figures } = parse(await ringfs.ok('bench', ringfs.mountpoint, '--json', '--seconds', '60', ...words))
  t.match(
    figures.find(({ name }) => name === 'create_empty'),
    { operations: 48 },
  )
  await ringfs.ok('down')
})

interface LongBench {
  readonly ringfs: Ringfs
  /** Of the mount. */
  readonly pid: number
  readonly child: ChildProcess
  /** When the mount has been stopped: bench says that its files are left, and ends. */
  readonly isLeft: () => Promise<void>
}

/** One that makes small files for longer than the test lasts. */
async function longBench(t: Test): Promise<LongBench> {
  const ringfs = await Ringfs.in(t)
  await ringfs.ok('up', '--detach')
  const pid = ringfs.runFile()?.pid ?? 0
  const words = ['--only', 'small', '--files', '1000000', '--seconds', '600']
  const child = ringfs.start('bench', ringfs.mountpoint, ...words)
  let said = ''
  child.stderr?.on('data', (data: Buffer) => (said += data.toString()))
  const ended = new Promise<NodeJS.Signals | null>((resolve) => child.once('close', (_, signal) => resolve(signal)))
  const told = /a call on .*ringfs-bench-.* does not come back, so it is left there/
  const isLeft = async (): Promise<void> => {
    await eventually(
      'told',
      () => said,
      (text) => told.test(text),
    )
    // The kernel lets nobody go whose request was read already.
    kill(pid, 'SIGCONT')
    t.equal(await ended, 'SIGKILL')
    await ringfs.ok('down')
  }
  return { ringfs, pid, child, isLeft }
}

t.test('a folder that does not answer: Ctrl-C ends it all the same, and says so', async (t) => {
  const { ringfs, pid, child, isLeft } = await longBench(t)
  const isBusy = async (): Promise<boolean> => (await sh('find', ringfs.mountpoint, '-name', 'f1*')) !== ''
  await eventually('files are made', isBusy, (seen) => seen)
  kill(pid, 'SIGSTOP')
  child.kill('SIGINT')
  await isLeft()
})

t.test('a folder that ceases to answer while it is tidied up is told of, and left', async (t) => {
  const { ringfs, pid, child, isLeft } = await longBench(t)
  // Names go while it is looked at.
  const countOf = async (): Promise<number> =>
    Number(await sh('sh', '-c', `find ${ringfs.mountpoint} -name 'f*' 2>/dev/null | wc -l`))
  const many = await eventually('files are made', countOf, (count) => count > 4_000)
  child.kill('SIGINT')
  await eventually('they are removed', countOf, (count) => count < many)
  kill(pid, 'SIGSTOP')
  await isLeft()
})

t.test('--only random makes its file first, unmeasured; --keep leaves the files and says where', async (t) => {
  const ringfs = await Ringfs.in(t)
  const folder = await plainFolder(ringfs)
  const ran = await ringfs.run('bench', folder, '--only', 'random', '--keep', '--json', '--size', '2M')
  t.equal(ran.code, 0, ran.stderr)
  t.same(new Set(parse(ran.stdout).figures.map(({ group }) => group)), new Set(['random']))
  const [kept = '', ...more] = await readdir(folder)
  t.same(more, [])
  t.match(ran.stderr, join(folder, kept))
  t.equal((await stat(join(folder, kept, 'thread0', 'large'))).size, 2 * 2 ** 20)
})

t.test('a figure takes no longer than it may: the rest works on what was made by then', async (t) => {
  const ringfs = await Ringfs.in(t)
  const folder = await plainFolder(ringfs)
  const words = ['--only', 'small', '--files', '1000000', '--seconds', '0.05', '--json']
  const { figures } = parse(await ringfs.ok('bench', folder, ...words))
  const made = figures.find(({ name }) => name === 'create')?.operations ?? 0
  t.ok(made > 0 && made < 1_000_000, `${made} files`)
  t.ok(figures.every(({ operations }) => operations <= made))
  t.same(await readdir(folder), [])
})

for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  t.test(`${signal} in the middle takes away what was made, and says that it was stopped`, async (t) => {
    const ringfs = await Ringfs.in(t)
    const folder = await plainFolder(ringfs)
    const child = ringfs.start('bench', folder, '--json', '--only', 'small', '--files', '1000000', '--seconds', '600')
    let [out, said] = ['', '']
    child.stdout?.on('data', (data: Buffer) => (out += data.toString()))
    child.stderr?.on('data', (data: Buffer) => (said += data.toString()))
    const ended = new Promise<number | null>((resolve) => child.once('close', resolve))
    const isBusy = async (): Promise<boolean> => (await sh('find', folder, '-name', 'f1*')) !== ''
    await eventually('files are made', isBusy, (seen) => seen)
    child.kill(signal)
    t.equal(await ended, 66)
    t.same(await readdir(folder), [])
    t.match(said, /stopped before the end/)
    t.match(parse(out), { isComplete: false, figures: [] }, 'the figure that was cut short is none')
  })
}

/** A bench that works, and will find the next directory that it wants to make taken. */
async function failingBench(
  t: Test,
  also: (made: string) => Promise<unknown> = () => Promise.resolve(),
): Promise<{ folder: string; code: number | null; said: string }> {
  const ringfs = await Ringfs.in(t)
  const folder = await plainFolder(ringfs)
  const child = ringfs.start('bench', folder, '--only', 'small', '--files', '1000000', '--seconds', '600')
  let said = ''
  child.stderr?.on('data', (data: Buffer) => (said += data.toString()))
  const ended = new Promise<number | null>((resolve) => child.once('close', resolve))
  const dir = async (): Promise<string> => (await sh('find', folder, '-name', 'thread0')).trim()
  const made = await eventually('it works', dir, (seen) => seen !== '')
  const files = async (): Promise<readonly string[]> => await readdir(made)
  await eventually('folders', files, (seen) => seen.length > 1)
  child.kill('SIGSTOP')
  // Each thread stops for itself.
  const states = async (): Promise<string> => await sh('sh', '-c', `cat /proc/${child.pid}/task/*/stat`)
  await eventually('it stands still', states, (seen) => !/\) [^T] /.test(seen))
  await mkdir(join(made, `s${(await files()).length}`))
  await also(made)
  child.kill('SIGCONT')
  return { folder, code: await ended, said }
}

t.test('a failure in the middle is told, and takes away what was made', async (t) => {
  const { folder, code, said } = await failingBench(t)
  t.equal(code, 1, said)
  t.match(said, /^ringfs: .*exist/m)
  t.same(await readdir(folder), [])
})

t.test('what cannot be taken away is told beside the failure', async (t) => {
  let busy = ''
  const { code, said } = await failingBench(t, async (made) => {
    busy = join(made, 'busy')
    await mkdir(busy)
    await sh('mount', '-t', 'tmpfs', 'none', busy)
    t.teardown(async () => await sh('umount', busy))
  })
  t.equal(code, 1, said)
  t.match(said, /^ringfs: .*exist/m)
  t.match(said, /are left in .*\/ringfs-bench-/)
  t.match(said, /EBUSY/)
  t.same(await readdir(busy), [])
})

t.test('what cannot be measured is said before anything is made', async (t) => {
  const ringfs = await Ringfs.in(t)
  const folder = await plainFolder(ringfs)
  const file = join(folder, 'file')
  await sh('touch', file)
  const refused = async (what: RegExp, ...words: readonly string[]): Promise<void> => {
    const { code, stderr } = await ringfs.run('bench', ...words)
    t.equal(code, 2, stderr)
    t.match(stderr, what)
  }
  await refused(/is not a folder/, file)
  await refused(/cannot be reached/, join(folder, 'missing'))
  await refused(/too little space/, folder, '--size', '900000G')
  await refused(/at least 1M for each thread/, folder, '--size', '1M', '--threads', '2')
  await refused(/--threads is 1 to 64/, folder, '--threads', '65')
  await refused(/there is no group what: --only takes large, random, small, directories/, folder, '--only', 'what')
  await refused(/whole number/, folder, '--files', '0')
  await refused(/missing required argument/)
  t.same(await readdir(folder), ['file'])
})

t.test('a read-only mount is refused as that', async (t) => {
  const ringfs = await Ringfs.in(t)
  await ringfs.ok('up', '--detach', '-o', 'ro')
  const { code, stderr } = await ringfs.run('bench', ringfs.mountpoint, ...SMALL)
  t.equal(code, 2)
  t.match(stderr, /nothing can be made in .*mnt: it is read-only/)
  await ringfs.ok('down')
})
