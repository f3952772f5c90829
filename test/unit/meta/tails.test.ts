/**
 * What a session knows of its replies (src/meta/tails.ts), against a model of a server: requests and replies overtake each other, are
 * repeated, and a replica takes its master's place without the last of it, while changes go on.
 */
import t from 'tap'
import { SCRIPTS } from '../../../src/meta/scripts.js'
import { Tails, encodeNamed, type Answer, type Asked, type Named } from '../../../src/meta/tails.js'
import { randomFrom } from '../../helpers/random.js'
import { propertyRun } from '../../helpers/property.js'

t.setTimeout(120_000)

const P = 3

interface Change {
  readonly sequence: number
  readonly isOther: boolean
  /** It is refused, and has no contents forgotten. */
  readonly isNothing: boolean
  readonly named: Named
  /** What a server answered; the reply is on its way. */
  isDone: boolean
}

/** The table of replies as lib/mutate.lua and known.lua keep it, and all that was ever carried out. */
class Server {
  replies = new Set<number>()
  done = new Set<number>()
  missed: [number, number] = [0, 0]

  copy(): Server {
    const other = new Server()
    other.replies = new Set(this.replies)
    other.done = new Set(this.done)
    other.missed = [...this.missed]
    return other
  }

  carryOut({ sequence, named }: Change): void {
    if (this.replies.has(sequence)) return
    const [contents, others, again] = encodeNamed(named)
      .split('/')
      .map((list) => list.split(' ').map(Number))
    if (encodeNamed(named) !== '') {
      for (const [kind, list] of [contents, others].entries()) {
        const here = (list ?? []).filter((one) => one === 0 || this.replies.delete(one))
        if (here.length !== list?.length) this.missed[kind === 0 ? 0 : 1]++
      }
      for (const one of again ?? []) this.replies.delete(one)
    }
    this.replies.add(sequence)
    this.done.add(sequence)
  }

  answer(asked: readonly Asked[]): Answer {
    const missing = asked.filter(([one, carrier]) => !this.replies.has(one) && !this.replies.has(carrier))
    return { missed: [...this.missed], missing: new Set(missing.map(([one]) => one)) }
  }
}

class Game {
  readonly #random: () => number
  readonly #tails = new Tails()
  #server = new Server()
  #replica = new Server()
  #sequence = 0
  readonly #underWay: Change[] = []
  /** Contents, and others, that the session was told are done. */
  readonly #told: [Set<number>, Set<number>] = [new Set(), new Set()]
  readonly #failures: boolean
  failovers = 0

  constructor(seed: number, failures: boolean) {
    this.#random = randomFrom(seed)
    this.#failures = failures
  }

  #some<T>(list: readonly T[]): T | undefined {
    return list[Math.floor(this.#random() * list.length)]
  }

  /** Of contents, then of others: whether anything is lost that the session was told is done. */
  get #lost(): [boolean, boolean] {
    const [contents, others] = this.#told.map((set) => [...set].some((one) => !this.#server.done.has(one)))
    return [contents === true, others === true]
  }

  step(): void {
    const dice = this.#random()
    if (dice < 0.3) this.#send()
    else if (dice < 0.6) this.#carryOut()
    else if (dice < 0.9) this.#reply()
    else if (dice < 0.94) this.#replica = this.#server.copy()
    else if (dice < 0.95) this.#failOver()
    else if (dice < 0.96 && this.#failures) this.#fail()
  }

  #send(): void {
    if (this.#underWay.length > 12) return
    const sequence = ++this.#sequence
    const isOther = this.#random() < 0.5
    const low = Math.min(sequence, ...this.#underWay.map((change) => change.sequence))
    const named = this.#tails.name(P, isOther ? SCRIPTS.close : SCRIPTS.create, sequence, low)
    const isNothing = !isOther && named.contents.length === 0 && this.#random() < 0.3
    this.#underWay.push({ sequence, isOther, isNothing, named, isDone: false })
  }

  #carryOut(): void {
    const change = this.#some(this.#underWay)
    if (change === undefined) return
    this.#server.carryOut(change)
    change.isDone = this.#random() < 0.8
  }

  #reply(): void {
    const change = this.#some(this.#underWay.filter(({ isDone }) => isDone))
    if (change === undefined) return
    this.#end(change)
    const { isOther, isNothing, sequence, named } = change
    if (!isNothing) this.#told[isOther ? 1 : 0].add(sequence)
    this.#tails.judged(P, isOther ? SCRIPTS.close : SCRIPTS.create, sequence, named, isNothing)
  }

  #fail(): void {
    const change = this.#some(this.#underWay)
    if (change === undefined) return
    this.#end(change)
    this.#tails.failed(P, change.sequence, change.named)
  }

  #end(change: Change): void {
    this.#underWay.splice(this.#underWay.indexOf(change), 1)
  }

  #failOver(): void {
    if (this.failovers > 0) return
    this.failovers++
    this.#server = this.#replica.copy()
  }

  /** The session asks, while all goes on. What is wrong with what it finds, or undefined. */
  async look(): Promise<string | undefined> {
    const before = this.#lost
    const loss = await this.#tails.lossOf(P, async (asked) => {
      for (let i = this.#random() * 6; i > 1; i--) this.step()
      const answer = this.#server.answer(asked)
      for (let i = this.#random() * 6; i > 1; i--) this.step()
      await Promise.resolve()
      return answer
    })
    if (before[0] && loss?.hasContents !== true) return 'contents are lost, and it is not found out'
    if (before[1] && loss === null) return 'something is lost, and it is not found out'
    if (loss !== null && this.failovers === 0) return 'nothing is lost'
    if (loss?.hasContents === true && !this.#lost[0]) return 'no contents are lost'
    return loss === null ? undefined : 'found'
  }

  get size(): number {
    return this.#tails.name(P, SCRIPTS.create, this.#sequence + 1, Infinity).contents.length
  }
}

async function play(seed: number, failures: boolean): Promise<string | undefined> {
  const game = new Game(seed, failures)
  for (let i = 0; i < 400; i++) {
    game.step()
    if (i % 20 !== 19) continue
    const result = await game.look()
    if (result !== undefined) return result
  }
  return undefined
}

t.test('what a failover lost is found out, whatever was done since; nothing else is', async (t) => {
  const { seed, numRuns } = propertyRun(t, 200)
  const results = new Map<string | undefined, number>()
  for (let i = 0; i < numRuns; i++) {
    const result = await play(seed + i, false)
    results.set(result, (results.get(result) ?? 0) + 1)
    if (result !== undefined && result !== 'found') return t.fail(`${result}: seed ${seed + i}`)
  }
  t.ok((results.get('found') ?? 0) > numRuns / 10, 'many of them lost something')
})

t.test(
  'a loss is found out though the reply of the change that named what is lost comes from the dead server meanwhile',
  async (t) => {
    const tails = new Tails()
    for (let sequence = 1; sequence <= 8; sequence++) {
      tails.judged(P, SCRIPTS.create, sequence, tails.name(P, SCRIPTS.create, sequence, sequence))
    }
    const named = tails.name(P, SCRIPTS.create, 9, 9)
    t.equal(named.contents.length, 8, 'the ninth has all forgotten')
    const replica = new Server()
    const asked: (readonly Asked[])[] = []
    const loss = await tails.lossOf(P, async (some) => {
      asked.push(some)
      if (asked.length === 1) tails.judged(P, SCRIPTS.create, 9, named)
      await Promise.resolve()
      return replica.answer(some)
    })
    t.strictSame(loss, { hasContents: true })
    t.strictSame(asked[1], [[9, 0]], 'it is asked about the ninth')
  },
)

t.test('a refusal is asked about if it had something forgotten, and else not', async (t) => {
  for (const before of [0, 8]) {
    const tails = new Tails()
    for (let sequence = 1; sequence <= before; sequence++) {
      tails.judged(P, SCRIPTS.open, sequence, tails.name(P, SCRIPTS.open, sequence, sequence))
    }
    const named = tails.name(P, SCRIPTS.create, 9, 9)
    t.equal(named.others.length, before)
    tails.judged(P, SCRIPTS.create, 9, named, true)
    const loss = await tails.lossOf(P, (asked) => Promise.resolve(new Server().answer(asked)))
    t.strictSame(loss, before === 0 ? null : { hasContents: false })
  }
})

t.test('a script that keeps no reply is not asked about, and has nothing forgotten', async (t) => {
  // The first inode is made by who has no session.
  const unkept = Object.values(SCRIPTS).filter(
    ({ name, source }) => /settle\(script/.test(source) && !/function before\(/.test(source) && name !== 'root',
  )
  t.ok(unkept.includes(SCRIPTS.reap))
  for (const script of unkept) {
    const tails = new Tails()
    for (let sequence = 1; sequence <= 8; sequence++) {
      tails.judged(P, SCRIPTS.create, sequence, tails.name(P, SCRIPTS.create, sequence, sequence))
    }
    const named = tails.name(P, script, 9, 9)
    t.equal(encodeNamed(named), '', script.name)
    tails.judged(P, script, 9, named)
    let sequences: readonly number[] = []
    await tails.lossOf(P, (asked) => {
      sequences = asked.map(([sequence]) => sequence)
      return Promise.resolve({ missed: [0, 0], missing: new Set() })
    })
    t.strictSame(sequences, [1, 2, 3, 4, 5, 6, 7, 8], script.name)
  }
})

t.test('where answers do not come nothing is taken for lost that is not', async (t) => {
  const { seed, numRuns } = propertyRun(t, 200)
  for (let i = 0; i < numRuns; i++) {
    const result = await play(seed + i, true)
    if (result === 'nothing is lost') return t.fail(`${result}: seed ${seed + i}`)
  }
  t.pass('none')
})

t.test('the replies of contents do not pile up where other changes come in between', (t) => {
  const tails = new Tails()
  let kept = 0
  for (let sequence = 1; sequence < 10_000; sequence++) {
    const script = sequence % 3 === 0 ? SCRIPTS.close : SCRIPTS.create
    const named = tails.name(P, script, sequence, sequence)
    tails.judged(P, script, sequence, named)
    kept += 1 - named.contents.length - named.others.length
  }
  t.ok(kept < 100, `${kept} are remembered`)
  t.end()
})
