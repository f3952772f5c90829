/** Reads whose extent map is out of date by the time its chunks are asked for. */
import t from 'tap'
import { randomBytes } from 'node:crypto'
import { RingfsError } from '../../../src/base/errors.js'
import { giveBack } from '../../../src/base/lent.js'
import { KIB, LEAF_BYTES, MIB } from '../../../src/base/limits.js'
import { CALLER, Gate, O_RDWR, codeOf, fixture, make, settle } from '../../helpers/vfs-fixture.js'

const PUNCH_HOLE_KEEP_SIZE = 3

t.test('a chunk of an old map that comes late is not written over what the new map says', async (t) => {
  const { vfs, chunks, another } = fixture(t)
  const { ino, handle } = await make(vfs, 'file')
  for (const at of [0, 1]) {
    await vfs.write(handle, at * LEAF_BYTES, Buffer.alloc(LEAF_BYTES, 'old'))
    await vfs.fsync(handle, false)
  }
  const [first, second] = [...chunks.stored.keys()]
  const reader = another().vfs
  const opened = await reader.open(CALLER, ino, O_RDWR)
  const now = Buffer.alloc(2 * LEAF_BYTES, 'new')
  const late = new Gate()
  chunks.before = async (call, id) => {
    if (call !== 'read') return
    if (id === second) await late.passed
    if (id !== first) return
    await vfs.write(handle, 0, now)
    await vfs.fsync(handle, false)
    throw new RingfsError('CHUNK_MISSING', 'replaced and freed')
  }
  const reading = reader.read(opened.handle, 0, now.length)
  await settle()
  late.open()
  const read = await reading
  await settle()
  t.ok(read.equals(now))
})

t.test('what is read in pieces is what is read in one, and every piece is given back', async (t) => {
  const { vfs, chunks, another } = fixture(t, { limits: { dataCacheBytes: 4 * MIB } })
  const { ino, handle } = await make(vfs, 'file')
  const bytes = randomBytes(9 * MIB + 777)
  for (let at = 0; at < bytes.length; at += MIB) await vfs.write(handle, at, bytes.subarray(at, at + MIB))
  await vfs.fsync(handle, false)
  const other = another()
  const opened = await other.vfs.open(CALLER, ino, O_RDWR)
  const isRight = async (offset: number, lengthBytes: number): Promise<number> => {
    const pieces = await other.vfs.readPieces(opened.handle, offset, lengthBytes)
    t.ok(Buffer.concat(pieces).equals(bytes.subarray(offset, offset + lengthBytes)), `${lengthBytes} from ${offset}`)
    pieces.forEach(giveBack)
    return pieces.length
  }
  for (let at = 0; at < bytes.length; at += MIB) await isRight(at, MIB)
  t.ok((await isRight(3 * MIB + 500, MIB + 5)) > 1, 'over the border of two chunks')
  for (const [offset, lengthBytes] of [
    [bytes.length - 100 * KIB, MIB],
    [bytes.length, MIB],
    [5, 100],
    [0, 0],
    [2 * MIB, 7 * MIB],
  ] as const) {
    await isRight(offset, lengthBytes)
  }
  // What is not committed yet, and a hole.
  const now = randomBytes(10_000)
  await other.vfs.write(opened.handle, MIB, now)
  now.copy(bytes, MIB)
  t.equal(await isRight(MIB - 5, MIB), 1)
  await other.vfs.fsync(opened.handle, false)
  await isRight(MIB - 5, MIB)
  await other.vfs.fallocate(opened.handle, PUNCH_HOLE_KEEP_SIZE, 6 * MIB, 100 * KIB)
  bytes.fill(0, 6 * MIB, 6 * MIB + 100 * KIB)
  await isRight(6 * MIB - 5, MIB)
  await settle()
  const held = chunks.lent
  t.ok(held * KIB <= 4 * MIB)
  // A chunk that is nowhere, and one that is not what it should be.
  const first = [...chunks.stored][0]
  if (first === undefined) throw new Error('no chunk')
  const third = another({ limits: { dataCacheBytes: 4 * LEAF_BYTES } })
  const late = await third.vfs.open(CALLER, ino, O_RDWR)
  first[1].data.fill(0, 0, 1)
  t.equal(await codeOf(third.vfs.readPieces(late.handle, 0, MIB)), 'EIO')
  t.equal(await codeOf(third.vfs.readPieces(late.handle, 4 * MIB - 200 * KIB, 400 * KIB)), 'EIO')
  await settle()
  t.equal(chunks.lent, held, 'what came of the good one is given back')
  chunks.stored.delete(first[0])
  t.equal(await codeOf(third.vfs.readPieces(late.handle, 0, MIB)), 'EIO')
})

t.test('a read has the size and the bytes of one version, whoever changes the file meanwhile', async (t) => {
  const { vfs, another } = fixture(t)
  const { ino, handle } = await make(vfs, 'file')
  const write = async (text: string): Promise<void> => {
    await vfs.setattr(CALLER, ino, { sizeBytes: 0 })
    await vfs.write(handle, 0, Buffer.from(text))
    await vfs.flush(handle)
  }
  await write('what was there')
  const other = another()
  const opened = await other.vfs.open(CALLER, ino, O_RDWR)
  for (const cut of [true, false]) {
    let isChanged = false
    await write('what was there')
    other.meta.before = async (call) => {
      if (call !== 'extents' || isChanged) return
      isChanged = true
      if (cut) await vfs.setattr(CALLER, ino, { sizeBytes: 0 })
      else await write('less')
    }
    const read = await other.vfs.read(opened.handle, 0, 100)
    t.ok(isChanged)
    t.equal(read.toString(), cut ? '' : 'less')
  }
  other.meta.before = () => undefined
  await write('more')
  other.meta.before = (call) => (call === 'extents' ? write('again and again') : undefined)
  t.equal((await other.vfs.read(opened.handle, 0, 100)).toString(), 'again and again', 'in the end it is answered')
})
