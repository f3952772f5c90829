/** What a client is told of changes that it cannot know of by their replies: lost ones, and ones that are finished behind its back. */
import t from 'tap'
import { silentLog } from '../../src/base/log.js'
import { VolumeKeys } from '../../src/meta/keys.js'
import { SCRIPTS } from '../../src/meta/scripts.js'
import { LOCK_END } from '../../src/meta/contract.js'
import { createVfs } from '../../src/vfs/vfs.js'
import { MemoryChunks } from '../helpers/memory-chunks.js'
import {
  ROOT,
  bytes,
  listen,
  makeDirIn,
  newFile,
  outcome,
  touch,
  until,
  volumesOn,
  type MetaVolume,
} from '../helpers/meta.js'
import { startRedis } from '../helpers/redis.js'
import { CALLER } from '../helpers/vfs-fixture.js'

const redis = await startRedis(t)
const open = volumesOn(t, redis)
const timeout = 300_000
const keysOf = ({ settings }: MetaVolume): VolumeKeys => new VolumeKeys(settings.name, settings.partitions)

t.test('a lost change is found out also if others were made since', { timeout }, async (t) => {
  const volume = await open()
  const ann = await volume.client()
  const home = await makeDirIn(ann, ROOT, 'home', { partition: 3 })
  const replies = keysOf(volume).partition(3).replies(ann.sessionId)
  /** As a replica that takes over does not know the newest change. */
  const loseNewest = async (): Promise<void> => {
    const fields = await volume.redis.call('HKEYS', replies)
    const sequences = (Array.isArray(fields) ? fields : [])
      .map((field) => Number(String(field)))
      .filter((one) => one > 0)
    await volume.redis.call('HDEL', replies, Math.max(...sequences))
  }
  const events = listen(ann)
  const look = async (): Promise<number> => {
    const before = events.filter(({ kind }) => kind === 'back').length
    await redis.command(0, 'CLIENT', 'KILL', 'TYPE', 'pubsub')
    await until('its subscription is back', () => {
      return ann.coherent && events.filter(({ kind }) => kind === 'back').length > before
    })
    return events.filter(({ kind }) => kind === 'tailLost').length
  }
  await touch(ann, home.ino, 'kept')
  t.equal(await look(), 0, 'nothing is lost yet')
  await touch(ann, home.ino, 'lost')
  await loseNewest()
  await touch(ann, home.ino, 'since')
  t.equal(await look(), 1, 'one change since')
  await touch(ann, home.ino, 'lost too')
  await loseNewest()
  for (let i = 0; i < 20; i++) await touch(ann, home.ino, `more${i}`)
  t.equal(await look(), 2, 'many changes since')
  for (let i = 0; i < 20; i++) await touch(ann, home.ino, `and more${i}`)
  t.equal(await look(), 2, 'told once')
})

t.test('what was looked at while an own change was being finished is asked for again', { timeout }, async (t) => {
  const volume = await open()
  const locks = keysOf(volume).partition(3).locks
  let freezes = false
  const ann = await volume.client({
    onStep: async (step) => {
      if (freezes && step === 'unlink:committed') await volume.redis.run(SCRIPTS.freeze, [locks], ['test', 30_000])
    },
  })
  const here = await makeDirIn(ann, ROOT, 'here', { partition: 3 })
  const there = await makeDirIn(ann, ROOT, 'there', { partition: 5 })
  const { ino } = await touch(ann, here.ino, 'file')
  await ann.link(ino, there.ino, bytes('link'))
  const vfs = createVfs({ meta: ann, chunks: new MemoryChunks(), log: silentLog })
  t.teardown(() => vfs.shutdown())
  await until('it is coherent', () => ann.coherent)
  freezes = true
  await vfs.unlink(CALLER, there.ino, bytes('link'))
  const handle = await vfs.opendir(CALLER, here.ino)
  const [listed] = (await vfs.readdir(handle, 0n, 100, true)).filter(({ name }) => name.toString() === 'file')
  vfs.releasedir(handle)
  t.equal(listed?.attr?.nlink, 2, 'the link is counted still')
  await volume.redis.run(SCRIPTS.thaw, [locks], ['test'])
  await until('it is finished', async () => (await ann.getattr(ino)).nlink === 1)
  await until('it is seen', async () => (await vfs.getattr(CALLER, ino)).nlink === 1)
  t.equal((await vfs.getattr(CALLER, ino)).nlink, 1)
})

t.test('who is told by nobody that his change was finished hears of it', { timeout }, async (t) => {
  const volume = await open()
  let go = (): void => undefined
  const gate = new Promise<void>((resolve) => (go = resolve))
  let isThere = false
  const ann = await volume.client({
    onStep: async (step) => {
      if (step !== 'unlink:committed') return
      isThere = true
      await gate
    },
  })
  const here = await makeDirIn(ann, ROOT, 'here', { partition: 3 })
  const there = await makeDirIn(ann, ROOT, 'there', { partition: 5 })
  const { ino } = await touch(ann, here.ino, 'file')
  await ann.link(ino, there.ino, bytes('link'))
  const bob = await volume.client()
  const events = listen(ann)
  const unlinking = ann.unlink(there.ino, bytes('link'))
  await until('it is committed', () => isThere)
  t.equal((await bob.getattr(ino)).nlink, 1, 'finished by another client')
  await ann.caughtUp()
  t.ok(
    events.some((event) => event.kind === 'attr' && event.ino === ino),
    'told',
  )
  go()
  await unlinking
})

t.test('after a session whose beginning was lost somebody cleans up', { timeout }, async (t) => {
  const volume = await open()
  const keys = keysOf(volume)
  const ann = await volume.client({ sessionTtlMs: 2_000 })
  const bob = await volume.client({ sessionTtlMs: 2_000 })
  const { ino } = await touch(ann, ROOT, 'file')
  const whole = (owner: string) => ({ kind: 'flock', type: 'write', owner, start: 0n, end: LOCK_END, pid: 1 }) as const
  await ann.setlk(ino, whole('a1'), { wait: false })
  const first = ann.sessionId
  await volume.redis.call('ZREM', keys.wide('s'), first)
  await volume.redis.call('HDEL', keys.wide('h'), first)
  await until('it has a new session', () => ann.sessionId !== first)
  await until('the lock is free', async () => (await outcome(bob.setlk(ino, whole('b1'), { wait: false }))) === 'ok')
  t.pass('it is')
})

t.test("a server that knows of none of a counter's numbers gives others", { timeout }, async (t) => {
  const volume = await open(1)
  const { counters } = keysOf(volume).partition(0)
  const ann = await volume.client()
  const before = await volume.redis.call('HGETALL', counters)
  const first = await touch(ann, ROOT, 'first')
  // As the counter was when the volume was made, on a replica that has taken over.
  const fields = (Array.isArray(before) ? before : []).map((one) => String(one))
  const copied = fields.map((one, at) => (fields[at - 1] === 'h' ? 'another' : one))
  await volume.redis.call('DEL', counters)
  await volume.redis.call('HSET', counters, 'x', '0', ...copied)
  const second = await ann.create(ROOT, bytes('second'), newFile(), { exclusive: true, open: false })
  t.not(second.attr.ino, first.ino)
})
