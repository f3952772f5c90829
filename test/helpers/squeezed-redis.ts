/** A store in which the hashes of almost all names are equal: as somebody can make them on purpose. */
import type { RedisArg, RedisValue, RunOptions, Script } from '../../src/cluster/contract.js'
import { CountingRedis } from './counting-redis.js'

/** Hashes of names have 52 bits; in tests no other number is so large. */
const HASH_MIN = 2 ** 40
const SQUEEZED = 2 ** 52 - 2 ** 26 - 1

export class SqueezedRedis extends CountingRedis {
  override run(
    script: Script,
    keys: readonly string[],
    args: readonly RedisArg[],
    options?: RunOptions,
  ): Promise<RedisValue> {
    const squeezed = args.map((arg) => (typeof arg === 'number' && arg >= HASH_MIN ? SQUEEZED : arg))
    return super.run(script, keys, squeezed, options)
  }
}
