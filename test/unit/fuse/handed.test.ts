/** What the kernel was given with a lifetime is remembered within bounds, and directories have room when nothing else has. */
import t from 'tap'
import { silentLog } from '../../../src/base/log.js'
import { ROOT_INO } from '../../../src/base/limits.js'
import { Handed, LIFETIME_MAX_MS } from '../../../src/fuse/kernel/handed.js'
import { Invalidations } from '../../../src/fuse/kernel/invalidations.js'
import { Notifier, type NotifierThreads } from '../../../src/fuse/kernel/notifier.js'
import { ManualClock } from '../../helpers/manual-clock.js'
import { CALLER, fixture } from '../../helpers/vfs-fixture.js'

/** More than fit into a generation. */
const FILES = 70_000

t.test('what does not fit into a generation gets no lifetime until the next', (t) => {
  const handed = new Handed<number>(10, 2)
  t.same(
    [1, 2, 3, 1].map((key) => handed.add(key, { atMs: 0 })),
    [true, true, false, true],
  )
  t.ok(handed.add(4, { atMs: 9 }, true), 'but what paths go through')
  t.notOk(handed.add(3, { atMs: 9 }))
  t.ok(handed.add(3, { atMs: 10 }))
  t.same([...handed.keys(10)].sort(), [1, 2, 3, 4])
  t.same(handed.last(1, 10), { atMs: 0 })
  t.same([...handed.keys(20)], [3])
  t.end()
})

t.test('directories and symlinks get lifetimes when more files were given out than there is room for', async (t) => {
  const { vfs } = fixture(t)
  const file = await vfs.mknod(CALLER, ROOT_INO, Buffer.from('file'), 0o644, 0)
  const directory = await vfs.mkdir(CALLER, ROOT_INO, Buffer.from('dir'), 0o755)
  const clock = new ManualClock()
  const start = (): NotifierThreads => ({ send: () => undefined, close: () => undefined })
  const notifier = new Notifier({ start, clock, log: silentLog, isInUse: () => false })
  const told = new Invalidations({
    clock,
    notifier,
    hasPages: () => false,
    withPages: () => [],
    isAsked: () => false,
    hasNested: () => false,
  })
  let kept = 0
  for (let i = 0; i < FILES; i++) {
    const attr = { ...file, ino: 1_000 + i }
    const isKept = told.answered(attr, true)
    if (told.named(ROOT_INO, Buffer.from(`f${i}`), attr) !== isKept) t.fail(`name ${i}`)
    if (isKept) kept++
  }
  t.ok(kept > 1_000 && kept < FILES, `${kept} of ${FILES}`)
  t.ok(told.answered(directory, true))
  t.ok(told.named(ROOT_INO, Buffer.from('dir'), directory))
  t.notOk(told.answered(file, true))
  await clock.pass(LIFETIME_MAX_MS)
  t.ok(told.answered(file, true), 'in the next generation there is room')
})
