/** What the kernel goes by, of what was answered to it. */
import t, { type Test } from 'tap'
import { ROOT_INO } from '../../../src/base/limits.js'
import { LIFETIME_MAX_MS } from '../../../src/fuse/kernel/handed.js'
import { KernelView } from '../../../src/fuse/kernel/kernel-view.js'
import type { Attr } from '../../../src/vfs/contract.js'
import { ManualClock } from '../../helpers/manual-clock.js'
import { CALLER, fixture, make } from '../../helpers/vfs-fixture.js'

/** More than fit into a generation. */
const FILES = 70_000
const THREAD = 7
const NAME = Buffer.from('name')

t.test('directories and symlinks get lifetimes when more files were given out than there is room for', async (t) => {
  const { vfs } = fixture(t)
  const file = await vfs.mknod(CALLER, ROOT_INO, Buffer.from('file'), 0o644, 0)
  const directory = await vfs.mkdir(CALLER, ROOT_INO, Buffer.from('dir'), 0o755)
  const clock = new ManualClock()
  const view = new KernelView(clock)
  let kept = 0
  for (let i = 0; i < FILES; i++) {
    const attr = { ...file, ino: 1_000 + i }
    const isKept = view.answered(attr, true)
    if (view.named(ROOT_INO, Buffer.from(`f${i}`), attr) !== isKept) t.fail(`name ${i}`)
    if (isKept) kept++
  }
  t.ok(kept > 1_000 && kept < FILES, `${kept} of ${FILES}`)
  t.ok(view.answered(directory, true))
  t.ok(view.named(ROOT_INO, Buffer.from('dir'), directory))
  t.notOk(view.answered(file, true))
  await clock.pass(LIFETIME_MAX_MS)
  t.ok(view.answered(file, true), 'in the next generation there is room')
})

async function oneFile(t: Test): Promise<{ clock: ManualClock; view: KernelView; attr: Attr }> {
  const { vfs } = fixture(t)
  const { ino } = await make(vfs, 'file')
  const clock = new ManualClock()
  return { clock, view: new KernelView(clock), attr: await vfs.getattr(CALLER, ino) }
}

t.test('what was given with a lifetime holds until it has run out, or a notice ends it', async (t) => {
  const { clock, view, attr } = await oneFile(t)
  const { ino } = attr
  t.equal(view.held(ino), undefined)
  view.answered(attr, false, THREAD)
  t.equal(view.held(ino), undefined, 'without a lifetime')
  view.answered(attr, true, THREAD)
  view.answered({ ...attr, mode: 0o600 }, false, THREAD)
  t.equal(view.held(ino)?.mode, attr.mode, 'one without a lifetime does not end it')
  const given = view.lastAttr(ino)
  if (given !== undefined) view.overtaken(given, true)
  t.equal(view.held(ino), undefined, 'a notice does')
  view.answered(attr, true, THREAD)
  await clock.pass(2 * LIFETIME_MAX_MS)
  t.equal(view.lastAttr(ino), undefined, 'time does')
})

t.test('whose size the kernel knows: writes through it go on from there, those of others do not', async (t) => {
  const { view, attr } = await oneFile(t)
  const { ino, dataVersion } = attr
  view.answered(attr, true, THREAD)
  view.committed(ino, dataVersion + 1)
  t.ok(view.wasToldSizeOf(ino, dataVersion + 1))
  view.committed(ino, dataVersion + 3)
  t.ok(view.isSizeOf(ino, dataVersion + 1), 'one came between')
  t.notOk(view.isSizeOf(ino, dataVersion + 3))
  const given = view.lastAttr(ino)
  if (given !== undefined) view.overtaken(given, false)
  t.ok(view.hasOldSize(ino))
  view.cut(ino, dataVersion + 4)
  t.notOk(view.hasOldSize(ino))
  t.ok(view.wasToldSizeOf(ino, dataVersion + 4))
})

t.test('a name that moved means what the old one meant, and is remembered behind it', async (t) => {
  const { view, attr } = await oneFile(t)
  const [from, to] = [
    { parent: ROOT_INO, name: NAME },
    { parent: 5, name: Buffer.from([0xff, 0x2f]) },
  ]
  view.answered(attr, true, THREAD)
  view.named(from.parent, from.name, attr)
  view.named(to.parent, to.name, null)
  t.same([view.meaning(from), view.meaning(to)], [attr.ino, 0])
  const given = view.lastEntry(from)
  t.ok(given !== undefined && view.moved(from, given, to, view.lastEntry(to)))
  t.equal(view.meaning(to), attr.ino)
  t.same(view.lastEntry(from)?.movedTo, to)
  t.same([...view.names()], [from, to], 'names are bytes')
})

t.test('a way is held only if all directories on it are, and none is unknown', async (t) => {
  const { view, attr } = await oneFile(t)
  const asked: number[] = []
  const holds = (directory: number): boolean => asked.push(directory) > 0 && directory !== 6
  view.answered(attr, true, THREAD)
  view.cameBy(5, attr.ino)
  t.notOk(view.isWayHeld(attr.ino, holds), 'by which way the kernel came to 5 is not known')
  view.answered({ ...attr, ino: 5, type: 'directory' }, true, THREAD)
  view.cameBy(ROOT_INO, 5)
  t.ok(view.isWayHeld(attr.ino, holds))
  t.same(asked, [5, 5, ROOT_INO])
  view.cameBy(6, 5)
  t.notOk(view.isWayHeld(attr.ino, holds), 'there are two ways to 5')
})
