/**
 * What a session leaves behind is taken over by any other client.
 *
 * In this order, each step for every partition before the next, so that it can be begun anew at any point:
 *   1. a mark refuses what the dead one may still send; its prepared transactions are listed, and its directories that
 *      are still to be made
 *   2. the first are decided (undecided ones aborted) and finished, the second made; then it has no more numbers for others
 *   3. its file locks go, to those who wait for them: by now nothing that it wrote under them can be committed any more
 *   4. what it had open is closed: files without a name go
 *   5. its decisions and its name are forgotten
 *
 * One that ends itself still sends in 2 to 4: its mark comes last. It needs one, too, since a copy of a request may be
 * on its way after the answer of another copy, and with the replies gone it would be carried out again. What a request that was never
 * answered did until then, the marks list once more: a directory that it named is made before the numbers go.
 */
import { invariant } from '../base/invariant.js'
import { messageOf } from '../base/errors.js'
import type { RedisValue, Script } from '../cluster/contract.js'
import { birthsIn, type Birth } from './births.js'
import type { Core } from './core.js'
import { Reply } from './reply.js'
import { SCRIPTS } from './scripts.js'
import { CLOCK_STEP_MS } from './session.js'

const PARALLEL = 32
const CLOSE_BATCH = 64
const LOCKED_BATCH = 16
/**
 * How long what a session sent may be on its way: a dead one may only be asleep, but not if its process has ended; one that ended itself has
 * its answers. A dead one's marks take 43 kB of Redis with 256 partitions.
 */
const DEAD_MARK_S = 7 * 86_400
export const GONE_MARK_S = 3_600
const ENDED_MARK_S = 600
/** No lease ran out so long ago. */
const NOBODY_MS = 2 ** 50
/** No lease is longer: mount-options.ts. */
const LEASE_MAX_MS = 3_600_000

/** Marks sessions dead whose lease ran out, and cleans up after all that are dead. Answers how many. */
async function reapSessions(core: Core, graceMs: number): Promise<number> {
  const { keys, session } = core
  if (!session.isLive) return 0
  // After an outage of Redis every lease has run out: who comes back first must not take the others for dead.
  const agoMs = session.liveForMs < session.ttlMs + graceMs ? NOBODY_MS : graceMs
  const wide = [keys.wide('s'), keys.wide('h'), keys.wide('dead')]
  const expected = [Math.round(session.redisMs ?? 0), CLOCK_STEP_MS]
  const dead = await core.run(SCRIPTS.sessionExpired, wide, [agoMs, ...expected, LEASE_MAX_MS])
  return releaseDead(core, dead, 'cleaning up after a session whose lease ran out')
}

/** Cleans up after sessions that are marked dead: ids as a script lists them. `markS`: how long something of them may come. Answers how many. */
export async function releaseDead(core: Core, dead: RedisValue, why: string, markS = DEAD_MARK_S): Promise<number> {
  invariant(Array.isArray(dead), 'sessions come as a list')
  for (const one of dead) {
    const id = Number(String(one))
    core.options.log.info({ session: id }, why)
    await releaseSession(core, id, true, allPartitions(core), markS)
  }
  return dead.length
}

/** `isDead`: another client's session, which is marked dead; else our own. Several may do it at once for the same one. */
export async function releaseSession(
  core: Core,
  id: number,
  isDead: boolean,
  partitions: readonly number[],
  markS = DEAD_MARK_S,
): Promise<void> {
  const { keys } = core
  if (!isDead) await letGo(core, id, partitions)
  const left: Prepared[] = []
  const births = await reap(core, id, partitions, isDead ? markS : 0, (one) => left.push(one))
  await each(left, async ({ p, tx, cp, inos }) => {
    const outcome = await core.decide(tx, cp, true)
    await core.finish(p, tx, outcome === 'C' ? 'C' : 'A', inos)
  })
  if (!isDead) births.push(...(await reap(core, id, partitions, ENDED_MARK_S)))
  await each(births, (birth) => core.births.complete(birth))
  await each(partitions, (p) => core.run(SCRIPTS.unreserve, [keys.partition(p).reserved], [id]))
  if (isDead) await letGo(core, id, partitions)
  await each(partitions, (p) => core.forget(String(id), p))
  // A renewal behind its end would find it lost, and begin another one.
  if (!isDead) await core.session.stopRenewing()
  await core.run(SCRIPTS.sessionEnd, [keys.wide('s'), keys.wide('h'), keys.wide('dead')], [id])
  // What a late copy wrote meanwhile: from here none can.
  await dropWaits(core, id)
}

interface Prepared {
  readonly p: number
  readonly tx: string
  readonly cp: number
  readonly inos: number[]
}

/** Answers its directories that are still to be made. `markS`: how long nothing of it is done any more; 0: it goes on. */
async function reap(
  core: Core,
  id: number,
  partitions: readonly number[],
  markS: number,
  onPrepared: (one: Prepared) => void = () => undefined,
): Promise<Birth[]> {
  const births: Birth[] = []
  await each(partitions, async (p) => {
    const reply = await core.change(SCRIPTS.reap, p, [core.keys.partition(p).replies(id)], [id, markS])
    births.push(...birthsIn(reply.list(1), p))
    for (let at = 2; at < reply.length; at++) {
      const [tx, cp, ...inos] = reply.list(at)
      onPrepared({ p, tx: String(tx), cp: Number(cp), inos: inos.map(Number) })
    }
  })
  return births
}

async function letGo(core: Core, id: number, partitions: readonly number[]): Promise<void> {
  await each(partitions, (p) => unlockAll(core, id, p))
  await dropWaits(core, id)
  await each(partitions, (p) => closeAll(core, id, p))
}

export async function unlockAll(core: Core, id: number, p: number): Promise<void> {
  const { fileLocks } = core.keys.partition(p)
  await pages(core, SCRIPTS.lockedBy, fileLocks, id, async (inos) => {
    for (let at = 0; at < inos.length;) {
      const some = inos.slice(at, at + LOCKED_BATCH)
      const reply = await core.change(SCRIPTS.lockDrop, p, [fileLocks], [id, ...some])
      at += reply.number(1)
    }
  })
}

async function dropWaits(core: Core, id: number): Promise<void> {
  let cursor = '0'
  do cursor = String(await core.run(SCRIPTS.waitsDrop, [core.keys.wide('w')], [id, cursor]))
  while (cursor !== '0')
}

async function closeAll(core: Core, id: number, p: number): Promise<void> {
  await pages(core, SCRIPTS.openedBy, core.keys.partition(p).open, id, async (inos) => {
    for (let at = 0; at < inos.length; at += CLOSE_BATCH) {
      await core.change(SCRIPTS.close, p, [], [id, ...inos.slice(at, at + CLOSE_BATCH)])
    }
  })
}

/** The inodes of a session that a script lists page by page. */
async function pages(
  core: Core,
  script: Script,
  key: string,
  id: number,
  work: (inos: readonly number[]) => Promise<void>,
): Promise<void> {
  let cursor = '0'
  do {
    const page = new Reply(await core.run(script, [key], [id, cursor]))
    cursor = page.buffer(0).toString('latin1')
    await work(page.list(1).map((ino) => Number(String(ino))))
  } while (cursor !== '0')
}

export function allPartitions(core: Core): number[] {
  return Array.from({ length: core.partitions }, (_, p) => p)
}

/** All of them, PARALLEL at a time; throws the first failure after the others of its batch. */
export async function each<T>(items: readonly T[], work: (item: T) => Promise<unknown>): Promise<void> {
  for (let at = 0; at < items.length; at += PARALLEL) {
    const results = await Promise.allSettled(items.slice(at, at + PARALLEL).map(work))
    const failed = results.find((result) => result.status === 'rejected')
    if (failed !== undefined) throw failed.reason
  }
}

/** Runs reapSessions now and then until stopped. */
export class Reaper {
  readonly #core: Core
  readonly #graceMs: number
  readonly #timer: NodeJS.Timeout
  #running: Promise<void> | undefined

  constructor(core: Core, periodMs: number, graceMs: number) {
    this.#core = core
    this.#graceMs = graceMs
    this.#timer = setInterval(() => void this.#once(), periodMs * (0.75 + core.options.random() / 2))
    this.#timer.unref()
  }

  #once(): Promise<void> {
    this.#running ??= reapSessions(this.#core, this.#graceMs)
      .then(() => undefined)
      .catch((error: unknown) => {
        this.#core.options.log.warn({ error: messageOf(error) }, 'cleaning up after dead sessions is tried again later')
      })
      .finally(() => {
        this.#running = undefined
      })
    return this.#running
  }

  async stop(): Promise<void> {
    clearInterval(this.#timer)
    await this.#running
  }
}
