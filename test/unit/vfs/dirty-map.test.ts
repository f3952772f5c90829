import t from 'tap'
import fc from 'fast-check'
import { BlockPool } from '../../../src/vfs/blocks.js'
import { propertyRun } from '../../helpers/property.js'
import { Batch } from '../../../src/vfs/dirty-map.js'

const MTIME = { sec: 1, nsec: 0 }
const INFO = { mtime: MTIME, clearSuid: false, durability: 'quorum' } as const

function batchOf(capacityBytes: number, maxExtents: number, hot = false): Batch {
  return new Batch({ mode: 'at', window: 0, capacityBytes, maxExtents, bornMs: 0, hot, blocks: new BlockPool() })
}

/** As the writer does: what fits is put, with blocks as large as asked for. */
function put(batch: Batch, start: number, data: Buffer): number {
  const fits = batch.takeable(start, data.length)
  if (fits === 0) return 0
  const { min, want } = batch.blockNeed(start, fits)
  if (min > want) throw new Error('the wanted block is too small')
  if (min > 0) batch.addBlock(want)
  batch.put(start, data.subarray(0, fits), INFO)
  return fits
}

t.test('a batch reads and seals as what was put into it, within its limits', async (st) => {
  const write = fc.record({ start: fc.nat(300), length: fc.integer({ min: 1, max: 60 }), hot: fc.boolean() })
  fc.assert(
    fc.property(
      fc.array(write, { maxLength: 40 }),
      fc.integer({ min: 50, max: 400 }),
      fc.boolean(),
      (writes, capacity, hot) => {
        const batch = batchOf(capacity, 8, hot)
        const model = new Array<number | undefined>(400).fill(undefined)
        writes.forEach(({ start, length }, index) => {
          const data = Buffer.alloc(length, index + 1)
          const taken = put(batch, start, data)
          for (let i = 0; i < taken; i++) model[start + i] = index + 1
        })
        const live = model.filter((unit) => unit !== undefined).length
        if (batch.allocatedBytes > capacity) throw new Error('more memory than its capacity')
        const { data, lengthBytes } = batch.seal()
        const chunk = Buffer.concat(data)
        if (chunk.length !== lengthBytes || lengthBytes !== live) throw new Error('the chunk is not what lives')
        if (batch.extents.length > 8) throw new Error('too many extents')
        const seen = new Array<number | undefined>(400).fill(undefined)
        for (const { fileOffset, chunkOffset, lengthBytes: length } of batch.extents) {
          for (let i = 0; i < length; i++) seen[fileOffset + i] = chunk[chunkOffset + i]
        }
        st.strictSame(seen, model)
      },
    ),
    propertyRun(st, 300),
  )
})

t.test('overwriting what is in the batch takes no further memory', async (st) => {
  const batch = batchOf(1 << 20, 100)
  for (let i = 0; i < 100; i++) st.equal(put(batch, 0, Buffer.alloc(4096, i)), 4096)
  st.equal(batch.allocatedBytes, 4096)
  st.equal(batch.seal().data[0]?.[0], 99)
})

t.test('adjacent writes are one extent, whatever their order', async (st) => {
  const batch = batchOf(1 << 20, 100)
  for (const i of [3, 1, 0, 2]) put(batch, i * 10, Buffer.alloc(10, i))
  batch.seal()
  st.strictSame(batch.extents, [{ fileOffset: 0, chunkOffset: 0, lengthBytes: 40 }])
  st.equal(
    Buffer.concat(batch.seal().data).toString('hex'),
    '00'.repeat(10) + '01'.repeat(10) + '02'.repeat(10) + '03'.repeat(10),
  )
})

t.test('a sealed or full batch takes nothing', async (st) => {
  const batch = batchOf(10, 100)
  st.equal(put(batch, 0, Buffer.alloc(25, 1)), 10)
  st.ok(batch.isFull)
  st.equal(put(batch, 50, Buffer.alloc(1)), 0)
  st.equal(put(batch, 5, Buffer.alloc(3, 2)), 3, 'but in place it does')
  batch.seal()
  st.equal(put(batch, 5, Buffer.alloc(3, 2)), 0)
})

t.test('the strongest durability that was asked for counts', async (st) => {
  const batch = batchOf(100, 100)
  for (const durability of ['async', 'all', 'quorum'] as const) {
    if (batch.blockNeed(0, 1).min > 0) batch.addBlock(10)
    batch.put(0, Buffer.from('x'), { ...INFO, durability })
  }
  st.equal(batch.durability, 'all')
})
