/** The small parts of the chunk client and node, each by itself. */
import { once } from 'node:events'
import { availableParallelism } from 'node:os'
import { Worker } from 'node:worker_threads'
import t from 'tap'
import { Budget } from '../../../src/base/budget.js'
import { systemClock } from '../../../src/base/clock.js'
import { RingfsError } from '../../../src/base/errors.js'
import { CHUNK_MAX_BYTES, HASH_INLINE_MAX_BYTES, KIB } from '../../../src/base/limits.js'
import { HedgeTimer } from '../../../src/chunk/client/latency.js'
import { LeafCache } from '../../../src/chunk/client/leaf-cache.js'
import { candidatesOf, readOrder, writeOrder, type Placement } from '../../../src/chunk/client/placement.js'
import type { CancelSignal } from '../../../src/base/cancel.js'
import { settledWithin, withDeadline } from '../../../src/chunk/deadline.js'
import { InlineGate, limitsOf } from '../../../src/base/inline-gate.js'
import { leafHashes, sumBytes } from '../../../src/chunk/hash.js'
import { type HashTask, Hasher } from '../../../src/chunk/jobs.js'
import { KeyedLock } from '../../../src/chunk/node/keyed-lock.js'
import { NodeHealth } from '../../../src/chunk/node-health.js'
import { attempt, toChunkError, unwrap } from '../../../src/chunk/outcome.js'
import { type Job, WorkerPool } from '../../../src/chunk/pool.js'
import { SharedBuffers, sharePieces } from '../../../src/chunk/shared-buffer.js'
import type { NodeState } from '../../../src/cluster/contract.js'
import { failureOf } from '../../helpers/chunks.js'

function clockAt(time: { ms: number }) {
  return { ...systemClock, now: () => systemClock.now(), sleep: () => Promise.resolve(), monotonicMs: () => time.ms }
}

t.test('a byte budget is never exceeded, is first come first served, and lets the oversized run alone', async (t) => {
  const budget = new Budget(100)
  const started: number[] = []
  let running = 0
  let most = 0
  const job = (name: number, bytes: number): Promise<void> =>
    budget.with(async () => {
      started.push(name)
      running += bytes
      most = Math.max(most, running)
      await systemClock.sleep(1)
      running -= bytes
    }, bytes)
  await Promise.all([job(0, 60), job(1, 50), job(2, 10), job(3, 40), job(4, 100)])
  t.strictSame(started, [0, 1, 2, 3, 4])
  t.ok(most <= 100)
  await Promise.all([job(5, 30), job(6, 500), job(7, 30)])
  t.strictSame(started.slice(5), [5, 6, 7])
  await budget.with(() => Promise.reject(new Error('x')), 100).catch(() => undefined)
  await job(8, 100)
})

t.test('no more is hashed at once than there are cores, first come first served', async (t) => {
  const started: number[] = []
  let running = 0
  let most = 0
  class CountedPool extends WorkerPool {
    override async run<Input, Output>(job: Job<Input, Output>, input: Input): Promise<Output> {
      running++
      most = Math.max(most, running)
      started.push(sumBytes((input as HashTask).pieces))
      const output = await super.run(job, input)
      running--
      return output
    }
  }
  const pool = new CountedPool({ threads: availableParallelism() + 2 })
  t.teardown(() => pool.close())
  const hasher = new Hasher(pool, new SharedBuffers())
  const lengths = Array.from({ length: 3 * availableParallelism() }, (_, i) => HASH_INLINE_MAX_BYTES + 1 + i)
  const tables = await Promise.all(lengths.map((length) => hasher.leaves([Buffer.alloc(length, 1)])))
  t.equal(most, availableParallelism())
  t.strictSame(started, lengths)
  t.strictSame(tables[0], leafHashes([Buffer.alloc(HASH_INLINE_MAX_BYTES + 1, 1)]))
})

t.test('a keyed lock is held by one at a time, and sets of keys do not deadlock', async (t) => {
  const lock = new KeyedLock()
  const inside = new Map<number, number>()
  const work = (keys: readonly number[]) => async (): Promise<void> => {
    for (const key of keys) {
      t.equal(inside.get(key) ?? 0, 0)
      inside.set(key, 1)
    }
    await systemClock.sleep(1)
    for (const key of keys) inside.set(key, 0)
  }
  await Promise.all([
    lock.runAll([1, 2, 3], work([1, 2, 3])),
    lock.runAll([3, 2, 1, 3], work([1, 2, 3])),
    lock.run(2, work([2])),
    lock.run(4, work([4])),
    lock.run(1, () => Promise.reject(new Error('x'))).catch(() => undefined),
    lock.run(1, work([1])),
  ])
})

t.test('a deadline ends the wait, aborts the work and leaves no timer; an outer signal cancels', async (t) => {
  let aborted = false
  const hang = (signal: CancelSignal): Promise<never> => {
    signal.addEventListener('abort', () => (aborted = true))
    return new Promise(() => undefined)
  }
  t.equal(await failureOf(withDeadline(5, hang, 'x')), 'DEADLINE')
  t.ok(aborted)
  const outer = new AbortController()
  const cancelled = failureOf(withDeadline(60_000, hang, 'x', outer.signal))
  outer.abort()
  t.equal(await cancelled, 'CANCELLED')
  t.equal(await failureOf(withDeadline(60_000, hang, 'x', outer.signal)), 'CANCELLED')
  t.equal(await withDeadline(60_000, () => Promise.resolve(7), 'x'), 7)
  await settledWithin(Promise.reject(new Error('x')), 60_000)
  await settledWithin(new Promise(() => undefined), 1)
})

t.test('a node in trouble is one for a while, longer each time, until it answers', async (t) => {
  const time = { ms: 0 }
  const health = new NodeHealth(clockAt(time))
  t.notOk(health.isTroubled('a'))
  health.failed('a')
  time.ms = 400
  t.ok(health.isTroubled('a'))
  time.ms = 600
  t.notOk(health.isTroubled('a'))
  health.failed('a')
  time.ms = 1500
  t.ok(health.isTroubled('a'))
  health.succeeded('a', 10)
  t.notOk(health.isTroubled('a'))
  health.succeeded('a', 20)
  t.equal(health.expectedMs('a'), 12)
  t.ok(health.expectedMs('b') < 1, 'one never asked gets its chance')
  const ends = [health.began('a'), health.began('a')]
  t.equal(health.expectedMs('a'), 36, 'what is under way comes first')
  for (const end of ends) end()
  t.equal(health.expectedMs('a'), 12)
})

t.test('a stall closes the inline gate, a long one for long', async (t) => {
  const time = { ms: 0 }
  const gate = new InlineGate(clockAt(time), 100)
  t.ok(gate.allows(100))
  t.notOk(gate.allows(101))
  gate.run(() => (time.ms += 0.5))
  t.ok(gate.allows(1))
  gate.run(() => (time.ms += 20))
  time.ms += 399
  t.notOk(gate.allows(1))
  time.ms += 2
  t.ok(gate.allows(1))
  gate.run(() => (time.ms += 500))
  time.ms += 9999
  t.notOk(gate.allows(1))
  time.ms += 2
  for (let run = 0; run < 7; run++) gate.run(() => (time.ms += 1))
  t.ok(gate.allows(1), 'a few slow ones may be bad luck')
  for (let run = 0; run < 7; run++) gate.run(() => (time.ms += 1))
  t.notOk(gate.allows(1), 'more of them are a slow disk')
})

t.test('a gate for three flushes at once stands what three would, and stays closed a third as long', async (t) => {
  const time = { ms: 0 }
  const gate = new InlineGate(clockAt(time), 100, limitsOf(3))
  gate.run(() => (time.ms += 14))
  t.ok(gate.allows(1))
  gate.run(() => (time.ms += 30))
  time.ms += 199
  t.notOk(gate.allows(1))
  time.ms += 2
  t.ok(gate.allows(1))
  for (let run = 0; run < 20; run++) gate.run(() => (time.ms += 2))
  t.ok(gate.allows(1))
  for (let run = 0; run < 20; run++) gate.run(() => (time.ms += 3))
  t.notOk(gate.allows(1))
})

t.test('the hedge waits as long as slow reads of that size take, within bounds', async (t) => {
  const hedge = new HedgeTimer()
  t.equal(hedge.hedgeMs(1), 50)
  for (let run = 0; run < 128; run++) hedge.note(1, 0.1)
  t.equal(hedge.hedgeMs(1), 5)
  t.equal(hedge.hedgeMs(CHUNK_MAX_BYTES), 50)
  for (let run = 0; run < 128; run++) hedge.note(CHUNK_MAX_BYTES, run)
  t.ok(hedge.hedgeMs(CHUNK_MAX_BYTES) > 100)
  for (let run = 0; run < 128; run++) hedge.note(1, 1e6)
  t.equal(hedge.hedgeMs(1), 1000)
})

t.test('hedges are paid for by reads: eight at once at most, and one for ten reads', (t) => {
  const hedge = new HedgeTimer()
  const spend = (): number => Array.from({ length: 50 }, () => hedge.spend()).filter(Boolean).length
  t.equal(spend(), 8)
  for (let run = 0; run < 35; run++) hedge.note(1, 1)
  t.equal(spend(), 3)
  for (let run = 0; run < 1000; run++) hedge.note(1, 1)
  t.equal(spend(), 8)
  t.end()
})

t.test('the leaf cache gives a table only for its own root, and forgets the oldest', async (t) => {
  const cache = new LeafCache(2)
  const [a, b] = [Buffer.alloc(32, 1), Buffer.alloc(32, 2)]
  cache.set(1, a, b)
  t.ok(cache.get(1, a)?.equals(b))
  t.equal(cache.get(1, b), undefined)
  cache.set(2, a, a)
  cache.get(1, a)
  cache.set(3, a, a)
  t.equal(cache.get(2, a), undefined)
  t.ok(cache.get(1, a))
})

t.test('shared buffers are lent again after they were given back, once', async (t) => {
  const buffers = new SharedBuffers(512 * KIB)
  const first = buffers.take(100)
  const memory = first.bytes.buffer
  t.equal(first.bytes.length, 100)
  first.release()
  first.release()
  const [second, third] = [buffers.take(10 * KIB), buffers.take(1)]
  t.equal(second.bytes.buffer, memory)
  t.not(third.bytes.buffer, memory)
  const plain = sharePieces(buffers, [Buffer.from('ab'), third.bytes, Buffer.from('c')], 4)
  t.equal(plain.pieces.length, 1)
  t.equal(
    Buffer.from(plain.pieces[0] ?? [])
      .toString()
      .replace(/\0/, ''),
    'abc',
  )
  const kept = sharePieces(buffers, [second.bytes, third.bytes], 200 * KIB + 1)
  t.equal(kept.pieces[0], second.bytes)
})

t.test('errors keep their code through a worker', async (t) => {
  const nodeError = Object.assign(new Error('ENOSPC: no space left on device, write'), { code: 'ENOSPC' })
  for (const [thrown, code] of [
    [nodeError, 'ENOSPC'],
    [Object.assign(new Error('quota'), { code: 'EDQUOT' }), 'ENOSPC'],
    [Object.assign(new Error('file table overflow'), { code: 'ENFILE' }), 'ENFILE'],
    [new Error('whatever'), 'EIO'],
    [new RingfsError('CHUNK_CORRUPT', 'bad'), 'CHUNK_CORRUPT'],
  ] as const) {
    const outcome = structuredClone(
      attempt(() => {
        throw thrown
      }),
    )
    t.throws(() => unwrap(outcome), { code })
    t.equal(toChunkError(thrown).code, code)
  }
  t.equal(toChunkError('not even an error').code, 'EIO')
  t.equal(unwrap(attempt(() => 5)), 5)
})

t.test('a closed pool refuses, and closing again does nothing', async (t) => {
  const pool = new WorkerPool({ threads: 1 })
  t.strictSame(await pool.run({ file: 'hash', name: 'hash' }, { pieces: [] }), new Uint8Array())
  await pool.close()
  await pool.close()
  t.equal(await failureOf(pool.run({ file: 'hash', name: 'hash' }, { pieces: [] })), 'CANCELLED')
})

/** Threads of this process are numbered in the order in which they are made. */
async function numberOfNext(): Promise<number> {
  const worker = new Worker('', { eval: true })
  const { threadId } = worker
  await once(worker, 'exit')
  return threadId
}

t.test('a pool starts a thread when all that it has are busy, up to its limit', async (t) => {
  const long = new Uint8Array(new SharedArrayBuffer(CHUNK_MAX_BYTES))
  const startedBy = async (work: (pool: WorkerPool) => Promise<unknown>): Promise<number> => {
    const before = await numberOfNext()
    const pool = new WorkerPool({ threads: 3 })
    await work(pool)
    const started = (await numberOfNext()) - before - 1
    await pool.close()
    return started
  }
  const hash = (pool: WorkerPool): Promise<unknown> => pool.run({ file: 'hash', name: 'hash' }, { pieces: [long] })
  const one = await startedBy(async (pool) => {
    for (let n = 0; n < 5; n++) await hash(pool)
  })
  t.equal(one, 1)
  t.equal(await startedBy((pool) => Promise.all(Array.from({ length: 5 }, () => hash(pool)))), 3)
})

t.test('a pool that closes lets all its jobs finish, waiting ones and long ones', async (t) => {
  for (let round = 0; round < 5; round++) {
    const pool = new WorkerPool({ threads: 2 })
    const long = new Uint8Array(new SharedArrayBuffer(CHUNK_MAX_BYTES))
    const sizes = [CHUNK_MAX_BYTES, 1, 1, CHUNK_MAX_BYTES, 1, 1, CHUNK_MAX_BYTES, 1]
    const jobs = sizes.map((size) => pool.run({ file: 'hash', name: 'hash' }, { pieces: [long.subarray(0, size)] }))
    const ended = Promise.allSettled(jobs)
    await pool.close()
    t.strictSame(new Set((await ended).map(({ status }) => status)), new Set(['fulfilled']))
  }
})

t.test('who is asked in which order', async (t) => {
  const states: Record<string, NodeState> = {
    a: 'up',
    b: 'suspect',
    c: 'up',
    d: 'up',
    e: 'down',
    f: 'draining',
    g: 'gone',
  }
  const ring = ['e', 'b', 'a', 'c', 'd']
  const members = Object.entries(states).map(([id, state]) => ({
    ...{ id, state, address: '', zone: '', weight: 1, pid: 1, incarnation: '', totalBytes: 0, freeBytes: 0 },
    ...{ chunks: 0, silentMs: 0, queueLength: 0 },
  }))
  const placement: Placement = {
    ring: { owners: (_, count) => ring.slice(0, count), preference: () => ring },
    view: { epoch: 1, members },
  }
  const health = new NodeHealth(systemClock)
  const options = { replicas: 4, health }
  const ids = (list: readonly { readonly id: string }[]): string => list.map(({ id }) => id).join('')
  const candidates = candidatesOf(1, placement, options)
  t.equal(ids(candidates), 'ebacdf', 'who is gone is not asked')
  t.equal(ids(writeOrder(candidates, undefined)), 'acbdfe')
  t.equal(ids(writeOrder(candidates, 'c')), 'cabdfe')
  health.succeeded('a', 10)
  health.succeeded('c', 1)
  t.equal(ids(readOrder(candidatesOf(1, placement, options), undefined, health)), 'cabdfe')
  t.equal(ids(readOrder(candidatesOf(1, placement, options), 'a', health)), 'acbdfe')
  health.failed('c')
  t.equal(ids(readOrder(candidatesOf(1, placement, options), undefined, health)), 'abcdfe')
})
