/** Short chunks of a file that has rested become long ones, and nothing else is changed by it. */
import t from 'tap'
import fc from 'fast-check'
import { randomBytes } from 'node:crypto'
import { PosixError } from '../../../src/base/errno.js'
import { KIB, MIB } from '../../../src/base/limits.js'
import { createVfs } from '../../../src/vfs/vfs.js'
import { propertyRun } from '../../helpers/property.js'
import { BLOCK, BLOCKS, REST_MS, scattered } from '../../helpers/scattered.js'
import { FastClock } from '../../helpers/vfs-clock.js'
import { CALLER, Gate, O_APPEND, O_RDWR, fixture, make, settle } from '../../helpers/vfs-fixture.js'

/** FALLOC_FL_PUNCH_HOLE and FALLOC_FL_KEEP_SIZE. */
const PUNCH_HOLE = 3

t.test('a file that has rested is packed when it is read: one chunk, on disk, the old ones garbage', async (st) => {
  const { readAll, rest, model, chunkIds, chunks, volume, another } = await scattered(st)
  const old = chunkIds()
  st.equal(new Set(old).size, BLOCKS)
  await rest()
  st.ok((await readAll()).equals(model))
  const [id, ...more] = chunkIds()
  st.same(more, [], 'one extent')
  st.ok(id !== undefined && !old.includes(id) && chunks.stored.get(id)?.synced === true)
  st.same([...volume.garbage].sort(), [...new Set(old)].sort())
  await chunks.remove([...volume.garbage])
  st.ok((await readAll()).equals(model), 'by who packed it')
  st.ok((await readAll(another().vfs)).equals(model), 'and by others')
})

t.test('a long window is packed a load after the other, in memory for one', async (st) => {
  const all = await scattered(st, { blocks: 150, chunkBytes: 128 * KIB })
  const { readAll, rest, model, chunkIds, chunks, another } = all
  const buffers = new Set<ArrayBufferLike>()
  const write = chunks.write.bind(chunks)
  chunks.write = (id, data, origin, options) => {
    for (const { buffer } of data) if (origin.orders !== undefined) buffers.add(buffer)
    return write(id, data, origin, options)
  }
  await rest()
  st.ok((await readAll()).equals(model))
  const ids = chunkIds()
  st.same(
    ids.slice(0, 4).map((id) => chunks.stored.get(id)?.data.length),
    [1, 2, 3, 4].map(() => 128 * KIB),
  )
  st.equal(ids.length, 4 + 150 - 4 * 32, 'the rest is less than is worth it')
  st.equal(buffers.size, 1)
  st.ok((await readAll(another().vfs)).equals(model))
})

t.test('its header has the order of each write, also when what was packed is packed again', async (st) => {
  const { readAll, rest, overwrite, chunkIds, chunks, orderOf, model } = await scattered(st)
  const orders = chunkIds().map(orderOf)
  await rest()
  await readAll()
  const [first] = chunkIds()
  const { origin } = chunks.stored.get(first ?? 0) ?? {}
  st.same(origin?.orders, orders)
  st.same(
    origin?.extents,
    orders.map((_, n) => ({ fileOffset: n * BLOCK, chunkOffset: n * BLOCK, lengthBytes: BLOCK })),
  )
  st.same(origin?.appends, [])
  st.ok((origin?.order ?? 0) > Math.max(...orders), 'its own is the moment when it was made')
  for (let block = 0; block < BLOCKS; block++) if (block % 8 !== 0) await overwrite(block)
  const now = orders.map((order, block) => (block % 8 === 0 ? order : NaN))
  const newer = (): number[] => now.map((order, block) => (block % 8 === 0 ? order : orderOf(newest.get(block))))
  const newest = new Map<number, number>()
  for (const [id, { origin }] of chunks.stored) {
    const [extent] = origin.extents
    if (origin.orders === undefined && extent !== undefined) newest.set(extent.fileOffset / BLOCK, id)
  }
  await rest()
  st.ok((await readAll()).equals(model))
  const [second, ...more] = chunkIds()
  st.same(more, [])
  st.not(second, first)
  st.same(chunks.stored.get(second ?? 0)?.origin.orders, newer())
})

t.test('appended data are noted as such', async (st) => {
  const clock = new FastClock()
  const { vfs, chunks, volume, another } = fixture(st, { clock, vfsClock: clock })
  const { ino, handle } = await make(vfs, 'f', O_RDWR | O_APPEND)
  const model = randomBytes(40 * 1000)
  for (let at = 0; at < model.length; at += 1000) {
    await vfs.write(handle, at, model.subarray(at, at + 1000))
    await vfs.flush(handle)
  }
  await clock.sleep(2 * REST_MS)
  await vfs.read(handle, 0, model.length)
  for (let i = 0; i < 5; i++) await settle()
  const [extent, ...more] = volume.inodes.get(ino)?.windows.get(0) ?? []
  st.same(more, [])
  const { origin } = chunks.stored.get(extent?.chunk?.id ?? 0) ?? {}
  st.equal(origin?.orders?.length, 40)
  st.same(
    origin?.appends,
    Array.from({ length: 40 }, (_, n) => n),
  )
  const other = another().vfs
  const opened = await other.open(CALLER, ino, 0)
  st.ok((await other.read(opened.handle, 0, model.length)).equals(model))
})

t.test('a file that was changed a moment ago is left alone, and packed when it has rested', async (st) => {
  const { readAll, rest, overwrite, model, chunkIds } = await scattered(st)
  await rest()
  await overwrite(5)
  const before = chunkIds()
  await readAll()
  st.same(chunkIds(), before)
  await rest()
  st.ok((await readAll()).equals(model))
  st.equal(chunkIds().length, 1)
})

t.test('what another client does while it is packed is what is read afterwards', async (st) => {
  // Three loads.
  const all = { blocks: 96, chunkBytes: 128 * KIB }
  const op = fc.record({
    kind: fc.constantFrom('write', 'truncate', 'punch', 'append', 'grow'),
    block: fc.nat({ max: all.blocks - 2 }),
    blocks: fc.integer({ min: 1, max: 8 }),
  })
  const during = fc.constantFrom('origin', 'read', 'write', 'compact', 'extents')
  const run = async (
    ops: readonly { readonly kind: string; readonly block: number; readonly blocks: number }[],
    when: string,
    load: number,
  ): Promise<void> => {
    const { readAll, rest, model, chunks, meta, ino, another, volume, chunkIds, vfs } = await scattered(st, all)
    await rest()
    let bytes = Buffer.from(model)
    const other = another().vfs
    const { handle } = await other.open(CALLER, ino, O_RDWR)
    const appender = await other.open(CALLER, ino, O_RDWR | O_APPEND)
    const act = async ({ kind, block, blocks }: (typeof ops)[number]): Promise<void> => {
      const [at, length] = [block * BLOCK, Math.min(blocks * BLOCK, bytes.length - block * BLOCK)]
      if (kind === 'truncate' || kind === 'grow') {
        const size = kind === 'truncate' ? at : bytes.length + 10
        await other.setattr(CALLER, ino, { sizeBytes: size })
        bytes = Buffer.concat([bytes.subarray(0, size)], size)
      } else if (kind === 'append') {
        const data = randomBytes(blocks * 1000)
        await other.write(appender.handle, 0, data)
        await other.flush(appender.handle)
        bytes = Buffer.concat([bytes, data])
      } else if (length > 0) {
        const data = kind === 'write' ? randomBytes(length) : Buffer.alloc(length)
        if (kind === 'write') await other.write(handle, at, data)
        else await other.fallocate(handle, PUNCH_HOLE, at, length)
        await other.flush(handle)
        data.copy(bytes, at)
      }
    }
    let left = load * (when === 'origin' || when === 'read' ? 32 : 1)
    const meanwhile = async (call: string): Promise<void> => {
      if (call !== when || left-- !== 0) return
      for (const one of ops) await act(one)
    }
    const check = async (client: typeof vfs, what: string): Promise<void> => {
      const opened = await client.open(CALLER, ino, 0)
      const read = await client.read(opened.handle, 0, bytes.length + 1)
      if (!read.equals(bytes)) throw new Error(`${what}: ${read.length} bytes, ${bytes.length} are there, or others`)
      await client.release(opened.handle)
    }
    chunks.before = (call) => meanwhile(call)
    meta.before = (call) => meanwhile(call)
    await readAll()
    for (let i = 0; i < 10; i++) await settle()
    chunks.before = () => undefined
    meta.before = () => undefined
    await check(vfs, 'who packed it')
    const named = new Set(chunkIds())
    await chunks.remove([...volume.garbage].filter((id) => !named.has(id)))
    const fresh = another().vfs
    await check(fresh, 'who comes afterwards')
    await check(vfs, 'who packed it, afterwards')
    for (const client of [fresh, other]) await client.shutdown()
  }
  const ops = fc.array(op, { minLength: 1, maxLength: 4 })
  await fc.assert(fc.asyncProperty(ops, during, fc.nat({ max: 3 }), run), propertyRun(st, 60))
})

t.test('its extents are asked for once, then what is new; who packed it knows what there is afterwards', async (st) => {
  const all = await scattered(st, { blocks: 160, chunkBytes: 128 * KIB })
  const { readAll, rest, model, chunkIds, meta } = all
  const asked: (number | undefined)[] = []
  const extents = meta.extents.bind(meta)
  meta.extents = (ino, window, have) => {
    asked.push(have?.extents.length)
    return extents(ino, window, have)
  }
  await rest()
  st.ok((await readAll()).equals(model))
  st.equal(new Set(chunkIds()).size, 5)
  const looks = [undefined, 160, 160 - 31, 160 - 62, 160 - 93, 160 - 124, 5]
  st.strictSame([...new Set(asked)], looks, 'by one who has known it before')
  const before = asked.length
  st.ok((await readAll()).equals(model))
  st.equal(asked.length, before)
})

t.test('a file that was truncated meanwhile stays as it is, and the new chunk goes', async (st) => {
  const { vfs, ino, readAll, rest, model, chunks, chunkIds, another } = await scattered(st)
  await rest()
  const gate = new Gate()
  const made: number[] = []
  chunks.before = (call, id) => {
    if (call !== 'write') return undefined
    made.push(id)
    return gate.passed
  }
  await readAll()
  await vfs.setattr(CALLER, ino, { sizeBytes: 10 * BLOCK })
  gate.open()
  await settle()
  st.equal(made.length, 1)
  st.notOk(chunks.stored.has(made[0] ?? 0))
  st.equal(chunkIds().length, 10)
  st.ok((await readAll(another().vfs)).equals(model.subarray(0, 10 * BLOCK)))
})

t.test('where a chunk cannot be read or stored, all stays as it is', async (st) => {
  for (const fault of ['origin', 'read', 'write'] as const) {
    const { another, rest, model, chunks, chunkIds, readAll } = await scattered(st)
    await rest()
    const before = chunkIds()
    const stored = chunks.stored.size
    const reader = another().vfs
    const { handle } = await reader.open(CALLER, (await reader.lookup(CALLER, 1, Buffer.from('f'))).ino, 0)
    // The piece that the reader does not ask for.
    const part = model.length - BLOCK
    let left = BLOCKS - 1
    chunks.before = (call) => {
      if (call === fault && (call === 'write' || --left < 0)) throw new PosixError('EIO', 'a broken node')
    }
    st.ok((await reader.read(handle, 0, part)).equals(model.subarray(0, part)))
    for (let i = 0; i < 5; i++) await settle()
    chunks.before = () => undefined
    st.same(chunkIds(), before, fault)
    st.equal(chunks.stored.size, stored, 'nothing is left behind')
    st.ok((await readAll(another().vfs)).equals(model))
  }
})

t.test('where it is not known whether the store names the new chunk, the chunk stays', async (st) => {
  const { meta, readAll, rest, model, chunks, chunkIds, volume, another } = await scattered(st)
  await rest()
  meta.after = (call) => {
    if (call === 'compact') throw new PosixError('EIO', 'the reply is lost')
  }
  await readAll()
  meta.after = () => undefined
  st.equal(chunkIds().length, 1)
  await chunks.remove([...volume.garbage])
  st.ok((await readAll(another().vfs)).equals(model))
})

t.test('what a backup may name stays, and what is younger is packed around it', async (st) => {
  const { readAll, rest, overwrite, model, chunkIds, orderOf, chunks, volume, another } = await scattered(st, {
    blocks: 128,
  })
  volume.keptOrder = Math.max(...chunkIds().map(orderOf))
  const kept = new Map(chunkIds().entries())
  await rest()
  st.ok((await readAll()).equals(model))
  st.same(chunkIds(), [...kept.values()], 'all of it')
  for (let block = 0; block < 128; block += 2) await overwrite(block)
  await rest()
  st.ok((await readAll()).equals(model))
  const packed = chunkIds()[0]
  const wanted = [...kept].map(([block, id]) => (block % 2 === 0 ? packed : id))
  st.same(chunkIds(), wanted, 'every other one')
  await chunks.remove([...volume.garbage].filter((id) => id !== packed))
  st.ok([...kept].every(([block, id]) => block % 2 === 0 || chunks.stored.has(id)))
  st.ok((await readAll(another().vfs)).equals(model))
  const stored = chunks.stored.size
  await rest()
  await readAll()
  st.equal(chunks.stored.size, stored, 'not again')
})

t.test('a backup that is made while it is packed is not robbed', async (st) => {
  const { readAll, rest, chunkIds, orderOf, chunks, volume } = await scattered(st)
  const before = chunkIds()
  await rest()
  chunks.before = (call) => {
    if (call === 'write') volume.keptOrder = Math.min(...before.map(orderOf))
  }
  await readAll()
  st.same(chunkIds(), before)
  st.same([...volume.garbage], [])
  st.equal(chunks.stored.size, BLOCKS, 'the new chunk is gone')
})

t.test('chunks that were cloned stay: in a clone, and in another place of the window', async (st) => {
  for (const how of ['elsewhere', 'inside'] as const) {
    const { vfs, handle, rest, readAll, chunkIds, model } = await scattered(st, { blocks: 80 })
    const into = how === 'inside' ? handle : (await make(vfs, 'clone')).handle
    const to = how === 'inside' ? 40 * BLOCK : 0
    const length = 16 * BLOCK
    st.equal(await vfs.copyRange(handle, 0, into, to, length), length)
    if (how === 'inside') model.copyWithin(to, 0, length)
    await rest()
    const cloned = new Set(chunkIds().slice(0, 16))
    st.ok((await readAll()).equals(model))
    const now = chunkIds()
    st.same(now.slice(0, 16), [...cloned], how)
    st.equal(new Set(now.filter((id) => !cloned.has(id))).size, 1, 'the others are packed')
    st.ok((await readAll()).equals(model))
  }
})

t.test('a reader without the right to write, and reads of single blocks from behind, pack nothing', async (st) => {
  const { another, rest, readAll, vfs, handle, chunkIds } = await scattered(st)
  await rest()
  const before = chunkIds()
  await readAll(another({ readOnly: true }).vfs)
  for (let block = BLOCKS - 1; block >= 0; block--) await vfs.read(handle, block * BLOCK, BLOCK)
  await settle()
  st.same(chunkIds(), before)
})

t.test('who is to pack nothing does not even ask', async (st) => {
  const { volume, chunks, rest, readAll, chunkIds } = await scattered(st)
  await rest()
  const before = chunkIds()
  const meta = volume.open()
  const calls: string[] = []
  meta.before = (call) => void calls.push(call)
  const clock = new FastClock()
  await clock.sleep(10 * REST_MS)
  const vfs = createVfs({ meta, chunks, clock, limits: { packRestMs: Infinity } })
  st.teardown(() => vfs.shutdown())
  await readAll(vfs)
  st.same(chunkIds(), before)
  st.notOk(calls.includes('packingGround'))
  await readAll()
  st.equal(chunkIds().length, 1, 'others may')
})

t.test('a window is not looked at again for each read', async (st) => {
  const { meta, overwrite, rest, readAll } = await scattered(st)
  await rest()
  await overwrite(1)
  const before = meta.calls.get('getattr') ?? 0
  for (let i = 0; i < 5; i++) await readAll()
  st.ok((meta.calls.get('getattr') ?? 0) - before <= 2)
})

t.test('pieces with holes between them go into one chunk, holes stay holes, and that is done once', async (st) => {
  // More than one chunk's length of the file.
  const { readAll, rest, model, chunkIds, chunks, volume, ino, vfs, another } = await scattered(st, {
    blocks: 100,
    step: 16,
  })
  st.ok(model.length > 6 * MIB)
  const allocated = (await vfs.getattr(CALLER, ino)).allocatedBytes
  await rest()
  st.ok((await readAll()).equals(model))
  const extents = volume.inodes.get(ino)?.windows.get(0) ?? []
  st.equal(extents.length, 100)
  st.equal(new Set(chunkIds()).size, 1)
  const stored = chunks.stored.size
  for (let i = 0; i < 3; i++) {
    await rest()
    await readAll(another().vfs)
  }
  st.equal(chunks.stored.size, stored, 'nothing more')
  st.equal((await another().vfs.getattr(CALLER, ino)).allocatedBytes, allocated)
})

t.test('very short pieces with holes between them are packed once, too', async (st) => {
  const clock = new FastClock()
  const { vfs, chunks, another } = fixture(st, { clock, vfsClock: clock })
  const { ino, handle } = await make(vfs, 'f')
  for (let at = 0; at < 40; at++) {
    await vfs.write(handle, at * 1000, randomBytes(100))
    await vfs.flush(handle)
  }
  for (let round = 0; round < 3; round++) {
    await clock.sleep(2 * REST_MS)
    const reader = another().vfs
    const opened = await reader.open(CALLER, ino, 0)
    await reader.read(opened.handle, 0, 40_000)
    for (let i = 0; i < 5; i++) await settle()
    st.equal(chunks.stored.size, 41)
  }
})

t.test('few chunks are left alone', async (st) => {
  const few = await scattered(st, { blocks: 31 })
  await few.rest()
  await few.readAll()
  st.equal(new Set(few.chunkIds()).size, 31)
})

t.test('a mount that ends stops before the next step, and leaves nothing behind', async (st) => {
  for (const at of ['origin', 'write'] as const) {
    const { readAll, rest, chunks, chunkIds, another, model } = await scattered(st)
    const before = chunkIds()
    const { vfs } = another()
    await rest()
    const gate = new Gate()
    let isMet = false
    chunks.before = (call) => {
      if (call !== at) return undefined
      isMet = true
      return gate.passed
    }
    await readAll(vfs)
    st.ok(isMet, at)
    const ended = vfs.shutdown()
    await settle()
    gate.open()
    await ended
    for (let i = 0; i < 5; i++) await settle()
    st.same(chunkIds(), before)
    st.equal(chunks.stored.size, BLOCKS)
    st.ok((await readAll(another({ readOnly: true }).vfs)).equals(model))
  }
})
