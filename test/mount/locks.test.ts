/** File locks between processes on two mounts of one volume, by the kernel driver. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { runCommand } from '../../src/fuse/command.js'
import { Locker, compileLocker } from '../helpers/locker.js'
import { pause, until } from '../helpers/meta.js'
import { mountTest, type MountProcess } from '../helpers/mount.js'
import { startRedis } from '../helpers/redis.js'

t.setTimeout(600_000)

/** Long enough that a lock that is not to be granted would have been. */
const MOMENT_MS = 300
const SHORT_LEASE = { sessionTtlMs: 4_000 }

const locker = await compileLocker()
const redis = await startRedis(t)

interface Ground {
  readonly a: Locker
  readonly b: Locker
  readonly mounts: readonly [MountProcess, MountProcess]
  /** Another process beside `a`, on its mount. */
  readonly beside: () => Locker
}

let volumes = 0

/** With the product's own lease, unless the test waits for its end: a mount that gets no turn for seconds must not lose its locks. */
async function twoMounts(
  t: Test,
  lease: { readonly sessionTtlMs?: number } = {},
): Promise<[MountProcess, MountProcess]> {
  const backend = redis.urlText(`locks${++volumes}`)
  const chunksFolder = await mkdtemp(join(tmpdir(), 'ringfs-locks-'))
  t.teardown(() => rm(chunksFolder, { recursive: true, force: true, maxRetries: 50, retryDelay: 100 }))
  const options = { driver: 'kernel', backend, chunksFolder, ...lease } as const
  const mount = (): Promise<MountProcess> => mountTest(t, options)
  return [await mount(), await mount()]
}

/** Two mounts, a process on each, which has the files f and g open in slots 0 and 1. */
async function ground(t: Test, lease: { readonly sessionTtlMs?: number } = {}): Promise<Ground> {
  const mounts = await twoMounts(t, lease)
  const on = async (mount: MountProcess): Promise<Locker> => {
    const process = new Locker(t, locker)
    for (const [slot, name] of ['f', 'g'].entries()) {
      t.equal(await process.tell(`open ${slot} ${join(mount.mountpoint, name)}`), 'ok')
    }
    return process
  }
  const [a, b] = [await on(mounts[0]), await on(mounts[1])]
  return { a, b, mounts, beside: () => new Locker(t, locker) }
}

t.test('record locks hold between two mounts, byte by byte, and F_GETLK tells of them', async (t) => {
  const { a, b } = await ground(t)
  t.equal(await a.tell('posix 0 w 10 10 try'), 'ok')
  t.equal(await b.tell('posix 0 r 19 1 try'), 'EAGAIN')
  t.equal(await b.tell('posix 0 w 20 0 try'), 'ok')
  t.equal(await b.tell('get 0 w 0 0'), 'w 10 10 0', 'a process of another mount has no pid here')
  t.equal(await a.tell('posix 0 u 12 3 try'), 'ok')
  t.equal(await b.tell('get 0 w 11 4'), 'w 10 2 0')
  t.equal(await b.tell('posix 0 w 12 3 try'), 'ok')
  t.equal(await a.tell('get 0 r 20 0'), `w 20 0 0`)
  t.equal(await b.tell('flock 0 w 0 0 try'), 'ok')
  t.equal(await a.tell('flock 0 r 0 0 try'), 'EAGAIN')
})

t.test(
  'within one mount the holder is told by its pid, and each close of the file frees what its process locked',
  async (t) => {
    const { a, mounts, beside } = await ground(t)
    const other = beside()
    const path = join(mounts[0].mountpoint, 'f')
    t.equal(await other.tell(`open 0 ${path}`), 'ok')
    t.equal(await other.tell(`open 2 ${path}`), 'ok')
    t.equal(await other.tell('posix 0 w 0 5 try'), 'ok')
    t.equal(await a.tell('get 0 w 0 0'), `w 0 5 ${other.pid}`)
    t.equal(await other.tell('close 2'), 'ok')
    t.equal(await a.tell('posix 0 w 0 0 try'), 'ok')
  },
)

t.test('what is locked through a file that is open to read only goes with its close, too', async (t) => {
  const { b, mounts, beside } = await ground(t)
  const reader = beside()
  const path = join(mounts[0].mountpoint, 'f')
  // The first time the kernel does not say when it is closed, only when it is gone.
  for (const mode of ['wait', 'try', 'try']) {
    t.equal(await reader.tell(`openr 0 ${path}`), 'ok')
    t.equal(await reader.tell('posix 0 r 0 0 try'), 'ok')
    t.equal(await b.tell('posix 0 w 0 0 try'), 'EAGAIN')
    t.equal(await reader.tell('close 0'), 'ok')
    t.equal(await b.tell(`posix 0 w 0 0 ${mode}`), 'ok', mode)
    t.equal(await b.tell('posix 0 u 0 0 try'), 'ok')
  }
  t.equal(await reader.tell(`open 1 ${path}`), 'ok')
  t.equal(await reader.tell('posix 1 w 0 0 try'), 'ok')
  t.equal(await reader.tell(`openr 0 ${path}`), 'ok')
  t.equal(await reader.tell('close 0'), 'ok')
  t.equal(await b.tell('posix 0 w 0 0 try'), 'ok', 'of a file that is locked here each close counts')
})

t.test('open file description locks go with the last close, and not with another', async (t) => {
  const { a, b, mounts } = await ground(t)
  t.equal(await a.tell(`open 2 ${join(mounts[0].mountpoint, 'f')}`), 'ok')
  t.equal(await a.tell('ofd 0 w 0 0 try'), 'ok')
  t.equal(await a.tell('ofd 2 r 0 1 try'), 'EAGAIN', 'another open file of the same process')
  t.equal(await a.tell('close 2'), 'ok')
  t.equal(await b.tell('ofd 0 r 0 1 try'), 'EAGAIN')
  const waiting = b.tell('posix 0 w 0 1 wait')
  t.equal(await a.tell('close 0'), 'ok')
  t.equal(await waiting, 'ok')
})

t.test('what is closed is free at once for the next on the same mount', async (t) => {
  const { a, mounts, beside } = await ground(t)
  const other = beside()
  const path = join(mounts[0].mountpoint, 'f')
  for (let round = 0; round < 30; round++) {
    t.equal(await a.tell(`open 3 ${path}`), 'ok')
    t.equal(await a.tell('flock 3 w 0 0 try'), 'ok')
    t.equal(await a.tell('write 3 something'), 'ok')
    t.equal(await a.tell('close 3'), 'ok')
    t.equal(await other.tell(`open 3 ${path}`), 'ok')
    t.equal(await other.tell('flock 3 w 0 0 try'), 'ok')
    t.equal(await other.tell('close 3'), 'ok')
  }
})

for (const kind of ['posix', 'flock']) {
  t.test(`a number that four processes on two mounts count up under ${kind} locks loses no step`, async (t) => {
    const { a, b, mounts, beside } = await ground(t)
    const more = [beside(), beside()]
    for (const [i, process] of more.entries()) {
      t.equal(await process.tell(`open 0 ${join(mounts[i]?.mountpoint ?? '', 'f')}`), 'ok')
    }
    const rounds = 60
    const answers = await Promise.all([a, b, ...more].map((process) => process.tell(`count 0 ${rounds} ${kind}`)))
    t.strictSame(answers, ['ok', 'ok', 'ok', 'ok'])
    t.equal(await a.tell('read 0'), `read ${4 * rounds}`)
    t.equal(await b.tell('read 0'), `read ${4 * rounds}`)
  })
}

t.test('a deadlock over two files and two mounts is told to one, and the other goes on', async (t) => {
  const { a, b } = await ground(t)
  t.equal(await a.tell('posix 0 w 0 0 try'), 'ok')
  t.equal(await b.tell('posix 1 w 0 0 try'), 'ok')
  const first = a.tell('posix 1 w 0 0 wait')
  await pause(MOMENT_MS)
  const second = b.tell('posix 0 w 0 0 wait')
  // On a machine with much else to do the second may come first.
  const told = await Promise.race([first.then((answer) => [answer, 'a']), second.then((answer) => [answer, 'b'])])
  t.equal(told[0], 'EDEADLK')
  t.equal(await (told[1] === 'a' ? a.tell('posix 0 u 0 0 try') : b.tell('posix 1 u 0 0 try')), 'ok')
  t.equal(await (told[1] === 'a' ? second : first), 'ok')
})

t.test('a signal ends the waiting with EINTR, and a killed waiter leaves nothing behind', async (t) => {
  const { a, b, mounts, beside } = await ground(t)
  t.equal(await a.tell('posix 0 w 0 0 try'), 'ok')
  t.equal(await a.tell('flock 0 w 0 0 try'), 'ok')
  for (const kind of ['posix', 'flock']) {
    t.equal(await b.interrupt(b.tell(`${kind} 0 w 0 0 wait`)), 'EINTR')
  }
  const killed = beside()
  t.equal(await killed.tell(`open 0 ${join(mounts[1].mountpoint, 'f')}`), 'ok')
  void killed.tell('posix 0 w 0 0 wait').catch(() => undefined)
  await pause(MOMENT_MS)
  killed.kill()
  t.equal(await a.tell('posix 0 u 0 0 try'), 'ok')
  t.equal(await b.tell('posix 0 w 0 0 wait'), 'ok')
})

t.test('a process that is killed gives back what it held', async (t) => {
  const { a, b } = await ground(t)
  t.equal(await a.tell('posix 0 w 0 0 try'), 'ok')
  t.equal(await a.tell('flock 0 w 0 0 try'), 'ok')
  const waiting = b.tell('posix 0 w 0 0 wait')
  await pause(MOMENT_MS)
  a.kill()
  t.equal(await waiting, 'ok')
  t.equal(await b.tell('flock 0 w 0 0 wait'), 'ok')
})

t.test('locks of a mount that is killed go to who waits on another', async (t) => {
  const { a, b, mounts, beside } = await ground(t, SHORT_LEASE)
  const other = beside()
  t.equal(await other.tell(`open 1 ${join(mounts[1].mountpoint, 'g')}`), 'ok')
  t.equal(await a.tell('posix 0 w 0 0 try'), 'ok')
  t.equal(await a.tell('flock 1 w 0 0 try'), 'ok')
  const waiting = b.tell('posix 0 w 0 0 wait')
  await pause(MOMENT_MS)
  t.equal(await other.tell('flock 1 w 0 0 try'), 'EAGAIN')
  mounts[0].signal('SIGKILL')
  t.equal(await waiting, 'ok')
  t.equal(await other.tell('flock 1 w 0 0 wait'), 'ok')
})

t.test(
  'a mount that slept too long has lost its locks: reads and writes of the file are EIO until it is closed',
  async (t) => {
    const { a, b, mounts } = await ground(t, SHORT_LEASE)
    t.equal(await a.tell('posix 0 w 0 0 try'), 'ok')
    t.equal(await a.tell('write 0 before'), 'ok')
    mounts[0].signal('SIGSTOP')
    t.teardown(() => mounts[0].signal('SIGCONT'))
    t.equal(await b.tell('posix 0 w 0 0 wait'), 'ok')
    t.equal(await b.tell('write 0 others'), 'ok')
    t.equal(await b.tell('posix 0 u 0 0 try'), 'ok')
    mounts[0].signal('SIGCONT')
    t.equal(await a.tell('write 0 afterw'), 'EIO')
    t.equal(await a.tell('read 0'), 'EIO')
    t.equal(await a.tell('posix 0 w 0 0 try'), 'EIO')
    t.match(await a.tell('close 0'), /ok|EIO/)
    t.equal(await a.tell(`open 0 ${join(mounts[0].mountpoint, 'f')}`), 'ok')
    t.equal(await a.tell('read 0'), 'read others')
    t.equal(await a.tell('posix 0 w 0 0 try'), 'ok')
    await until('its log says so', () => /file locks were lost/.test(mounts[0].output()))
  },
)

t.test('SQLite on two mounts at once loses no commit and stays whole', async (t) => {
  const { exitCode } = await runCommand('sqlite3', ['--version'], 10_000)
  if (exitCode !== 0) {
    t.pass('sqlite3 is not installed here')
    return
  }
  const mounts = await twoMounts(t)
  const [one, two] = mounts.map(({ mountpoint }) => join(mountpoint, 'test.db'))
  if (one === undefined || two === undefined) throw new Error('there are two mounts')
  const sql = async (path: string, text: string): Promise<string> => {
    const { exitCode, output } = await runCommand('sqlite3', ['-cmd', '.timeout 60000', path, text], 120_000)
    if (exitCode !== 0) throw new Error(`sqlite3: ${output}`)
    return output.trim()
  }
  await sql(one, 'create table t(k integer primary key, who text, filler blob)')
  const commits = 25
  const writer = async (path: string, who: string): Promise<void> => {
    const inserts = Array.from(
      { length: commits },
      () => `insert into t(who, filler) values('${who}', zeroblob(3000));`,
    )
    await sql(path, inserts.join('\n'))
  }
  await Promise.all([writer(one, 'a'), writer(two, 'b'), writer(one, 'c'), writer(two, 'd')])
  for (const path of [one, two]) {
    t.equal(
      await sql(path, 'select who, count(*) from t group by who order by who'),
      ['a', 'b', 'c', 'd'].map((who) => `${who}|${commits}`).join('\n'),
    )
    t.equal(await sql(path, 'pragma integrity_check'), 'ok')
  }
  await rm(one)
})
