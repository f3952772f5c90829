/** Which files a session has open, over the end of the session: nothing but the requests that are sent. */
import t, { type Test } from 'tap'
import { systemClock } from '../../../src/base/clock.js'
import { silentLog } from '../../../src/base/log.js'
import type { Core } from '../../../src/meta/core.js'
import { Openers } from '../../../src/meta/openers.js'
import { Reply } from '../../../src/meta/reply.js'
import { until } from '../../helpers/deadline.js'

const PER_PARTITION = 1_000

interface Sent {
  readonly openers: Openers
  /**
   * `by`: what every change of partition 0 waits for that is not a registration; its failure is that of the change. `register`: the same
   * for registrations.
   */
  readonly held: { by?: Promise<void>; register?: Promise<void> }
  readonly sent: unknown[][]
  /** Set: changes that were under way before. */
  readonly older: { past?: Promise<void> }
  /** Another session from now on; what was begun goes on. */
  readonly replace: () => void
}

function openers(t: Test): Sent {
  const sent: unknown[][] = []
  const older: Sent['older'] = {}
  const session = { id: 1, past: () => older.past }
  const held: Sent['held'] = {}
  const change: Core['change'] = async (script, p, _keys, args) => {
    sent.push([script.name, session.id, ...args])
    if (script.name === 'register') await held.register
    else if (p === 0) await held.by
    return new Reply([0])
  }
  const parts: Partial<Core> = { change }
  const core = Object.assign(parts, {
    session,
    keys: { home: (ino: number) => Math.floor(ino / PER_PARTITION) },
    options: { clock: systemClock, log: silentLog },
  }) as unknown as Core
  const made = new Openers(core)
  t.teardown(() => made.stop())
  return { openers: made, sent, held, older, replace: () => (session.id += 1) }
}

const registers = (): Promise<void> => Promise.resolve()

t.test('what is opened without asking in a new session is registered, whatever the old one had told', async (t) => {
  const { openers: all, sent, replace } = openers(t)
  await all.open(7, registers)
  all.close(7)
  all.ended()
  replace()
  all.openHeld(7)
  await all.pay(0, 99)
  t.same(sent, [['register', 2, 99, 7]])
})

t.test(
  'what stays open over the end of a session is registered with the next, also if nobody does it at once',
  async (t) => {
    const { openers: all, sent, replace } = openers(t)
    await all.open(7, registers)
    await all.open(8, registers)
    all.ended()
    replace()
    all.registered(8)
    await all.pay(0, 99)
    t.same(sent, [['register', 2, 99, 7]])
  },
)

t.test('an opening that was answered in a session that is over counts for nothing', async (t) => {
  const { openers: all, sent, replace } = openers(t)
  let answer: () => void = () => undefined
  const opening = all.open(7, () => new Promise<void>((resolve) => (answer = resolve)))
  all.ended()
  replace()
  answer()
  await opening
  await all.pay(0, 99)
  t.same(sent, [['register', 2, 99, 7]])
})

t.test('what is owed does not wait for closings of others, and is not owed while its own is being told', async (t) => {
  const { openers: all, sent, held } = openers(t)
  await all.open(7, registers)
  let thaw: () => void = () => undefined
  held.by = new Promise((resolve) => (thaw = resolve))
  all.close(7)
  const closing = all.flush()
  t.notOk(all.openHeld(7), 'it has to be asked')
  t.ok(all.openHeld(8))
  await all.pay(0, 99)
  t.same(sent, [
    ['close', 1, 1, 7],
    ['register', 1, 99, 8],
  ])
  thaw()
  await closing
  t.ok(all.openHeld(7))
})

t.test('a closing that is told holds nobody up, however long those of another partition take', async (t) => {
  const { openers: all, held } = openers(t)
  const [here, there] = [7, PER_PARTITION + 7]
  await all.open(here, registers)
  await all.open(there, registers)
  let thaw: () => void = () => undefined
  held.by = new Promise((resolve) => (thaw = resolve))
  all.close(here)
  all.close(there)
  const closing = all.flush()
  const opened = all.open(there, registers)
  await opened
  t.ok(all.openHeld(there))
  t.notOk(all.openHeld(here), 'that one is not told yet')
  let isOpen = false
  const opening = all.open(here, registers).then(() => (isOpen = true))
  await new Promise((resolve) => setImmediate(resolve))
  t.notOk(isOpen)
  thaw()
  await Promise.all([closing, opening])
})

t.test('a closing that could not be told is told though the file is opened without asking before', async (t) => {
  const { openers: all, sent, held } = openers(t)
  await all.open(7, registers)
  held.by = Promise.reject(new Error('away'))
  all.close(7)
  await all.flush()
  delete held.by
  all.judged(0)
  t.ok(all.openHeld(7))
  all.close(7)
  all.judged(0)
  await all.flush()
  const close = ['close', 1, 1, 7]
  t.same(sent, [close, close])
})

t.test(
  'a session that was made an opener of what is closed tells so, though it is opened without asking before',
  async (t) => {
    const { openers: all, sent } = openers(t)
    all.registered(7)
    t.ok(all.openHeld(7))
    all.close(7)
    all.judged(0)
    await all.flush()
    t.same(sent, [['close', 1, 1, 7]])
  },
)

t.test(
  'closings that were kept through an outage go out in pieces, and what follows one that fails is kept, too',
  async (t) => {
    const { openers: all, sent, held } = openers(t)
    const inos = Array.from({ length: 150 }, (_, at) => at + 1)
    for (const ino of inos) await all.open(ino, registers)
    held.by = Promise.reject(new Error('away'))
    for (const ino of inos) all.close(ino)
    // One batch went by itself; of the other the first piece fails, and the rest is not tried.
    await all.flush()
    const sizes = (): number[] => sent.map((one) => one.length - 3)
    t.same(sizes(), [64, 64])
    delete held.by
    sent.length = 0
    all.judged(0)
    await all.flush()
    t.same(sizes(), [64, 64, 22])
    t.same(new Set(sent.flatMap((one) => one.slice(3))), new Set(inos))
  },
)

t.test('a file whose registration may have been made, and that is closed before the next try, is told', async (t) => {
  const { openers: all, sent, held } = openers(t)
  t.ok(all.openHeld(7))
  t.ok(all.openHeld(8))
  held.register = Promise.reject(new Error('its answer was lost'))
  await t.rejects(all.pay(0, 99))
  delete held.register
  all.close(7)
  await all.pay(0, 99)
  all.close(8)
  await all.flush()
  all.judged(0)
  await all.flush()
  t.same(sent, [
    ['register', 1, 99, 7, 8],
    ['register', 1, 99, 8],
    ['close', 1, 1, 7, 8],
  ])
})

t.test('an opening that failed is told, though the file is opened without asking, and closed, before', async (t) => {
  const { openers: all, sent } = openers(t)
  let fail: (error: Error) => void = () => undefined
  const opening = all.open(7, () => new Promise<void>((_resolve, reject) => (fail = reject)))
  t.ok(all.openHeld(7))
  fail(new Error('its answer was lost'))
  await t.rejects(opening)
  all.close(7)
  await all.flush()
  t.same(sent, [['close', 1, 1, 7]])
})

t.test(
  'what was closed while the session was made its opener beside is told, also where nothing else is',
  async (t) => {
    const { openers: all, sent } = openers(t)
    all.registered(7)
    await until('it is told', () => sent.length > 0)
    t.same(sent, [['close', 1, 1, 7]])
  },
)

t.test('a file is opened when no closing of it that failed can come any more', async (t) => {
  const { openers: all, sent, held, older } = openers(t)
  await all.open(7, registers)
  let end: () => void = () => undefined
  older.past = new Promise((resolve) => (end = resolve))
  held.by = Promise.reject(new Error('away'))
  all.close(7)
  await all.flush()
  delete held.by
  t.notOk(all.openHeld(7), 'it has to be asked')
  t.ok(all.openHeld(8))
  let isOpen = false
  const opening = all.open(7, registers).then(() => (isOpen = true))
  all.judged(0)
  await new Promise((resolve) => setImmediate(resolve))
  t.notOk(isOpen)
  end()
  await opening
  t.ok(all.openHeld(7))
  await all.flush()
  t.same(sent, [['close', 1, 1, 7]])
})
