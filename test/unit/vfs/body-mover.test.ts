/** Room for new small files: bodies of those that nobody has changed for a while are moved into chunks. */
import t from 'tap'
import { PosixError } from '../../../src/base/errno.js'
import { RingfsError } from '../../../src/base/errors.js'
import { COMMITTED_MS } from '../../../src/base/limits.js'
import type { VfsContract } from '../../../src/vfs/contract.js'
import { until } from '../../helpers/deadline.js'
import { FastClock } from '../../helpers/vfs-clock.js'
import { CALLER, Gate, O_RDWR, fixture, make, settle, type Fixture } from '../../helpers/vfs-fixture.js'

const LENGTH = 100
const FILES = 40
/** All of it is taken. */
const BUDGET = FILES * LENGTH

const always = (): Promise<boolean> => Promise.resolve(true)

interface Small extends Fixture {
  readonly clock: FastClock
  readonly inos: readonly number[]
  readonly rest: () => Promise<void>
  readonly bodies: () => readonly number[]
}

function textOf(n: number): Buffer {
  return Buffer.alloc(LENGTH, `file ${n} `)
}

/** Files that are closed, and as old as they have to be. */
async function small(st: Parameters<typeof fixture>[0], { budget = BUDGET } = {}): Promise<Small> {
  const clock = new FastClock()
  const settings = { inlineBytes: 1_000, inlineBudgetBytes: budget }
  const volume = fixture(st, { clock, vfsClock: clock, settings, limits: { cloneBytes: 1 } })
  const { vfs } = volume
  const inos: number[] = []
  for (let n = 0; n < FILES; n++) {
    const { ino, handle } = await make(vfs, `f${n}`)
    await vfs.write(handle, 0, textOf(n))
    await vfs.release(handle)
    inos.push(ino)
  }
  const rest = (): Promise<void> => clock.sleep(COMMITTED_MS + 2_000)
  await rest()
  const bodies = (): number[] => inos.filter((ino) => volume.volume.inodes.get(ino)?.attr.hasBody === true)
  return { ...volume, clock, inos, rest, bodies }
}

async function read(vfs: VfsContract, ino: number): Promise<Buffer> {
  const { handle } = await vfs.open(CALLER, ino, 0)
  const data = Buffer.from(await vfs.read(handle, 0, 10 * LENGTH))
  await vfs.release(handle)
  return data
}

t.test(
  'when most of the room is taken, old files are moved until half of it is free, and read the same',
  async (st) => {
    const { vfs, volume, chunks, inos, another } = await small(st)
    const other = another()
    for (const ino of inos) await read(other.vfs, ino)
    const before = await Promise.all(inos.map((ino) => vfs.getattr(CALLER, ino)))
    st.equal(await vfs.bodyMover.makeRoom(always), 'done')
    st.ok(volume.bodyBytes <= BUDGET / 2)
    st.equal(chunks.stored.size, vfs.bodyMover.moved)
    st.equal(vfs.bodyMover.movedBytes, LENGTH * vfs.bodyMover.moved)
    st.ok([...chunks.stored.values()].every(({ synced }) => synced))
    for (const [n, ino] of inos.entries()) {
      st.ok((await read(vfs, ino)).equals(textOf(n)), 'by who moved it')
      st.ok((await read(other.vfs, ino)).equals(textOf(n)), 'and by others')
      const { allocatedBytes, mtime, ctime, sizeBytes } = before[n] ?? (await vfs.getattr(CALLER, ino))
      st.match(await vfs.getattr(CALLER, ino), { allocatedBytes, mtime, ctime, sizeBytes })
    }
    st.equal(await vfs.bodyMover.makeRoom(always), 'idle', 'there is room')
  },
)

t.test('not while a quarter of the room is free', async (st) => {
  const { vfs, chunks } = await small(st, { budget: (BUDGET * 4) / 3 + 10 })
  st.equal(await vfs.bodyMover.makeRoom(always), 'idle')
  st.equal(chunks.stored.size, 0)
})

t.test('the header says when the file was changed, and has nothing that extents hide', async (st) => {
  const { vfs, volume, chunks, inos } = await small(st)
  const ino = inos[7] ?? 0
  const attr = await vfs.getattr(CALLER, ino)
  const inode = volume.inodes.get(ino)
  const chunk = { id: 9_999, lengthBytes: 50, root: Buffer.alloc(32) }
  inode?.windows.set(0, [{ fileOffset: 20, lengthBytes: 50, chunk, chunkOffset: 0 }])
  Object.assign(inode?.attr ?? {}, { hasExtents: true })
  await vfs.bodyMover.makeRoom(always)
  const found = [...chunks.stored.values()].find(({ origin }) => origin.ino === ino)
  const order = attr.ctime.sec * 1e6 + Math.floor(attr.ctime.nsec / 1000)
  st.match(found?.origin, { orders: [order, order], appends: [] })
  st.same(found?.origin.extents, [
    { fileOffset: 0, chunkOffset: 0, lengthBytes: 20 },
    { fileOffset: 70, chunkOffset: 20, lengthBytes: 30 },
  ])
  st.ok((found?.origin.order ?? 0) > order, 'its own is the moment when it was made')
})

t.test('what is young, open or written to stays, and then there is nothing that may be moved', async (st) => {
  const { vfs, chunks, inos, bodies, another } = await small(st)
  const other = another()
  for (const [n, ino] of inos.entries()) {
    if (n % 3 === 0) await vfs.open(CALLER, ino, 0)
    else if (n % 3 === 1) await other.vfs.open(CALLER, ino, 0)
    else await vfs.setattr(CALLER, ino, { mode: 0o600 })
  }
  st.equal(await vfs.bodyMover.makeRoom(always), 'barren')
  st.equal(bodies().length, FILES)
  st.equal(chunks.stored.size, 0)
})

t.test('one of several clients does it', async (st) => {
  const { vfs, chunks, another } = await small(st)
  const other = another()
  st.equal(await other.vfs.bodyMover.makeRoom(() => Promise.resolve(false)), 'over')
  st.equal(await vfs.bodyMover.makeRoom(always), 'idle')
  st.equal(chunks.stored.size, 0)
  st.equal(await other.vfs.bodyMover.makeRoom(always), 'done')
})

t.test('a file that is changed, cut or removed while its chunk is written stays what it is then', async (st) => {
  const { vfs, meta, chunks, inos, another } = await small(st)
  const other = another().vfs
  meta.before = async (call) => {
    if (call !== 'move') return
    meta.before = () => undefined
    for (const [n, ino] of inos.entries()) {
      if (n % 4 === 0) await other.setattr(CALLER, ino, { sizeBytes: 10 })
      else if (n % 4 === 1) await other.unlink(CALLER, 1, Buffer.from(`f${n}`))
      else if (n % 4 === 2) {
        const { handle } = await other.open(CALLER, ino, O_RDWR)
        await other.write(handle, 5, Buffer.from('new'))
        await other.release(handle)
      }
    }
  }
  const end = await vfs.bodyMover.makeRoom(always)
  st.equal(end, 'done', 'what was removed made room, too')
  st.equal(vfs.bodyMover.moved, FILES / 4)
  await settle()
  st.equal(chunks.stored.size, FILES / 4, 'chunks in vain are removed')
  for (const [n, ino] of inos.entries()) {
    if (n % 4 === 1) continue
    const expected = textOf(n)
    if (n % 4 === 2) expected.write('new', 5)
    for (const reader of [vfs, other]) {
      st.ok((await read(reader, ino)).equals(n % 4 === 0 ? expected.subarray(0, 10) : expected))
    }
  }
})

t.test('a client that dies behind the chunk or behind the change leaves every file whole', async (st) => {
  for (const where of ['before', 'after'] as const) {
    const { vfs, meta, chunks, inos, another } = await small(st)
    meta[where] = (call: string): void => {
      if (call === 'move') throw new RingfsError('CONNECTION_LOST', 'for the test')
    }
    await st.rejects(vfs.bodyMover.makeRoom(always))
    st.equal(vfs.bodyMover.moved, 0)
    st.ok(chunks.stored.size > 0, 'nobody removes what may be named')
    meta[where] = () => undefined
    const other = another().vfs
    for (const [n, ino] of inos.entries()) {
      st.ok((await read(other, ino)).equals(textOf(n)), `${where}: by others`)
      st.ok((await read(vfs, ino)).equals(textOf(n)), `${where}: by the one that does not know`)
    }
    await vfs.bodyMover.makeRoom(always)
    for (const [n, ino] of inos.entries()) st.ok((await read(other, ino)).equals(textOf(n)))
  }
})

t.test('where a node fails what is on disk is moved, and the rest is not', async (st) => {
  const { vfs, chunks, inos } = await small(st)
  let writes = 0
  chunks.before = (call) => {
    if (call === 'write' && ++writes % 5 === 0) throw new PosixError('EIO', 'for the test')
  }
  await st.rejects(vfs.bodyMover.makeRoom(always), { code: 'EIO' })
  chunks.before = () => undefined
  st.ok(vfs.bodyMover.moved > 0)
  st.equal(chunks.stored.size, vfs.bodyMover.moved)
  for (const [n, ino] of inos.entries()) st.ok((await read(vfs, ino)).equals(textOf(n)))
})

t.test('nothing is moved where the nodes are nearly full, or there is no time for it', async (st) => {
  const { vfs, chunks, bodies } = await small(st)
  chunks.room = { totalBytes: 100, freeBytes: 2 }
  st.equal(await vfs.bodyMover.makeRoom(always), 'over')
  chunks.room = { totalBytes: 2 ** 40, freeBytes: 2 ** 39 }
  let turns = 0
  st.equal(await vfs.bodyMover.makeRoom(() => Promise.resolve(turns++ > 0)), 'over')
  st.equal(bodies().length, FILES)
})

t.test('who ends it does not wait for nodes: what is on disk is moved, what comes later is removed', async (st) => {
  const { vfs, chunks, inos } = await small(st)
  const hang = new Gate()
  let writes = 0
  chunks.before = async (call) => {
    if (call === 'write' && ++writes > 10) await hang.passed
  }
  const moving = vfs.bodyMover.makeRoom(always)
  await until('the nodes hang', () => writes > 13)
  vfs.bodyMover.stop()
  st.equal(await moving, 'over')
  st.equal(vfs.bodyMover.moved, 10)
  st.equal(await vfs.bodyMover.makeRoom(always), 'over', 'for good')
  hang.open()
  await settle()
  st.equal(chunks.stored.size, 10)
  for (const [n, ino] of inos.entries()) st.ok((await read(vfs, ino)).equals(textOf(n)))
})

t.test('nothing is written once the mount is read-only, also in the middle of a page', async (st) => {
  const { chunks, inos, another, rest } = await small(st)
  let [isWritable, writes] = [true, 0]
  const { vfs, meta } = another({ mayTidyUp: () => isWritable })
  await rest()
  chunks.before = (call) => {
    if (call === 'write' && ++writes === 10) isWritable = false
  }
  meta.before = (call) => void st.not(call, 'move')
  st.equal(await vfs.bodyMover.makeRoom(always), 'over')
  st.ok(writes < 10 + 4, 'but what was under way')
  await settle()
  st.equal(chunks.stored.size, 0)
  meta.before = () => undefined
  st.equal(await vfs.bodyMover.makeRoom(always), 'over')
  st.equal(chunks.stored.size, 0)
  isWritable = true
  st.equal(await vfs.bodyMover.makeRoom(always), 'done', 'it can be remounted')
  for (const [n, ino] of inos.entries()) st.ok((await read(vfs, ino)).equals(textOf(n)))
})

t.test('few chunks are written at once', async (st) => {
  const { vfs, chunks } = await small(st)
  chunks.mostWriting = 0
  await vfs.bodyMover.makeRoom(always)
  st.ok(chunks.mostWriting <= 4)
})

t.test(
  'what was begun, and has come to its end by others, is begun anew only where there is little room',
  async (st) => {
    const { vfs, inos, rest } = await small(st)
    st.equal(await vfs.bodyMover.makeRoom(() => Promise.resolve(false)), 'over')
    const gone = Math.ceil(FILES * 0.6)
    for (let n = 0; n < gone; n++) await vfs.unlink(CALLER, 1, Buffer.from(`f${n}`))
    st.equal(await vfs.bodyMover.makeRoom(always), 'idle')
    for (let n = 0; n < FILES * 0.2; n++) {
      const { handle } = await make(vfs, `g${n}`)
      await vfs.write(handle, 0, textOf(n))
      await vfs.release(handle)
    }
    await rest()
    st.equal(await vfs.bodyMover.makeRoom(always), 'idle', `${inos.length} files less 40 %`)
  },
)

t.test('what takes more room as extents stays', async (st) => {
  const { vfs, volume, rest, bodies } = await small(st)
  const { ino, handle } = await make(vfs, 'scattered')
  for (let n = 0; n < 20; n++) await vfs.write(handle, 40 * n, Buffer.from('x'))
  await vfs.release(handle)
  await rest()
  await vfs.bodyMover.makeRoom(always)
  st.equal(bodies().length, 0)
  st.match(volume.inodes.get(ino)?.attr, { hasBody: true, hasExtents: false })
})

t.test('what lies below very many extents stays', async (st) => {
  const { vfs, volume, inos, bodies } = await small(st)
  const chunk = { id: 9_999, lengthBytes: 5_000, root: Buffer.alloc(32) }
  for (const [ino = 0, count] of [[inos[3], 5_000] as const, [inos[4], 50] as const]) {
    const inode = volume.inodes.get(ino)
    const above = Array.from({ length: count }, (_, n) => ({
      fileOffset: LENGTH + n,
      lengthBytes: 1,
      chunk,
      chunkOffset: n,
    }))
    inode?.windows.set(0, above)
    Object.assign(inode?.attr ?? {}, { hasExtents: true })
  }
  await vfs.bodyMover.makeRoom(always)
  st.same(bodies(), [inos[3]])
})

for (const code of ['ENOENT', 'EIO'] as const) {
  t.test(
    `a grown file that is ${code === 'EIO' ? 'damaged' : 'removed'} meanwhile keeps none from being moved`,
    async (st) => {
      const { vfs, volume, meta, inos, bodies } = await small(st)
      const inode = volume.inodes.get(inos[5] ?? 0)
      const chunk = { id: 9_999, lengthBytes: 50, root: Buffer.alloc(32) }
      inode?.windows.set(0, [{ fileOffset: LENGTH, lengthBytes: 50, chunk, chunkOffset: 0 }])
      Object.assign(inode?.attr ?? {}, { hasExtents: true })
      meta.before = (call) => {
        if (call === 'extents') throw new PosixError(code, 'for the test')
      }
      st.equal(await vfs.bodyMover.makeRoom(always), 'done')
      meta.before = () => undefined
      st.same(bodies(), [inos[5]])
    },
  )
}
