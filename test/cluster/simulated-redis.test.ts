/**
 * The simulated Redis against the real one: the same random calls of membership and queues on both must have the same answers and leave
 * the same members, so that what the simulation shows is not true of the double alone.
 *
 * Time is the test's on both sides. The real scripts ask Redis for the time: here they ask a key. What stands in a stream was
 * delivered at a time of Redis itself: when simulated time passes, the idle time of each pending entry is set accordingly. Steps are
 * hours, so that the seconds that really pass decide nothing.
 */
import t from 'tap'
import type { RedisArg, RedisStore, RedisValue } from '../../src/cluster/contract.js'
import { isArray } from '../../src/cluster/reply.js'
import { ClusterKeys } from '../../src/cluster/keys.js'
import { loadScript, makeScript } from '../../src/cluster/script.js'
import { randomFrom } from '../helpers/random.js'
import { connectPatiently, startRedis } from '../helpers/redis.js'
import { Checker } from '../simulation/checker.js'
import { SimulatedRedis } from '../simulation/redis.js'
import { World } from '../simulation/world.js'

const FOLDER = new URL('../../src/cluster/scripts/', import.meta.url)
const HOUR_MS = 3_600_000
const START_MS = 1_700_000_000_000
const CALLS = 1_500
const NODES = ['a', 'b', 'c', 'd', 'e']
const CONSUMERS = ['one', 'two', 'three']
/** Hours of silence. */
const TIMES = ['suspectMs', 4 * HOUR_MS, 'downMs', 15 * HOUR_MS, 'outMs', 40 * HOUR_MS]

/** The script as it is, but for where it has the time from. */
function withOwnTime(name: string, prelude: string): ReturnType<typeof makeScript> {
  const { source } = loadScript(FOLDER, name, prelude)
  const told = "{redis.call('HGET', KEYS[3], 'test-s'), 0}"
  return makeScript(name, source.replaceAll("redis.call('TIME')", told))
}

const LIB = loadScript(FOLDER, 'lib').source
const SCRIPTS = new Map(
  [
    ...['register', 'beat', 'leave', 'transition', 'view'].map((name) => withOwnTime(name, LIB)),
    ...['queue-add', 'queue-take', 'queue-done', 'queue-retry', 'queue-mark', 'queue-inherit', 'queue-prune'].map(
      (name) => withOwnTime(name, ''),
    ),
  ].map((script) => [script.name, script]),
)

/** Texts for Buffers, so that they can be compared and read. */
function shown(value: RedisValue): unknown {
  if (Buffer.isBuffer(value)) return value.toString()
  return isArray(value) ? value.map(shown) : value
}

/** Both of them, side by side. Ids of entries are other ones on each side: the n-th that was added is the n-th. */
class Pair {
  readonly keys = new ClusterKeys('v')
  readonly simulated: SimulatedRedis
  readonly #real: RedisStore
  readonly #ids = new Map<string, string>()
  nowMs = START_MS

  constructor(real: RedisStore, checker: Checker) {
    this.#real = real
    this.simulated = new SimulatedRedis(() => this.nowMs, {
      onMembers: (...change) => checker.onMembers(...change),
    })
  }

  async setUp(): Promise<void> {
    await this.#real.call('HSET', this.keys.options, 'test-s', START_MS / 1000, ...TIMES)
    this.simulated.command('HSET', this.keys.options, TIMES)
  }

  /** Answers what both said; throws what both threw. */
  async run(name: string, keys: readonly string[], args: readonly RedisArg[]): Promise<readonly [unknown, unknown]> {
    const script = SCRIPTS.get(name)
    if (script === undefined) throw new Error(`no script ${name}`)
    const simulated = attempt(() => this.simulated.run(name, keys, args))
    const [key = ''] = keys
    const own = args.map((arg) => this.#ids.get(`${key} ${String(arg)}`) ?? arg)
    const real = await this.#real.run(script, keys, own).then(shown, refusal)
    return [real, simulated]
  }

  /** Time passes on both sides. */
  async pass(ms: number): Promise<void> {
    this.nowMs += ms
    await this.#real.call('HSET', this.keys.options, 'test-s', this.nowMs / 1000)
    for (const id of NODES) await this.#age(this.keys.queue(id), ms)
  }

  async #age(key: string, ms: number): Promise<void> {
    if (this.simulated.queues.streams.get(key)?.pending === null) return
    const pending = await this.#real.call('XPENDING', key, 'r', '-', '+', 1_000).catch(() => [])
    if (!isArray(pending)) return
    for (const one of pending) {
      if (!isArray(one)) continue
      const [id, consumer, idle] = one
      if (!Buffer.isBuffer(id) || !Buffer.isBuffer(consumer) || typeof idle !== 'number') continue
      await this.#real.call('XCLAIM', key, 'r', consumer, 0, id, 'IDLE', idle + ms, 'JUSTID')
    }
  }

  /** The ids of what was added last, of both sides. */
  async learn(nodeId: string): Promise<void> {
    const key = this.keys.queue(nodeId)
    const real = await this.#real.call('XRANGE', key, '-', '+')
    const simulated = [...(this.simulated.queues.streams.get(key)?.entries.keys() ?? [])]
    if (!isArray(real)) return
    for (const [index, entry] of real.entries()) {
      const id = isArray(entry) ? entry[0] : null
      if (Buffer.isBuffer(id)) this.#ids.set(`${key} ${simulated[index] ?? ''}`, id.toString())
    }
  }

  /** On the real side, of an entry of this queue. */
  idOf(key: string, simulated: string): string {
    return this.#ids.get(`${key} ${simulated}`) ?? simulated
  }
}

function attempt(work: () => RedisValue): unknown {
  try {
    return shown(work())
  } catch (error) {
    return refusal(error)
  }
}

/** Of an answer that is an error on both sides. */
function refusal(error: unknown): string {
  if (String(error).includes('NOGROUP')) return 'NOGROUP'
  throw error
}

/** Of what a consumer took, as shown. */
function takenOf(reply: unknown): readonly (readonly [string, string])[] {
  if (!Array.isArray(reply)) return []
  return reply.map((one: unknown) => (Array.isArray(one) ? [String(one[0]), String(one[1])] : ['', '']))
}

t.setTimeout(600_000)

t.test('the simulated Redis answers as the real one does', { timeout: 300_000 }, async (t) => {
  // Hashes keep their order then, as a Map does: who of many is out first depends on it.
  const redis = await startRedis(t, { config: ['hash-max-listpack-value 4096'] })
  const store = await connectPatiently(redis.url('v'))
  t.teardown(() => store.close())
  const seed = Number(process.env['RINGFS_SEED'] ?? Math.floor(Math.random() * 1e9))
  t.comment(`RINGFS_SEED=${seed}`)
  const random = randomFrom(seed)
  const checker = new Checker(new World({ seed, nodes: 0, replicas: 3, zones: 1, clients: 0 }))
  const pair = new Pair(store, checker)
  await pair.setUp()
  const pick = <T>(values: readonly T[]): T => {
    const value = values[Math.floor(random() * values.length)]
    if (value === undefined) throw new Error('nothing to pick from')
    return value
  }
  let starts = 0
  const incarnations = new Map<string, string>()
  const held = new Set<string>()

  const membership = async (): Promise<readonly [unknown, unknown]> => {
    const id = pick(NODES)
    const own = incarnations.get(id) ?? 'none'
    const [name, args] = pick<readonly [string, () => readonly RedisArg[]]>([
      ['register', () => [id, (incarnations.set(id, `i${++starts}`), `i${starts}`), 'h:1', 'z', 0.5, 7, 10, 5, 1]],
      ['register', () => [id, own, 'h:2', 'z', 1, 8, 10, 5, 1]],
      ['beat', () => [id, own, 10, 4, 2, random() < 0.5 ? '' : '{"a":1}']],
      ['beat', () => [id, own, 10, 4, 2, '']],
      ['beat', () => [id, 'stranger', 10, 4, 2, '']],
      ['leave', () => [id, own]],
      ['transition', () => [id, 'draining', 'joining', 'up', 'suspect', 'down']],
      ['transition', () => [id, 'up', 'draining']],
      ['transition', () => [id, 'gone', 'joining', 'up', 'suspect', 'down', 'draining']],
    ])
    return pair.run(name, pair.keys.membership, args())
  }

  const queue = async (): Promise<readonly [unknown, unknown]> => {
    const id = pick(NODES)
    const key = pair.keys.queue(id)
    const entry = pick([...held, 'none'].filter((one) => one === 'none' || one.startsWith(`${id} `)))
    const entryId = entry.split(' ')[1] ?? '1-1'
    const consumer = pick(CONSUMERS)
    switch (pick(['add', 'add', 'take', 'take', 'take', 'done', 'retry', 'mark', 'inherit', 'prune'])) {
      case 'add': {
        const replies = await pair.run('queue-add', [key, pair.keys.members], [id, `t${starts++}`, `t${starts++}`])
        await pair.learn(id)
        return replies
      }
      case 'take': {
        const inWork = entry === 'none' || random() < 0.5 ? [] : [entryId]
        const takeover = pick([2, 6]) * HOUR_MS
        const args = [consumer, pick([0, 1, 2, 4]), takeover, pick([0, 1]), ...inWork]
        const [real, simulated] = await pair.run('queue-take', [key], args)
        const entries = takenOf(simulated)
        for (const [taken] of entries) held.add(`${id} ${taken}`)
        return [real, entries.map(([taken, task]) => [pair.idOf(key, taken), task])]
      }
      case 'done':
        held.delete(entry)
        return pair.run('queue-done', [key], [entryId])
      case 'retry':
        return pair.run('queue-retry', [key], [consumer, entryId, 6 * HOUR_MS, HOUR_MS, pick([0, 0.5, 1])])
      case 'inherit':
        return pair.run('queue-inherit', [key], [consumer, 6 * HOUR_MS, '-'])
      case 'mark': {
        const [real, simulated] = await pair.run('queue-mark', [key], [])
        return [real, Array.isArray(simulated) ? simulated.map((one) => pair.idOf(key, String(one))) : simulated]
      }
      default:
        // Whether looking for work makes a consumer known differs between versions of Redis: only what is left must be the same.
        await pair.run('queue-prune', [key], [-1])
        return [null, null]
    }
  }

  const view = async (): Promise<readonly [unknown, unknown]> => {
    const queues = NODES.map((id) => pair.keys.queue(id))
    const options = pair.simulated.hash(pair.keys.options)
    const [epoch, changed] = ['epoch', 'changed'].map((name) => Number(options.get(name) ?? 0))
    const known = pick([[], [epoch ?? 0, changed ?? 0], [epoch ?? 0, 1], [1, changed ?? 0]])
    return pair.run('view', [...pair.keys.membership, ...queues], known)
  }

  for (let index = 0; index < CALLS; index++) {
    const dice = random()
    // Steps back come before anything stands in a queue: an idle time cannot be set below 0.
    const hasQueues = index > CALLS / 3
    if (dice < 0.15) await pair.pass(pick(hasQueues ? [1, 2, 5, 20] : [-1, 1, 2, 5, 20]) * HOUR_MS)
    const [real, simulated] = await (dice < 0.4 ? membership() : dice < 0.6 || !hasQueues ? view() : queue())
    if (JSON.stringify(real) === JSON.stringify(simulated)) continue
    t.strictSame(simulated, real, `call ${index} of seed ${seed}`)
    return
  }
  t.pass(`${CALLS} calls have the same answers`)
  t.strictSame(checker.faults, [], 'members move along the arrows, each change with an epoch of its own')
  const stored = await Promise.all(NODES.map((id) => store.call('HGET', pair.keys.members, id)))
  const members = pair.simulated.hash(pair.keys.members)
  for (const [index, id] of NODES.entries()) {
    const text = stored[index]
    const real: unknown = Buffer.isBuffer(text) ? JSON.parse(text.toString()) : null
    t.strictSame(JSON.parse(members.get(id) ?? 'null'), real)
  }
})
