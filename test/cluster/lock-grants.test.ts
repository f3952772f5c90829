/**
 * Who is granted a file lock when something was released (src/meta/scripts/lib/grants.lua), as Redis runs it, against what is plain and slow:
 * every waiter compared with every lock. And that it compares far less, since Redis does nothing else meanwhile.
 */
import { readFileSync } from 'node:fs'
import fc from 'fast-check'
import t from 'tap'
import { makeScript } from '../../src/cluster/script.js'
import { propertyRun } from '../helpers/property.js'
import { connectPatiently, startRedis } from '../helpers/redis.js'

const LIBRARIES = new URL('../../src/meta/scripts/lib/', import.meta.url)
const [KIND, TYPE, START, END, OWNER, TICKET, PUSHES, BLOCKER] = [0, 1, 2, 3, 5, 7, 8, 9] as const
const SESSION = 1
const DIGITS = 19
/** Of each: as in filelocks.lua. */
const [HELD_MAX, QUEUE_MAX] = [4_096, 1_024]

type Kind = 'p' | 'f'
type Type = 'r' | 'w'
type Held = [Kind, Type, string, string, number, string, number]
type Waiter = [...Held, number, number, string]
interface State {
  readonly held: readonly Held[]
  readonly queue: readonly Waiter[]
}
interface Told extends State {
  /** G, C or B and the ticket, in order. */
  readonly told: readonly (readonly [string, number])[]
  /** Fields of locks and waiters that were read. */
  readonly reads: number
}

const redis = await startRedis(t, {})
const store = await connectPatiently(redis.url('any'))
t.teardown(() => store.close())

/** The functions of the libraries, with what they say in a list, and every lock behind a table that counts its reads. */
function grants(lookedAtMax?: number): ReturnType<typeof makeScript> {
  const read = (name: string): string => readFileSync(new URL(`${name}.lua`, LIBRARIES), 'utf8')
  const limit = /^local LOOKED_AT_MAX = \d+$/m
  const text = read('grants')
  if (!limit.test(text)) throw new Error('the limit has another name')
  const limited = lookedAtMax === undefined ? text : text.replace(limit, `local LOOKED_AT_MAX = ${lookedAtMax}`)
  return makeScript(
    'grants',
    `local events, said, reads = '', {}, 0
local function event(kind, ino, text)
  local session, ticket = struct.unpack('<I4I7', text, 2)
  said[#said + 1] = {string.sub(text, 1, 1), ticket}
  return ''
end
${read('filelocks')}
${limited}
local function counted(list)
  local all = {}
  for i, one in ipairs(list) do
    all[i] = setmetatable({}, {
      __index = function(_, field) reads = reads + 1 return one[field] end,
      __newindex = function(_, field, value) one[field] = value end,
    })
  end
  return all
end
local function plain(list)
  local all = {}
  for i, one in ipairs(list) do
    all[i] = {}
    for field = 1, 10 do all[i][field] = one[field] end
  end
  return all
end
local state = cjson.decode(ARGV[1])
local held, queue = grantall(1, counted(state.held), counted(state.queue))
local seen = reads
return cjson.encode({held = plain(held), queue = plain(queue), told = said, reads = seen})`,
  )
}

async function run(script: ReturnType<typeof makeScript>, state: State): Promise<Told> {
  const reply = await store.run(script, ['{0}'], [JSON.stringify(state)])
  const told = JSON.parse(String(reply)) as Record<keyof Told, unknown>
  // An empty table is an object to cjson.
  const list = (value: unknown): unknown => (Array.isArray(value) ? value : [])
  return {
    held: list(told.held),
    queue: list(told.queue),
    told: list(told.told),
    reads: told.reads,
  } as Told
}

function isSame(a: Held | Waiter, b: Held | Waiter): boolean {
  return a[KIND] === b[KIND] && a[OWNER] === b[OWNER]
}

function conflict(a: Held | Waiter, b: Held | Waiter): boolean {
  if (isSame(a, b) || a[KIND] !== b[KIND]) return false
  return (a[TYPE] === 'w' || b[TYPE] === 'w') && a[START] < b[END] && b[START] < a[END]
}

/** What is held when one more is. */
function laid(held: readonly Held[], [kind, type, start, end, session, owner, pid]: Held | Waiter): Held[] {
  let [from, to] = [start, end]
  const left = held.flatMap((one): Held[] => {
    const [k, other, a, b, s, o, p] = one
    if (k !== kind || o !== owner || b < start || a > end) return [one]
    if (other === type) {
      if (a < from) from = a
      if (b > to) to = b
      return []
    }
    const parts: Held[] = []
    if (a < start) parts.push([k, other, a, b < start ? b : start, s, o, p])
    if (b > end) parts.push([k, other, a > end ? a : end, b, s, o, p])
    return parts
  })
  return [...left, [kind, type, from, to, session, owner, pid]]
}

function couldHave(waiter: Waiter, held: readonly Held[], before: readonly Waiter[]): boolean {
  if (held.some((one) => conflict(one, waiter))) return false
  return waiter[PUSHES] === 1 || !before.some((one) => conflict(one, waiter))
}

/** Plain and slow. */
function expected({ held: first, queue: all }: State): { held: readonly Held[]; queue: readonly Waiter[] } {
  let [held, queue, moved] = [first, all, true]
  while (moved) {
    moved = false
    const waiting: Waiter[] = []
    for (const waiter of queue) {
      if (couldHave(waiter, held, waiting)) {
        held = laid(held, waiter)
        moved = true
      } else waiting.push(waiter)
    }
    queue = waiting
  }
  return { held, queue }
}

function sortedText(held: readonly Held[]): string[] {
  return held.map(([kind, type, start, end, , owner]) => `${kind} ${owner} ${start} ${end} ${type}`).sort()
}

const tickets = (queue: readonly Waiter[]): number[] => queue.map((one) => one[TICKET])
const at = (position: number): string => `${position}`.padStart(DIGITS, '0')

interface Wish {
  readonly kind: Kind
  readonly type: Type
  readonly start: number
  readonly length: number
  readonly owner: number
  readonly pushes: number
}

const wishes = (most: number, pushes: number): fc.Arbitrary<Wish[]> =>
  fc.array(
    fc.record({
      kind: fc.constantFrom<Kind>('p', 'p', 'p', 'f'),
      type: fc.constantFrom<Type>('r', 'r', 'w'),
      start: fc.nat(20),
      length: fc.integer({ min: 1, max: 12 }),
      owner: fc.nat(5),
      pushes: fc.nat(pushes),
    }),
    { maxLength: most },
  )

const lockOf = ({ kind, type, start, length, owner }: Wish): Held => [
  kind,
  type,
  at(start),
  at(start + length),
  SESSION,
  `o${owner}`,
  owner,
]

function stateOf(holding: readonly Wish[], waiting: readonly Wish[]): State {
  let held: readonly Held[] = []
  for (const lock of holding.map(lockOf)) if (!held.some((one) => conflict(one, lock))) held = laid(held, lock)
  const queue = waiting.map((wish, i): Waiter => [...lockOf(wish), i + 1, wish.pushes, ''])
  return { held, queue }
}

const SOME = 24

t.test('they are those that a comparison of all with all finds', async (t) => {
  const script = grants()
  await fc.assert(
    fc.asyncProperty(wishes(SOME, 0), wishes(SOME, 0), async (holding, waiting) => {
      const state = stateOf(holding, waiting)
      const [found, right] = [await run(script, state), expected(state)]
      t.strictSame(tickets(found.queue), tickets(right.queue))
      t.strictSame(sortedText(found.held), sortedText(right.held))
      if (tickets(found.queue).join() !== tickets(right.queue).join()) throw new Error('others wait')
    }),
    propertyRun(t, 300),
  )
})

t.test(
  'whoever pushes, and however few are looked at twice: nobody waits who could have it, or he is told',
  async (t) => {
    const scripts = [grants(), grants(0)]
    await fc.assert(
      fc.asyncProperty(fc.nat(1), wishes(SOME, 1), wishes(SOME, 1), async (which, holding, waiting) => {
        const state = stateOf(holding, waiting)
        const script = scripts[which] ?? grants()
        const { held, queue, told } = await run(script, state)
        const granted = told.flatMap(([what, ticket]) => (what === 'G' ? [ticket] : []))
        t.equal(new Set(granted).size, granted.length, 'once each')
        t.strictSame(
          tickets(state.queue).filter((ticket) => !granted.includes(ticket)),
          tickets(queue),
          'who waits still, in the order they came',
        )
        const taken = granted.flatMap((ticket) => state.queue.filter((one) => one[TICKET] === ticket))
        t.strictSame(sortedText(held), sortedText(taken.reduce<readonly Held[]>(laid, state.held)), 'what is held')
        t.notOk(
          held.some((one, i) => held.slice(i + 1).some((other) => conflict(one, other))),
          'none is in the way of another',
        )
        for (const [i, waiter] of queue.entries()) {
          const isTold =
            waiter[BLOCKER] === '' && told.some(([what, ticket]) => what === 'C' && ticket === waiter[TICKET])
          if (couldHave(waiter, held, queue.slice(0, i))) t.ok(which === 1 && isTold, 'he is told to ask again')
          const { [BLOCKER]: by } = waiter
          if (by !== '' && which === 0)
            t.ok(
              held.some((one) => `${SESSION}.${one[OWNER]}` === by && conflict(one, waiter)),
              `it waits for ${by}`,
            )
        }
      }),
      propertyRun(t, 300),
    )
  },
)

/** Each of the waiters that has to be granted before the next can be wants to read behind its own lock for writing, whole files far. */
const chain = (count: number): State => {
  const held = Array.from({ length: count }, (_, i): Held => [
    'p',
    'w',
    at(10 * i),
    at(10 * i + 9),
    SESSION,
    `o${i}`,
    i,
  ])
  const queue = Array.from({ length: count }, (_, i): Waiter => {
    const last = count - 1 - i
    return ['p', 'r', at(10 * last), at(10 * last + 19), SESSION, `o${last}`, 1, i + 1, 0, `${SESSION}.o${last + 1}`]
  })
  return { held: held.slice(0, -1), queue: queue.slice(0, -1) }
}

const states: Readonly<Record<string, State>> = {
  'one holder of many ranges, and as many who wait for nothing else': {
    held: Array.from({ length: HELD_MAX }, (_, i): Held => ['p', 'w', at(4 * i), at(4 * i + 1), SESSION, 'a', 1]),
    queue: Array.from({ length: QUEUE_MAX - 1 }, (_, i): Waiter => {
      return ['p', 'w', at(4 * i + 2), at(4 * i + 3), SESSION, `b${i}`, 1, i + 1, 0, `${SESSION}.gone`]
    }),
  },
  'many holders, and many who wait for them': {
    held: Array.from({ length: HELD_MAX }, (_, i): Held => ['p', 'r', at(i), at(i + 2), SESSION, `a${i}`, 1]),
    queue: Array.from({ length: QUEUE_MAX }, (_, i): Waiter => {
      return ['p', i % 2 === 0 ? 'w' : 'r', at(3 * i), at(3 * i + 5), SESSION, `b${i}`, 1, i + 1, i % 3, '']
    }),
  },
  'one owner whose threads wait': {
    held: Array.from({ length: HELD_MAX }, (_, i): Held => ['p', 'w', at(4 * i), at(4 * i + 1), SESSION, 'a', 1]),
    queue: Array.from({ length: QUEUE_MAX }, (_, i): Waiter => {
      return ['p', i % 2 === 0 ? 'w' : 'r', at(3 * i), at(9 * i + 5), SESSION, 'a', 1, i + 1, 0, '']
    }),
  },
  'a chain of those who let each other go': chain(QUEUE_MAX),
}

for (const [name, state] of Object.entries(states)) {
  t.test(`${name}: few comparisons`, async (t) => {
    const { held, queue } = state
    const { reads } = await run(grants(), state)
    t.comment(`${reads} reads of ${held.length} locks and ${queue.length} waiters`)
    // All with all would be millions.
    t.ok(reads < 80 * (held.length + queue.length), `${reads}`)
  })
}

t.test('a chain comes to its end when those are told to ask again who could go on', async (t) => {
  const count = 40
  let state = chain(count)
  const script = grants(0)
  let rounds = 0
  for (; state.queue.length > 0 && rounds <= count; rounds++) {
    const { held, queue, told } = await run(script, state)
    const hinted = queue.filter(([, , , , , , , ticket]) => told.some(([what, one]) => what === 'C' && one === ticket))
    if (queue.length > 0) t.ok(hinted.length > 0, `${queue.length} wait, somebody asks again`)
    state = { held, queue }
  }
  t.equal(state.queue.length, 0, `after ${rounds} times`)
})
