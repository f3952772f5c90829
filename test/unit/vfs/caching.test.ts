/** What is kept, for how long, and what an event or a reply in flight does to it. */
import t from 'tap'
import { PosixError } from '../../../src/base/errno.js'
import { RingfsError } from '../../../src/base/errors.js'
import { KIB, LEAF_BYTES, MIB, ROOT_INO } from '../../../src/base/limits.js'
import { CALLER, Gate, O_APPEND, O_RDWR, codeOf, fixture, make, settle } from '../../helpers/vfs-fixture.js'

const name = (text: string): Buffer => Buffer.from(text)

t.test('names, attributes and the lack of a name are asked for once while the store is coherent', async (st) => {
  const { vfs, another } = fixture(st)
  const other = another()
  const { ino } = await make(vfs, 'f')
  await other.meta.delivered()
  for (let i = 0; i < 3; i++) {
    await other.vfs.lookup(CALLER, ROOT_INO, name('f'))
    await other.vfs.getattr(CALLER, ino)
    st.equal(await codeOf(other.vfs.lookup(CALLER, ROOT_INO, name('none'))), 'ENOENT')
  }
  st.equal(other.meta.calls.get('lookup'), 2)
  st.equal(other.meta.calls.get('getattr'), undefined)
  other.meta.setCoherent(false)
  for (let i = 0; i < 3; i++) await other.vfs.lookup(CALLER, ROOT_INO, name('f'))
  st.equal(other.meta.calls.get('lookup'), 5, 'and each time while it is not')
  other.meta.setCoherent(true)
  for (let i = 0; i < 3; i++) await other.vfs.lookup(CALLER, ROOT_INO, name('f'))
  st.equal(other.meta.calls.get('lookup'), 6, 'and once when it is again, from empty')
})

t.test('an event drops what it names and nothing else', async (st) => {
  const { vfs, another } = fixture(st)
  const other = another()
  const { ino } = await make(vfs, 'f')
  const { ino: spared } = await make(vfs, 'g')
  await other.meta.delivered()
  for (const one of [ino, spared]) await other.vfs.getattr(CALLER, one)
  await vfs.setattr(CALLER, ino, { mode: 0o600 })
  await other.meta.delivered()
  for (const one of [ino, spared]) await other.vfs.getattr(CALLER, one)
  st.equal(other.meta.calls.get('getattr'), 3)
})

t.test('a reply that was in flight while its inode or name changed is not kept', async (st) => {
  const { vfs, another } = fixture(st)
  const other = another()
  const { ino } = await make(vfs, 'f')
  await other.meta.delivered()
  const gate = new Gate()
  other.meta.after = () => gate.passed
  const [attr, missing] = [other.vfs.getattr(CALLER, ino), codeOf(other.vfs.lookup(CALLER, ROOT_INO, name('g')))]
  await settle()
  // Answered already, not arrived yet: now it changes.
  await vfs.setattr(CALLER, ino, { mode: 0o600 })
  await make(vfs, 'g')
  await other.meta.delivered()
  gate.open()
  st.equal((await attr).mode, 0o644, 'the old answer')
  st.equal(await missing, 'ENOENT')
  other.meta.after = () => undefined
  st.equal((await other.vfs.getattr(CALLER, ino)).mode, 0o600, 'is not given again')
  st.equal(await codeOf(other.vfs.lookup(CALLER, ROOT_INO, name('g'))), 'ok')
})

t.test('two changes of one inode whose replies come in the other order leave no stale attributes', async (st) => {
  const { vfs, meta } = fixture(st)
  const { ino } = await make(vfs, 'f')
  const gate = new Gate()
  let first = true
  meta.after = (call) => {
    if (call !== 'setattr' || !first) return
    first = false
    return gate.passed
  }
  const slow = vfs.setattr(CALLER, ino, { mode: 0o600 })
  await settle()
  await vfs.setattr(CALLER, ino, { mode: 0o640 })
  gate.open()
  await slow
  st.equal((await vfs.getattr(CALLER, ino)).mode, 0o640)
})

t.test('a size that was asked for before a commit and answered after it counts what was committed', async (st) => {
  const { vfs, meta } = fixture(st)
  const { ino, handle } = await make(vfs, 'f')
  meta.setCoherent(false)
  await vfs.write(handle, 0, Buffer.from('12345'))
  const gate = new Gate()
  meta.after = (call) => (call === 'getattr' ? gate.passed : undefined)
  const asked = vfs.getattr(CALLER, ino)
  await settle()
  await vfs.flush(handle)
  gate.open()
  st.equal((await asked).sizeBytes, 5)
})

t.test('our own changes need no event: create, rename, unlink and rmdir are known at once', async (st) => {
  const { vfs, meta } = fixture(st)
  const { ino, handle } = await make(vfs, 'f')
  await vfs.release(handle)
  meta.calls.clear()
  st.equal((await vfs.lookup(CALLER, ROOT_INO, name('f'))).ino, ino)
  st.equal(meta.calls.size, 0)
  await codeOf(vfs.lookup(CALLER, ROOT_INO, name('g')))
  await vfs.rename(CALLER, ROOT_INO, name('f'), ROOT_INO, name('g'), {})
  meta.calls.clear()
  st.equal(await codeOf(vfs.lookup(CALLER, ROOT_INO, name('f'))), 'ENOENT')
  st.equal(meta.calls.size, 0, 'the old name is gone without asking')
  st.equal((await vfs.lookup(CALLER, ROOT_INO, name('g'))).ino, ino)
  await vfs.unlink(CALLER, ROOT_INO, name('g'))
  st.equal(await codeOf(vfs.lookup(CALLER, ROOT_INO, name('g'))), 'ENOENT')
})

t.test('a small file costs one call each for create, commit, open and unlink', async (st) => {
  const { vfs, meta } = fixture(st)
  const { ino, handle } = await make(vfs, 'f')
  await vfs.write(handle, 0, Buffer.from('data'))
  await vfs.flush(handle)
  await vfs.release(handle)
  const opened = await vfs.open(CALLER, ino, 0)
  st.equal((await vfs.read(opened.handle, 0, 100)).toString(), 'data')
  await vfs.release(opened.handle)
  await vfs.unlink(CALLER, ROOT_INO, name('f'))
  meta.calls.delete('chunkId')
  st.same(Object.fromEntries(meta.calls), { create: 1, commit: 1, open: 1, unlink: 1 })
})

t.test('data is fetched once, only the leaves that are needed, and neighbours in one read', async (st) => {
  const { vfs, chunks, another } = fixture(st)
  const { ino, handle } = await make(vfs, 'f')
  await vfs.write(handle, 0, Buffer.alloc(MIB, 'x'))
  await vfs.release(handle)
  const other = another()
  const { handle: reader } = await other.vfs.open(CALLER, ino, 0)
  await other.vfs.read(reader, 5 * LEAF_BYTES + 10, 20)
  st.same(
    chunks.reads.map(({ offset, lengthBytes }) => [offset, lengthBytes]),
    [[5 * LEAF_BYTES, LEAF_BYTES]],
  )
  await other.vfs.read(reader, 4 * LEAF_BYTES, 4 * LEAF_BYTES)
  st.same(
    chunks.reads.slice(1).map(({ offset, lengthBytes }) => [offset, lengthBytes]),
    [
      [4 * LEAF_BYTES, LEAF_BYTES],
      [6 * LEAF_BYTES, 2 * LEAF_BYTES],
    ],
  )
  await Promise.all([other.vfs.read(reader, 4 * LEAF_BYTES, 10), other.vfs.read(reader, 4 * LEAF_BYTES, 10)])
  st.equal(chunks.reads.length, 3, 'what is there is not fetched again')
  await other.vfs.release(reader)
})

t.test('a small file that was just written is read without asking the nodes', async (st) => {
  const { vfs, chunks } = fixture(st)
  const { ino, handle } = await make(vfs, 'f')
  await vfs.write(handle, 0, Buffer.alloc(100 * KIB, 'x'))
  await vfs.release(handle)
  const { handle: reader } = await vfs.open(CALLER, ino, 0)
  st.ok((await vfs.read(reader, 0, 200 * KIB)).equals(Buffer.alloc(100 * KIB, 'x')))
  st.equal(chunks.reads.length, 0)
  await vfs.release(reader)
})

t.test('a sequential reader is read ahead for, within the memory allowed', async (st) => {
  const { vfs, chunks, another } = fixture(st, { limits: { dataCacheBytes: 2 * MIB } })
  const { ino, handle } = await make(vfs, 'f')
  for (let i = 0; i < 16; i++) await vfs.write(handle, i * MIB, Buffer.alloc(MIB, i))
  await vfs.release(handle)
  const other = another()
  const { handle: reader } = await other.vfs.open(CALLER, ino, 0)
  let waited = 0
  for (let at = 0; at < 16 * MIB; at += 128 * KIB) {
    const before = chunks.reads.length
    const data = await other.vfs.read(reader, at, 128 * KIB)
    st.ok(data.every((byte) => byte === Math.floor(at / MIB)))
    if (chunks.reads.slice(before).some(({ offset }) => offset === at % (4 * MIB))) waited++
    await settle()
  }
  st.ok(waited < 16, `most reads find their data (${waited} of 128 waited)`)
  await other.vfs.release(reader)
})

t.test('a chunk that is missing is looked for in a fresh extent map, once', async (st) => {
  const { vfs, chunks, another, volume } = fixture(st)
  const { ino, handle } = await make(vfs, 'f')
  await vfs.write(handle, 0, Buffer.from('moved'))
  await vfs.release(handle)
  const other = another()
  const { handle: reader } = await other.vfs.open(CALLER, ino, 0)
  // A compaction elsewhere whose event has not come yet.
  const [old] = [...chunks.stored]
  if (old === undefined) throw new Error('no chunk')
  const ref = await chunks.write(999, [old[1].data], old[1].origin, old[1].options)
  const windows = volume.inodes.get(ino)?.windows
  windows?.set(
    0,
    (windows.get(0) ?? []).map((extent) => ({ ...extent, chunk: ref })),
  )
  chunks.stored.delete(old[0])
  st.equal((await other.vfs.read(reader, 0, 100)).toString(), 'moved')
  chunks.stored.delete(999)
  const another2 = another()
  const late = await another2.vfs.open(CALLER, ino, 0)
  st.equal(await codeOf(another2.vfs.read(late.handle, 0, 100)), 'EIO', 'and is EIO if it is nowhere')
})

t.test('a corrupt chunk is EIO, never wrong bytes', async (st) => {
  const { vfs, chunks, another } = fixture(st)
  const { ino, handle } = await make(vfs, 'f')
  await vfs.write(handle, 0, Buffer.from('right'))
  await vfs.release(handle)
  for (const { data } of chunks.stored.values()) data[0] = 0
  const other = another()
  const { handle: reader } = await other.vfs.open(CALLER, ino, 0)
  st.equal(await codeOf(other.vfs.read(reader, 0, 100)), 'EIO')
})

t.test('a read that failed is tried again by the next one', async (st) => {
  const { vfs, chunks, another } = fixture(st)
  const { ino, handle } = await make(vfs, 'f')
  await vfs.write(handle, 0, Buffer.from('there'))
  await vfs.release(handle)
  const other = another()
  const { handle: reader } = await other.vfs.open(CALLER, ino, 0)
  chunks.before = () => {
    throw new RingfsError('DEADLINE', 'too slow')
  }
  st.equal(await codeOf(other.vfs.read(reader, 0, 100)), 'EIO')
  chunks.before = () => undefined
  st.equal((await other.vfs.read(reader, 0, 100)).toString(), 'there')
})

t.test('names with one score in a listing are told apart, in pages of any size', async (st) => {
  const { vfs } = fixture(st, { score: (text) => text.length, limits: { readdirBatch: 3 } })
  const names = ['a', 'b', 'c', 'd', 'e', 'ff', 'gg', 'h']
  for (const one of names) await vfs.release((await make(vfs, one)).handle)
  for (const limit of [1, 2, 5, 100]) {
    const handle = await vfs.opendir(CALLER, ROOT_INO)
    const seen: string[] = []
    const offsets: bigint[] = []
    for (let offset = 0n; ;) {
      const entries = await vfs.readdir(handle, offset, limit, true)
      const last = entries.at(-1)
      if (last === undefined) break
      seen.push(...entries.map((entry) => entry.name.toString()))
      offsets.push(...entries.map((entry) => entry.offset))
      offset = last.offset
    }
    st.same(seen.slice(2).sort(), [...names].sort(), `pages of ${limit}`)
    st.equal(new Set(offsets).size, offsets.length, 'no position twice')
    for (const [index, offset] of offsets.entries()) {
      const next = await vfs.readdir(handle, offset, 1, false)
      st.equal(next[0]?.name.toString(), seen[index + 1], 'seekdir to any of them')
    }
    vfs.releasedir(handle)
  }
})

t.test('a page of a listing may end with the first of several names of one score', async (st) => {
  const { vfs } = fixture(st, { score: (text) => text.length, limits: { readdirBatch: 3 } })
  const names = ['a', 'bb', 'ccc', 'ddd', 'eee', 'ffff']
  for (const one of names) await vfs.release((await make(vfs, one)).handle)
  for (const limit of [1, 2, 5, 100]) {
    const handle = await vfs.opendir(CALLER, ROOT_INO)
    const seen: string[] = []
    for (let offset = 0n; ;) {
      const entries = await vfs.readdir(handle, offset, limit, true)
      seen.push(...entries.map((entry) => entry.name.toString()))
      const last = entries.at(-1)
      if (last === undefined) break
      offset = last.offset
    }
    st.same(seen.slice(2), names, `pages of ${limit}`)
    vfs.releasedir(handle)
  }
})

t.test('an open whose file cannot be described after all leaves nothing open in the store', async (st) => {
  const { vfs, meta } = fixture(st)
  const { ino, handle } = await make(vfs, 'f', O_RDWR | O_APPEND)
  await vfs.write(handle, 0, Buffer.from('on its way'))
  meta.setCoherent(false)
  meta.before = (call) => {
    if (call === 'getattr') throw new PosixError('EIO')
  }
  st.equal(await codeOf(vfs.open(CALLER, ino, 0)), 'EIO')
  meta.before = () => undefined
  await vfs.release(handle)
  st.equal(meta.opens(ino), 0)
})

t.test('every open is closed once in the store', async (st) => {
  const { vfs, meta } = fixture(st)
  const { ino, handle } = await make(vfs, 'f')
  const again = await vfs.create(CALLER, ROOT_INO, name('f'), 0o644, O_RDWR)
  const third = await vfs.open(CALLER, ino, 0)
  st.equal(meta.opens(ino), 3)
  for (const open of [handle, again.handle, third.handle]) await vfs.release(open)
  st.equal(meta.opens(ino), 0)
  const dir = await vfs.mkdir(CALLER, ROOT_INO, name('d'), 0o755)
  await codeOf(vfs.open(CALLER, dir.ino, 0))
  st.equal(meta.opens(dir.ino), 0, 'what is no file is not left open')
})

t.test('too many handles are EMFILE', async (st) => {
  const { vfs, meta } = fixture(st, { limits: { handles: 2 } })
  const { ino } = await make(vfs, 'f')
  await vfs.opendir(CALLER, ROOT_INO)
  st.equal(await codeOf(vfs.open(CALLER, ino, 0)), 'EMFILE')
  st.equal(meta.opens(ino), 1)
})

t.test('a window whose extents are mostly hidden is compacted, and reads the same', async (st) => {
  const { vfs, another, volume, chunks } = fixture(st)
  const { ino, handle } = await make(vfs, 'f')
  const model = Buffer.alloc(5_000)
  const rewrite = async (i: number): Promise<void> => {
    const at = (i * 37) % 4_000
    await vfs.write(handle, at, Buffer.alloc(1_000, i))
    model.fill(i, at, at + 1_000)
    await vfs.flush(handle)
  }
  for (let i = 1; i <= 300; i++) await rewrite(i & 0xff)
  await settle()
  for (let i = 1; i <= 10; i++) await rewrite(i)
  const left = volume.inodes.get(ino)?.windows.get(0)?.length ?? 0
  st.ok(left < 150, `${left} extents are left of 310`)
  st.ok(volume.garbage.size > 100, 'and their chunks are garbage')
  const live = volume.liveChunks()
  st.ok(
    [...volume.garbage].every((id) => !live.has(id)),
    'no chunk that is still named',
  )
  const end = (await vfs.getattr(CALLER, ino)).sizeBytes
  const other = another()
  await chunks.remove([...volume.garbage])
  for (const client of [vfs, other.vfs]) {
    const { handle: reader } = await client.open(CALLER, ino, 0)
    st.ok((await client.read(reader, 0, 10_000)).equals(model.subarray(0, end)))
    await client.release(reader)
  }
})

t.test('while the mount is read-only nothing is compacted', async (st) => {
  const { another, volume } = fixture(st)
  let isWritable = false
  const { vfs } = another({ mayTidyUp: () => isWritable })
  const { ino, handle } = await make(vfs, 'f')
  const rewrite = async (): Promise<number> => {
    for (let i = 0; i < 300; i++) {
      await vfs.write(handle, 0, Buffer.alloc(1_000, i & 0xff))
      await vfs.flush(handle)
    }
    await settle()
    return volume.inodes.get(ino)?.windows.get(0)?.length ?? 0
  }
  st.equal(await rewrite(), 300)
  isWritable = true
  const left = await rewrite()
  st.ok(left < 300, `${left} extents are left of 600`)
})

t.test('a cached name whose file was replaced elsewhere is not opened, also before the event is here', async (st) => {
  const { vfs, another } = fixture(st)
  const other = another()
  const old = await make(vfs, 'f')
  const fresh = await make(vfs, 'g')
  await other.meta.delivered()
  const seen = await other.vfs.lookup(CALLER, ROOT_INO, name('f'))
  st.equal(seen.ino, old.ino)
  await vfs.rename(CALLER, ROOT_INO, name('g'), ROOT_INO, name('f'), { noReplace: false })
  st.equal(await codeOf(other.vfs.open(CALLER, old.ino, O_RDWR)), 'ESTALE', 'the kernel looks again')
  st.equal((await other.vfs.lookup(CALLER, ROOT_INO, name('f'))).ino, fresh.ino)
  const again = await vfs.open(CALLER, old.ino, O_RDWR)
  st.equal(again.attr.nlink, 0, 'what is open here may be opened without a name')
  await vfs.release(again.handle)
})
