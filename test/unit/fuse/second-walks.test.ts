/** What second walks may take, all together. */
import t from 'tap'
import { SecondWalks } from '../../../src/fuse/kernel/second-walks.js'
import { ManualClock } from '../../helpers/manual-clock.js'
import { CALLER, fixture, make } from '../../helpers/vfs-fixture.js'

const SHORT = 1
const STALE = 7

t.test('many threads that look at very much take a bounded room, and others are led on', async (t) => {
  const { vfs } = fixture(t)
  const { ino } = await make(vfs, 'file')
  const attr = await vfs.getattr(CALLER, ino)
  for (const type of ['directory', 'file'] as const) {
    let pinned = 0
    const walks = new SecondWalks(new ManualClock(), {
      pin: async () => {
        await Promise.resolve()
        pinned++
      },
      unpin: () => {
        pinned--
      },
    })
    t.teardown(() => walks.close())
    const find = (thread: number, at: number): Promise<boolean> => walks.found(thread, { ...attr, type, ino: at })
    walks.begin(SHORT, STALE)
    for (let at = 1; at <= 3; at++) await find(SHORT, at)
    const [threads, names] = type === 'directory' ? [50, 4_000] : [200, 90]
    for (let thread = SHORT + 1; thread <= threads; thread++) {
      walks.begin(thread, STALE)
      for (let at = 1; at <= names; at++) await find(thread, at)
    }
    const left = Array.from({ length: threads }, (_, i) => i + 1).filter((thread) => walks.has(thread))
    t.ok(left.length * names <= (type === 'directory' ? 110_000 : 11_000), `${left.length} of ${threads} with ${type}`)
    t.ok(walks.ledTo(SHORT, 3) && !walks.ledTo(SHORT, STALE), 'a short one goes on')
    if (type === 'file') t.ok(pinned <= 10_000, `${pinned} are pinned`)
    walks.close()
    t.equal(pinned, 0)
  }
})
