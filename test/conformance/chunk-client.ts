/** What every ChunkClient must do, whatever carries its bytes. */
import { randomBytes } from 'node:crypto'
import type { Test } from 'tap'
import { CHUNK_MAX_BYTES, LEAF_BYTES } from '../../src/base/limits.js'
import { ORIGIN_EXTENTS_MAX, type ChunkClient } from '../../src/chunk/contract.js'
import { leafHashes, rootOf } from '../../src/chunk/hash.js'
import { failureOf, originOf } from '../helpers/chunks.js'

const SIZES = [1, 4096, LEAF_BYTES - 1, LEAF_BYTES, LEAF_BYTES + 1, 131_073, 1_000_000, CHUNK_MAX_BYTES]

export function chunkClientSuite(t: Test, start: (t: Test) => Promise<ChunkClient>): void {
  t.test('what is written is read back, whole and in any range', async (t) => {
    const client = await start(t)
    for (const durability of ['quorum', 'all', 'async'] as const) {
      for (const [index, size] of SIZES.entries()) {
        const id = index + { quorum: 0, all: 100, async: 200 }[durability]
        const bytes = randomBytes(size)
        const third = Math.floor(size / 3)
        const pieces = [bytes.subarray(0, third), bytes.subarray(third)]
        const ref = await client.write(id, pieces, originOf(size), { durability, sync: index % 2 === 0 })
        t.match(ref, { id, lengthBytes: size })
        t.ok(ref.root.equals(rootOf(leafHashes([bytes]))))
        for (const [from, to] of [
          [0, size],
          [third, size],
          [0, third],
          [size - 1, size],
          [third, third + 1],
        ] as const) {
          const end = Math.min(to, size)
          t.ok(
            (await client.read(ref, from, end - from)).equals(bytes.subarray(from, end)),
            `${from} to ${end} of ${size}`,
          )
        }
      }
    }
  })

  t.test('writes and reads at once do not mix', async (t) => {
    const client = await start(t)
    const options = { durability: 'quorum', sync: false } as const
    await Promise.all(
      Array.from({ length: 40 }, async (_, id) => {
        const bytes = randomBytes(1 + ((id * 48_271) % 400_000))
        const ref = await client.write(id, [bytes], originOf(bytes.length), options)
        t.ok((await client.read(ref, 0, bytes.length)).equals(bytes))
      }),
    )
  })

  t.test('a chunk tells where it came from, as long as it is there', async (t) => {
    const client = await start(t)
    const options = { durability: 'all', sync: false } as const
    for (const [index, size] of SIZES.entries()) {
      const extents = [{ fileOffset: 2 ** 40, chunkOffset: size - 1, lengthBytes: 1 }]
      const origin = { ino: 7, order: 1_700_000_000_000_001 + index, extents }
      const kinds = [{}, { appended: true }, { orders: [3] }, { orders: [2 ** 53 - 1], appends: [0] }] as const
      for (const [which, kind] of kinds.entries()) {
        const id = index * kinds.length + which
        const told = { ...origin, ...kind }
        const ref = await client.write(id, [randomBytes(size)], told, { ...options, sync: index % 2 === 0 })
        t.strictSame(await client.origin(ref), told)
        await client.remove([id])
        t.equal(await failureOf(client.origin(ref)), 'CHUNK_MISSING')
      }
    }
  })

  t.test('sync and remove take lists, empty ones too; a removed chunk is missing', async (t) => {
    const client = await start(t)
    const options = { durability: 'all', sync: false } as const
    const refs = await Promise.all([0, 1, 2].map((id) => client.write(id, [Buffer.from('x')], originOf(1), options)))
    await client.sync([])
    await client.sync([0, 1, 2])
    await client.remove([])
    await client.remove([0, 1])
    await client.remove([0, 1])
    for (const ref of refs.slice(0, 2)) t.equal(await failureOf(client.read(ref, 0, 1)), 'CHUNK_MISSING')
    for (const ref of refs.slice(2)) t.equal((await client.read(ref, 0, 1)).toString(), 'x')
  })

  t.test('what is no chunk, and ranges outside of one, are refused', async (t) => {
    const client = await start(t)
    const options = { durability: 'quorum', sync: false } as const
    t.equal(await failureOf(client.write(0, [], originOf(1), options)), 'EINVAL')
    t.equal(await failureOf(client.write(0, [Buffer.alloc(CHUNK_MAX_BYTES + 1)], originOf(1), options)), 'EINVAL')
    t.equal(await failureOf(client.write(-1, [Buffer.alloc(1)], originOf(1), options)), 'EINVAL')
    t.equal(await failureOf(client.write(0, [Buffer.alloc(1)], originOf(2), options)), 'EINVAL')
    const extents = Array.from({ length: ORIGIN_EXTENTS_MAX + 1 }, () => ({
      fileOffset: 0,
      chunkOffset: 0,
      lengthBytes: 1,
    }))
    t.equal(await failureOf(client.write(0, [Buffer.alloc(1)], { ...originOf(1), extents }, options)), 'EINVAL')
    const two = { ...originOf(1), orders: [1, 2] }
    t.equal(await failureOf(client.write(0, [Buffer.alloc(1)], two, options)), 'EINVAL')
    t.equal(await failureOf(client.sync([0.5])), 'EINVAL')
    t.equal(await failureOf(client.remove([2 ** 53])), 'EINVAL')
    const ref = await client.write(0, [Buffer.alloc(10)], originOf(10), options)
    t.equal((await client.read(ref, 10, 0)).length, 0)
    for (const [offset, length] of [
      [0, 11],
      [10, 1],
      [-1, 1],
      [0, -1],
      [0.5, 1],
      [0, Number.NaN],
    ] as const) {
      t.equal(await failureOf(client.read(ref, offset, length)), 'EINVAL')
    }
    t.equal((await client.space()).freeBytes >= 0, true)
  })
}
