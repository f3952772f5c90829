/** When old small files are moved: in the pauses of others, while all nodes work. */
import t, { type Test } from 'tap'
import type { Timer } from '../../../src/base/clock.js'
import { silentLog } from '../../../src/base/log.js'
import { RoomKeeper, type RoomKeeperOptions } from '../../../src/main/room-keeper.js'
import type { MoveEnd, Turn } from '../../../src/vfs/body-mover.js'
import { until } from '../../helpers/deadline.js'
import { heldBytes } from '../../helpers/held-bytes.js'

interface Bed {
  readonly keeper: RoomKeeper
  /** How often it was told to make room, and the answers to its questions. */
  readonly asked: { count: number; turns: boolean[] }
  share: number
  areNodesWell: boolean
  mayTidyUp: boolean
  isStopped: boolean
}

interface Given extends Partial<RoomKeeperOptions> {
  readonly pages?: number
  readonly end?: MoveEnd | Error
}

/** `makeRoom` as of a mover with so many pages. */
function bed(t: Test, { pages = 3, end = 'done', ...options }: Given = {}): Bed {
  const asked: Bed['asked'] = { count: 0, turns: [] }
  const makeRoom = async (turn: Turn): Promise<MoveEnd> => {
    asked.count++
    for (let page = 0; page < pages; page++) {
      const isOurs = await turn(1)
      asked.turns.push(isOurs)
      if (!isOurs) return 'over'
    }
    if (end instanceof Error) throw end
    return end
  }
  const all: RoomKeeperOptions = {
    ...{
      mover: { isOff: false, moved: 0, makeRoom, stop: () => (state.isStopped = true) },
      log: silentLog,
      intervalMs: 5,
    },
    ...{ load: () => () => state.share, areNodesWell: () => state.areNodesWell },
    mayTidyUp: () => state.mayTidyUp,
    ...options,
  }
  const whole = { areNodesWell: true, mayTidyUp: true, isStopped: false }
  const state: Bed = { keeper: new RoomKeeper(all), asked, share: 0, ...whole }
  t.teardown(() => state.keeper.stop())
  return state
}

t.test('while nobody wants anything it goes on from page to page, again and again', async (t) => {
  const { asked } = bed(t)
  await until('twice', () => asked.count > 1)
  t.same(asked.turns.slice(0, 3), [true, true, true])
})

t.test('a busy mount does not ask, and one that gets busy stops', async (t) => {
  const state = bed(t, { pages: Infinity })
  state.share = 0.9
  await new Promise((resolve) => setTimeout(resolve, 500))
  t.equal(state.asked.count, 0)
  state.share = 0.1
  await until('it began', () => state.asked.turns.length > 1)
  state.share = 0.9
  await until('it stops', () => state.asked.turns.includes(false))
})

for (const what of ['areNodesWell', 'mayTidyUp'] as const)
  t.test(`nothing while a node is not there, or the mount is read-only (${what})`, async (t) => {
    const state = bed(t, { pages: Infinity })
    await until('it began', () => state.asked.turns.length > 0)
    state[what] = false
    await until('it stops', () => state.asked.turns.includes(false))
    const { count } = state.asked
    await new Promise((resolve) => setTimeout(resolve, 500))
    t.equal(state.asked.count, count)
    state[what] = true
    await until('it goes on', () => state.asked.count > count)
  })

t.test('where nothing may be moved, or it fails, it looks later and later', async (t) => {
  for (const end of ['barren', new Error('for the test')] as const) {
    const { asked } = bed(t, { pages: 0, end, intervalMs: 100 })
    await until('it looked', () => asked.count > 0)
    const { count } = asked
    await new Promise((resolve) => setTimeout(resolve, 1_500))
    // With a look each 200 ms, its own pause counted, there were more than seven.
    t.ok(asked.count - count < 5, `${asked.count - count} looks`)
  }
})

t.test('it ends in the middle of a pause, and begins nothing where it is turned off', async (t) => {
  const state = bed(t, { pages: Infinity })
  await until('it began', () => state.asked.turns.length > 0)
  await state.keeper.stop()
  const { length } = state.asked.turns
  t.equal(state.asked.turns.at(-1), false)
  t.ok(state.isStopped, 'also in the middle of a page')
  let asked = 0
  const makeRoom = (): Promise<MoveEnd> => {
    asked++
    return Promise.resolve('idle')
  }
  bed(t, { mover: { isOff: true, moved: 0, makeRoom, stop: () => undefined } })
  await new Promise((resolve) => setTimeout(resolve, 500))
  t.equal(state.asked.turns.length, length)
  t.equal(asked, 0)
})

/** As a mount has in a few hours in which it is busy; a race of promises left behind with each pause takes 300 bytes or more. */
const PAUSES = 25_000
const MOST_BYTES = 3e6

/** Whatever is waited for is over at once. */
function after(_ms: number, work: () => void): Timer {
  const timer = setImmediate(work)
  return { close: () => clearImmediate(timer), unref: () => undefined }
}

t.test('its pauses leave nothing behind', { timeout: 120_000 }, async (t) => {
  let [pauses, before, more] = [0, 0, -1]
  const makeRoom = async (turn: Turn): Promise<MoveEnd> => {
    while (await turn(1)) {
      pauses++
      if (pauses === PAUSES) before = heldBytes()
      if (pauses === 2 * PAUSES) more = heldBytes() - before
    }
    return 'over'
  }
  bed(t, { mover: { isOff: false, moved: 0, makeRoom, stop: () => undefined }, clock: { after } })
  await until('so many', () => pauses > 2 * PAUSES)
  t.ok(more < MOST_BYTES, `${more} bytes more than before`)
})
