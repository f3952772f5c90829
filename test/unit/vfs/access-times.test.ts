/** Which reads change access times, when that is sent, and what it never overwrites. */
import t, { type Test } from 'tap'
import type { Clock, TimeSpec } from '../../../src/base/clock.js'
import { ROOT_INO } from '../../../src/base/limits.js'
import type { VfsContract } from '../../../src/vfs/contract.js'
import {
  CALLER,
  Gate,
  O_CREAT,
  O_RDWR,
  fixture,
  settle,
  type Fixture,
  type Mounted,
  type MountedOptions,
} from '../../helpers/vfs-fixture.js'

const O_RDONLY = 0
const O_WRONLY = 1
const O_NOATIME = 0o1000000
/** The store's time stands still, long before the reader's. */
const STORED: TimeSpec = { sec: 1_600_000_000, nsec: 5 }
const storeClock: Clock = {
  now: () => STORED,
  monotonicMs: () => 0,
  wallMs: () => 0,
  sleep: () => Promise.resolve(),
  after: (ms, work) => setTimeout(work, ms),
}
const OLD: TimeSpec = { sec: 1, nsec: 2 }

interface Ground extends Fixture {
  readonly reader: Mounted
  readonly ino: number
}

/** A file, and a reader who did not make it. */
async function ground(t: Test, options: MountedOptions = {}): Promise<Ground> {
  const made = fixture(t, { clock: storeClock })
  const { attr, handle } = await made.vfs.create(CALLER, ROOT_INO, Buffer.from('file'), 0o644, O_RDWR | O_CREAT)
  await made.vfs.write(handle, 0, Buffer.from('bytes'))
  await made.vfs.release(handle)
  // The writer's clock runs ahead of the store's: back to where ctime is.
  await made.vfs.setattr(CALLER, attr.ino, { mtime: STORED, atime: STORED })
  const reader = made.another(options)
  await reader.meta.delivered()
  return { ...made, reader, ino: attr.ino }
}

async function read(vfs: VfsContract, ino: number, flags = O_RDONLY): Promise<void> {
  const { handle } = await vfs.open(CALLER, ino, flags)
  await vfs.read(handle, 0, 10)
  await vfs.release(handle)
}

async function atime(vfs: VfsContract, ino: number): Promise<number> {
  return (await vfs.getattr(CALLER, ino)).atime.sec
}

const touches = ({ reader }: Ground): number => reader.meta.calls.get('touch') ?? 0

t.test('a read is shown at once, soon elsewhere, and the next one does not count', async (st) => {
  const here = await ground(st)
  const { reader, vfs, ino } = here
  const { handle } = await reader.vfs.open(CALLER, ino, O_RDONLY)
  await reader.vfs.read(handle, 0, 10)
  st.ok((await atime(reader.vfs, ino)) > STORED.sec, 'here')
  st.equal((await reader.vfs.getattr(CALLER, ino)).ctime.sec, STORED.sec, 'ctime stays')
  await settle()
  await here.reader.meta.delivered()
  st.ok((await atime(vfs, ino)) > STORED.sec, 'elsewhere')
  st.equal(touches(here), 1)
  const shown = await atime(reader.vfs, ino)
  await reader.vfs.read(handle, 0, 10)
  await settle()
  st.equal(touches(here), 1)
  st.equal(await atime(reader.vfs, ino), shown)
  await reader.vfs.release(handle)
})

t.test('what is due: older than a change, or a day old', async (st) => {
  const here = await ground(st)
  const { reader, ino } = here
  const now = 1_700_000_000
  const cases: [string, number, boolean][] = [
    ['as old as the change', STORED.sec, true],
    ['older than the change', 5, true],
    ['an hour old', now - 3_600, false],
    ['a day old', now - 24 * 3_600, true],
    ['in the future', now * 2, false],
  ]
  for (const [what, sec, isDue] of cases) {
    await reader.vfs.setattr(CALLER, ino, { atime: { sec, nsec: 5 } })
    const before = touches(here)
    const { handle, atimeDue } = await reader.vfs.open(CALLER, ino, O_RDONLY)
    st.equal(atimeDue, isDue, `${what}: whether the page cache may answer`)
    await reader.vfs.read(handle, 0, 1)
    await reader.vfs.release(handle)
    await settle()
    st.equal(touches(here) - before, isDue ? 1 : 0, what)
    st.equal((await atime(reader.vfs, ino)) !== sec, isDue, what)
  }
})

t.test('noatime, a read-only mount and O_NOATIME leave it', async (st) => {
  for (const options of [{ atime: 'noatime' }, { readOnly: true }, {}] as const) {
    const here = await ground(st, options)
    const { reader, ino } = here
    const flags = 'atime' in options || 'readOnly' in options ? O_RDONLY : O_NOATIME
    const { handle, atimeDue } = await reader.vfs.open(CALLER, ino, flags)
    st.equal(atimeDue, false)
    await reader.vfs.read(handle, 0, 10)
    await reader.vfs.release(handle)
    await settle()
    st.equal(touches(here), 0, JSON.stringify(options))
    st.equal(await atime(reader.vfs, ino), STORED.sec)
  }
})

t.test('strictatime: every read counts, none of nothing does', async (st) => {
  const here = await ground(st, { atime: 'strictatime' })
  const { reader, ino } = here
  await read(reader.vfs, ino)
  await settle()
  const { handle } = await reader.vfs.open(CALLER, ino, O_RDONLY)
  await reader.vfs.read(handle, 0, 0)
  await settle()
  st.equal(touches(here), 1)
  await reader.vfs.read(handle, 0, 1)
  await settle()
  st.equal(touches(here), 2)
  await reader.vfs.release(handle)
})

t.test('directories and symlinks: readdir and readlink count, with nodiratime only readlink', async (st) => {
  for (const nodiratime of [false, true]) {
    const here = await ground(st, { nodiratime })
    const { reader, vfs } = here
    const { ino: link } = await vfs.symlink(CALLER, ROOT_INO, Buffer.from('link'), Buffer.from('file'))
    await reader.meta.delivered()
    const directory = await reader.vfs.opendir(CALLER, ROOT_INO)
    await reader.vfs.readdir(directory, 0n, 10, false)
    reader.vfs.releasedir(directory)
    await reader.vfs.lookup(CALLER, ROOT_INO, Buffer.from('link'))
    await reader.vfs.readlink(CALLER, link)
    st.equal((await atime(reader.vfs, ROOT_INO)) > STORED.sec, !nodiratime)
    st.ok((await atime(reader.vfs, link)) > STORED.sec)
  }
})

t.test('open says whether the page cache may answer: not a handle that cannot read', async (st) => {
  const { reader, ino } = await ground(st)
  for (const [flags, due] of [
    [O_WRONLY, false],
    [O_RDWR, true],
    [O_RDONLY, true],
  ] as const) {
    const { handle, atimeDue } = await reader.vfs.open(CALLER, ino, flags)
    st.equal(atimeDue, due)
    await reader.vfs.release(handle)
  }
  await read(reader.vfs, ino)
  const { handle, atimeDue } = await reader.vfs.open(CALLER, ino, O_RDONLY)
  st.equal(atimeDue, false, 'once it was read')
  await reader.vfs.release(handle)
})

t.test('reads of many files are sent together, and leave what is cached of them', async (st) => {
  const here = await ground(st)
  const { reader, vfs } = here
  const inos: number[] = []
  for (let i = 0; i < 30; i++) {
    inos.push((await vfs.mknod(CALLER, ROOT_INO, Buffer.from(`f${i}`), 0o100644, 0)).ino)
  }
  await reader.meta.delivered()
  const handles = await Promise.all(inos.map((ino) => reader.vfs.open(CALLER, ino, O_RDONLY)))
  for (const { handle } of handles) await reader.vfs.read(handle, 0, 10)
  await reader.vfs.syncAll(false)
  st.equal(touches(here), 1)
  const asked = reader.meta.calls.get('getattr')
  for (const ino of inos) st.ok((await atime(reader.vfs, ino)) > STORED.sec)
  st.equal(reader.meta.calls.get('getattr'), asked)
  for (const { handle } of handles) await reader.vfs.release(handle)
})

t.test('a time that is set after a read stays, whether the read waits, is on its way, or is lost', async (st) => {
  const here = await ground(st)
  const { reader, ino } = here
  await read(reader.vfs, ino)
  await reader.vfs.setattr(CALLER, ino, { atime: OLD })
  await settle()
  st.equal(await atime(reader.vfs, ino), OLD.sec, 'waiting')
  const gate = new Gate()
  const held = new Gate()
  reader.meta.before = (call) => {
    if (call !== 'touch') return undefined
    held.open()
    return gate.passed
  }
  await read(reader.vfs, ino)
  await held.passed
  // As tar does that puts back the time that it found.
  const set = reader.vfs.setattr(CALLER, ino, { atime: OLD })
  await settle()
  gate.open()
  await set
  await settle()
  st.equal(await atime(reader.vfs, ino), OLD.sec, 'on its way')
  reader.meta.before = (call) => {
    if (call === 'touch') throw new Error('the store is away')
  }
  await read(reader.vfs, ino)
  await settle()
  reader.meta.before = () => undefined
  st.equal(await atime(reader.vfs, ino), OLD.sec, 'lost')
})

t.test('a time that another client sets after the read stays', async (st) => {
  const here = await ground(st)
  const { reader, vfs, ino } = here
  const gate = new Gate()
  reader.meta.before = (call) => (call === 'touch' ? gate.passed : undefined)
  await read(reader.vfs, ino)
  await vfs.setattr(CALLER, ino, { atime: OLD })
  await reader.meta.delivered()
  st.equal(await atime(reader.vfs, ino), OLD.sec, 'and is shown')
  gate.open()
  await settle()
  st.equal(await atime(vfs, ino), OLD.sec)
})

t.test('what waits is sent at shutdown', async (st) => {
  const here = await ground(st)
  const { handle } = await here.reader.vfs.open(CALLER, here.ino, O_RDONLY)
  await here.reader.vfs.read(handle, 0, 10)
  await here.reader.vfs.shutdown()
  st.equal(touches(here), 1)
  await here.reader.meta.delivered()
  st.ok((await atime(here.vfs, here.ino)) > STORED.sec)
})
