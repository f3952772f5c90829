/** What the kernel is told, and what is noted of that. */
import t from 'tap'
import { ROOT_INO } from '../../../src/base/limits.js'
import { silentLog } from '../../../src/base/log.js'
import { Invalidations } from '../../../src/fuse/kernel/invalidations.js'
import { KernelView } from '../../../src/fuse/kernel/kernel-view.js'
import { Notifier } from '../../../src/fuse/kernel/notifier.js'
import { FakeThreads } from '../../helpers/cache-peer.js'
import { ManualClock } from '../../helpers/manual-clock.js'
import { CALLER, fixture, make } from '../../helpers/vfs-fixture.js'

const THREAD = 7
const ENOENT = 2

t.test('however often a file is changed while it is read, the end of its notice is noted once, for all', async (t) => {
  const { vfs } = fixture(t)
  const { ino } = await make(vfs, 'file')
  const attr = await vfs.getattr(CALLER, ino)
  const clock = new ManualClock()
  const threads = new FakeThreads()
  let isRead = true
  const notifier = new Notifier({ start: threads.start, clock, log: silentLog, isInUse: () => isRead })
  const posted = t.capture(notifier, 'post', notifier.post.bind(notifier))
  const view = new KernelView(clock)
  const told = new Invalidations({
    clock,
    notifier,
    view,
    hasPages: () => true,
    withPages: () => [ino],
    isAsked: () => false,
    hasNested: () => false,
  })
  view.answered(attr, true, THREAD)
  await clock.pass(100)
  told.drop(ino, true, true)
  for (let i = 0; i < 100; i++) told.add({ kind: 'data', ino })
  const data = posted().filter(({ args }) => args[0] === 'data')
  t.equal(data.length, 101)
  t.equal(data.filter(({ args }) => args[4] !== undefined).length, 1, 'nothing gathers')
  await clock.pass(5_000)
  isRead = false
  await clock.pass(10)
  t.ok(threads.take().includes(`data ${ino}`))
  view.answered(attr, true, THREAD)
  t.ok(told.mayEndEarly(ino, attr.dataVersion, THREAD), 'one of them was about a change by others')
  await clock.pass(100)
  told.add({ kind: 'data', ino })
  t.type(posted().at(-1)?.args[4], 'function', 'and the next is noted again')
  told.close()
  notifier.close()
})

t.test(
  'however often a name is changed while its directory is in use, it is noted once to be told again',
  async (t) => {
    const { vfs } = fixture(t)
    const { ino } = await make(vfs, 'file')
    const attr = await vfs.getattr(CALLER, ino)
    const name = Buffer.from('file')
    const clock = new ManualClock()
    const threads = new FakeThreads()
    let isUsed = true
    threads.isQuick = false
    const notifier = new Notifier({ start: threads.start, clock, log: silentLog, isInUse: () => isUsed })
    const posted = t.capture(notifier, 'post', notifier.post.bind(notifier))
    const view = new KernelView(clock)
    const told = new Invalidations({
      clock,
      notifier,
      view,
      hasPages: () => false,
      withPages: () => [],
      isAsked: () => false,
      hasNested: () => true,
    })
    view.answered(attr, true, THREAD)
    const change = (): void => {
      view.named(ROOT_INO, name, attr)
      told.add({ kind: 'entry', parent: ROOT_INO, name })
    }
    for (let i = 0; i < 100; i++) change()
    const entries = posted().filter(({ args }) => args[0] === 'entry')
    t.equal(entries.length, 100)
    t.equal(entries.filter(({ args }) => args[4] !== undefined).length, 1, 'nothing gathers')
    isUsed = false
    await clock.pass(10)
    threads.end(`entry ${ROOT_INO}/file`, ENOENT)
    change()
    t.type(posted().at(-1)?.args[4], 'function', 'and the next is noted again')
    told.close()
    notifier.close()
  },
)
