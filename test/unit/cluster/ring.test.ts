import { createHash } from 'node:crypto'
import fc from 'fast-check'
import t from 'tap'
import { buildRing, chunkPosition, type RingMember } from '../../../src/cluster/ring.js'

const members = fc.uniqueArray(
  fc.record({
    id: fc.uuid(),
    weight: fc.double({ min: 0.1, max: 3, noNaN: true }),
    zone: fc.constantFrom('a', 'b', 'c', 'd'),
  }),
  { minLength: 1, maxLength: 9, selector: (member) => member.id },
)
const chunk = fc.nat({ max: Number.MAX_SAFE_INTEGER })
const RUNS = { numRuns: 100 }

function zonesOf(all: readonly RingMember[], ids: readonly string[]): Set<string> {
  return new Set(ids.map((id) => all.find((member) => member.id === id)?.zone ?? 'none'))
}

t.test('preference names every node once, and the owners are its beginning', async (t) => {
  fc.assert(
    fc.property(members, chunk, fc.integer({ min: 1, max: 12 }), (all, id, count) => {
      const ring = buildRing(all)
      const preference = ring.preference(id)
      t.strictSame([...preference].sort(), all.map((member) => member.id).sort())
      t.strictSame(ring.owners(id, count), preference.slice(0, count))
    }),
    RUNS,
  )
})

t.test(
  'owners lie in as many zones as there are, and no zone has two more than another that has nodes left',
  async (t) => {
    fc.assert(
      fc.property(members, chunk, fc.integer({ min: 1, max: 9 }), (all, id, count) => {
        const owners = buildRing(all).owners(id, count)
        const zones = new Set(all.map((member) => member.zone))
        t.equal(zonesOf(all, owners).size, Math.min(owners.length, zones.size))
        const taken = (zone: string) => owners.filter((owner) => zonesOf(all, [owner]).has(zone)).length
        const most = Math.max(...[...zones].map(taken))
        for (const zone of zones) {
          const size = all.filter((member) => member.zone === zone).length
          if (taken(zone) < size) t.ok(most - taken(zone) <= 1)
        }
      }),
      RUNS,
    )
  },
)

t.test('the ranges of the ring are all of it, and their owners those of the chunks that stand there', async (t) => {
  fc.assert(
    fc.property(members, fc.array(chunk, { maxLength: 20 }), fc.integer({ min: 1, max: 4 }), (all, ids, count) => {
      const ring = buildRing(all)
      const ranges = ring.ranges(count)
      const follows = ranges.every(({ first }, index) => first === (ranges[index - 1]?.last ?? -1) + 1)
      t.ok(follows && ranges.every(({ first, last }) => last >= first))
      t.equal(ranges.at(-1)?.last, 2 ** 32 - 1)
      for (const id of ids) {
        const place = chunkPosition(id)
        const range = ranges.find(({ first, last }) => first <= place && place <= last)
        t.strictSame(range?.owners, ring.owners(id, count))
        t.strictSame(range?.owners, ring.preference(id).slice(0, count))
      }
    }),
    RUNS,
  )
})

t.test('the order in which members are named changes nothing', async (t) => {
  fc.assert(
    fc.property(members, chunk, (all, id) => {
      t.strictSame(buildRing([...all].reverse()).preference(id), buildRing(all).preference(id))
    }),
    RUNS,
  )
})

t.test('a node that joins takes chunks from others, and nothing moves between the others', async (t) => {
  fc.assert(
    fc.property(
      members,
      fc.array(chunk, { minLength: 20, maxLength: 20 }),
      fc.integer({ min: 1, max: 4 }),
      (all, ids, r) => {
        const [joiner, ...before] = all
        if (joiner === undefined) return
        const [was, is] = [buildRing(before), buildRing(all)]
        for (const id of ids) {
          const added = is.owners(id, r).filter((owner) => !was.owners(id, r).includes(owner))
          t.ok(added.every((owner) => owner === joiner.id))
          const rest = is.preference(id).filter((node) => node !== joiner.id)
          t.equal(rest.length, before.length)
        }
      },
    ),
    RUNS,
  )
})

t.test('shares of chunks follow the weights', async (t) => {
  const all = [1, 1, 2, 0.5].map((weight, i) => ({ id: `node-${i}`, weight, zone: 'z' }))
  const ring = buildRing(all)
  const counts = new Map<string, number>()
  const total = 20_000
  for (let id = 0; id < total; id++) {
    const [owner = ''] = ring.owners(id, 1)
    counts.set(owner, (counts.get(owner) ?? 0) + 1)
  }
  for (const { id, weight } of all) {
    const wanted = (total * weight) / 4.5
    const got = counts.get(id) ?? 0
    t.ok(Math.abs(got - wanted) < 0.35 * wanted, `${id}: ${got} of ${wanted}`)
  }
})

t.test('an empty ring has no owners, and a single node owns all', async (t) => {
  t.strictSame(buildRing([]).owners(1, 3), [])
  t.strictSame(buildRing([{ id: 'x', weight: 1, zone: '' }]).owners(1, 3), ['x'])
})

t.test('positions are spread evenly over the ring for ids given out in a row, and never change', async (t) => {
  const buckets = new Uint32Array(256)
  for (const block of [0, 1, 7, 2 ** 28]) {
    for (let i = 0; i < 64_000; i++) {
      const bucket = chunkPosition(block * 2 ** 24 + i) >>> 24
      buckets[bucket] = (buckets[bucket] ?? 0) + 1
    }
  }
  t.ok(Math.min(...buckets) > 850 && Math.max(...buckets) < 1150, 'within 15 % of 1000')
  t.strictSame(
    [0, 1, 2 ** 24, 2 ** 32, Number.MAX_SAFE_INTEGER].map(chunkPosition),
    [2856213345, 1863002342, 2559741538, 2571226413, 1226561997],
  )
})

/** Owners of 2,000 chunks all over the ids, whole orders of some of them, and all ranges, of a cluster with weights and zones. */
function placementOf(nodes: number): string {
  const all = Array.from({ length: nodes }, (_, index) => ({
    id: createHash('sha256').update(`golden ${index}`).digest('hex').slice(0, 32),
    weight: [1, 0.5, 2, 0.1, 12.25][index % 5] ?? 1,
    zone: ['a', 'b', '', 'a'][index % 4] ?? '',
  }))
  const ring = buildRing(all)
  const hash = createHash('sha256')
  for (let n = 0; n < 2_000; n++) {
    const id = n * 4_503_599_627_371
    hash.update(`${ring.owners(id, 3).join()} ${n < 100 ? ring.preference(id).join() : ''}\n`)
  }
  hash.update(JSON.stringify(ring.ranges(3)))
  return hash.digest('hex').slice(0, 32)
}

t.test('what lies where is the same for ever: chunks are where the first version has put them', async (t) => {
  // Computed by the ring as it was when tokens were objects, sorted by position and id.
  const golden = new Map([
    [1, '27b2bb10bda2954c7bf5a62eec0193fb'],
    [2, '10b72778201e60b8d51de652b39a561a'],
    [3, '099e768acf3b76cdc6c6bb1a19cd24f9'],
    [5, '0f84ffcb6a32a8f91f31a77c1e41fae7'],
    [8, '9c8af191f50b8536c722f84733441c84'],
    [40, '9a0b6aa8ff8f1fb43b126f19508a5fb0'],
    [200, '1d7b36aa9becbdf799bc430cd5097117'],
  ])
  for (const [nodes, placement] of golden) t.equal(placementOf(nodes), placement, `${nodes} nodes`)
  const plain = buildRing([0, 1, 2, 3, 4].map((i) => ({ id: `node-${i}`, weight: 1, zone: '' })))
  t.strictSame(
    [0, 1, 2, 3, 1e6, 2 ** 40].map((id) => plain.owners(id, 3).map((node) => Number(node.slice(-1)))),
    [
      [2, 1, 3],
      [4, 0, 2],
      [4, 0, 3],
      [2, 0, 1],
      [2, 0, 1],
      [1, 4, 2],
    ],
  )
})

t.test('of two nodes with a token at the same place the one whose id comes first is first', async (t) => {
  // Found by trying: n463 and n762 have one there.
  const place = 4_074_935_356
  const ring = buildRing(['n762', 'n463', 'n1'].map((id) => ({ id, weight: 1, zone: '' })))
  const range = ring.ranges(2).find(({ last }) => last === place)
  t.strictSame(range?.owners, ['n463', 'n762'])
})

t.test('the ranges of a node are those of all that it owns', async (t) => {
  fc.assert(
    fc.property(members, fc.integer({ min: 1, max: 4 }), (all, count) => {
      const ring = buildRing(all)
      for (const { id } of all) {
        t.strictSame(
          ring.rangesOf(id, count),
          ring.ranges(count).filter(({ owners }) => owners.includes(id)),
        )
      }
      t.strictSame(ring.rangesOf('nobody', count), [])
    }),
    { numRuns: 20 },
  )
})
