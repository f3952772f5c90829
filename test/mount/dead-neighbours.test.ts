/** A mount is killed while its processes hold locks: the next one on this machine, and who waits on another, gets them at once. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { PATIENCE_MS, within } from '../helpers/deadline.js'
import { Locker, compileLocker } from '../helpers/locker.js'
import { pause } from '../helpers/meta.js'
import { mountTest, type MountProcess } from '../helpers/mount.js'
import { startRedis } from '../helpers/redis.js'

t.setTimeout(600_000)
/** Nobody waits here until the lease of a dead session is over. */
const SESSION_TTL_MS = 600_000
/** Longer than a mount looks around for neighbours that ended. */
const LOOKED_MS = 3_000

const locker = await compileLocker()
const redis = await startRedis(t)
let volumes = 0

async function mounts(t: Test): Promise<() => Promise<MountProcess>> {
  const backend = redis.urlText(`neighbours${++volumes}`)
  const chunksFolder = await mkdtemp(join(tmpdir(), 'ringfs-neighbours-'))
  t.teardown(() => rm(chunksFolder, { recursive: true, force: true, maxRetries: 50, retryDelay: 100 }))
  return () => mountTest(t, { driver: 'kernel', backend, chunksFolder, sessionTtlMs: SESSION_TTL_MS })
}

/** A process with the files f and g of the mount open in slots 0 and 1. */
async function processOn(t: Test, mount: MountProcess): Promise<Locker> {
  const process = new Locker(t, locker)
  for (const [slot, name] of ['f', 'g'].entries()) {
    t.equal(await process.tell(`open ${slot} ${join(mount.mountpoint, name)}`), 'ok')
  }
  return process
}

async function lockBoth(t: Test, process: Locker): Promise<void> {
  t.equal(await process.tell('posix 0 w 0 0 try'), 'ok')
  t.equal(await process.tell('flock 1 w 0 0 try'), 'ok')
}

t.test('a mount that starts after one was killed finds nothing locked', async (t) => {
  const mount = await mounts(t)
  const killed = await mount()
  await lockBoth(t, await processOn(t, killed))
  killed.signal('SIGKILL')
  await killed.exited()
  const next = await mount()
  await lockBoth(t, await processOn(t, next))
})

t.test('two that start at once after one was killed both find nothing locked', async (t) => {
  const mount = await mounts(t)
  const killed = await mount()
  await lockBoth(t, await processOn(t, killed))
  killed.signal('SIGKILL')
  await killed.exited()
  const [one, two] = await Promise.all([mount(), mount()])
  t.equal(await (await processOn(t, one)).tell('posix 0 w 0 0 try'), 'ok')
  t.equal(await (await processOn(t, two)).tell('flock 1 w 0 0 try'), 'ok')
})

t.test('who waits on another mount, older or younger, gets the lock of one that is killed', async (t) => {
  const mount = await mounts(t)
  const older = await processOn(t, await mount())
  const killed = await mount()
  await lockBoth(t, await processOn(t, killed))
  const younger = await processOn(t, await mount())
  const waiting = Promise.all([older.tell('posix 0 w 0 0 wait'), younger.tell('flock 1 w 0 0 wait')])
  await pause(300)
  killed.signal('SIGKILL')
  t.strictSame(await within(PATIENCE_MS, waiting, 'the lock of one that is killed'), ['ok', 'ok'])
})

t.test('a mount that is stopped keeps its locks, also for one that starts meanwhile', async (t) => {
  const mount = await mounts(t)
  const other = await processOn(t, await mount())
  const stopped = await mount()
  const holder = await processOn(t, stopped)
  await lockBoth(t, holder)
  stopped.signal('SIGSTOP')
  t.teardown(() => stopped.signal('SIGCONT'))
  const next = await processOn(t, await mount())
  await pause(LOOKED_MS)
  for (const process of [other, next]) {
    t.equal(await process.tell('posix 0 w 0 0 try'), 'EAGAIN')
    t.equal(await process.tell('flock 1 w 0 0 try'), 'EAGAIN')
  }
  stopped.signal('SIGCONT')
  t.equal(await holder.tell('write 0 mine'), 'ok')
  t.equal(await holder.tell('posix 0 u 0 0 try'), 'ok')
  t.equal(await next.tell('posix 0 w 0 0 try'), 'ok')
  t.equal(await next.tell('read 0'), 'read mine')
})
