/** Runs in Piscina threads: SHA-256 over memory shared with the caller. */
import { firstBadLeaf, leafHashes } from '../src/chunk/hash.js'
import type { CheckTask, HashTask } from '../src/chunk/jobs.js'
import { attempt, type Outcome } from '../src/chunk/outcome.js'

export function hash(task: HashTask): Outcome<Uint8Array> {
  return attempt(() => leafHashes(task.pieces))
}

export function check(task: CheckTask): Outcome<number> {
  return attempt(() => firstBadLeaf(task.pieces, task.leaves, task.firstLeaf))
}
