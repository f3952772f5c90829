/**
 * A moment in which nothing in the metadata changes, for a backup. Reads go on; changes wait.
 *
 *   freeze partition 0, 1, … P - 1 -> all are frozen -> look -> thaw 0, 1, … P - 1
 *
 * Invariants:
 * - A frozen partition judges no change: its script answers STATUS_FROZEN, before anything else is done, and the client sends
 *   the same request again until the partition is thawed. So from the last freeze to the first thaw all partitions, on
 *   whatever masters, show one and the same moment: a partition that was frozen first has not changed until the last was.
 * - A freeze ends by itself, by the clock of its Redis, if whoever asked for it dies. thaw() says whether all of it lasted: what
 *   was seen counts only then. A master that failed over and lost it shows as one that did not last.
 * - Not kept waiting is what a session owes for files that it opened by a delegation (register.lua): it becomes their opener, and its
 *   delegation ends. A list of openers may grow meanwhile, by sessions that live; one that is not in a backup's list of sessions is cleaned up
 *   after when what was restored is looked through (strays.ts).
 * - Housekeeping (move-bodies.lua, compact.lua) does not wait: it is refused, changes nothing, and is thought of anew some time later. A chunk that
 *   was made for it is given up at once.
 * - A freeze notes its moment in each partition (last-backup.ts).
 * - The janitor rests: its scripts look for the freeze. What it has begun it does again afterwards.
 * - Not frozen are sessions, decisions to abort, and the janitor's looks at clones.
 */
import { randomUUID } from 'node:crypto'
import type { Clock } from '../base/clock.js'
import { PosixError } from '../base/errno.js'
import { RingfsError } from '../base/errors.js'
import type { Doubt, RedisArg, RedisStore, RedisValue } from '../cluster/contract.js'
import type { VolumeKeys } from './keys.js'
import { Reply, STATUS_FROZEN } from './reply.js'
import { SCRIPTS } from './scripts.js'

const AGAIN_FIRST_MS = 2
const AGAIN_MAX_MS = 25
/** What is further ahead is of a clock that was set back: lib/mutate.lua. */
const LONGEST_MS = 3_600_000

/**
 * Sends until the reply is another than that the partition is frozen. `doubt`: of what is sent. That the partition is frozen says that
 * this attempt did nothing; one whose reply was lost before may have. Errors: PosixError ETIMEDOUT; as little is known then.
 */
export async function pastFreeze(
  clock: Clock,
  deadlineMs: number,
  doubt: Doubt,
  send: () => Promise<RedisValue>,
): Promise<Reply> {
  const startMs = clock.monotonicMs()
  for (let pauseMs = AGAIN_FIRST_MS; ; pauseMs = Math.min(2 * pauseMs, AGAIN_MAX_MS)) {
    const reply = new Reply(await send())
    if (reply.status !== STATUS_FROZEN) {
      // Sent again, it goes to a successor of this server.
      doubt.mayHaveRun = true
      return reply
    }
    if (clock.monotonicMs() - startMs > deadlineMs) {
      throw new PosixError('ETIMEDOUT', 'the metadata were frozen for a backup for too long')
    }
    await clock.sleep(pauseMs)
  }
}

/**
 * Runs `work` while the partitions are frozen, for at most `maxMs`, which is an hour at most. Errors: RingfsError DEADLINE when that was not long
 * enough or a freeze was lost, USAGE when somebody else has frozen one: what `work` saw is of no use then.
 */
export async function whileFrozen<T>(
  store: RedisStore,
  keys: VolumeKeys,
  partitions: readonly number[],
  maxMs: number,
  work: () => Promise<T>,
): Promise<T> {
  const who = randomUUID()
  let result: T
  try {
    await freeze(store, keys, partitions, [who, Math.min(maxMs, LONGEST_MS)])
    result = await work()
  } catch (error) {
    await thaw(store, keys, partitions, who)
    throw error
  }
  if (await thaw(store, keys, partitions, who)) return result
  throw new RingfsError(
    'DEADLINE',
    `the metadata could not be held still for ${maxMs / 1000} s, or Redis failed over: allow a longer pause`,
  )
}

async function freeze(
  store: RedisStore,
  keys: VolumeKeys,
  partitions: readonly number[],
  args: readonly RedisArg[],
): Promise<void> {
  const replies = await Promise.all(partitions.map((p) => store.run(SCRIPTS.freeze, [keys.partition(p).locks], args)))
  if (replies.every((reply) => reply === 1)) return
  throw new RingfsError('USAGE', 'a backup has the metadata frozen already: try again when it is done')
}

/** false: one of them did not last until now. */
async function thaw(store: RedisStore, keys: VolumeKeys, partitions: readonly number[], who: string): Promise<boolean> {
  const replies = await Promise.all(partitions.map((p) => store.run(SCRIPTS.thaw, [keys.partition(p).locks], [who])))
  return replies.every((reply) => reply === 1)
}
