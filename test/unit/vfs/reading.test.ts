/** Reads whose extent map is out of date by the time its chunks are asked for. */
import t from 'tap'
import { RingfsError } from '../../../src/base/errors.js'
import { LEAF_BYTES } from '../../../src/base/limits.js'
import { CALLER, Gate, O_RDWR, fixture, make, settle } from '../../helpers/vfs-fixture.js'

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
