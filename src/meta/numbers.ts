/**
 * Numbers that were given out are not given out again, whatever the metadata have forgotten: counters that are behind what is in
 * use jump, farther than anybody can have gone beyond what was seen.
 */
import { randomInt } from 'node:crypto'
import type { RedisStore } from '../cluster/contract.js'
import { arrayOf } from '../cluster/reply.js'
import { CHUNK_BLOCK, type VolumeKeys } from './keys.js'
import { SCRIPTS } from './scripts.js'

/** How far counters jump: more than anybody used meanwhile, and little of what there is. */
const JUMPS = { session: 2 ** 20, chunkBlock: 2 ** 20, token: 2 ** 20, n: 2 ** 24 } as const
/**
 * What comes on top where nobody tells what is in use: after a restore. The same backup may be restored twice, and what was given out between must
 * not be given out again: nodes have chunks of that, and clients may live.
 */
const SPREADS = { session: 2 ** 24, chunkBlock: 2 ** 22, token: 2 ** 24, n: 2 ** 28 } as const
const AT_ONCE = 32
const EPOCH_MS = Date.UTC(2020, 0, 1)

export interface UsedNumbers {
  readonly chunk: number
  /** Of each partition, how many inodes it has counted. */
  readonly sequences: readonly number[]
}

export type Counter = keyof typeof JUMPS

export function isCounter(field: string): field is Counter {
  return Object.hasOwn(JUMPS, field)
}

/** Where a counter of a backup goes on: another number each time. */
export function numberAfter(counter: Counter, value: number): number {
  return value + JUMPS[counter] + randomInt(SPREADS[counter])
}

/** Answers whether any counter was behind. */
export async function raiseNumbers(store: RedisStore, keys: VolumeKeys, used: UsedNumbers): Promise<boolean> {
  const block = Math.floor(used.chunk / CHUNK_BLOCK)
  let isBehind = await raise(store, keys.wide('n'), 'chunkBlock', block)
  for (let p = 0; p < keys.partitions; p += AT_ONCE) {
    const some = used.sequences.slice(p, p + AT_ONCE)
    const raised = await Promise.all(some.map((n, at) => raise(store, keys.partition(p + at).counters, 'n', n)))
    isBehind ||= raised.includes(true)
  }
  return isBehind
}

/**
 * Of a volume whose metadata are all gone: nobody knows how many sessions and tokens there were, so they begin at the seconds
 * since 2020, which no volume has reached: clients of before may still be there, and are not to be taken for new ones.
 */
export async function raiseAll(store: RedisStore, keys: VolumeKeys, used: UsedNumbers, nowMs: number): Promise<void> {
  const newest = used.sequences.reduce((most, n) => Math.max(most, n), 0)
  const seconds = Math.floor((nowMs - EPOCH_MS) / 1000)
  await raise(store, keys.wide('n'), 'session', seconds)
  await raise(store, keys.wide('n'), 'token', seconds)
  // Files without chunks have numbers, too, which nobody tells: as many as any partition has seen, and more.
  await raiseNumbers(store, keys, { ...used, sequences: used.sequences.map(() => newest + 1) })
}

async function raise(store: RedisStore, key: string, field: Counter, used: number): Promise<boolean> {
  return arrayOf(await store.run(SCRIPTS.raise, [key], [field, used, JUMPS[field]]), 'raise')[0] === 1
}
