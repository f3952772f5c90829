/** To which partitions a session listens: one partition's life, and what may come in between. */
import t, { type Test } from 'tap'
import { setImmediate as turn } from 'node:timers/promises'
import { Listening } from '../../../src/meta/listening.js'
import { ManualClock } from '../../helpers/manual-clock.js'

t.setTimeout(60_000)

const LISTEN_MS = 100
const P = 3

class Ground {
  readonly clock = new ManualClock()
  readonly said: string[] = []
  isCoherent = true
  inUse: number[] = []
  /** Confirms what is asked for. */
  readonly confirm: (() => void)[] = []
  readonly listening: Listening

  constructor(t: Test) {
    this.listening = new Listening({
      ...{ clock: this.clock, partitions: 8, listenMs: LISTEN_MS },
      isCoherent: () => this.isCoherent,
      inUse: () => this.inUse,
      listen: (p) => {
        this.said.push(`listen ${p}`)
        return new Promise((resolve) => this.confirm.push(resolve))
      },
      ignore: (p) => {
        this.said.push(`ignore ${p}`)
      },
      onHeard: (p) => this.said.push(`heard ${p}`),
      onIgnored: (partitions) => this.said.push(`ignored ${[...partitions].join()}`),
    })
    this.listening.start()
    t.teardown(() => this.listening.close())
  }

  /** What was said since the last time, of one partition. */
  take(p = P): string[] {
    const of = this.said.filter((line) => line.match(/\d+/g)?.includes(String(p)))
    this.said.length = 0
    return of.map((line) => line.replace(/[ \d,]+/g, ''))
  }

  async ignored(): Promise<void> {
    await this.clock.pass(2 * LISTEN_MS)
    this.take()
  }
}

t.test('at the start all are heard, and those that are not used are ignored', async (t) => {
  const ground = new Ground(t)
  const { listening, clock } = ground
  t.equal(listening.count, 8)
  t.equal(listening.use(P), undefined)
  await clock.pass(LISTEN_MS)
  t.equal(listening.count, 1)
  t.strictSame(ground.take(), [])
  await clock.pass(LISTEN_MS)
  t.equal(listening.count, 0)
  t.strictSame(ground.take(), ['ignored', 'ignore'], 'it is told before the messages end')
})

t.test('one that is used again and again stays heard', async (t) => {
  const ground = new Ground(t)
  for (let i = 0; i < 20; i++) {
    await ground.clock.pass(LISTEN_MS * 0.9)
    t.equal(ground.listening.hears(P), true)
  }
  t.strictSame(ground.take(), [])
})

t.test('what was given a lifetime has run out when its partition is ignored', async (t) => {
  const ground = new Ground(t)
  const { listening, clock } = ground
  for (let offset = 0; offset < LISTEN_MS; offset += 7) {
    await clock.pass(offset)
    await listening.use(P)
    listening.hears(P)
    const givenMs = clock.monotonicMs()
    ground.take()
    while (ground.take().length === 0) await clock.pass(1)
    t.ok(clock.monotonicMs() - givenMs >= listening.lifetimeMs)
    const heard = listening.use(P)
    ground.confirm.splice(0).forEach((one) => one())
    await heard
  }
})

t.test('who uses one that is ignored waits until it is heard, all together', async (t) => {
  const ground = new Ground(t)
  const { listening, confirm } = ground
  await ground.ignored()
  t.equal(listening.hears(P), false)
  let done = 0
  const waits = [listening.use(P), listening.use(P)].filter((one) => one !== undefined)
  for (const one of waits) void one.then(() => done++)
  await turn()
  t.equal(done, 0)
  t.equal(listening.hears(P), false, 'not while it is asked for')
  t.strictSame(ground.take(), ['listen'])
  confirm.splice(0).forEach((one) => one())
  await Promise.all(waits)
  t.equal(listening.hears(P), true)
  t.equal(listening.use(P), undefined)
  t.strictSame(ground.take(), ['heard'], 'what was asked before is not kept')
})

t.test('one that is asked for is not ignored meanwhile, however long that takes', async (t) => {
  const ground = new Ground(t)
  await ground.ignored()
  const heard = ground.listening.use(P)
  await ground.clock.pass(5 * LISTEN_MS)
  t.strictSame(ground.take(), ['listen'])
  ground.confirm.splice(0).forEach((one) => one())
  await heard
  await ground.clock.pass(LISTEN_MS)
  t.strictSame(ground.take(), ['heard'], 'nor at once')
  await ground.clock.pass(LISTEN_MS)
  t.strictSame(ground.take(), ['ignored', 'ignore'])
})

t.test('one in which something is open stays heard', async (t) => {
  const ground = new Ground(t)
  ground.inUse = [P]
  await ground.clock.pass(10 * LISTEN_MS)
  t.strictSame(ground.take(), [])
  t.equal(ground.listening.count, 1)
  ground.inUse = []
  await ground.clock.pass(LISTEN_MS)
  t.strictSame(ground.take(), ['ignored', 'ignore'])
})

t.test('nothing is ignored while nothing can be relied on, and nothing once it ends', async (t) => {
  const ground = new Ground(t)
  ground.isCoherent = false
  await ground.clock.pass(10 * LISTEN_MS)
  t.strictSame(ground.take(), [])
  ground.isCoherent = true
  await ground.clock.pass(LISTEN_MS)
  t.strictSame(ground.take(), ['ignored', 'ignore'])
  ground.listening.close()
  t.equal(ground.listening.use(P), undefined)
  await ground.clock.pass(10 * LISTEN_MS)
  t.strictSame(ground.take(), [])
})
