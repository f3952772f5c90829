/** A disk that hangs: it keeps its own threads and nobody else's, and time alone is no failure. FIFOs stand for it: opening one waits in the kernel. */
import t from 'tap'
import { execFileSync } from 'node:child_process'
import {
  closeSync,
  constants,
  existsSync,
  fdatasyncSync,
  mkdirSync,
  openSync,
  readFileSync,
  readdirSync,
  rmSync,
  writeSync,
} from 'node:fs'
import { dirname, join } from 'node:path'
import type { Test } from 'tap'
import { Gate } from '../../../src/chunk/deadline.js'
import { Look, SLOW_MS } from '../../../src/chunk/node/disk-look.js'
import type { NodeDisks } from '../../../src/chunk/node/disks.js'
import { SpaceGauge } from '../../../src/chunk/node/space.js'
import { WorkerPool, stuckThreads, type Job } from '../../../src/chunk/pool.js'
import {
  VOLUME,
  chunkFile,
  failureOf,
  poolOf,
  randomChunk,
  temporaryFolder,
  type Teardown,
} from '../../helpers/chunks.js'
import { within } from '../../helpers/deadline.js'
import { freezableDisk, isRoot, newFolders, openDisks } from '../../helpers/disks.js'
import { ManualClock } from '../../helpers/manual-clock.js'
import { until } from '../../helpers/meta.js'

t.setTimeout(300_000)

const WAIT_MS = 60_000
const pool = poolOf(t, 1)

/** Who opens it waits, until it is let go. */
class Fifo {
  readonly path: string

  constructor(t: Teardown, path: string) {
    this.path = path
    mkdirSync(dirname(path), { recursive: true })
    execFileSync('mkfifo', [path])
    t.teardown(() => this.letGo())
  }

  /** Whoever waits goes on, and nobody waits any more. */
  letGo(): void {
    try {
      const fd = openSync(this.path, constants.O_RDWR | constants.O_NONBLOCK)
      rmSync(this.path)
      closeSync(fd)
    } catch {
      // It was let go already.
    }
  }
}

/** A thread of this process is in open(2) of a FIFO that nobody writes: /proc/PID/task/TID/wchan, proc(5). */
function waitsForPipe(): boolean {
  return readdirSync('/proc/self/task').some((thread) => {
    return readFileSync(`/proc/self/task/${thread}/wchan`, 'latin1') === 'wait_for_partner'
  })
}

/** Nothing can be written to the disk of that folder. */
const stopWrites = (t: Teardown, folder: string): Fifo => new Fifo(t, join(folder, 'tmp', 'probe'))

async function ground(t: Test, count: number) {
  const folders = newFolders(t, count)
  const clock = new ManualClock()
  const failed: string[] = []
  const onFailed = ({ folder }: { readonly folder: string }): void => void failed.push(folder)
  const newPool = (): WorkerPool => new WorkerPool({ threads: 2 })
  const disks = await openDisks(t, pool, folders, { clock, onFailed, newPool })
  return { folders, clock, failed, disks }
}

const pace = join(temporaryFolder(t), 'pace')

/** Time passes until it is so; a second takes at least as long as a disk that is well takes to write a little, or it would be slow, too. */
async function passUntil(what: string, clock: ManualClock, isSo: () => boolean): Promise<void> {
  await until(
    what,
    async () => {
      const fd = openSync(pace, 'w')
      writeSync(fd, Buffer.alloc(4096))
      fdatasyncSync(fd)
      closeSync(fd)
      await clock.pass(1000)
      return isSo()
    },
    WAIT_MS,
  )
}

const stateOf = (disks: NodeDisks, folder: string | undefined): string => {
  const one = disks.states().find((disk) => disk.folder === folder)
  return one === undefined ? '' : `${one.state}${one.why === '' ? '' : ': '}${one.why}`
}

t.test(
  'one disk of two hangs: the other one serves, and only what hangs fails, with all that waits for it',
  async (t) => {
    const { folders, clock, failed, disks } = await ground(t, 2)
    const [sick = '', well = ''] = folders
    const fifos = [1, 2, 3].map((id) => new Fifo(t, chunkFile(sick, id)))
    const stopped = stopWrites(t, sick)
    const waiting = fifos.map((_, index) => disks.verify(index + 1))
    let answered = 0
    for (const one of waiting) void one.then(() => answered++)
    const looked = disks.check(true)
    await passUntil('it is slow', clock, () => stateOf(disks, sick).includes('takes longer than 30 s'))
    await looked
    t.equal(stateOf(disks, well), 'up')
    t.strictSame([failed, answered], [[], 0])
    const near = Array.from({ length: 20 }, (_, index) => randomChunk(100 + index, 3000))
    await passUntil('it has failed', clock, () => failed.length > 0)
    t.match(stateOf(disks, sick), /^failed: a write of 4 KiB has not been done in \d+ s/)
    t.ok(clock.monotonicMs() >= 2 * SLOW_MS)
    t.strictSame(await Promise.all(waiting), Array(3).fill({ state: 'missing' }), 'who waits is told')
    for (const chunk of near) await disks.put(chunk, chunk.data, true)
    t.same(
      await disks.lacks(
        near.map(({ id }) => id),
        true,
      ),
      [],
    )
    await clock.pass(10 * SLOW_MS)
    t.strictSame([failed, stateOf(disks, well)], [[sick], 'up'])
    for (const one of [...fifos, stopped]) one.letGo()
  },
)

t.test('the jobs of a disk that hangs take no thread of another one', async (t) => {
  const { folders, disks } = await ground(t, 2)
  const [sick = '', well = ''] = folders
  const written = Array.from({ length: 60 }, (_, index) => randomChunk(100 + index, 30_000))
  for (const chunk of written) await disks.put(chunk, chunk.data)
  const fifos = [1, 2, 3, 4, 5].map((id) => new Fifo(t, chunkFile(sick, id)))
  const waiting = fifos.map((_, index) => disks.verify(index + 1))
  const near = written.filter(({ id }) => existsSync(chunkFile(well, id)))
  t.ok(near.length > 3)
  for (const { id, root } of near) {
    t.same(await within(WAIT_MS, disks.verify(id), 'a look at the disk that is well'), { state: 'good', root })
  }
  for (const one of fifos) one.letGo()
  await Promise.allSettled(waiting)
})

t.test('logs beside the node on a disk that hangs: this thread goes on, and so do the other disks', async (t) => {
  const { folders, clock, failed, disks } = await ground(t, 2)
  const [sick = ''] = folders
  const fifo = new Fifo(t, join(sick, 'near', '0'))
  const stopped = stopWrites(t, sick)
  const asked = disks.lacks([1], false)
  void disks.check(true)
  await passUntil('it has failed', clock, () => failed.length > 0)
  t.strictSame(await asked, [1])
  for (const one of [fifo, stopped]) one.letGo()
})

t.test('room on a disk that does not answer: what was known last, and none after a while', async (t) => {
  const clock = new ManualClock()
  let gate: Gate | null = null
  class SlowPool extends WorkerPool {
    override async run<Input, Output>(...words: [Job<Input, Output>, Input]): Promise<Output> {
      await gate?.opened
      return await super.run(...words)
    }
  }
  const slow = new SlowPool({ threads: 1 })
  t.teardown(() => slow.close())
  const folder = temporaryFolder(t)
  const gauge = new SpaceGauge({ folder, clock, pool: slow, isInline: false, reserveBytes: 0 })
  await gauge.open()
  const { totalBytes, freeBytes } = gauge.space()
  t.ok(freeBytes > 1000)
  await gauge.claim(1000)
  gate = new Gate()
  await clock.pass(5_000)
  const known = { totalBytes, freeBytes: freeBytes - 1000 }
  t.same(gauge.space(), known, 'it is being asked')
  await clock.pass(29_000)
  t.same(gauge.space(), known)
  await clock.pass(2_000)
  t.same(gauge.space(), { totalBytes, freeBytes: 0 })
  const claimed = gauge.claim(1000)
  gate.open()
  await within(WAIT_MS, claimed, 'the claim')
  t.ok(gauge.space().freeBytes > 0)
  t.equal(await failureOf(gauge.claim(2 * totalBytes)), 'ENOSPC')
})

t.test('all disks at once: they are called slow, and none has failed until another one answers', async (t) => {
  const { folders, clock, failed, disks } = await ground(t, 2)
  const [first = '', second = ''] = folders
  const stopped = [first, second].map((folder) => stopWrites(t, folder))
  void disks.check(true)
  t.notOk(disks.isStuck)
  await passUntil('both are slow', clock, () => folders.every((one) => stateOf(disks, one).startsWith('up: ')))
  t.ok(disks.isStuck, 'the node cannot do what it is asked for')
  await clock.pass(10 * SLOW_MS)
  t.strictSame(failed, [], 'perhaps all stands still')
  // A pipe cannot be put on disk: to be let go is an error.
  stopped[0]?.letGo()
  await passUntil('an error fails it', clock, () => failed.length > 0)
  await clock.pass(10 * SLOW_MS)
  t.strictSame([failed, disks.live.length], [[first], 1], 'time alone does not fail the last one')
  stopped[1]?.letGo()
  await until('an error does', () => disks.live.length === 0, WAIT_MS)
})

const frozen = isRoot ? freezableDisk(t, 16 << 20) : null

t.test('the only disk stands still for minutes: all goes on when it does', async (t) => {
  if (frozen === null) return t.pass('needs root, and loop devices')
  const clock = new ManualClock()
  const disks = await openDisks(t, pool, [frozen.folder], { clock, inlineMaxBytes: 0 })
  frozen.freeze()
  const chunk = randomChunk(5, 20_000)
  const waiting = disks.put(chunk, chunk.data, true)
  void disks.check(true)
  await passUntil('it is slow', clock, () => stateOf(disks, frozen.folder).startsWith('up: '))
  await clock.pass(10 * SLOW_MS)
  t.equal(disks.live.length, 1)
  frozen.thaw()
  await waiting
  await until('it is well again', () => stateOf(disks, frozen.folder) === 'up', WAIT_MS)
  t.same(await disks.lacks([5], true), [])
})

t.test(
  'the only disk of a node hangs: who waits for it has it written, and the node is stuck until it answers',
  async (t) => {
    const { folders, clock, disks } = await ground(t, 1)
    const [sick = ''] = folders
    const stopped = stopWrites(t, sick)
    const fifo = new Fifo(t, chunkFile(sick, 1))
    const waiting = disks.verify(1)
    await clock.pass(6_000)
    // A look that costs the disk nothing, but that somebody waits.
    void disks.check(false)
    await passUntil('it is stuck', clock, () => disks.isStuck)
    t.match(stateOf(disks, sick), /^up: .*somebody waits for it/)
    for (const one of [fifo, stopped]) one.letGo()
    await waiting.catch(() => undefined)
    await until('it is not any more', () => !disks.isStuck, WAIT_MS)
  },
)

t.test('a node that ends does not wait for what hangs', async (t) => {
  const { folders, clock, disks } = await ground(t, 1)
  const [sick = ''] = folders
  const stopped = stopWrites(t, sick)
  const fifo = new Fifo(t, chunkFile(sick, 1))
  const waiting = disks.verify(1)
  disks.letGo()
  await passUntil('it is let go', clock, () => disks.live.length === 0)
  t.strictSame(await waiting, { state: 'missing' })
  for (const one of [fifo, stopped]) one.letGo()
})

t.test('waiting for a thread, or a process that was stopped, is no delay of the disk', (t) => {
  for (const [begins, ticks, late] of [
    [true, SLOW_MS / 1000 - 1, false],
    [true, SLOW_MS / 1000, true],
    [false, 500, false],
  ] as const) {
    // As after a stop: each timer fires an hour late.
    let tick = (): void => undefined
    let nowMs = 0
    const after = (_: number, work: () => void) => {
      tick = work
      return { close: () => undefined, unref: () => undefined }
    }
    const clock = Object.assign(new ManualClock(), { after, monotonicMs: () => (nowMs += 3_600_000) })
    let isLate = false
    const ask = (begun: Int32Array): Promise<void> => {
      Atomics.store(begun, 0, begins ? 1 : 0)
      return new Promise(() => undefined)
    }
    const look = new Look({ clock, sync: true, ask, onAnswer: () => undefined, onLate: () => (isLate = true) })
    for (let count = 0; count < ticks; count++) tick()
    t.equal(isLate, late, `${ticks} seconds`)
    look.end()
  }
  t.end()
})

t.test('a pool closes though a job hangs in the kernel', async (t) => {
  const clock = new ManualClock()
  const closing = new WorkerPool({ threads: 2, clock })
  const fifo = new Fifo(t, join(temporaryFolder(t), 'fifo'))
  const job = { file: 'disk', name: 'verify' } as const
  const hung = failureOf(closing.run(job, { file: fifo.path, volume: VOLUME, id: 1 }))
  const quick = closing.run(job, { file: `${fifo.path}-none`, volume: VOLUME, id: 1 })
  t.same(await quick, { state: 'missing' })
  // A thread that is still starting, or has not come to the job yet, is ended at once.
  if (isRoot) await until('a thread waits for the pipe', () => waitsForPipe(), WAIT_MS)
  let isClosed = false
  const closed = closing.close().then(() => (isClosed = true))
  await clock.pass(9_000)
  t.notOk(isClosed, 'it is given time to end')
  await passUntil('it is closed', clock, () => isClosed)
  await closed
  t.equal(await hung, 'CANCELLED')
  t.equal(stuckThreads(), 1, 'the process knows that it must not wait for its threads')
  fifo.letGo()
  await until('the thread has ended', () => stuckThreads() === 0, WAIT_MS)
})
