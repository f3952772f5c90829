/** Small files that the store keeps itself, as the VFS uses them. */
import t from 'tap'
import { PosixError } from '../../../src/base/errno.js'
import { CALLER, O_APPEND, O_RDWR, codeOf, fixture, make } from '../../helpers/vfs-fixture.js'

const INLINE = { settings: { inlineBytes: 100 }, limits: { cloneBytes: 1 } }
const PUNCH = 3

t.test('a small file is one change at its close, and asks no chunk node, then or when it is read', async (st) => {
  const { vfs, meta, chunks, another } = fixture(st, INLINE)
  let asked = 0
  chunks.before = () => {
    asked++
  }
  const { ino, handle } = await make(vfs, 'f')
  await vfs.write(handle, 0, Buffer.from('hello '))
  await vfs.write(handle, 6, Buffer.from('world'))
  meta.calls.clear()
  await vfs.flush(handle)
  st.same([...meta.calls], [['commitInline', 1]])
  await vfs.release(handle)
  const other = another()
  const opened = await other.vfs.open(CALLER, ino, O_RDWR)
  other.meta.calls.clear()
  st.equal((await other.vfs.read(opened.handle, 0, 100)).toString(), 'hello world')
  st.same([...other.meta.calls], [], 'the open brought it along')
  st.equal(asked, 0)
  await other.vfs.release(opened.handle)
})

t.test('times, owner or mode that are set after writing are one change with what was written', async (st) => {
  const { vfs, meta, another } = fixture(st, INLINE)
  const { ino, handle } = await make(vfs, 'f')
  await vfs.write(handle, 0, Buffer.from('hello'))
  meta.calls.clear()
  const mtime = { sec: 5, nsec: 6 }
  st.match(await vfs.setattr(CALLER, ino, { mtime, uid: 3, mode: 0o600 }), { mtime, uid: 3, mode: 0o600, sizeBytes: 5 })
  st.same([...meta.calls], [['commitInline', 1]])
  await vfs.write(handle, 5, Buffer.from(' world'))
  const [first, second] = [vfs.setattr(CALLER, ino, { mode: 0o640 }), vfs.setattr(CALLER, ino, { mtime })]
  st.match(await first, { mode: 0o640 })
  st.match(await second, { mode: 0o640, mtime }, 'only what comes first behind the bytes goes with them')
  st.same(
    [...meta.calls],
    [
      ['commitInline', 2],
      ['setattr', 1],
    ],
  )
  const seen = await another().vfs.getattr(CALLER, ino)
  st.match(seen, { mode: 0o640, uid: 3, mtime, sizeBytes: 11 }, 'and is what others see')
  await vfs.release(handle)
})

t.test('attributes that have to wait hold up no bytes, and are changed behind them', async (st) => {
  const { vfs, meta, another } = fixture(st, INLINE)
  const { ino, handle } = await make(vfs, 'f')
  await vfs.write(handle, 0, Buffer.from('hello'))
  meta.leavesAttributes = true
  meta.calls.clear()
  const change = { mtime: { sec: 5, nsec: 6 }, mode: 0o600 }
  st.match(await vfs.setattr(CALLER, ino, change), { ...change, sizeBytes: 5 })
  st.same(
    [...meta.calls],
    [
      ['commitInline', 1],
      ['setattr', 1],
    ],
  )
  st.match(await another().vfs.getattr(CALLER, ino), { ...change, sizeBytes: 5 })
  await vfs.release(handle)
})

t.test('what waits behind bytes while the file is given away is not changed, and the bytes are kept', async (st) => {
  const { vfs, meta, another } = fixture(st, INLINE)
  const other = another()
  for (const roomInline of [true, false]) {
    meta.roomInline = roomInline
    const { ino, handle } = await make(vfs, `f${roomInline}`)
    const { uid, gid } = await vfs.setattr(CALLER, ino, { uid: 5, gid: 5 })
    await vfs.write(handle, 0, Buffer.from('hello'))
    meta.before = async (call) => {
      if (call !== 'commit' && call !== 'commitInline') return
      meta.before = () => undefined
      await other.vfs.setattr(CALLER, ino, { uid: 0 })
    }
    st.equal(await codeOf(vfs.setattr(CALLER, ino, { mode: 0o4755, seen: { uid, gid } })), 'EPERM')
    st.match(await vfs.getattr(CALLER, ino), { mode: 0o644, uid: 0, sizeBytes: 5 })
    st.match(await other.vfs.getattr(CALLER, ino), { mode: 0o644, uid: 0, sizeBytes: 5 })
    await vfs.release(handle)
  }
})

t.test('where the bytes need a chunk, or are lost, attributes are changed all the same', async (st) => {
  const { vfs, meta } = fixture(st, INLINE)
  const { ino, handle } = await make(vfs, 'f')
  meta.roomInline = false
  await vfs.write(handle, 0, Buffer.from('hello'))
  const mtime = { sec: 5, nsec: 6 }
  st.match(await vfs.setattr(CALLER, ino, { mtime, mode: 0o600 }), { mtime, mode: 0o600, hasExtents: true })
  meta.before = (call) => {
    if (call === 'commit' || call === 'commitInline') throw new PosixError('EIO', 'for the test')
    return undefined
  }
  await vfs.write(handle, 0, Buffer.from('other'))
  st.match(await vfs.setattr(CALLER, ino, { mode: 0o640 }), { mode: 0o640, mtime })
  st.equal(await codeOf(vfs.flush(handle)), 'EIO')
  await vfs.release(handle)
})

t.test('opened again it brings nothing along that is here, and by a delegation asks nobody at all', async (st) => {
  const { vfs, meta, another } = fixture(st, INLINE)
  const { ino, handle } = await make(vfs, 'f')
  const write = async (text: string): Promise<void> => {
    await vfs.write(handle, 0, Buffer.from(text))
    await vfs.flush(handle)
  }
  const calls = async (): Promise<[string, number][]> => {
    meta.calls.clear()
    const opened = await vfs.open(CALLER, ino, O_RDWR)
    st.equal((await vfs.read(opened.handle, 0, 100)).toString(), text)
    const counted = [...meta.calls]
    await vfs.release(opened.handle)
    return counted
  }
  let text = 'hello'
  await write(text)
  st.same(await calls(), [['open', 1]])
  meta.held = () => true
  st.same(await calls(), [])
  text = 'other'
  await write(text)
  st.same(await calls(), [], 'its own changes are known here')
  meta.held = () => false
  const other = another().vfs
  const elsewhere = await other.open(CALLER, ino, O_RDWR)
  text = 'third'
  await other.write(elsewhere.handle, 0, Buffer.from(text))
  await other.release(elsewhere.handle)
  meta.held = () => true
  const asked = (await calls()).filter(([call]) => call !== 'close').map(([call]) => call)
  st.ok(asked.length > 0, `what another changed is asked for: ${asked.join()}`)
  st.same(await calls(), [], 'once')
  await vfs.release(handle)
})

for (const [length, inline] of [
  [99, true],
  [100, true],
  [400, true],
  [401, false],
] as const) {
  t.test(`of ${length} bytes written at once with a limit of 100 are ${inline ? 'no' : 'some'} chunks`, async (st) => {
    const { vfs, chunks } = fixture(st, INLINE)
    const { handle } = await make(vfs, 'f')
    await vfs.write(handle, 0, Buffer.alloc(length, 'x'))
    await vfs.flush(handle)
    st.equal(chunks.stored.size === 0, inline)
    st.equal((await vfs.read(handle, 0, 500)).toString(), 'x'.repeat(length))
    await vfs.release(handle)
  })
}

for (const [offset, length] of [
  [1, 100],
  [0, 50],
  [250, 60],
] as const) {
  t.test(`${length} bytes at ${offset} of a body of 300 lie above it, with a limit of 100`, async (st) => {
    const { vfs, meta, chunks, another } = fixture(st, INLINE)
    const { ino, handle } = await make(vfs, 'f')
    await vfs.write(handle, 0, Buffer.alloc(300, 'x'))
    await vfs.flush(handle)
    st.equal(chunks.stored.size, 0)
    await vfs.write(handle, offset, Buffer.alloc(length, 'y'))
    await vfs.flush(handle)
    st.equal(chunks.stored.size, 1, 'the body is not written anew for a part of it')
    st.equal(meta.calls.get('commitInline'), 1, 'nor is the store asked to')
    const wanted = Buffer.alloc(Math.max(300, offset + length), 'x').fill('y', offset, offset + length)
    for (const one of [vfs, another().vfs]) {
      const opened = await one.open(CALLER, ino, O_RDWR)
      st.equal((await one.read(opened.handle, 0, 400)).toString(), wanted.toString())
      await one.release(opened.handle)
    }
    await vfs.release(handle)
  })
}

t.test('a body of 300 is written anew as a whole, with a limit of 100, but not in two pieces', async (st) => {
  const { vfs, chunks } = fixture(st, INLINE)
  const { handle } = await make(vfs, 'f')
  for (const text of ['x', 'y']) {
    await vfs.write(handle, 0, Buffer.alloc(300, text))
    await vfs.flush(handle)
  }
  st.equal(chunks.stored.size, 0)
  st.equal((await vfs.read(handle, 0, 400)).toString(), 'y'.repeat(300))
  await vfs.write(handle, 0, Buffer.alloc(10, 'z'))
  await vfs.write(handle, 110, Buffer.alloc(190, 'z'))
  await vfs.flush(handle)
  st.equal(chunks.stored.size, 1)
  await vfs.release(handle)
})

t.test('what the store refuses is uploaded, in its place among what was written', async (st) => {
  const { vfs, meta, chunks } = fixture(st, INLINE)
  const { handle } = await make(vfs, 'f')
  meta.roomInline = false
  await vfs.write(handle, 0, Buffer.from('aaaa'))
  const first = vfs.flush(handle)
  await vfs.write(handle, 2, Buffer.from('bb'))
  await first
  await vfs.flush(handle)
  st.ok(chunks.stored.size > 0)
  st.equal((await vfs.read(handle, 0, 9)).toString(), 'aabb')
  await vfs.release(handle)
})

t.test('a file that grows beyond the limit keeps what it had, and is read whole elsewhere', async (st) => {
  const { vfs, another } = fixture(st, INLINE)
  const { ino, handle } = await make(vfs, 'f', O_RDWR | O_APPEND)
  let text = ''
  for (let i = 0; i < 30; i++) {
    const line = `line ${i}\n`
    await vfs.write(handle, 0, Buffer.from(line))
    await vfs.flush(handle)
    text += line
  }
  const other = another().vfs
  const opened = await other.open(CALLER, ino, O_RDWR)
  st.equal((await other.read(opened.handle, 0, 1000)).toString(), text)
  await other.release(opened.handle)
  await vfs.release(handle)
})

t.test('holes and clones move what the store keeps into a chunk first, which is on disk', async (st) => {
  const { vfs, meta, volume } = fixture(st, INLINE)
  const one = await make(vfs, 'one')
  const two = await make(vfs, 'two')
  await vfs.write(one.handle, 0, Buffer.from('0123456789'))
  await vfs.flush(one.handle)
  await vfs.fallocate(one.handle, PUNCH, 2, 3)
  st.equal((await vfs.read(one.handle, 0, 20)).toString(), '01\0\0\x0056789')
  st.match(volume.inodes.get(one.ino)?.attr, { hasBody: false, hasExtents: true })
  await vfs.write(two.handle, 0, Buffer.from('abcdefghij'))
  st.equal(await vfs.copyRange(two.handle, 0, one.handle, 4, 4), 4)
  st.equal((await vfs.read(one.handle, 0, 20)).toString(), '01\0\0abcd89')
  st.equal((await vfs.read(two.handle, 0, 20)).toString(), 'abcdefghij')
  st.equal(meta.calls.get('spill'), 2)
  for (const { handle } of [one, two]) await vfs.release(handle)
})

t.test(
  'what lies above a body when it becomes a chunk is left out of it: a rebuild lays that chunk above',
  async (st) => {
    const { vfs, chunks } = fixture(st, INLINE)
    const { ino, handle } = await make(vfs, 'f')
    await vfs.write(handle, 0, Buffer.alloc(80, 'a'))
    await vfs.flush(handle)
    await vfs.write(handle, 80, Buffer.alloc(120, 'b'))
    await vfs.flush(handle)
    await vfs.write(handle, 20, Buffer.alloc(30, 'c'))
    await vfs.flush(handle)
    const above = new Set(chunks.stored.keys())
    st.ok(above.size > 0)
    await vfs.fallocate(handle, PUNCH, 70, 5)
    const [below, ...more] = [...chunks.stored].filter(([id]) => !above.has(id))
    st.same(more, [])
    st.same(below?.[1].origin.extents, [
      { fileOffset: 0, chunkOffset: 0, lengthBytes: 20 },
      { fileOffset: 50, chunkOffset: 20, lengthBytes: 30 },
    ])
    const expected = `${'a'.repeat(20)}${'c'.repeat(30)}${'a'.repeat(20)}\0\0\0\0\0${'a'.repeat(5)}${'b'.repeat(120)}`
    st.equal((await vfs.read(handle, 0, 300)).toString(), expected)
    st.match(await vfs.getattr(CALLER, ino), { hasBody: false })
    await vfs.release(handle)
  },
)
