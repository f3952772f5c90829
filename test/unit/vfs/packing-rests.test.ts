/** When a window is not packed, though it lies in many short chunks. */
import t from 'tap'
import { PosixError } from '../../../src/base/errno.js'
import { GIB, KIB, MIB } from '../../../src/base/limits.js'
import { CapturedLog } from '../../helpers/captured-log.js'
import { BLOCK, BLOCKS, scattered } from '../../helpers/scattered.js'
import { until } from '../../helpers/deadline.js'
import { CALLER, Gate, make, settle } from '../../helpers/vfs-fixture.js'

t.test('what stays is asked about once, and after a change later each time', async (st) => {
  const { readAll, rest, overwrite, chunkIds, orderOf, chunks, volume } = await scattered(st)
  volume.keptOrder = Math.max(...chunkIds().map(orderOf))
  await overwrite(0)
  let asked = 0
  chunks.before = (call) => {
    if (call === 'origin') asked++
  }
  const isAsked = async (): Promise<boolean> => {
    const before = asked
    await rest()
    await readAll()
    return asked > before
  }
  st.ok(await isAsked())
  st.equal(asked, BLOCKS)
  st.notOk(await isAsked(), 'nothing has changed')
  const looks: number[] = []
  for (let n = 0; n < 16; n++) {
    await overwrite(0)
    if (await isAsked()) looks.push(n)
  }
  st.same(looks, [0, 2, 6, 14])
})

t.test('so much that is new that it may be worth it is looked at as soon as it has rested', async (st) => {
  for (const isWriter of [true, false]) {
    const { readAll, rest, overwrite, chunkIds, orderOf, volume, model, another, vfs } = await scattered(st)
    const reader = isWriter ? vfs : another().vfs
    const kept = chunkIds()
    volume.keptOrder = Math.max(...kept.map(orderOf))
    // The next look is 40 minutes after the last one.
    for (let n = 0; n < 4; n++) {
      await overwrite(0)
      await rest()
      await readAll(reader)
    }
    for (let block = 1; block < 32; block++) await overwrite(block)
    await rest()
    const before = chunkIds()
    st.ok((await readAll(reader)).equals(model))
    st.strictSame(chunkIds(), before, 'too little is new')
    await overwrite(32)
    await rest()
    st.ok((await readAll(reader)).equals(model))
    const [packed, ...others] = chunkIds()
    st.notOk(before.includes(packed ?? 0))
    st.strictSame(others, kept.slice(33))
  }
})

t.test('nothing is packed or compacted while the mount is read-only', async (st) => {
  const { readAll, rest, overwrite, chunkIds, chunks, volume, ino, model, another } = await scattered(st)
  let isWritable = false
  const { vfs } = another({ mayTidyUp: () => isWritable })
  for (let n = 0; n < 200; n++) await overwrite(0)
  const extents = (): number => volume.inodes.get(ino)?.windows.get(0)?.length ?? 0
  const [before, stored] = [extents(), chunks.stored.size]
  for (let n = 0; n < 3; n++) {
    await rest()
    st.ok((await readAll(vfs)).equals(model))
  }
  st.same([extents(), chunks.stored.size], [before, stored])
  isWritable = true
  for (let n = 0; n < 3; n++) {
    await rest()
    st.ok((await readAll(vfs)).equals(model))
  }
  st.equal(chunkIds().length, 1)
})

t.test('who ends a packing does not wait for a node that hangs', async (st) => {
  const { vfs, readAll, rest, chunkIds, chunks, handle } = await scattered(st)
  await vfs.release(handle)
  await rest()
  const [hang, before] = [new Gate(), chunkIds()]
  let isHanging = false
  chunks.before = async (call) => {
    if (call !== 'write') return
    isHanging = true
    await hang.passed
  }
  await readAll()
  await until('the node hangs', () => isHanging)
  await vfs.shutdown()
  hang.open()
  await settle()
  st.same(chunkIds(), before)
  st.same([...chunks.stored.keys()].sort(), [...before].sort(), 'what came later is removed')
})

t.test('where all of a load stays a sample tells of the next ones', async (st) => {
  const { readAll, rest, overwrite, chunkIds, orderOf, chunks, volume, model } = await scattered(st, {
    blocks: 160,
    chunkBytes: 128 * KIB,
  })
  volume.keptOrder = Math.max(...chunkIds().map(orderOf))
  for (let block = 128; block < 160; block++) await overwrite(block)
  let asked = 0
  chunks.before = (call) => {
    if (call === 'origin') asked++
  }
  await rest()
  st.ok((await readAll()).equals(model))
  st.equal(asked, 32 + 3 * 16 + 32)
  st.equal(new Set(chunkIds()).size, 128 + 1, 'what is younger is packed')
})

t.test('a packing that fails is tried later each time, and told once', async (st) => {
  const { readAll, overwrite, rest, chunks, another, clock } = await scattered(st)
  const captured = new CapturedLog()
  const { vfs } = another({ log: captured.log })
  await overwrite(0)
  await rest()
  let tries = 0
  chunks.before = (call) => {
    if (call === 'write') tries++
    if (call === 'write') throw new PosixError('ENOSPC', 'full')
  }
  const tried: number[] = []
  for (let minute = 0; minute < 16; minute++) {
    const before = tries
    await readAll(vfs)
    if (tries > before) tried.push(minute)
    await clock.sleep(60_000)
  }
  st.same(tried, [0, 1, 3, 7, 15])
  const told = captured.lines.filter(({ msg }) => msg === 'compaction failed')
  st.same(
    told.map(({ level }) => level),
    [40, 20, 20, 20, 20],
  )
})

t.test('the last room of a volume is left to those who write', async (st) => {
  for (const [totalBytes, leastBytes] of [
    [GIB, 0.05 * GIB + 4 * MIB],
    [10_000 * GIB, 16 * GIB + 4 * MIB],
  ] as const) {
    const { readAll, rest, chunks, chunkIds, meta } = await scattered(st)
    const before = chunkIds()
    chunks.room = { totalBytes, freeBytes: Math.ceil(leastBytes) - 1 }
    let asked = 0
    chunks.before = (call) => {
      if (call === 'origin') asked++
    }
    await rest()
    const looked = meta.calls.get('getattr') ?? 0
    await readAll()
    st.ok((meta.calls.get('getattr') ?? 0) > looked, 'it was thought of')
    st.same(chunkIds(), before)
    st.equal(asked, 0)
    chunks.room = { totalBytes, freeBytes: Math.ceil(leastBytes) }
    await rest()
    await readAll()
    st.equal(chunkIds().length, 1)
  }
})

t.test('it is asked before each load whether there is room', async (st) => {
  const { readAll, rest, chunks, chunkIds, model } = await scattered(st, { blocks: 150, chunkBytes: 128 * KIB })
  chunks.before = (call) => {
    if (call === 'write') chunks.room = { ...chunks.room, freeBytes: 0 }
  }
  await rest()
  st.ok((await readAll()).equals(model))
  st.equal(chunkIds().length, 1 + 150 - 32)
})

t.test('of clients that read it at the same moment one packs it, and the others write nothing', async (st) => {
  const { readAll, rest, chunkIds, chunks, model, another } = await scattered(st, {
    blocks: 150,
    chunkBytes: 128 * KIB,
  })
  await rest()
  const clients = [0.95, 0, 0.9].map((moment) => another({ random: () => moment }).vfs)
  let [asked, written] = [0, 0]
  chunks.before = (call) => {
    if (call === 'origin') asked++
    if (call === 'write') written++
  }
  const read = await Promise.all(clients.map((vfs) => readAll(vfs)))
  for (let i = 0; i < 10; i++) await settle()
  st.ok(read.every((bytes) => bytes.equals(model)))
  st.equal(new Set(chunkIds()).size, 4 + 150 - 4 * 32)
  st.equal(written, 4)
  st.equal(asked, 4 * 32, 'nor do they look')
})

t.test('who is as far as another client with a load does not write it when that one was quicker', async (st) => {
  const { readAll, rest, chunkIds, chunks, model, another } = await scattered(st)
  await rest()
  const [slow, quick] = [another({ random: () => 0 }), another({ random: () => 0 })]
  let isFirst = true
  let written = 0
  chunks.before = async (call) => {
    if (call === 'write') written++
    if (call !== 'origin' || !isFirst) return
    isFirst = false
    await readAll(quick.vfs)
    for (let i = 0; i < 5; i++) await settle()
  }
  st.ok((await readAll(slow.vfs)).equals(model))
  for (let i = 0; i < 10; i++) await settle()
  st.equal(new Set(chunkIds()).size, 1)
  st.equal(written, 1)
})

t.test('who was slower than another client packs nothing for a while', async (st) => {
  const { vfs, readAll, rest, chunkIds, chunks, volume, model, clock, another } = await scattered(st)
  const second = await make(vfs, 'second')
  for (let block = 0; block < BLOCKS; block++) {
    await vfs.write(second.handle, block * BLOCK, model.subarray(block * BLOCK, (block + 1) * BLOCK))
    await vfs.flush(second.handle)
  }
  await rest()
  const slow = another({ random: () => 0.5 })
  let isFirst = true
  slow.meta.before = async (call) => {
    if (call !== 'compact' || !isFirst) return
    isFirst = false
    await readAll()
  }
  await readAll(slow.vfs)
  for (let i = 0; i < 10; i++) await settle()
  st.notOk(isFirst)
  st.equal(chunkIds().length, 1)
  st.equal(chunks.stored.size, 2 * BLOCKS + 1, 'what it made is gone')
  const extentsOfSecond = async (): Promise<number | undefined> => {
    const { handle } = await slow.vfs.open(CALLER, second.ino, 0)
    st.ok((await slow.vfs.read(handle, 0, model.length)).equals(model))
    await slow.vfs.release(handle)
    for (let i = 0; i < 5; i++) await settle()
    return volume.inodes.get(second.ino)?.windows.get(0)?.length
  }
  st.equal(await extentsOfSecond(), BLOCKS)
  await clock.sleep(34_000)
  st.equal(await extentsOfSecond(), BLOCKS)
  await clock.sleep(2_000)
  st.equal(await extentsOfSecond(), 1)
})
