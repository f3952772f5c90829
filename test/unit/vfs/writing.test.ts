/** What happens to written data: order, room, durability, and how its loss is told. */
import t from 'tap'
import { compareTime } from '../../../src/base/clock.js'
import { PosixError } from '../../../src/base/errno.js'
import { RingfsError } from '../../../src/base/errors.js'
import { O_DSYNC, O_TRUNC } from '../../../src/vfs/flags.js'
import { KIB, MIB, WINDOW_BYTES } from '../../../src/base/limits.js'
import { CALLER, Gate, O_APPEND, O_RDWR, codeOf, fixture, make, settle } from '../../helpers/vfs-fixture.js'
import { within } from '../../helpers/deadline.js'
import { FastClock } from '../../helpers/vfs-clock.js'

const CHUNK = 64 * KIB
const SMALL = {
  settings: { chunkBytes: CHUNK },
  limits: {
    dirtyBytes: 4 * CHUNK,
    dirtyInodeBytes: 2 * CHUNK,
    uploads: 2,
    uploadsPerInode: 2,
    uploadDeadlineMs: 5_000,
  },
}

t.test(
  'a failed background write is reported once by each handle that was open, and by none that was opened later',
  async (st) => {
    const { vfs, chunks } = fixture(st, SMALL)
    const { ino, handle } = await make(vfs, 'f')
    const second = await vfs.open(CALLER, ino, O_RDWR)
    chunks.before = (call) => {
      if (call === 'write') throw new RingfsError('NO_QUORUM', 'all nodes are away')
    }
    await vfs.write(handle, 0, Buffer.from('lost'))
    st.equal(await codeOf(vfs.fsync(handle, false)), 'EIO', 'fsync tells')
    st.equal(await codeOf(vfs.fsync(handle, false)), 'ok', 'once')
    const third = await vfs.open(CALLER, ino, O_RDWR)
    st.equal(await codeOf(vfs.flush(second.handle)), 'EIO', 'close of the other tells')
    st.equal(await codeOf(vfs.flush(handle)), 'ok')
    st.equal(await codeOf(vfs.flush(third.handle)), 'ok', 'who came later is told nothing')
    st.equal((await vfs.getattr(CALLER, ino)).sizeBytes, 0, 'and the data is gone')
    chunks.before = () => undefined
    await vfs.write(handle, 0, Buffer.from('new'))
    st.equal(await codeOf(vfs.fsync(handle, false)), 'ok', 'writing goes on')
    st.equal((await vfs.read(handle, 0, 10)).toString(), 'new')
    for (const open of [handle, second.handle, third.handle]) await vfs.release(open)
  },
)

t.test('what the close of one descriptor says is still told to fsync, and to the close of another one', async (st) => {
  // A process that inherited it has ended, or ran another program: nobody hears what its closes say.
  const { vfs, chunks } = fixture(st, SMALL)
  const { ino, handle } = await make(vfs, 'f')
  chunks.before = (call) => {
    if (call === 'write') throw new RingfsError('NO_QUORUM', 'all nodes are away')
  }
  await vfs.write(handle, 0, Buffer.from('lost'))
  st.equal(await codeOf(vfs.flush(handle)), 'EIO', 'the close of the first descriptor')
  st.notOk(vfs.atHand.flush(handle))
  st.equal(await codeOf(vfs.flush(handle)), 'EIO', 'the close of the second')
  st.equal(await codeOf(vfs.fsync(handle, false)), 'EIO', 'fsync')
  st.equal(await codeOf(vfs.fsync(handle, false)), 'ok', 'once')
  st.equal(await codeOf(vfs.flush(handle)), 'ok', 'and no close behind it')
  await vfs.write(handle, 0, Buffer.from('lost'))
  st.equal(await codeOf(vfs.flush(handle)), 'EIO', 'of the next loss')
  st.equal(await codeOf(vfs.release(handle)), 'ok', 'the last close has told')
  const later = await vfs.open(CALLER, ino, O_RDWR)
  st.equal(await codeOf(vfs.fsync(later.handle, false)), 'ok', 'who comes later is told nothing')
  await vfs.release(later.handle)
})

t.test('what can be on disk as quickly is written so, and an fsync has nothing more to bring there', async (st) => {
  const { vfs, chunks } = fixture(st, SMALL)
  chunks.syncedBytes = 4 * KIB
  const synced: number[] = []
  chunks.before = (call, id) => {
    if (call === 'sync') synced.push(id)
  }
  for (const [name, lengthBytes] of [
    ['short', 4 * KIB],
    ['long', 4 * KIB + 1],
  ] as const) {
    const { handle } = await make(vfs, name)
    await vfs.write(handle, 0, Buffer.alloc(lengthBytes, 1))
    await vfs.flush(handle)
    const [id, chunk] = [...chunks.stored].find(([, { data }]) => data.length === lengthBytes) ?? []
    st.equal(chunk?.options.sync, name === 'short', `${name}: written`)
    await vfs.fsync(handle, false)
    st.same(synced, name === 'short' ? [] : [id], `${name}: synced`)
    await vfs.release(handle)
  }
})

t.test('release reports what no flush did, and the handle is gone all the same', async (st) => {
  const { vfs, meta, chunks } = fixture(st, SMALL)
  const { ino, handle } = await make(vfs, 'f')
  chunks.before = (call) => {
    if (call === 'write') throw new PosixError('ENOSPC')
  }
  await vfs.write(handle, 0, Buffer.from('lost'))
  st.equal(await codeOf(vfs.release(handle)), 'ENOSPC')
  st.equal(await codeOf(vfs.release(handle)), 'EBADF')
  st.equal(meta.opens(ino), 0, 'the store knows of no open file')
})

t.test('the end of the VFS says so when nobody was told of a loss, and only then', async (st) => {
  for (const { last, told } of [
    { last: 'none', told: false },
    { last: 'syncAll', told: false },
    { last: 'release', told: false },
    { last: 'flush', told: true },
    { last: 'fsync', told: true },
  ] as const) {
    const { vfs, chunks } = fixture(st, SMALL)
    const { handle } = await make(vfs, 'f')
    chunks.before = (call) => {
      if (call === 'write') throw new PosixError('ENOSPC')
    }
    await vfs.write(handle, 0, Buffer.from('lost'))
    if (last === 'syncAll') st.equal(await codeOf(vfs.syncAll(false)), 'ENOSPC')
    if (last === 'release') st.equal(await codeOf(vfs.release(handle)), 'ENOSPC')
    if (last === 'flush') st.equal(await codeOf(vfs.flush(handle)), 'ENOSPC')
    if (last === 'fsync') st.equal(await codeOf(vfs.fsync(handle, false)), 'ENOSPC')
    st.equal(await codeOf(vfs.shutdown()), told ? 'ok' : 'ENOSPC', last)
  }
})

t.test('a file that is gone with the session that had it open is EIO for who wrote to it', async (st) => {
  const { vfs, meta } = fixture(st, SMALL)
  const { handle } = await make(vfs, 'f')
  meta.before = (call) => {
    if (call.startsWith('commit')) throw new PosixError('ENOENT')
  }
  await vfs.write(handle, 0, Buffer.from('lost'))
  st.equal(await codeOf(vfs.fsync(handle, false)), 'EIO')
  await vfs.write(handle, 0, Buffer.from('lost'))
  st.equal(await codeOf(vfs.flush(handle)), 'EIO')
  await vfs.release(handle)
})

t.test('a full store is told to the next write, once, and still to fsync', async (st) => {
  const { vfs, chunks } = fixture(st, SMALL)
  const { handle } = await make(vfs, 'f')
  chunks.before = (call) => {
    if (call === 'write') throw new PosixError('ENOSPC')
  }
  await vfs.write(handle, 0, Buffer.alloc(CHUNK))
  await settle()
  st.equal(await codeOf(vfs.write(handle, CHUNK, Buffer.from('x'))), 'ENOSPC')
  st.equal(await codeOf(vfs.fsync(handle, false)), 'ENOSPC')
  await vfs.release(handle)
})

t.test('when one chunk is lost, everything written after it is: what stays is what was written before', async (st) => {
  const { vfs, chunks } = fixture(st, SMALL)
  const { ino, handle } = await make(vfs, 'f')
  await vfs.write(handle, 0, Buffer.alloc(CHUNK, 'a'))
  await vfs.flush(handle)
  let writes = 0
  chunks.before = async (call) => {
    if (call !== 'write') return
    if (++writes === 1) {
      await settle()
      throw new PosixError('ENOSPC')
    }
  }
  // The first of these two fails; the second is uploaded before that and overwrites the committed chunk.
  await vfs.write(handle, CHUNK, Buffer.alloc(CHUNK, 'b'))
  await vfs.write(handle, 0, Buffer.alloc(CHUNK, 'c'))
  st.equal(await codeOf(vfs.fsync(handle, false)), 'ENOSPC')
  st.equal((await vfs.getattr(CALLER, ino)).sizeBytes, CHUNK)
  st.ok((await vfs.read(handle, 0, 2 * CHUNK)).equals(Buffer.alloc(CHUNK, 'a')))
  await settle()
  st.equal(chunks.stored.size, 1, 'chunks that nobody names are removed')
  await vfs.release(handle)
})

t.test('a commit that the store refuses is a failed write, too', async (st) => {
  const { vfs, meta } = fixture(st, SMALL)
  const { handle } = await make(vfs, 'f')
  meta.before = (call) => {
    if (call === 'commit') throw new PosixError('EDQUOT')
  }
  await vfs.write(handle, 0, Buffer.from('x'))
  st.equal(await codeOf(vfs.fsync(handle, false)), 'EDQUOT')
  st.equal(await codeOf(vfs.flush(handle)), 'ok')
})

// REDIS_UNREACHABLE: an owner is away, and the master of the slot with its queue.
for (const code of ['NO_QUORUM', 'REDIS_UNREACHABLE'] as const) {
  t.test(`uploads that fail for a while (${code}) are tried again, and nothing is lost`, async (st) => {
    const { vfs, chunks } = fixture(st, SMALL)
    const { handle } = await make(vfs, 'f')
    let failures = 5
    chunks.before = (call) => {
      if (call === 'write' && failures-- > 0) throw new RingfsError(code, 'for a while')
    }
    await vfs.write(handle, 0, Buffer.from('kept'))
    st.equal(await codeOf(vfs.fsync(handle, false)), 'ok')
    st.equal((await vfs.read(handle, 0, 10)).toString(), 'kept')
  })
}

t.test('writers wait when the memory for written data is full, and all get on when it is not', async (st) => {
  const { vfs, chunks } = fixture(st, SMALL)
  const gate = new Gate()
  chunks.before = (call) => (call === 'write' ? gate.passed : undefined)
  const files = await Promise.all(['a', 'b', 'c', 'd'].map((name) => make(vfs, name)))
  let taken = 0
  const writers = files.map(async ({ handle }) => {
    for (let i = 0; i < 12; i++) {
      await vfs.write(handle, i * 20_000, Buffer.alloc(20_000, i))
      taken += 20_000
    }
  })
  await settle()
  st.ok(taken <= 4 * CHUNK, `no more than the limit was taken (${taken})`)
  st.ok(taken >= 2 * CHUNK, 'and about as much as it')
  gate.open()
  await within(60_000, Promise.all(writers), 'the writers')
  for (const { handle } of files) {
    const data = await vfs.read(handle, 0, 12 * 20_000)
    st.ok(Array.from({ length: 12 }, (_, i) => data[i * 20_000 + 19_999]).every((byte, i) => byte === i))
    await vfs.release(handle)
  }
  st.ok(chunks.mostWriting <= 2, 'no more uploads at once than allowed')
})

t.test('scattered small writes become one chunk and one commit', async (st) => {
  const { vfs, meta, chunks, volume } = fixture(st)
  const { ino, handle } = await make(vfs, 'f')
  for (let i = 999; i >= 0; i--) await vfs.write(handle, i * 5_000, Buffer.alloc(100, i & 0xff))
  await vfs.flush(handle)
  st.equal(chunks.stored.size, 1)
  st.equal(meta.calls.get('commit'), 1)
  st.equal(volume.inodes.get(ino)?.windows.get(0)?.length, 1000)
  st.equal((await vfs.read(handle, 777 * 5_000, 1))[0], 777 & 0xff)
})

t.test('adjacent writes become chunks of the full size, several in one commit, none across a window', async (st) => {
  const { vfs, meta, chunks } = fixture(st)
  const { handle } = await make(vfs, 'f')
  const gate = new Gate()
  chunks.before = (call) => (call === 'write' ? gate.passed : undefined)
  for (let at = WINDOW_BYTES - 16 * MIB; at < WINDOW_BYTES + 8 * MIB; at += MIB)
    await vfs.write(handle, at, Buffer.alloc(MIB))
  gate.open()
  await vfs.flush(handle)
  st.equal(chunks.stored.size, 6)
  st.ok([...chunks.stored.values()].every(({ data }) => data.length === 4 * MIB))
  st.ok((meta.calls.get('commit') ?? 0) < 6, 'chunks that were ready together went together')
})

t.test('chunks start on their way when they are full, not at the flush', async (st) => {
  const { vfs, chunks } = fixture(st, SMALL)
  const { handle } = await make(vfs, 'f')
  await vfs.write(handle, 0, Buffer.alloc(CHUNK))
  await settle()
  st.equal(chunks.stored.size, 1)
  await vfs.release(handle)
})

t.test('data that nobody flushes is committed after a while', async (st) => {
  const { vfs, volume } = fixture(st)
  const { ino, handle } = await make(vfs, 'f')
  await vfs.write(handle, 0, Buffer.from('old enough'))
  await settle()
  st.equal(volume.inodes.get(ino)?.attr.sizeBytes, 10)
  await vfs.release(handle)
})

t.test('fsync brings to disk what was sent before it and what was not, then the metadata', async (st) => {
  const { vfs, meta, chunks } = fixture(st, SMALL)
  const { handle } = await make(vfs, 'f')
  await vfs.write(handle, 0, Buffer.alloc(CHUNK, 'a'))
  await vfs.flush(handle)
  st.same(
    [...chunks.stored.values()].map(({ synced }) => synced),
    [false],
    'a close alone does not',
  )
  await vfs.write(handle, CHUNK, Buffer.from('b'))
  await vfs.fsync(handle, true)
  st.same(
    [...chunks.stored.values()].map(({ synced }) => synced),
    [true, true],
  )
  st.equal(meta.calls.get('sync'), 1)
  await vfs.release(handle)
})

t.test('fsync fails as long as the nodes cannot put to disk what they have', async (st) => {
  const { vfs, chunks } = fixture(st, SMALL)
  const { handle } = await make(vfs, 'f')
  await vfs.write(handle, 0, Buffer.from('a'))
  await vfs.flush(handle)
  chunks.before = (call) => {
    if (call === 'sync') throw new RingfsError('NO_QUORUM', 'away')
  }
  st.equal(await codeOf(vfs.fsync(handle, false)), 'EIO')
  st.equal(await codeOf(vfs.fsync(handle, false)), 'EIO')
  chunks.before = () => undefined
  st.equal(await codeOf(vfs.fsync(handle, false)), 'ok')
  st.ok([...chunks.stored.values()].every(({ synced }) => synced))
})

t.test('fsync does not fail for chunks that the file does not name any more and that are freed', async (st) => {
  const { vfs, chunks } = fixture(st, SMALL)
  const { handle, ino } = await make(vfs, 'f')
  await vfs.write(handle, 0, Buffer.from('old'))
  await vfs.flush(handle)
  const [freed] = chunks.stored.keys()
  await vfs.setattr(CALLER, ino, { sizeBytes: 0 })
  await vfs.write(handle, 0, Buffer.from('new'))
  await vfs.flush(handle)
  await chunks.remove([freed ?? 0])
  st.equal(await codeOf(vfs.fsync(handle, false)), 'ok')
  st.ok([...chunks.stored.values()].every(({ synced }) => synced))
  await vfs.write(handle, 0, Buffer.from('lost'))
  await vfs.flush(handle)
  await chunks.remove([...chunks.stored.keys()])
  st.equal(await codeOf(vfs.fsync(handle, false)), 'EIO', 'but for one that it names')
  await vfs.release(handle)
})

t.test('a write asks for its own durability, else the mount decides', async (st) => {
  const { vfs, chunks } = fixture(st, SMALL)
  const { handle } = await make(vfs, 'f')
  await vfs.write(handle, 0, Buffer.from('a'))
  await vfs.flush(handle)
  await vfs.write(handle, 0, Buffer.from('a'), { durability: 'all' })
  await vfs.write(handle, 1, Buffer.from('a'), { durability: 'async' })
  await vfs.flush(handle)
  st.same(
    [...chunks.stored.values()].map(({ options }) => options.durability),
    ['quorum', 'all'],
  )
  await vfs.release(handle)
})

t.test('what is appended ends at the largest size, as what is written', async (st) => {
  const { vfs } = fixture(st, SMALL)
  const { ino, handle } = await make(vfs, 'f', O_RDWR | O_APPEND)
  await vfs.setattr(CALLER, ino, { sizeBytes: Number.MAX_SAFE_INTEGER - 2 })
  st.equal(await vfs.write(handle, 0, Buffer.from('abcd')), 2)
  await vfs.fsync(handle, true)
  st.equal(await codeOf(vfs.write(handle, 0, Buffer.from('e'))), 'EFBIG')
  await vfs.fsync(handle, true)
  st.equal((await vfs.getattr(CALLER, ino)).sizeBytes, Number.MAX_SAFE_INTEGER)
  await vfs.release(handle)
})

t.test('a write may have flags of its own in place of those of the open', async (st) => {
  const { vfs, meta, chunks } = fixture(st, SMALL)
  const { ino, handle } = await make(vfs, 'f')
  await vfs.write(handle, 0, Buffer.from('abc'))
  await vfs.write(handle, 0, Buffer.from('de'), { flags: O_RDWR | O_APPEND })
  st.notOk(meta.calls.get('sync'))
  await vfs.write(handle, 0, Buffer.alloc(CHUNK, 'f'), { flags: O_RDWR | O_APPEND | O_DSYNC })
  st.equal(meta.calls.get('sync'), 1)
  st.ok([...chunks.stored.values()].every(({ synced }) => synced))
  st.equal((await vfs.read(handle, 0, 6)).toString(), 'abcdef')
  await vfs.release(handle)
  const { handle: appending } = await vfs.open(CALLER, ino, O_RDWR | O_APPEND)
  await vfs.write(appending, 1, Buffer.from('X'), { flags: O_RDWR })
  st.equal((await vfs.read(appending, 0, 6)).toString(), 'aXcdef')
  await vfs.release(appending)
})

t.test('stored bytes are counted once, whatever is overwritten', async (st) => {
  const { vfs, volume } = fixture(st)
  const { ino, handle } = await make(vfs, 'f')
  const allocated = (): number | undefined => volume.inodes.get(ino)?.attr.allocatedBytes
  await vfs.write(handle, 0, Buffer.alloc(1000))
  await vfs.flush(handle)
  await vfs.write(handle, 500, Buffer.alloc(1000))
  await vfs.flush(handle)
  st.equal(allocated(), 1500)
  await vfs.write(handle, 10_000, Buffer.alloc(10))
  await vfs.write(handle, 0, Buffer.alloc(10))
  await vfs.flush(handle)
  st.equal(allocated(), 1510)
  await vfs.release(handle)
})

t.test('the header of a chunk says where its bytes belong, and the orders rise', async (st) => {
  const { vfs, chunks } = fixture(st, SMALL)
  const { ino, handle } = await make(vfs, 'f')
  await vfs.write(handle, 100, Buffer.from('ab'))
  await vfs.write(handle, 300, Buffer.from('cd'))
  await vfs.flush(handle)
  await vfs.write(handle, 0, Buffer.from('e'))
  await vfs.flush(handle)
  const origins = [...chunks.stored.values()].map(({ origin }) => origin)
  st.same(origins[0]?.extents, [
    { fileOffset: 100, chunkOffset: 0, lengthBytes: 2 },
    { fileOffset: 300, chunkOffset: 2, lengthBytes: 2 },
  ])
  st.ok(origins.every((origin, i) => origin.ino === ino && origin.order > (origins[i - 1]?.order ?? 0)))
  await vfs.release(handle)
})

t.test('appends of two clients at a window border all stay, and what does not cross it stays whole', async (st) => {
  const { vfs, another } = fixture(st, SMALL)
  const other = another()
  const { ino, handle } = await make(vfs, 'f', O_RDWR | O_APPEND)
  await vfs.setattr(CALLER, ino, { sizeBytes: WINDOW_BYTES - 1000 })
  const { handle: far } = await other.vfs.open(CALLER, ino, O_RDWR | O_APPEND)
  for (let i = 0; i < 40; i++) {
    await vfs.write(handle, 0, Buffer.alloc(50, 'a'))
    await other.vfs.write(far, 0, Buffer.alloc(50, 'b'))
    if (i % 5 === 0) await Promise.all([vfs.flush(handle), other.vfs.flush(far)])
  }
  await Promise.all([vfs.release(handle), other.vfs.release(far)])
  const { handle: reader } = await vfs.open(CALLER, ino, O_RDWR)
  const data = (await vfs.read(reader, WINDOW_BYTES - 1000, 10_000)).toString()
  st.equal(data.length, 4000)
  st.equal(data.split('a').length - 1, 2000)
  await vfs.release(reader)
})

t.test(
  'an append that is cut at a window border and cannot be uploaded leaves no part of it on the nodes',
  async (st) => {
    const { vfs, chunks, volume } = fixture(st, SMALL)
    const { ino, handle } = await make(vfs, 'f', O_RDWR | O_APPEND)
    await vfs.setattr(CALLER, ino, { sizeBytes: WINDOW_BYTES - 500 })
    let writes = 0
    chunks.before = (call) => {
      if (call === 'write' && ++writes === 3) throw new PosixError('ENOSPC', 'the nodes are full')
    }
    await vfs.write(handle, 0, Buffer.alloc(1_000, 'a'))
    st.equal(await codeOf(vfs.flush(handle)), 'ENOSPC')
    st.equal(writes, 3, 'the whole, and both parts')
    await settle()
    st.same([...chunks.stored.keys()], [...volume.liveChunks()])
    await vfs.release(handle)
  },
)

t.test('an append across a window border stays whole among the appends of another client', async (st) => {
  const { vfs, another } = fixture(st, SMALL)
  const other = another()
  const { ino, handle } = await make(vfs, 'f', O_RDWR | O_APPEND)
  const { handle: far } = await other.vfs.open(CALLER, ino, O_RDWR | O_APPEND)
  for (let border = 1; border <= 8; border++) {
    const start = border * WINDOW_BYTES - 1000
    await vfs.setattr(CALLER, ino, { sizeBytes: start })
    const appends = [1, 2].flatMap(() => [
      vfs.write(handle, 0, Buffer.alloc(700, 'a')).then(() => vfs.flush(handle)),
      other.vfs.write(far, 0, Buffer.alloc(700, 'b')).then(() => other.vfs.flush(far)),
    ])
    await within(60_000, Promise.all(appends), 'the appends')
    const data = (await vfs.read(handle, start, 10_000)).toString()
    st.match(data, /^(a{700}|b{700}){4}$/, `border ${border}`)
  }
  await Promise.all([vfs.release(handle), other.vfs.release(far)])
})

t.test('a truncate while an upload is under way waits for its commit', async (st) => {
  const { vfs, chunks } = fixture(st, SMALL)
  const { ino, handle } = await make(vfs, 'f')
  const gate = new Gate()
  chunks.before = (call) => (call === 'write' ? gate.passed : undefined)
  await vfs.write(handle, 0, Buffer.alloc(2 * CHUNK, 'x'))
  const cut = vfs.setattr(CALLER, ino, { sizeBytes: 0 })
  const write = vfs.write(handle, 5, Buffer.from('new'))
  await settle()
  gate.open()
  await within(60_000, Promise.all([cut, write]), 'the truncate')
  await vfs.flush(handle)
  st.equal((await vfs.read(handle, 0, 100)).toString('latin1'), '\0\0\0\0\0new')
  await vfs.release(handle)
})

t.test('a truncate that fails takes nothing away', async (st) => {
  const { vfs, meta } = fixture(st, SMALL)
  const { ino, handle } = await make(vfs, 'f')
  await vfs.write(handle, 0, Buffer.from('kept at first'))
  meta.before = (call) => {
    if (call === 'setattr' || call === 'open') throw new PosixError('EIO')
  }
  st.equal(await codeOf(vfs.setattr(CALLER, ino, { sizeBytes: 4 }, handle)), 'EIO')
  st.equal((await vfs.read(handle, 0, 100)).toString(), 'kept at first')
  await vfs.write(handle, 0, Buffer.from('KEPT'))
  st.equal(await codeOf(vfs.setattr(CALLER, ino, { sizeBytes: 0 })), 'EIO')
  st.equal(await codeOf(vfs.open(CALLER, ino, O_RDWR | O_TRUNC)), 'EIO')
  st.equal((await vfs.read(handle, 0, 100)).toString(), 'KEPT at first')
  meta.before = () => undefined
  st.equal(await codeOf(vfs.fsync(handle, false)), 'ok')
  st.equal((await vfs.read(handle, 0, 100)).toString(), 'KEPT at first')
  await vfs.release(handle)
})

t.test('what another client sees later than what it wrote itself has a later time', async (st) => {
  for (const inlineBytes of [0, 4 * KIB]) {
    const clock = new FastClock()
    const { vfs, another } = fixture(st, { settings: { inlineBytes }, clock, vfsClock: clock })
    const other = another().vfs
    const { ino, handle } = await make(vfs, 'f')
    const there = (await other.open(CALLER, ino, O_RDWR)).handle
    await vfs.write(handle, 0, Buffer.from('first'))
    await other.write(there, 10, Buffer.from('second'))
    await other.flush(there)
    const { mtime } = await other.getattr(CALLER, ino)
    await vfs.flush(handle)
    const after = await other.getattr(CALLER, ino)
    st.equal((await other.read(there, 0, 5)).toString(), 'first')
    st.ok(compareTime(after.mtime, mtime) > 0, `mtime, with ${inlineBytes} bytes inline`)
    st.ok(compareTime(after.ctime, mtime) > 0, 'ctime')
    st.same((await vfs.getattr(CALLER, ino)).mtime, after.mtime)
    await vfs.release(handle)
    await other.release(there)
  }
})
