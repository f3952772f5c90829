/** Whose replies are believed after a silence, and what the others have to say for it. */
import t, { type Test } from 'tap'
import { Fence, confirmMaster } from '../../../src/cluster/redis-fence.js'
import { ManualClock } from '../../helpers/manual-clock.js'

type Answer = (isMaster: boolean | undefined) => void

/** A link whose replies are numbers; `asked` are the questions that are open. */
class Link {
  readonly clock = new ManualClock()
  readonly delivered: number[] = []
  readonly asked: Answer[] = []
  replaced = 0
  readonly fence = new Fence({
    clock: this.clock,
    confirm: () => new Promise((resolve) => this.asked.push(resolve)),
    onReplaced: () => this.replaced++,
    patienceMs: 5_000,
  })

  reply(number: number): void {
    this.fence.heard(this.clock.monotonicMs())
    this.fence.pass(
      () => this.delivered.push(number),
      () => this.delivered.push(-number),
    )
  }

  async answer(isMaster: boolean | undefined): Promise<void> {
    this.asked.shift()?.(isMaster)
    await this.clock.pass(0)
  }

  /** One whose server was just confirmed. */
  static async trusted(): Promise<Link> {
    const link = new Link()
    link.reply(0)
    await link.answer(true)
    link.delivered.length = 0
    return link
  }
}

t.test('the first reply waits for the others, and a link in use asks nobody again', async (t) => {
  const link = new Link()
  link.reply(1)
  t.strictSame(link.delivered, [], 'held')
  await link.answer(true)
  for (let number = 2; number <= 20; number++) {
    await link.clock.pass(500)
    link.reply(number)
  }
  t.equal(link.delivered.length, 20)
  t.equal(link.asked.length, 0)
})

t.test('after a silence replies are held, and rejected when the server was replaced', async (t) => {
  const link = await Link.trusted()
  await link.clock.pass(1_500)
  link.reply(1)
  link.reply(2)
  t.strictSame(link.delivered, [])
  await link.answer(false)
  t.equal(link.replaced, 1)
  link.fence.drop(new Error('the link has ended'))
  t.strictSame(link.delivered, [-1, -2])
})

t.test('what the others said before a silence ended counts for nothing', async (t) => {
  const link = await Link.trusted()
  await link.clock.pass(1_500)
  link.reply(1)
  await link.clock.pass(1_500)
  link.reply(2)
  await link.answer(true)
  t.strictSame(link.delivered, [], 'it may have been replaced since they were asked')
  await link.answer(true)
  t.strictSame(link.delivered, [1, 2], 'in order')
})

t.test('others that say nothing are asked again while replies wait, and a server is not replaced for it', async (t) => {
  const link = await Link.trusted()
  await link.clock.pass(1_500)
  link.reply(1)
  for (let times = 0; times < 10; times++) {
    await link.answer(undefined)
    t.strictSame([link.delivered, link.replaced, link.asked.length], [[], 0, 0])
    await link.clock.pass(200)
    t.equal(link.asked.length, 1)
  }
  await link.answer(true)
  t.strictSame(link.delivered, [1])
  await link.clock.pass(1_500)
  link.reply(2)
  await link.clock.pass(5_000)
  await link.answer(undefined)
  t.equal(link.replaced, 1, 'not for ever')
  link.fence.drop(new Error('the link has ended'))
  await link.clock.pass(1_000)
  t.equal(link.asked.length, 0)
})

/** `known`: what each of the others says; undefined: nothing. Three masters, three replicas, one of the masters in question. */
async function confirmed(t: Test, known: Readonly<Record<string, boolean | undefined>>): Promise<boolean | undefined> {
  const clock = new ManualClock()
  const result = confirmMaster({
    others: Object.keys(known),
    masters: new Set(['b', 'c']),
    ask: (other) => {
      const answer = known[other]
      return answer === undefined ? new Promise(() => undefined) : Promise.resolve(answer)
    },
    clock,
  })
  await clock.pass(6_000)
  t.pass('it is decided in time')
  return result
}

t.test('one of the two other masters is enough, a replica is not, and one No decides', async (t) => {
  t.equal(await confirmed(t, { b: true, c: true, a2: true, b2: true, c2: true }), true)
  t.equal(await confirmed(t, { b: true, c: undefined, a2: undefined }), true)
  t.equal(await confirmed(t, { b: undefined, c: undefined, b2: true, c2: true }), undefined)
  t.equal(await confirmed(t, { b: true, c: true, a2: false }), false)
  t.equal(await confirmed(t, { a2: false, b: true, c: true }), false)
})
