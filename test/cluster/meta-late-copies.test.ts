/**
 * A request is sent twice, and its first copy runs long after its second was answered: a connection that the client has
 * given up may still be read from. Whatever overtakes what, it must do nothing.
 */
import t from 'tap'
import { RingfsError } from '../../src/base/errors.js'
import type { RedisStore } from '../../src/cluster/contract.js'
import { LOCK_END, type MetaStore } from '../../src/meta/contract.js'
import { listSessions } from '../../src/meta/format.js'
import { bound } from '../helpers/bound-redis.js'
import { checkVolume, walk } from '../helpers/meta-check.js'
import { decisions } from '../helpers/meta-scenarios.js'
import { ROOT, bytes, makeDirIn, outcome, pause, touch, until, volumesOn } from '../helpers/meta.js'
import { startRedis } from '../helpers/redis.js'

const RENEWAL_MS = 100

/** Sends a copy of the marked request when told to; holds back requests until told. */
class Post {
  readonly #held = new Map<string, () => void>()
  copy: (() => Promise<unknown>) | undefined
  hold: string | undefined
  keep = false
  /** Requests of this script are not sent, and fail. */
  lose: string | undefined
  /** Scripts that were answered. */
  readonly answered = new Set<string>()
  /** The answer of one request of this script is lost. */
  loseAnswer: string | undefined

  wrap(store: RedisStore): RedisStore {
    const run: RedisStore['run'] = async (script, keys, args, options) => {
      if (script.name === this.lose) {
        this.copy = () => store.run(script, keys, args, options)
        throw new RingfsError('REDIS_UNREACHABLE', 'lost by the test')
      }
      if (this.keep) {
        this.keep = false
        this.copy = () => store.run(script, keys, args, options)
      }
      if (script.name === this.loseAnswer) {
        this.loseAnswer = undefined
        await store.run(script, keys, args, options)
        throw new RingfsError('REDIS_UNREACHABLE', 'its answer lost by the test')
      }
      const name = this.hold
      this.hold = undefined
      if (name !== undefined) await new Promise<void>((resolve) => this.#held.set(name, resolve))
      const reply = await store.run(script, keys, args, options)
      this.answered.add(script.name)
      return reply
    }
    return { ...bound(store), run }
  }

  isHeld(name: string): boolean {
    return this.#held.has(name)
  }

  release(name: string): void {
    this.#held.get(name)?.()
  }
}

t.test('a late copy of a request that was answered long ago does nothing', { timeout: 300_000 }, async (t) => {
  const post = new Post()
  const volume = await volumesOn(t, await startRedis(t), (store) => post.wrap(store))(1)
  const meta = await volume.client({ sessionTtlMs: 3_600_000 })
  const work = async (): Promise<void> => {
    for (let i = 0; i < 3; i++) {
      await touch(meta, ROOT, 'other')
      await meta.unlink(ROOT, bytes('other'))
    }
  }
  await work()
  post.hold = 'before'
  const before = touch(meta, ROOT, 'before')
  await until('it is held', () => post.isHeld('before'))
  post.keep = true
  await touch(meta, ROOT, 'x')
  await meta.unlink(ROOT, bytes('x'))
  await work()
  const late = async (when: string): Promise<void> => {
    await post.copy?.()
    t.equal(await outcome(meta.lookup(ROOT, bytes('x'))), 'ENOENT', when)
  }
  await late('while an older request is under way')
  post.hold = 'after'
  const after = touch(meta, ROOT, 'after')
  await until('it is held', () => post.isHeld('after'))
  post.release('before')
  await before
  await work()
  post.release('after')
  await after
  await late('when a request has come that was sent before the reply was dropped')
  await work()
  await late('in the end')
  await volume.close()
  t.strictSame(await checkVolume(volume), [], 'the volume is whole afterwards')
})

t.test('a closing that comes after the file was opened again leaves it open', { timeout: 300_000 }, async (t) => {
  const post = new Post()
  const volume = await volumesOn(t, await startRedis(t), (store) => post.wrap(store))(1)
  const meta = await volume.client({ sessionTtlMs: 3_600_000 })
  const { ino } = await touch(meta, ROOT, 'file')
  await meta.open(ino, { truncate: false })
  post.hold = 'older'
  const older = touch(meta, ROOT, 'older')
  await until('it is held', () => post.isHeld('older'))
  post.lose = 'close'
  meta.close(ino)
  await until('it was sent', () => post.copy !== undefined)
  post.lose = undefined
  const opening = meta.open(ino, { truncate: false })
  for (const name of ['a', 'b']) await touch(meta, ROOT, name)
  await post.copy?.()
  post.release('older')
  await Promise.all([older, opening])
  await meta.unlink(ROOT, bytes('file'))
  t.match(await meta.getattr(ino), { nlink: 0 }, 'whoever has it open reads it')
  meta.close(ino)
  await until('it is gone', async () => (await outcome(meta.getattr(ino))) === 'ENOENT')
  await volume.close()
  t.strictSame(await checkVolume(volume), [], 'the volume is whole afterwards')
})

async function write(meta: MetaStore, ino: number, id: number): Promise<void> {
  const chunk = { id, lengthBytes: 10, root: Buffer.alloc(32, 1) }
  const extents = [{ fileOffset: 0, lengthBytes: 10, chunk, chunkOffset: 0 }]
  await meta.commit(ino, { extents, mode: 'at', allocatedDeltaBytes: 10, mtime: { sec: 1, nsec: 0 } })
}

for (const script of ['commit', 'unlink'] as const)
  t.test(`a late ${script} that had failed undoes nothing that was done since`, { timeout: 300_000 }, async (t) => {
    const post = new Post()
    const volume = await volumesOn(t, await startRedis(t), (store) => post.wrap(store))(1)
    const meta = await volume.client({ sessionTtlMs: 3_600_000 })
    const [{ ino }, other] = [await touch(meta, ROOT, 'file'), await touch(meta, ROOT, 'other')]
    const [first, second] = [await meta.chunkId(), await meta.chunkId()]
    post.hold = 'older'
    const older = touch(meta, ROOT, 'older')
    await until('it is held', () => post.isHeld('older'))
    post.lose = script
    const fail = async (): Promise<void> => {
      if (script === 'commit') await write(meta, ino, first)
      else await meta.unlink(ROOT, bytes('file'))
    }
    await t.rejects(fail(), { code: 'REDIS_UNREACHABLE' })
    post.lose = undefined
    const anew = async (): Promise<number> => {
      if (script === 'commit') return ino
      // The first one may have been carried out by then.
      await outcome(meta.unlink(ROOT, bytes('file')))
      return (await touch(meta, ROOT, 'file')).ino
    }
    const since = anew().then(async (ino) => {
      await write(meta, ino, second)
      return ino
    })
    for (let i = 0; i < 20; i++) {
      await meta.open(other.ino, { truncate: false })
      meta.close(other.ino)
    }
    await post.copy?.()
    post.release('older')
    await older
    const written = await since
    t.match(await meta.lookup(ROOT, bytes('file')), { ino: written })
    t.equal((await meta.extents(written, 0)).extents.at(-1)?.chunk?.id, second, 'what was written last is read')
    await volume.close()
    t.strictSame(await checkVolume(volume), [], 'the volume is whole afterwards')
  })

const LOCK = { kind: 'posix', type: 'write', owner: 'a', pid: 1, start: 0n, end: LOCK_END } as const

t.test(
  'an unlock that comes after its owner locked the file again takes nothing from him',
  { timeout: 300_000 },
  async (t) => {
    const post = new Post()
    const volume = await volumesOn(t, await startRedis(t), (store) => post.wrap(store))(1)
    const meta = await volume.client({ sessionTtlMs: 3_600_000 })
    const { ino } = await touch(meta, ROOT, 'file')
    await meta.setlk(ino, LOCK, { wait: false })
    post.hold = 'older'
    const older = touch(meta, ROOT, 'older')
    await until('it is held', () => post.isHeld('older'))
    post.lose = 'unlock'
    await meta.unlock(ino, LOCK)
    post.lose = undefined
    const { copy } = post
    const locking = meta.setlk(ino, LOCK, { wait: false })
    for (let i = 0; i < 20; i++) await touch(meta, ROOT, `${i}`)
    await copy?.()
    post.release('older')
    await Promise.all([older, locking])
    const other = await volume.client()
    t.equal(await outcome(other.setlk(ino, LOCK, { wait: false })), 'EAGAIN')
    await volume.close()
    t.strictSame(await checkVolume(volume), [], 'the volume is whole afterwards')
  },
)

for (const how of ['unlock', 'lock to read'] as const)
  t.test(
    `a commit that had failed does not come when another client has the lock (${how})`,
    { timeout: 300_000 },
    async (t) => {
      const post = new Post()
      const volume = await volumesOn(t, await startRedis(t), (store) => post.wrap(store))(1)
      const meta = await volume.client({ sessionTtlMs: 3_600_000 })
      const bob = await volume.client({ sessionTtlMs: 3_600_000 })
      const [{ ino }, other] = [await touch(meta, ROOT, 'file'), await touch(meta, ROOT, 'other')]
      const [first, second] = [await meta.chunkId(), await bob.chunkId()]
      await meta.setlk(ino, LOCK, { wait: false })
      post.hold = 'older'
      const older = touch(meta, ROOT, 'older')
      await until('it is held', () => post.isHeld('older'))
      post.lose = 'commit'
      await t.rejects(write(meta, ino, first), { code: 'REDIS_UNREACHABLE' })
      post.lose = undefined
      const { copy } = post
      const reads = how === 'lock to read'
      const giving = reads ? meta.setlk(ino, { ...LOCK, type: 'read' }, { wait: false }) : meta.unlock(ino, LOCK)
      let seen: unknown
      const bobs = bob.setlk(ino, { ...LOCK, type: reads ? 'read' : 'write' }, { wait: true }).then(async () => {
        if (!reads) await write(bob, ino, second)
        seen = (await bob.extents(ino, 0)).extents
      })
      for (let i = 0; i < 20; i++) {
        await meta.open(other.ino, { truncate: false })
        meta.close(other.ino)
      }
      await copy?.()
      post.release('older')
      await Promise.all([older, giving, bobs])
      t.same((await bob.extents(ino, 0)).extents, seen, 'what he saw under the lock stays')
      await volume.close()
      t.strictSame(await checkVolume(volume), [], 'the volume is whole afterwards')
    },
  )

for (const wait of [true, false])
  t.test(
    `a lock whose answer did not come, and that comes when it was given back, is nobody's (wait: ${wait})`,
    { timeout: 300_000 },
    async (t) => {
      const post = new Post()
      const volume = await volumesOn(t, await startRedis(t), (store) => post.wrap(store))(1)
      const meta = await volume.client({ sessionTtlMs: 3_600_000 })
      const { ino } = await touch(meta, ROOT, 'file')
      post.hold = 'older'
      const older = touch(meta, ROOT, 'older')
      await until('it is held', () => post.isHeld('older'))
      post.lose = 'lock'
      await t.rejects(meta.setlk(ino, LOCK, { wait }), { code: 'REDIS_UNREACHABLE' })
      post.lose = undefined
      const { copy } = post
      // As at the close of the file; who had waited gives it back himself.
      const unlocking = wait ? undefined : meta.unlock(ino, LOCK)
      if (wait) await until('he has', () => post.answered.has('lock-ask'))
      for (let i = 0; i < 20; i++) await touch(meta, ROOT, `${i}`)
      await copy?.()
      post.release('older')
      await Promise.all([older, unlocking])
      const other = await volume.client()
      await until('it is free', async () => (await outcome(other.setlk(ino, LOCK, { wait: false }))) === 'ok')
      await volume.close()
      t.strictSame(await checkVolume(volume), [], 'the volume is whole afterwards')
    },
  )

const READ = { ...LOCK, type: 'read' } as const

for (const script of ['unlock', 'commit'] as const)
  t.test(
    `who waits for a lock behind a lost ${script} is interrupted, and holds nothing`,
    { timeout: 300_000 },
    async (t) => {
      const post = new Post()
      const volume = await volumesOn(t, await startRedis(t), (store) => post.wrap(store))(1)
      const meta = await volume.client({ sessionTtlMs: 3_600_000 })
      const { ino } = await touch(meta, ROOT, 'file')
      await meta.setlk(ino, LOCK, { wait: false })
      post.hold = 'older'
      const older = touch(meta, ROOT, 'older')
      await until('it is held', () => post.isHeld('older'))
      post.lose = script
      if (script === 'unlock') await meta.unlock(ino, LOCK)
      else await t.rejects(write(meta, ino, await meta.chunkId()), { code: 'REDIS_UNREACHABLE' })
      post.lose = undefined
      const stop = new AbortController()
      const owner = script === 'unlock' ? LOCK.owner : 'b'
      const waiting = meta.setlk(ino, { ...LOCK, owner }, { wait: true, signal: stop.signal })
      const ended = t.rejects(waiting, { code: 'EINTR' })
      await pause(100)
      stop.abort()
      await ended
      post.release('older')
      await older
      await meta.unlock(ino, LOCK)
      const bob = await volume.client()
      t.equal(await outcome(bob.setlk(ino, LOCK, { wait: false })), 'ok')
      await volume.close()
      t.strictSame(await checkVolume(volume), [], 'the volume is whole afterwards')
    },
  )

t.test(
  'who asks again for a lock behind a lost commit is interrupted, and waits no more',
  { timeout: 300_000 },
  async (t) => {
    const post = new Post()
    const volume = await volumesOn(t, await startRedis(t), (store) => post.wrap(store))(1)
    const meta = await volume.client({ sessionTtlMs: 3_600_000 })
    const [ann, bob] = [await volume.client(), await volume.client()]
    const { ino } = await touch(meta, ROOT, 'file')
    await ann.setlk(ino, READ, { wait: false })
    const bobs = bob.setlk(ino, LOCK, { wait: true })
    await until('he stands in the queue', async () => {
      post.answered.clear()
      const stop = new AbortController()
      // Held back for him who waits, or granted at once.
      const asked = meta.setlk(ino, READ, { wait: true, signal: stop.signal }).then(
        () => meta.unlock(ino, READ),
        () => undefined,
      )
      await until('it is answered', () => post.answered.has('lock'))
      stop.abort()
      await asked
      return post.answered.has('lock-cancel')
    })
    post.hold = 'older'
    const older = touch(meta, ROOT, 'older')
    await until('it is held', () => post.isHeld('older'))
    const stop = new AbortController()
    post.answered.clear()
    const ended = t.rejects(meta.setlk(ino, READ, { wait: true, signal: stop.signal }), { code: 'EINTR' })
    await until('it was told to wait', () => post.answered.has('lock'))
    post.lose = 'commit'
    await t.rejects(write(meta, ino, await meta.chunkId()), { code: 'REDIS_UNREACHABLE' })
    post.lose = undefined
    // It would ask again, since it was only held back for him.
    await pause(1_000)
    stop.abort()
    await ended
    await ann.unlock(ino, READ)
    await bobs
    await bob.unlock(ino, LOCK)
    t.equal(await outcome(ann.setlk(ino, LOCK, { wait: false })), 'ok', 'nobody has it, or waits for it')
    post.release('older')
    await older
    await volume.close()
    t.strictSame(await checkVolume(volume), [], 'the volume is whole afterwards')
  },
)

t.test('a commit that comes after its transaction was given up does nothing', { timeout: 300_000 }, async (t) => {
  const post = new Post()
  const volume = await volumesOn(t, await startRedis(t), (store) => post.wrap(store))()
  const meta = await volume.client({ atOnce: false })
  await makeDirIn(meta, ROOT, 'here', { partition: 4 })
  post.lose = 'tx-commit'
  await t.rejects(meta.rmdir(ROOT, bytes('here')), { code: 'REDIS_UNREACHABLE' })
  post.lose = undefined
  await post.copy?.()
  const { paths, problems } = await walk(meta)
  t.strictSame([[...paths.keys()], problems], [['', '/here'], []], 'nothing happened')
  await until('what refuses it is left', async () => (await decisions(volume)).length === 1)
  await touch(meta, ROOT, 'other')
  await until('nothing is left of the transaction', async () => (await decisions(volume)).length === 0)
  await post.copy?.()
  t.equal(await outcome(meta.lookup(ROOT, bytes('here'))), 'ok', 'refused by its number')
  await meta.rmdir(ROOT, bytes('here'))
  await volume.close()
  t.strictSame(await checkVolume(volume), [], 'the volume is whole afterwards')
})

t.test('a commit whose answer is lost has been made, and its caller is told so', { timeout: 300_000 }, async (t) => {
  const post = new Post()
  const volume = await volumesOn(t, await startRedis(t), (store) => post.wrap(store))()
  const meta = await volume.client({ atOnce: false })
  const here = await makeDirIn(meta, ROOT, 'here', { partition: 4 })
  const there = await makeDirIn(meta, ROOT, 'there', { partition: 5 })
  await touch(meta, here.ino, 'file')
  await makeDirIn(meta, here.ino, 'dir', { partition: 6 })
  const changes: readonly (() => Promise<unknown>)[] = [
    () => meta.rename(here.ino, bytes('file'), there.ino, bytes('file'), {}),
    () => meta.rename(here.ino, bytes('dir'), there.ino, bytes('dir'), {}),
    () => meta.rename(there.ino, bytes('file'), ROOT, bytes('file'), {}),
    () => meta.rmdir(there.ino, bytes('dir')),
    () => meta.rmdir(ROOT, bytes('here')),
  ]
  for (const change of changes) {
    post.loseAnswer = 'tx-commit'
    t.equal(await outcome(change()), 'ok')
    t.equal(post.loseAnswer, undefined)
  }
  const { paths, problems } = await walk(meta)
  t.strictSame([[...paths.keys()].sort(), problems], [['', '/file', '/there'], []])
  await until('nothing is left of the transactions', async () => (await decisions(volume)).length === 0)
  await volume.close()
  t.strictSame(await checkVolume(volume), [], 'the volume is whole afterwards')
})

for (const [partitions, script] of [
  [1, 'tx-commit'],
  [8, 'tx-whole'],
] as const)
  t.test(
    `a move of a directory that may still be done keeps others from moving (${script})`,
    { timeout: 300_000 },
    async (t) => {
      const post = new Post()
      const volume = await volumesOn(t, await startRedis(t), (store) => post.wrap(store))(partitions)
      const ann = await volume.client()
      const bob = await volume.client()
      const one = await ann.mkdir(ROOT, bytes('one'), 0o755, 0, 0)
      const two = await ann.mkdir(ROOT, bytes('two'), 0o755, 0, 0)
      post.lose = script
      await t.rejects(ann.rename(ROOT, bytes('one'), two.ino, bytes('one'), {}), { code: 'REDIS_UNREACHABLE' })
      post.lose = undefined
      await bob.rename(ROOT, bytes('two'), one.ino, bytes('two'), {})
      await post.copy?.()
      const { paths, problems } = await walk(bob)
      t.strictSame([[...paths.keys()].sort(), problems], [['', '/one', '/one/two'], []], 'no loop')
      await volume.close()
      t.strictSame(await checkVolume(volume), [], 'the volume is whole afterwards')
    },
  )

t.test('a session that ends is not renewed behind its end', { timeout: 300_000 }, async (t) => {
  let renewals = 0
  const volume = await volumesOn(t, await startRedis(t), (store) => {
    const run: RedisStore['run'] = async (script, keys, args, options) => {
      if (script.name === 'session-renew') renewals++
      const reply = await store.run(script, keys, args, options)
      // Its answer takes longer than until the next renewal.
      if (script.name === 'session-end') await pause(10 * RENEWAL_MS)
      return reply
    }
    return { ...bound(store), run }
  })()
  const meta = await volume.client({ sessionTtlMs: 4 * RENEWAL_MS, reaps: false })
  await until('it is renewed', () => renewals > 1)
  await meta.shutdown()
  t.strictSame(await listSessions(volume.redis, volume.settings.name), [])
  t.equal(await volume.redis.call('ZCARD', `{${volume.settings.name}}:m:dead`), 0)
  await volume.close()
  t.strictSame(await checkVolume(volume), [], 'the volume is whole afterwards')
})
