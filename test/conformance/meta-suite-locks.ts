/** MetaStore: file locks. The claims hold for the real store and for the double in memory. */
import fc from 'fast-check'
import type { Test } from 'tap'
import { LOCK_END, type MetaStore } from '../../src/meta/contract.js'
import { PLACES, StretchModel, Waiting, anyActions, record, trying, whole } from '../helpers/locks.js'
import { ROOT, coherent, listen, outcome, pause, touch } from '../helpers/meta.js'
import { propertyRun } from '../helpers/property.js'

export interface LockVolume {
  client(): Promise<MetaStore>
  /** The client is gone without a word, and found dead before long. */
  kill(client: MetaStore): void
}

export type LockClaim = (name: string, body: (t: Test, volume: LockVolume) => Promise<void>) => void

/** Long enough that something wrong would have happened. */
const MOMENT_MS = 150

export function lockClaims(claim: LockClaim): void {
  claim('record locks: readers share, a writer is alone, and each owner minds only the others', async (t, volume) => {
    const { a, b, ino } = await ground(volume)
    t.equal(await trying(a, ino, record('read', '1', [0n, 10n])), 'ok')
    t.equal(await trying(b, ino, record('read', '1', [5n, 15n])), 'ok', 'the same number in another client')
    t.equal(await trying(a, ino, record('write', '1', [0n, 10n])), 'EAGAIN', 'an upgrade beside a reader')
    t.equal(await trying(a, ino, record('write', '1', [0n, 5n])), 'ok')
    t.equal(await trying(b, ino, record('read', '1', [4n, 5n])), 'EAGAIN')
    t.equal(await trying(b, ino, record('write', '1', [10n, 20n])), 'ok')
    t.equal(await trying(a, ino, record('read', '2', [15n, 16n])), 'EAGAIN', 'another owner of the same client')
    t.equal(await trying(a, ino, whole('write', '1')), 'ok', 'flock does not see record locks')
    await releaseAll(ino, a, b)
  })

  claim('getlk tells the first lock in the way, and nothing when there is none', async (t, volume) => {
    const { a, b, ino } = await ground(volume)
    t.equal(await a.getlk(ino, record('write', '1')), null)
    t.equal(await trying(a, ino, record('read', '1', [2n ** 62n + 1n, LOCK_END])), 'ok')
    t.equal(await trying(a, ino, record('write', '1', [7n, 9n])), 'ok')
    t.strictSame(await b.getlk(ino, record('write', '1')), {
      ...{ type: 'write', start: 7n, end: 9n, pid: 4711, isOurs: false },
    })
    t.match(await b.getlk(ino, record('write', '1', [9n, LOCK_END])), {
      ...{ type: 'read', start: 2n ** 62n + 1n, end: LOCK_END },
    })
    t.equal(await b.getlk(ino, record('read', '1', [9n, LOCK_END])), null)
    t.match(await a.getlk(ino, record('read', '2')), { isOurs: true })
    t.equal(await a.getlk(ino, record('write', '1')), null, 'our own are not in our way')
    await releaseAll(ino, a, b)
  })

  claim('any series of tries and unlocks does what a model of single stretches does', async (t, volume) => {
    const { a, b, ino } = await ground(volume)
    const clients = [a, b]
    await fc.assert(
      fc.asyncProperty(anyActions, async (actions) => {
        const model = new StretchModel()
        for (const action of actions) {
          const meta = clients[action.client] ?? a
          const range = [PLACES[action.from] ?? 0n, PLACES[action.to] ?? 0n] as const
          const { type, owner } = action
          const real =
            type === 'unlock'
              ? await outcome(meta.unlock(ino, record('read', owner, range)))
              : await trying(meta, ino, record(type, owner, range))
          if (real !== model.act(action)) return false
        }
        const same = await Promise.all(
          [0, 1].flatMap((client) =>
            ['a', 'b'].flatMap((owner) =>
              PLACES.slice(0, -1).map(async (start, at) => {
                const probe = record('read', owner, [start, PLACES[at + 1] ?? 0n])
                const seen = await (clients[client] ?? a).getlk(ino, probe)
                return (seen !== null) === model.conflicts(`${client}.${owner}`, 'read', at)
              }),
            ),
          ),
        )
        await releaseAll(ino, a, b)
        return same.every(Boolean)
      }),
      propertyRun(t, 60),
    )
    t.pass('as the model says')
  })

  claim(
    'flock: one lock an owner, and a conversion that does not succeed has given up what was held',
    async (t, volume) => {
      const { a, b, ino } = await ground(volume)
      t.equal(await trying(a, ino, whole('read', '1')), 'ok')
      t.equal(await trying(b, ino, whole('read', '1')), 'ok')
      t.equal(await trying(a, ino, whole('write', '1')), 'EAGAIN')
      t.equal(await trying(b, ino, whole('write', '1')), 'ok', 'the first is gone')
      t.equal(await trying(b, ino, whole('write', '1')), 'ok', 'again')
      t.equal(await trying(b, ino, whole('read', '1')), 'ok')
      t.equal(await trying(a, ino, whole('read', '2')), 'ok', 'converted down')
      await releaseAll(ino, a, b)
    },
  )

  claim(
    'a waiter is given the lock when the holder of another client unlocks, in the order they came',
    async (t, volume) => {
      const { a, b, ino } = await ground(volume)
      t.equal(await trying(a, ino, record('write', '1')), 'ok')
      const waiters: Waiting[] = []
      const order: number[] = []
      for (const [i, meta] of [b, a, b].entries()) {
        const waiting = new Waiting(meta, ino, record('write', `w${i}`))
        void waiting.done.then(() => order.push(i))
        waiters.push(waiting)
        await pause(MOMENT_MS)
      }
      t.strictSame(order, [])
      await a.unlock(ino, record('write', '1'))
      for (const [i, waiting] of waiters.entries()) {
        t.equal(await waiting.done, 'ok')
        t.strictSame(order, [0, 1, 2].slice(0, i + 1), 'only this one')
        await (i === 1 ? a : b).unlock(ino, record('write', `w${i}`))
      }
    },
  )

  claim('who unlocks part of a range lets in who waits for that part', async (t, volume) => {
    const { a, b, ino } = await ground(volume)
    t.equal(await trying(a, ino, record('write', '1', [0n, 100n])), 'ok')
    const part = new Waiting(b, ino, record('write', '1', [40n, 50n]))
    const more = new Waiting(b, ino, record('read', '2', [30n, 60n]))
    await pause(MOMENT_MS)
    await a.unlock(ino, record('write', '1', [40n, 50n]))
    t.equal(await part.done, 'ok')
    await pause(MOMENT_MS)
    t.equal(more.result, undefined)
    await a.setlk(ino, record('read', '1', [0n, 100n]), { wait: false }).catch(() => undefined)
    await b.unlock(ino, record('write', '1'))
    t.equal(await trying(a, ino, record('read', '1', [0n, 100n])), 'ok', 'a downgrade')
    t.equal(await more.done, 'ok', 'readers share')
    await releaseAll(ino, a, b)
  })

  claim('readers that wait are let in together', async (t, volume) => {
    const { a, b, ino } = await ground(volume)
    t.equal(await trying(a, ino, whole('write', '1')), 'ok')
    const readers = [0, 1, 2, 3].map((i) => new Waiting(i % 2 === 0 ? a : b, ino, whole('read', `r${i}`)))
    await pause(MOMENT_MS)
    await a.unlock(ino, whole('write', '1'))
    for (const reader of readers) t.equal(await reader.done, 'ok')
    await releaseAll(ino, a, b)
  })

  claim('a waiter that is interrupted gets EINTR and leaves nothing behind', async (t, volume) => {
    const { a, b, ino } = await ground(volume)
    t.equal(await trying(a, ino, record('write', '1')), 'ok')
    const waiting = new Waiting(b, ino, record('write', '1'))
    await pause(MOMENT_MS)
    waiting.interrupt()
    t.equal(await waiting.done, 'EINTR')
    await a.unlock(ino, record('write', '1'))
    t.equal(await trying(a, ino, record('write', '2')), 'ok')
    await releaseAll(ino, a, b)
  })

  claim('an interrupt at the moment of the grant is either: the lock, or EINTR without it', async (t, volume) => {
    const { a, b, ino } = await ground(volume)
    for (let round = 0; round < 20; round++) {
      t.equal(await trying(a, ino, record('write', '1')), 'ok')
      const waiting = new Waiting(b, ino, record('write', '1'))
      await pause(round % 5)
      const unlocked = a.unlock(ino, record('write', '1'))
      await pause(round % 3)
      waiting.interrupt()
      const result = await waiting.done
      await unlocked
      t.ok(result === 'ok' || result === 'EINTR', result)
      t.equal(await trying(a, ino, record('write', '2')), result === 'ok' ? 'EAGAIN' : 'ok')
      await releaseAll(ino, a, b)
    }
  })

  claim('two owners that wait for each other on one file: one gets EDEADLK, the other the lock', async (t, volume) => {
    const { a, b, ino } = await ground(volume)
    t.equal(await trying(a, ino, record('write', '1', [0n, 1n])), 'ok')
    t.equal(await trying(b, ino, record('write', '1', [1n, 2n])), 'ok')
    const first = new Waiting(a, ino, record('write', '1', [1n, 2n]))
    await pause(MOMENT_MS)
    const second = new Waiting(b, ino, record('read', '1', [0n, 1n]))
    t.equal(await second.done, 'EDEADLK')
    t.equal(first.result, undefined)
    await b.unlock(ino, record('write', '1'))
    t.equal(await first.done, 'ok')
    await releaseAll(ino, a, b)
  })

  claim('two readers that both want to write: EDEADLK for one', async (t, volume) => {
    const { a, b, ino } = await ground(volume)
    t.equal(await trying(a, ino, record('read', '1')), 'ok')
    t.equal(await trying(b, ino, record('read', '1')), 'ok')
    const first = new Waiting(a, ino, record('write', '1'))
    await pause(MOMENT_MS)
    t.equal(await new Waiting(b, ino, record('write', '1')).done, 'EDEADLK')
    await b.unlock(ino, record('read', '1'))
    t.equal(await first.done, 'ok')
    await releaseAll(ino, a, b)
  })

  claim('what a dead client held goes to who waits, what it waited for to the next', async (t, volume) => {
    const { a, b, ino } = await ground(volume)
    const dead = await volume.client()
    t.equal(await trying(dead, ino, record('write', '1', [0n, 10n])), 'ok')
    t.equal(await trying(a, ino, record('write', '1', [10n, 20n])), 'ok')
    const orphan = new Waiting(dead, ino, record('write', '1', [10n, 20n]))
    await pause(MOMENT_MS)
    const next = new Waiting(b, ino, record('write', '1', [0n, 20n]))
    await pause(MOMENT_MS)
    volume.kill(dead)
    await pause(MOMENT_MS)
    await a.unlock(ino, record('write', '1'))
    t.equal(await next.done, 'ok')
    t.not(orphan.result, 'ok')
    await releaseAll(ino, a, b)
  })

  claim('a client that ends gives back what it held', async (t, volume) => {
    const { a, b, ino } = await ground(volume)
    t.equal(await trying(a, ino, whole('write', '1')), 'ok')
    const waiting = new Waiting(b, ino, whole('write', '1'))
    await pause(MOMENT_MS)
    await a.shutdown()
    t.equal(await waiting.done, 'ok')
    await releaseAll(ino, b)
  })

  claim('wrong owners and ranges are EINVAL, no such inode is ENOENT', async (t, volume) => {
    const { a, ino } = await ground(volume)
    t.equal(await trying(a, 999_999, record('read', '1')), 'ENOENT')
    t.equal(await trying(a, ino, record('read', '1', [5n, 5n])), 'EINVAL')
    t.equal(await trying(a, ino, record('read', '1', [0n, LOCK_END + 1n])), 'EINVAL')
    t.equal(await trying(a, ino, record('read', 'no.owner')), 'EINVAL')
    const interrupted = { wait: true, signal: AbortSignal.abort() }
    t.equal(await outcome(a.setlk(ino, whole('read', '1'), interrupted)), 'ok', 'it did not have to wait')
    t.equal(await outcome(a.setlk(ino, whole('write', '2'), interrupted)), 'EINTR')
    await releaseAll(ino, a)
  })
}

async function ground(volume: LockVolume): Promise<{ a: MetaStore; b: MetaStore; ino: number }> {
  const [a, b] = [await volume.client(), await volume.client()]
  listen(a)
  listen(b)
  await coherent(a, b)
  const { ino } = await touch(a, ROOT, 'locked')
  return { a, b, ino }
}

async function releaseAll(ino: number, ...clients: readonly MetaStore[]): Promise<void> {
  for (const meta of clients) {
    for (const owner of ['1', '2', 'a', 'b', 'r0', 'r1', 'r2', 'r3']) {
      await meta.unlock(ino, record('read', owner))
      await meta.unlock(ino, whole('read', owner))
    }
  }
}
