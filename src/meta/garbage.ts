/**
 * The janitor: chunks that no extent uses are deleted after a grace period, which outlives readers that still hold an
 * older extent map; keys of deleted inodes are freed.
 *
 * Invariant: a claim leaves the list only after it was settled (claims.ts) and its chunks were deleted, so a crash settles
 * it again, never forgets. A record of holders that became empty leaves after its chunk and before the claim: until then it
 * says that the chunk is being deleted, afterwards nobody will ask.
 * In a freeze nothing leaves the list, nor is an inode freed: a backup reads both, one after the other.
 * A chunk is deleted only when replicas, and the disk of a private Redis, have all by which it is unused: where these are away it stays. A grace
 * alone is not enough: a replica may be minutes behind and take its master's place, and clocks are set.
 */
import { Claims } from './claims.js'
import type { Core } from './core.js'
import { decodeClaim } from './records.js'
import { allPartitions } from './recovery.js'
import { Reply } from './reply.js'
import { SCRIPTS } from './scripts.js'

const LEASE_MS = 60_000
const RENEW_MS = LEASE_MS / 60
const ENTRIES_MAX = 256
const BATCH_BYTES = 1024 * 1024

export type RemoveChunks = (chunkIds: readonly number[]) => Promise<void>

/** `also`: what else the janitor does. */
export async function collectGarbage(
  core: Core,
  remove: RemoveChunks,
  graceMs: number,
  also: () => Promise<void>,
): Promise<number> {
  const { clock } = core.options
  let removed = 0
  let renewedMs = -Infinity
  for (const p of allPartitions(core)) {
    const nowMs = clock.monotonicMs()
    // Mostly there is nothing to do in a partition, and all of them are done long before the lease is over.
    if (nowMs - renewedMs > RENEW_MS) {
      if (!(await isJanitor(core))) return removed
      if (renewedMs === -Infinity) await also()
      renewedMs = nowMs
    }
    removed += await collectPartition(core, p, remove, graceMs)
  }
  return removed
}

async function isJanitor(core: Core): Promise<boolean> {
  return (await core.run(SCRIPTS.janitor, [core.keys.wide('j')], [core.session.id, LEASE_MS])) === 1
}

async function collectPartition(core: Core, p: number, remove: RemoveChunks, graceMs: number): Promise<number> {
  const partition = core.keys.partition(p)
  const claims = new Claims(core, p)
  let removed = 0
  for (;;) {
    const reply = new Reply(
      await core.run(
        SCRIPTS.garbagePeek,
        [partition.garbage, partition.zombies, partition.locks],
        [graceMs, ENTRIES_MAX, BATCH_BYTES],
      ),
    )
    const zombies = reply.list(1)
    for (const ino of zombies) await freeZombie(core, p, Number(ino))
    const entries = reply.list(0).filter((entry): entry is Buffer => Buffer.isBuffer(entry))
    const [first] = entries
    if (first === undefined) {
      if (zombies.length === 0) return removed
      continue
    }
    const { unused, isSettled } = await claims.settle(entries.map(decodeClaim))
    await core.step('garbage-settled')
    if (unused.length > 0) {
      await core.options.store.syncLocal()
      await remove(unused)
      await core.step('garbage-removed')
      await claims.bury(unused)
    }
    removed += unused.length
    // Somebody is at these chunks right now: they are looked at again in the next round.
    if (!isSettled) return removed
    await core.run(SCRIPTS.garbageDone, [partition.garbage, partition.locks], [first, entries.length])
  }
}

async function freeZombie(core: Core, p: number, ino: number): Promise<void> {
  const partition = core.keys.partition(p)
  const { garbage, zombies, acls, locks } = partition
  const keys = [garbage, zombies, partition.windows(ino), partition.xattrs(ino), acls, locks]
  let windows: number[] = []
  do {
    const extents = windows.map((window) => partition.extents(ino, window))
    const reply = await core.run(SCRIPTS.zombieFree, [...keys, ...extents], [ino, ...windows])
    windows = Array.isArray(reply) ? reply.map((window) => Number(String(window))) : []
  } while (windows.length > 0)
}
