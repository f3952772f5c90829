/** Digests differ exactly when sets do, and comparing by them finds what lists would find. */
import fc from 'fast-check'
import t from 'tap'
import type { RingRange } from '../../../src/cluster/contract.js'
import { POSITION_MAX, buildRing, chunkPosition } from '../../../src/cluster/ring.js'
import { lackedOf, sharedRanges, type OtherNode } from '../../../src/chunk/node/compare.js'
import { DigestSum, digestOf, isSameDigest, placesOf, rangeAt } from '../../../src/chunk/node/digest.js'
import { CHUNK_BUCKETS, DIGEST_GROUPS_MAX, DIGEST_RANGES_MAX } from '../../../src/chunk/contract.js'
import { systemClock } from '../../../src/base/clock.js'
import { silentLog } from '../../../src/base/log.js'
import type { ChunkDisk } from '../../../src/chunk/node/disk.js'
import { ChunkService } from '../../../src/chunk/node/service.js'
import { CALL, VOLUME, failureOf } from '../../helpers/chunks.js'
import { randomFrom } from '../../helpers/random.js'
import { propertyRun } from '../../helpers/property.js'

t.setTimeout(300_000)

const WHOLE: readonly RingRange[] = [{ first: 0, last: POSITION_MAX }]
const id = fc.oneof(
  fc.maxSafeNat(),
  fc.nat({ max: 50 }),
  fc.nat({ max: 50 }).map((low) => low + 2 ** 40),
)
const ids = fc.uniqueArray(id, { maxLength: 30 })

t.test('digests are the same if and only if the sets are', async (t) => {
  fc.assert(
    fc.property(ids, ids, (one, two) => {
      const isSame = one.length === two.length && one.every((id) => two.includes(id))
      t.equal(isSameDigest(digestOf(one), digestOf([...two].reverse())), isSame)
      t.ok(isSameDigest(digestOf(one), digestOf([...one].reverse())), 'in whatever order')
    }),
    propertyRun(t, 300),
  )
})

t.test('no two ids are mixed to the same', async (t) => {
  fc.assert(
    fc.property(fc.maxSafeNat(), fc.maxSafeNat(), (a, b) => {
      t.equal(isSameDigest(digestOf([a]), digestOf([b])), a === b)
    }),
    propertyRun(t, 300),
  )
  const seen = new Set<string>()
  for (let counter = 0; counter < 20_000; counter++) seen.add(JSON.stringify(digestOf([counter * 2 ** 24 + counter])))
  t.equal(seen.size, 20_000)
})

t.test('what is mixed is the same for ever: nodes of all versions compare it', async (t) => {
  const sum = new DigestSum()
  for (const id of [0, 1, 2 ** 24, 2 ** 31, 2 ** 32, 2 ** 53 - 1]) sum.add(id)
  t.strictSame(sum.digest, { count: 6, high: 3427612567, low: 493740851 })
})

interface Counts {
  digests: number
  listed: number
}

/** A node with these chunks that counts what it is asked. */
function nodeWith(theirs: ReadonlySet<number>): OtherNode & { readonly counts: Counts } {
  const counts = { digests: 0, listed: 0 }
  return {
    counts,
    digest: async (groups) => {
      if (groups.length > DIGEST_GROUPS_MAX || groups.flat().length > DIGEST_RANGES_MAX) throw new Error('too many')
      counts.digests += groups.length
      const ranges = groups.flatMap((list, group) => list.map((range) => ({ ...range, group })))
      ranges.sort((a, b) => a.first - b.first)
      const sums = groups.map(() => new DigestSum())
      for (const one of theirs) sums[ranges[rangeAt(ranges, chunkPosition(one))]?.group ?? -1]?.add(one)
      return sums.map(({ digest }) => digest)
    },
    lacks: async (ids) => {
      counts.listed += ids.length
      return ids.filter((one) => !theirs.has(one))
    },
  }
}

const refused = (): Promise<never> => Promise.reject(new Error('not asked for'))
const nothing: ChunkDisk = {
  ...{ put: refused, sync: refused, read: refused, readNow: () => null, verify: refused, quarantine: refused },
  ...{ list: refused, lacks: refused, isRetiring: () => false, retire: refused, remove: refused, readLeaves: refused },
  ...{ space: () => ({ totalBytes: 0, freeBytes: 0 }), chunks: 0 },
}

/** Ids as sessions give them out. */
function idsOf(count: number, block: number): number[] {
  return Array.from({ length: count }, (_, index) => block * 2 ** 24 + index)
}

t.test('comparing finds what lists would find, whatever either has', async (t) => {
  const sets = fc.record({
    both: fc.nat({ max: 3_000 }),
    mine: fc.oneof(fc.nat({ max: 3 }), fc.nat({ max: 500 })),
    theirs: fc.oneof(fc.nat({ max: 3 }), fc.nat({ max: 500 })),
    seed: fc.nat(),
  })
  await fc.assert(
    fc.asyncProperty(sets, async ({ both, mine, theirs, seed }) => {
      const random = randomFrom(seed)
      const cuts = Array.from({ length: 6 }, () => Math.floor(random() * 2 ** 32)).sort((a, b) => a - b)
      const ranges = [0, 2, 4].map((at) => ({ first: cuts[at] ?? 0, last: (cuts[at + 1] ?? 0) - 1 }))
      const usable = ranges.filter(({ first, last }) => last >= first)
      const common = idsOf(both, 1)
      const own = [...common, ...idsOf(mine, 2)].filter((one) => rangeAt(usable, chunkPosition(one)) >= 0)
      const has = new Set([...common, ...idsOf(theirs, 3)])
      const missing = await lackedOf(own, usable, nodeWith(has))
      const expected = own.filter((one) => !has.has(one))
      t.strictSame([...missing].sort(), [...expected].sort())
    }),
    propertyRun(t, 60),
  )
})

t.test('two that have the same send one digest and no ids', async (t) => {
  const own = idsOf(20_000, 7)
  const other = nodeWith(new Set(own))
  t.strictSame(await lackedOf(own, WHOLE, other), [])
  t.strictSame(other.counts, { digests: 1, listed: 0 })
})

t.test('one chunk of many is found with few digests and few ids', async (t) => {
  const own = idsOf(20_000, 7)
  const lost = own[12_345] ?? 0
  const other = nodeWith(new Set(own.filter((one) => one !== lost)))
  t.strictSame(await lackedOf(own, WHOLE, other), [lost])
  t.ok(other.counts.digests < 60, `${other.counts.digests} digests`)
  t.ok(other.counts.listed <= 64, `${other.counts.listed} ids`)
})

t.test('who has nothing is asked once, and sent the list', async (t) => {
  const own = idsOf(5_000, 7)
  const other = nodeWith(new Set())
  t.equal((await lackedOf(own, WHOLE, other)).length, 5_000)
  t.strictSame(other.counts, { digests: 1, listed: 5_000 })
})

t.test('differences everywhere cost little more than the list', async (t) => {
  const own = idsOf(20_000, 7)
  const theirs = new Set(own.map((one, index) => (index % 10 === 0 ? one + 2 ** 50 : one)))
  const other = nodeWith(theirs)
  t.equal((await lackedOf(own, WHOLE, other)).length, 2_000)
  t.ok(other.counts.listed >= 2_000 && other.counts.listed <= 20_000)
  t.ok(other.counts.digests <= 20_000 / 16)
})

t.test('more ranges than a question may name are asked in several', async (t) => {
  const own = idsOf(30_000, 7)
  const width = 2 ** 32 / 10_000
  const ranges = Array.from({ length: 10_000 }, (_, index) => ({
    first: Math.ceil(index * width),
    last: Math.ceil((index + 1) * width) - 1,
  }))
  const gone = own.slice(100, 103)
  const other = nodeWith(new Set(own.filter((one) => !gone.includes(one))))
  t.strictSame([...(await lackedOf(own, ranges, other))].sort(), [...gone].sort())
  t.ok(other.counts.listed <= 3 * 64)
})

t.test(
  'a digest is of what the node would say that it has: not of what is being given up, nor of a disk that has failed',
  async (t) => {
    const disks = ['d', 'e']
    let retiring = new Set([5])
    let onList = (): unknown => undefined
    const service: ChunkService = new ChunkService({
      ...{ nodeId: 'n', volume: VOLUME, version: '0', clock: systemClock, log: silentLog },
      disk: {
        ...nothing,
        list: async () => {
          onList()
          return { chunks: [{ id: 4 }, { id: 5 }, { id: 6 }], next: null }
        },
        isRetiring: (one) => retiring.has(one),
      },
      peer: () => service,
      order: () => [],
      isSuspect: () => false,
      enqueue: async () => undefined,
      disks: () => [...disks],
    })
    const request = { volume: VOLUME, groups: [WHOLE] }
    t.strictSame(await service.digest(request, CALL), [digestOf([4, 6])])
    retiring = new Set()
    t.strictSame(await service.digest(request, CALL), [digestOf([4, 5, 6])])
    onList = () => disks.pop()
    t.equal(await failureOf(service.digest(request, CALL)), 'EIO')
  },
)

t.test('the ranges that two nodes share hold exactly the chunks that both own', async (t) => {
  const members = fc.uniqueArray(
    fc.record({ id: fc.uuid(), weight: fc.constantFrom(0.05, 1), zone: fc.constantFrom('a', 'b') }),
    { minLength: 1, maxLength: 6, selector: ({ id }) => id },
  )
  fc.assert(
    fc.property(members, fc.array(fc.maxSafeNat(), { maxLength: 40 }), fc.nat({ max: 3 }), (all, chunks, quarter) => {
      const ring = buildRing(all)
      const step = CHUNK_BUCKETS / 4
      const span = placesOf(quarter * step, (quarter + 1) * step)
      const own = all[0]?.id ?? ''
      const shared = sharedRanges(ring, 3, own, span)
      for (const chunk of chunks) {
        const place = chunkPosition(chunk)
        const owners = ring.owners(chunk, 3)
        for (const { id: other } of all.slice(1)) {
          const isShared = place >= span.first && place <= span.last && owners.includes(own) && owners.includes(other)
          t.equal(rangeAt(shared.get(other) ?? [], place) >= 0, isShared)
        }
      }
    }),
    propertyRun(t, 60),
  )
})
