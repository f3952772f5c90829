import t from 'tap'
import type { RedisArg, RedisStore, RedisValue } from '../../../src/cluster/contract.js'
import { VolumeKeys } from '../../../src/meta/keys.js'
import { encodeExtents } from '../../../src/meta/records.js'
import { scanSpoken } from '../../../src/meta/scan.js'
import { BareRedis } from '../../helpers/bare-redis.js'

function claimOf(chunk: number): Buffer {
  const of = { id: chunk, lengthBytes: 10, root: Buffer.alloc(32) }
  return Buffer.concat([
    Buffer.alloc(18),
    encodeExtents([{ fileOffset: 0, lengthBytes: 10, chunkOffset: 0, chunk: of }], 0),
  ])
}

/** A partition with a list of claims, of which a janitor takes some off at the front, while others come behind, after each look. */
class BusyList extends BareRedis implements RedisStore {
  readonly isLone = true
  #claims: number[]
  #next: number

  constructor(count: number) {
    super()
    this.#claims = Array.from({ length: count }, (_, index) => index)
    this.#next = count
  }

  call(command: string, _key: string, ...args: readonly RedisArg[]): Promise<RedisValue> {
    if (command === 'HKEYS') return Promise.resolve([])
    if (command === 'HSCAN') return Promise.resolve([Buffer.from('0'), []])
    const [from = 0, to = 0] = args.map(Number).map((at) => (at < 0 ? this.#claims.length + at : at))
    const page = this.#claims.slice(Math.max(0, from), Math.max(0, to + 1))
    this.#claims = [...this.#claims.slice(200), ...Array.from({ length: 90 }, () => this.#next++)]
    return Promise.resolve(page.map(claimOf))
  }

  run(): Promise<RedisValue> {
    return Promise.reject(new Error('nothing is run'))
  }
}

t.test('what the janitor is still to look at is met, however much it takes off the list meanwhile', async (t) => {
  const count = 2_300
  const spoken = await scanSpoken(new BusyList(count), new VolumeKeys('v', 1), 0)
  // Five pages and the last one: the first 1,200 may be gone by then.
  const missed = Array.from({ length: count - 1_200 }, (_, index) => index + 1_200).filter(
    (chunk) => !spoken.has(chunk),
  )
  t.strictSame(missed, [])
})
