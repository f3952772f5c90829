/** Changes that wait for others' delegations: of those of one partition a single one asks again and again. */
import t from 'tap'
import { Recalls } from '../../../src/meta/recalls.js'
import { ManualClock } from '../../helpers/manual-clock.js'

const forever = (): void => undefined
const P = 3

/** A partition that refuses until it is told not to. */
class Partition {
  readonly recalls: Recalls
  readonly clock = new ManualClock()
  isHeld = true
  sent = 0

  constructor() {
    this.recalls = new Recalls(this.clock)
  }

  async pass(ms: number): Promise<void> {
    await this.clock.pass(0)
    await this.clock.pass(ms)
  }

  change(patience = forever): Promise<string> {
    const send = (): Promise<string> => {
      this.sent++
      return Promise.resolve(this.isHeld ? 'held' : 'done')
    }
    return this.recalls.past(P, send, (reply) => (reply === 'held' ? 3_000 : 0), patience)
  }
}

t.test('many changes ask as often as one does, and are done when it is', async (t) => {
  const alone = new Partition()
  const one = alone.change()
  await alone.pass(1_000)
  const many = new Partition()
  const all = Array.from({ length: 100 }, () => many.change())
  await many.pass(1_000)
  t.ok(alone.sent > 5, 'it goes on asking')
  t.equal(many.sent - all.length, alone.sent - 1)
  for (const world of [alone, many]) {
    world.isHeld = false
    await world.pass(60)
  }
  t.equal(await one, 'done')
  t.same(new Set(await Promise.all(all)), new Set(['done']))
  t.equal(many.recalls.waitedMs.length, 100)
})

t.test('what is given back ends the pause at once', async (t) => {
  const world = new Partition()
  const all = [world.change(), world.change()]
  await world.pass(500)
  world.isHeld = false
  world.recalls.givenBack(P)
  t.same(await Promise.all(all), ['done', 'done'], 'no time has passed')
})

t.test('who gives up leaves the asking to the next', async (t) => {
  const world = new Partition()
  let isLate = false
  const first = world.change(() => {
    if (isLate) throw new Error('too late')
  })
  const second = world.change()
  await world.pass(200)
  isLate = true
  const failed = t.rejects(first, { message: 'too late' })
  await world.pass(60)
  await failed
  const before = world.sent
  await world.pass(200)
  t.ok(world.sent > before, 'it is asked still')
  world.isHeld = false
  await world.pass(60)
  t.equal(await second, 'done')
})

t.test('one that is refused again after it waited for another waits on', async (t) => {
  const world = new Partition()
  const first = world.change()
  const second = world.change()
  await world.pass(100)
  world.isHeld = false
  world.recalls.givenBack(P)
  t.equal(await first, 'done')
  world.isHeld = true
  await world.pass(100)
  world.isHeld = false
  await world.pass(60)
  t.equal(await second, 'done')
})
