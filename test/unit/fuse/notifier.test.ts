/** The way of notifications, with threads that a test plays. */
import { setImmediate as turn } from 'node:timers/promises'
import t from 'tap'
import { silentLog } from '../../../src/base/log.js'
import { Notifier } from '../../../src/fuse/kernel/notifier.js'
import { encodeIncEpoch, encodeInvalAttr, encodeInvalData, encodeInvalEntry } from '../../../src/fuse/kernel/notify.js'
import { FakeThreads } from '../../helpers/cache-peer.js'
import { ManualClock } from '../../helpers/manual-clock.js'

function setUp(): { threads: FakeThreads; notifier: Notifier; clock: ManualClock; inUse: Set<number> } {
  const threads = new FakeThreads()
  threads.isQuick = false
  const clock = new ManualClock()
  const inUse = new Set<number>()
  const options = { start: threads.start, clock, log: silentLog, isInUse: (node: number) => inUse.has(node) }
  return { threads, clock, inUse, notifier: new Notifier(options) }
}

const postAttr = (notifier: Notifier, ino: number): void => {
  notifier.post('attr', ino, ino, encodeInvalAttr(ino))
}
const postData = (notifier: Notifier, ino: number): void => {
  notifier.post('data', ino, ino, encodeInvalData(ino))
}

t.test('a notification has no request, its code in place of the error, and the body of linux/fuse.h', async (t) => {
  const hex = (bytes: Buffer): string => bytes.toString('hex')
  const number = '0000000000000000'
  t.equal(hex(encodeInvalAttr(0x102)), `2800000002000000${number}0201000000000000ffffffffffffffff${number}`)
  t.equal(hex(encodeInvalData(5)), `2800000002000000${number}0500000000000000${number}${number}`)
  t.equal(
    hex(encodeInvalEntry(1, Buffer.from([0xff, 0x2e]))),
    `2300000003000000${number}0100000000000000` + '0200000000000000ff2e00',
  )
  t.equal(hex(encodeIncEpoch()), `1000000008000000${number}`)
})

t.test('the same notice is queued once while no thread has it, and written once more when one had it', async (t) => {
  const { threads, notifier } = setUp()
  for (let ino = 0; ino < 256; ino++) postAttr(notifier, 1_000 + ino)
  postAttr(notifier, 5)
  postAttr(notifier, 5)
  threads.take()
  threads.end('attr 1000')
  t.same(threads.take(), ['attr 5'], 'no more at once than a window')
  postAttr(notifier, 5)
  postAttr(notifier, 5)
  threads.end('attr 5')
  t.same(threads.take(), ['attr 5'], 'what was posted while it was written is not lost')
  threads.end('attr 5')
  t.same(threads.take(), [])
  t.ok(notifier.isSettled('attr', 5))
})

t.test(
  'a directory in use is spared until it is quiet, and then there is another way, or a thread waits',
  async (t) => {
    const { threads, notifier, clock, inUse } = setUp()
    const post = (): void => {
      notifier.post('entry', '9/a', 9, encodeInvalEntry(9, Buffer.from('a')))
    }
    inUse.add(9)
    post()
    await clock.pass(4)
    t.same(threads.take(), [])
    inUse.delete(9)
    await clock.pass(2)
    t.same(threads.take(), ['entry 9/a'])
    threads.end('entry 9/a')
    inUse.add(9)
    post()
    await clock.pass(8)
    t.same(threads.take(), [])
    await clock.pass(4)
    t.same(threads.take(), ['entry 9/a'])
    threads.end('entry 9/a')
    let overdue = 0
    notifier.overdue = () => {
      overdue++
      return true
    }
    post()
    await clock.pass(12)
    t.same(threads.take(), [])
    t.equal(overdue, 1)
    t.ok(notifier.isSettled('entry', '9/a'))
  },
)

t.test('everybody who posted the same notice is told of it', async (t) => {
  const { threads, notifier } = setUp()
  const told: string[] = []
  const post = (who: string): void => {
    notifier.post('attr', 5, 5, encodeInvalAttr(5), (errno) => told.push(`${who} ${errno}`))
  }
  post('ann')
  postAttr(notifier, 5)
  post('bob')
  threads.take()
  threads.end('attr 5')
  threads.take()
  threads.end('attr 5')
  t.same(told, ['ann 0', 'bob 0'])
  told.length = 0
  post('cleo')
  post('dora')
  t.same(told, [])
  threads.take()
  threads.end('attr 5')
  threads.take()
  threads.end('attr 5')
  t.same(told, ['cleo 0', 'dora 0'], 'once')
})

const postEntry = (notifier: Notifier, parent: number): void => {
  notifier.post('entry', `${parent}/a`, parent, encodeInvalEntry(parent, Buffer.from('a')))
}

t.test('directories that hang one and all hold up no other: what no thread comes to goes another way', async (t) => {
  const { threads, notifier, clock } = setUp()
  let overdue = 0
  notifier.overdue = () => {
    overdue++
    return true
  }
  for (const parent of [1, 2, 3, 4]) postEntry(notifier, parent)
  await clock.pass(1_000)
  t.equal(overdue, 0, 'nobody waits for them')
  postEntry(notifier, 5)
  t.notOk(notifier.isSettled('entry', '5/a'))
  await clock.pass(40)
  t.ok(notifier.isSettled('entry', '5/a'))
  t.equal(overdue, 1)
  await clock.pass(1_000)
  t.equal(overdue, 1, 'once is enough')
  postEntry(notifier, 6)
  await clock.pass(40)
  t.ok(notifier.isSettled('entry', '6/a'))
  t.equal(overdue, 2)
  for (const parent of [1, 2, 3, 4, 5, 6]) threads.end(`entry ${parent}/a`)
  threads.take()
  postEntry(notifier, 7)
  await clock.pass(40)
  t.same([threads.take(), overdue], [['entry 7/a'], 2], 'the threads are back')
})

t.test('threads that are only busy are waited for', async (t) => {
  const { threads, notifier, clock } = setUp()
  let overdue = 0
  notifier.overdue = () => {
    overdue++
    return true
  }
  const parents = Array.from({ length: 40 }, (_, index) => index + 1)
  for (const parent of parents) postEntry(notifier, parent)
  for (const parent of parents) {
    await clock.pass(5)
    threads.end(`entry ${parent}/a`)
  }
  t.equal(overdue, 0)
})

t.test('where there is no other way, directories in use do not take all threads', async (t) => {
  const { threads, notifier, clock, inUse } = setUp()
  for (const parent of [1, 2, 3, 4, 5]) {
    inUse.add(parent)
    postEntry(notifier, parent)
  }
  await clock.pass(100)
  t.same(threads.take(), ['entry 1/a', 'entry 2/a'])
  postEntry(notifier, 9)
  t.same(threads.take(), ['entry 9/a'])
  threads.end('entry 9/a')
  threads.end('entry 1/a')
  await clock.pass(2)
  t.same(threads.take(), ['entry 3/a'], 'one after the other')
  inUse.delete(4)
  await clock.pass(2)
  t.same(threads.take(), ['entry 4/a'], 'and who is free at once')
})

t.test('attributes are never held back, whoever uses the inode', async (t) => {
  const { threads, notifier, inUse } = setUp()
  inUse.add(9)
  postAttr(notifier, 9)
  t.same(threads.take(), ['attr 9'])
})

t.test('who waits for a notice hears when it is written, even if it failed', async (t) => {
  const { threads, notifier } = setUp()
  postData(notifier, 9)
  let isDone = false
  const done = notifier.settled('data', 9).then((isWritten) => {
    isDone = true
    return isWritten
  })
  await turn()
  t.equal(isDone, false)
  threads.end('data 9', 2)
  t.equal(await done, true)
  t.ok(notifier.isSettled('data', 9))
  t.equal(await notifier.settled('data', 9), true)
})

t.test('pages in use are left alone for as long as they are, and who waits for them is told so', async (t) => {
  const { threads, notifier, clock, inUse } = setUp()
  inUse.add(9)
  postData(notifier, 9)
  t.equal(await notifier.settled('data', 9), false)
  await clock.pass(60_000)
  t.same(threads.take(), [])
  inUse.delete(9)
  await clock.pass(2)
  t.same(threads.take(), ['data 9'])
})

t.test('who waits for pages that are used again before they are dropped is told so, too', async (t) => {
  const { threads, notifier, clock, inUse } = setUp()
  postData(notifier, 9)
  postData(notifier, 9)
  const settled = notifier.settled('data', 9)
  inUse.add(9)
  threads.end('data 9')
  t.equal(await settled, false, 'what was posted last is not written')
  inUse.delete(9)
  await clock.pass(2)
  t.same(threads.take(), ['data 9', 'data 9'])
})

t.test('who must have pages in use dropped waits until they are; a thread is kept for others', async (t) => {
  const { threads, notifier, clock, inUse } = setUp()
  const written: number[] = []
  const press = (ino: number): void => void notifier.written('data', ino).then(() => written.push(ino))
  for (const ino of [8, 9]) {
    inUse.add(ino)
    postData(notifier, ino)
    press(ino)
  }
  await clock.pass(10)
  t.same(threads.take(), ['data 8'])
  postData(notifier, 1)
  t.same(threads.take(), ['data 1'])
  postData(notifier, 8)
  press(8)
  threads.end('data 8')
  await clock.pass(2)
  t.same(written, [8], 'who came later waits for what was posted later')
  t.same(threads.take(), ['data 9'])
  threads.end('data 9')
  await clock.pass(2)
  t.same(threads.take(), ['data 8'])
  threads.end('data 8')
  await turn()
  t.same(written, [8, 9, 8])
  await notifier.written('data', 9)
  postData(notifier, 9)
  const waits = notifier.written('data', 9)
  notifier.close()
  await waits
})

t.test('one thread that waits in the kernel holds up no other notice', async (t) => {
  const { threads, notifier } = setUp()
  postData(notifier, 1)
  postData(notifier, 2)
  postAttr(notifier, 1)
  t.same(threads.take(), ['data 1', 'data 2', 'attr 1'])
  threads.end('data 2')
  threads.end('attr 1')
  t.ok(notifier.isSettled('data', 2))
  t.notOk(notifier.isSettled('data', 1))
})

t.test('the end of the mount lets go of who waits, and nothing is written after it', async (t) => {
  const { threads, notifier } = setUp()
  postData(notifier, 1)
  const waits = notifier.settled('data', 1)
  notifier.close()
  await waits
  t.ok(threads.isClosed)
  threads.take()
  postData(notifier, 2)
  t.same(threads.take(), [])
  threads.end('data 1', 19)
  await notifier.settled('data', 1)
})
