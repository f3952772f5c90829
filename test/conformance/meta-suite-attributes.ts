/** MetaStore: times, owners, modes and link counts as POSIX has them. */
import type { Test } from 'tap'
import type { TimeSpec } from '../../src/base/clock.js'
import { WINDOW_BYTES } from '../../src/base/limits.js'
import type { Attr } from '../../src/meta/contract.js'
import {
  ROOT,
  bytes,
  claim,
  isRefusedUnseen,
  makeDir,
  makeDirIn,
  newFile,
  touch,
  writeAt,
  type OpenVolume,
} from '../helpers/meta.js'

const OLD: TimeSpec = { sec: -5, nsec: 999_999_999 }
const FAR: TimeSpec = { sec: 2 ** 33, nsec: 1 }

/** Which of an inode's times a change has touched. */
function touched(before: Attr, after: Attr): string {
  const times = ['atime', 'mtime', 'ctime', 'btime'] as const
  return times
    .filter((time) => before[time].sec !== after[time].sec || before[time].nsec !== after[time].nsec)
    .join(' ')
}

export function attributeClaims(t: Test, open: OpenVolume): void {
  claim(
    t,
    open,
    'setattr changes what it is given and ctime, times before 1970 and after 2106 too',
    async (t, volume) => {
      const meta = await volume.client()
      const { ino } = await touch(meta, ROOT, 'file')
      const one = await meta.setattr(ino, { atime: OLD, mtime: FAR })
      t.same([one.atime, one.mtime], [OLD, FAR])
      const two = await meta.setattr(ino, { mode: 0o7777 })
      t.equal(two.mode, 0o7777)
      t.equal(touched(one, two), 'ctime')
      const three = await meta.setattr(ino, { mtime: 'now' })
      t.equal(touched(two, three), 'mtime ctime')
      const most = 2 ** 32 - 2
      t.match(await meta.setattr(ino, { uid: most, gid: most }), { uid: most, gid: most })
      t.match(await meta.getattr(ino), { uid: most, gid: most, mtime: three.mtime, atime: OLD })
    },
  )

  claim(t, open, 'chown clears suid, and sgid where the group may execute; not for directories', async (t, volume) => {
    const meta = await volume.client()
    const { ino } = await touch(meta, ROOT, 'file', newFile({ mode: 0o6755 }))
    t.match(await meta.setattr(ino, { uid: 5 }), { mode: 0o755, uid: 5, gid: 1000 })
    await meta.setattr(ino, { mode: 0o6745 })
    t.match(await meta.setattr(ino, { gid: 6 }), { mode: 0o2745 }, 'sgid without x for the group is no sgid')
    t.match(await meta.setattr(ino, { uid: 7, mode: 0o6755 }), { mode: 0o6755, uid: 7 }, 'a mode given with it stands')
    const dir = await makeDir(meta, ROOT, 'dir', 0o6775)
    t.match(await meta.setattr(dir.ino, { uid: 5, gid: 5 }), { mode: 0o6775 })
  })

  claim(t, open, 'a change that rests on an owner, group or mode of before is not made', async (t, volume) => {
    const [meta, other] = [await volume.client(), await volume.client()]
    const { ino } = await touch(meta, ROOT, 'file', newFile({ mode: 0o640 }))
    const seen = { uid: 1000, gid: 1000, mode: 0o640 }
    const change = { mode: 0o644, atime: OLD, mtime: FAR } as const
    for (const rest of [{ uid: 1000, gid: 1000 }, seen]) {
      await other.setattr(ino, { mode: 0o640 })
      t.match(await meta.setattr(ino, { ...change, seen: rest }), { ...change, uid: 1000 })
    }
    for (const given of [{ uid: 0 }, { gid: 0 }, { mode: 0o600 }]) {
      const before = await other.setattr(ino, { uid: 1000, gid: 1000, mode: 0o640, ...given })
      t.ok(await isRefusedUnseen(meta.setattr(ino, { mode: 0o4755, mtime: 'now', seen })))
      t.same(await meta.getattr(ino), before)
    }
    const { mode, ...owner } = seen
    t.match(await meta.setattr(ino, { mode: 0o644, seen: owner }), { mode: 0o644 }, 'any mode will do')
    await other.setattr(ino, { gid: 7 })
    t.match(await meta.setattr(ino, { mode: 0o604, seen: { uid: 1000 } }), { mode: 0o604, gid: 7 }, 'nor which group')
    t.ok(await isRefusedUnseen(meta.setattr(ino, { mode, seen: { uid: 7 } })))
    await other.setattr(ino, { uid: 0, gid: 0 })
    t.match(await meta.setattr(ino, { mode, seen: { uid: 0, gid: 0 } }), { mode }, 'judged anew it is another change')
  })

  claim(t, open, 'a cut is made with all that is changed beside it, or not at all', async (t, volume) => {
    const [meta, other] = [await volume.client(), await volume.client()]
    const { ino } = await touch(meta, ROOT, 'file', newFile({ mode: 0o6755 }))
    for (let i = 0; i < 80; i++) await writeAt(meta, ino, i * WINDOW_BYTES, 100)
    const seen = { uid: 1000, gid: 1000 }
    const change = { sizeBytes: 50, mode: 0o4644, mtime: OLD, dropPrivileges: true } as const
    const before = await other.setattr(ino, { gid: 5, mode: 0o6755 })
    t.ok(await isRefusedUnseen(meta.setattr(ino, { ...change, seen })))
    t.same(await meta.getattr(ino), before)
    await other.setattr(ino, { gid: 1000, mode: 0o6755 })
    const after = { sizeBytes: 50, allocatedBytes: 50, mode: 0o4644, mtime: OLD, uid: 1000 }
    t.match(await meta.setattr(ino, { ...change, seen }), after)
    t.match(await other.getattr(ino), after)
    // Also where it rests on what its first step changes.
    for (let i = 0; i < 80; i++) await writeAt(meta, ino, i * WINDOW_BYTES, 100)
    const { mode } = await other.setattr(ino, { mode: 0o6755 })
    const rest = { uid: 1000, gid: 1000, mode }
    const cut = { ...change, mode: 0o755, mtime: FAR, seen: rest }
    t.match(await meta.setattr(ino, cut), { ...after, mode: 0o755, mtime: FAR })
    await other.setattr(ino, { mode: 0o4644 })
    const given = { sizeBytes: 200, uid: 7, gid: 8 }
    t.match(await meta.setattr(ino, given), { ...given, mode: 0o644 })
  })

  claim(
    t,
    open,
    'what is made in a set-gid directory has its group, and a directory is set-gid itself',
    async (t, volume) => {
      const meta = await volume.client()
      const dir = await makeDir(meta, ROOT, 'dir', 0o2775)
      await meta.setattr(dir.ino, { gid: 77 })
      t.match(await touch(meta, dir.ino, 'file'), { gid: 77, uid: 1000, mode: 0o644 })
      const sub = await makeDir(meta, dir.ino, 'sub')
      t.match(sub, { gid: 77, mode: 0o2755 })
      t.match(await makeDir(meta, sub.ino, 'sub'), { gid: 77, mode: 0o2755 })
      await meta.setattr(dir.ino, { mode: 0o755 })
      t.match(await makeDir(meta, dir.ino, 'plain'), { gid: 1000, mode: 0o755 })
    },
  )

  claim(t, open, 'a directory has two links and one for each directory in it', async (t, volume) => {
    const meta = await volume.client()
    const dir = await makeDir(meta, ROOT, 'dir')
    t.match(dir, { nlink: 2, parent: ROOT, type: 'directory', sizeBytes: 4096 })
    await touch(meta, dir.ino, 'file')
    await makeDir(meta, dir.ino, 'sub')
    t.equal((await meta.getattr(dir.ino)).nlink, 3)
    t.equal((await meta.getattr(ROOT)).nlink, 3)
    await meta.rename(dir.ino, bytes('sub'), ROOT, bytes('sub'), {})
    t.equal((await meta.getattr(dir.ino)).nlink, 2)
    t.equal((await meta.getattr(ROOT)).nlink, 4)
    await makeDir(meta, dir.ino, 'sub')
    await meta.rename(ROOT, bytes('sub'), dir.ino, bytes('sub'), {})
    t.equal((await meta.getattr(dir.ino)).nlink, 3, 'one came over another')
    await meta.rmdir(dir.ino, bytes('sub'))
    t.equal((await meta.getattr(dir.ino)).nlink, 2)
    t.equal((await meta.getattr(ROOT)).nlink, 3)
  })

  for (const where of ['near', 'far'] as const) {
    claim(t, open, `each change of a name touches the times POSIX says, ${where}`, async (t, volume) => {
      const meta = await volume.client()
      const home = ROOT % meta.settings.partitions
      const dir = await makeDirIn(meta, ROOT, 'dir', where === 'near' ? { partition: home } : { not: home })
      const { ino } = await touch(meta, ROOT, 'file')
      const step = async (what: string, expected: string, work: () => Promise<unknown>): Promise<void> => {
        const before = await Promise.all([meta.getattr(dir.ino), meta.getattr(ino)])
        await work()
        const after = await Promise.all([meta.getattr(dir.ino), meta.getattr(ino)])
        t.equal(`${touched(before[0], after[0])} / ${touched(before[1], after[1])}`, expected, what)
      }
      await step('link', 'mtime ctime / ctime', () => meta.link(ino, dir.ino, bytes('two')))
      await step('unlink', 'mtime ctime / ctime', () => meta.unlink(dir.ino, bytes('two')))
      await step('create', 'mtime ctime / ', () => touch(meta, dir.ino, 'new'))
      await step('mkdir', 'mtime ctime / ', () => makeDir(meta, dir.ino, 'sub'))
      await step('rmdir', 'mtime ctime / ', () => meta.rmdir(dir.ino, bytes('sub')))
      await step('rename in', 'mtime ctime / ctime', () => meta.rename(ROOT, bytes('file'), dir.ino, bytes('file'), {}))
      await step('rename', 'mtime ctime / ctime', () => meta.rename(dir.ino, bytes('file'), dir.ino, bytes('f'), {}))
      await step('lookup', ' / ', () => meta.lookup(dir.ino, bytes('f')))
      await step('readdir', ' / ', () => meta.readdir(dir.ino, null, 10, true))
      // The time of the write, not of its commit: what its writer has shown since.
      await step('commit', ' / mtime', () => writeAt(meta, ino, 0, 10))
      const mtime = { sec: 4_000_000_000, nsec: 5 }
      const later = { extents: [], mode: 'at', allocatedDeltaBytes: 0, mtime } as const
      await step('later commit', ' / mtime ctime', () => meta.commit(ino, later))
      t.same((await meta.getattr(ino)).ctime, mtime)
      await step('truncate', ' / mtime ctime', () => meta.setattr(ino, { sizeBytes: 5 }))
    })
  }

  claim(t, open, 'a directory that is renamed gets a new ctime, wherever it goes', async (t, volume) => {
    const meta = await volume.client()
    const dir = await makeDir(meta, ROOT, 'dir')
    const other = await makeDir(meta, ROOT, 'other')
    await meta.rename(ROOT, bytes('dir'), ROOT, bytes('d'), {})
    const one = await meta.getattr(dir.ino)
    t.equal(touched(dir, one), 'ctime')
    await meta.rename(ROOT, bytes('d'), other.ino, bytes('d'), {})
    t.equal(touched(one, await meta.getattr(dir.ino)), 'ctime')
  })
}
