/** What becomes of a call that goes wrong, told by masters that answer as they are told to. */
import t from 'tap'
import { PosixError } from '../../../src/base/errno.js'
import { silentLog } from '../../../src/base/log.js'
import { Metrics } from '../../../src/base/metrics.js'
import type { Doubt, RedisValue, Script } from '../../../src/cluster/contract.js'
import { Attempts } from '../../../src/cluster/redis-attempts.js'
import { LinkLostError } from '../../../src/cluster/redis-errors.js'
import { Router, sending, type Call, type MasterLink, type Masters } from '../../../src/cluster/redis-router.js'
import { NO_PREFIX } from '../../../src/cluster/resp-commands.js'
import { makeScript } from '../../../src/cluster/script.js'
import { ManualClock } from '../../helpers/manual-clock.js'

t.setTimeout(60_000)

const SLOT = 7
const REPLY_TIMEOUT_MS = 1_000
const LOST = new LinkLostError('gone')
const OK = Buffer.from('OK')
const SCRIPT = makeScript('one', 'return 1')

type Answer = RedisValue | Error

class FakeMasters implements Masters {
  readonly clock = new ManualClock()
  /** What was sent, in order, with to whom. */
  readonly sent: string[] = []
  readonly #answers: Answer[] = []
  readonly #timer = new Metrics().timers('redis')('GET')
  readonly router = new Router({
    topology: this,
    clock: this.clock,
    log: silentLog,
    seeds: ['seed:1'],
    replyTimeoutMs: REPLY_TIMEOUT_MS,
    attempts: new Attempts(this.clock, () => 1, REPLY_TIMEOUT_MS),
  })
  address: string | undefined = 'one:1'

  /** These answers come, in this order; then OK. */
  constructor(...answers: readonly Answer[]) {
    this.#answers.push(...answers)
  }

  owner(): string | undefined {
    return this.address
  }

  readyLink(): MasterLink | undefined {
    return this.address === undefined ? undefined : this.#link(this.address)
  }

  connect(address: string): Promise<MasterLink> {
    return Promise.resolve(this.#link(address))
  }

  moved(_: number, address: string): void {
    this.address = address
  }

  refresh(): Promise<void> {
    this.sent.push('refresh')
    return Promise.resolve()
  }

  refreshBehind(): void {
    this.sent.push('refresh behind')
  }

  #link(address: string): MasterLink {
    const send = (command: string): Promise<RedisValue> => {
      this.sent.push(`${address} ${command}`)
      if (command === 'ASKING' || command === 'SCRIPT') return Promise.resolve(OK)
      const answer = this.#answers.shift() ?? OK
      return answer instanceof Error ? Promise.reject(answer) : Promise.resolve(answer)
    }
    return {
      address,
      send,
      enqueue: (_, first, _second, resolve, reject) => void send(String(first[0])).then(resolve, reject),
    }
  }

  /** What comes of a GET. Time passes as it must. */
  async get(timeoutMs = 30_000, script?: Script, doubt?: Doubt): Promise<RedisValue> {
    const command = { prefix: NO_PREFIX, first: ['GET', 'k'], second: [] }
    const send = sending(command)
    const call: Call = {
      slot: SLOT,
      what: 'GET',
      timer: this.#timer,
      send,
      timeoutMs,
      doubt,
      ...(script && { script }),
    }
    const running = { is: true }
    const reply = this.router.start(command, call).finally(() => (running.is = false))
    reply.catch(() => undefined)
    while (running.is) await this.clock.pass(10)
    return await reply
  }
}

function refusing(text: string): Error {
  return new Error(text)
}

t.test('a call goes to the owner of its slot, once', async (t) => {
  const masters = new FakeMasters()
  t.equal(await masters.get(), OK)
  t.same(masters.sent, ['one:1 GET'])
  t.equal(masters.router.retries, 0)
})

t.test('MOVED is followed at once and for good, ASK for one command, behind ASKING', async (t) => {
  const moved = new FakeMasters(refusing('MOVED 7 two:2'))
  await moved.get()
  t.same(moved.sent, ['one:1 GET', 'two:2 GET'])
  t.equal(moved.address, 'two:2')
  const asked = new FakeMasters(refusing('ASK 7 :2'))
  await asked.get()
  t.same(asked.sent, ['one:1 GET', 'one:2 ASKING', 'one:2 GET'], 'no name is that of the one that was asked')
  t.equal(asked.address, 'one:1')
})

t.test('a script that is not known is loaded where the call goes, and that is no error', async (t) => {
  const masters = new FakeMasters(refusing('NOSCRIPT No matching script'))
  await masters.get(30_000, SCRIPT)
  t.same(masters.sent, ['one:1 GET', 'one:1 SCRIPT', 'one:1 GET'])
  t.equal(masters.router.retries, 0)
})

t.test('a lost reply is asked for again with a new map; what waits, with the map fetched behind', async (t) => {
  const masters = new FakeMasters(LOST, refusing('LOADING Redis is loading'))
  t.equal(await masters.get(), OK)
  t.same(masters.sent, ['one:1 GET', 'refresh', 'one:1 GET', 'refresh behind', 'one:1 GET'])
  t.equal(masters.router.retries, 2)
})

t.test('a refusal says that nothing was done only if no attempt may have run', async (t) => {
  const full = refusing('OOM command not allowed')
  await t.rejects(new FakeMasters(full).get(), new PosixError('ENOSPC', 'Redis at one:1 is full'))
  await t.rejects(new FakeMasters(LOST, full).get(), { code: 'REDIS_UNREACHABLE', message: /is not known/ })
  await t.rejects(new FakeMasters(refusing('ERR no')).get(), { code: 'INTERNAL' })
  await t.rejects(new FakeMasters(LOST, refusing('ERR no')).get(), { code: 'REDIS_UNREACHABLE' })
  await t.rejects(new FakeMasters(refusing('WRONGPASS')).get(), { code: 'REDIS_AUTH' })
})

t.test('a refusal says so only if no attempt of an earlier run of the same may have run either', async (t) => {
  const full = refusing('OOM command not allowed')
  const certain = { mayHaveRun: false }
  await new FakeMasters(refusing('LOADING Redis is loading')).get(30_000, undefined, certain)
  await t.rejects(new FakeMasters(full).get(30_000, undefined, certain), { code: 'ENOSPC' })
  const doubt = { mayHaveRun: false }
  await new FakeMasters(LOST).get(30_000, undefined, doubt)
  await t.rejects(new FakeMasters(full).get(30_000, undefined, doubt), { code: 'REDIS_UNREACHABLE' })
})

t.test('at its deadline a call fails with what it met, and it does not go on', async (t) => {
  const waiting = new FakeMasters(...Array.from({ length: 1_000 }, () => refusing('CLUSTERDOWN down')))
  await t.rejects(waiting.get(5_000), { code: 'REDIS_UNREACHABLE', message: /seed:1 is not ready .*CLUSTERDOWN/ })
  const asked = waiting.sent.length
  await waiting.clock.pass(10_000)
  t.equal(waiting.sent.length, asked)
  t.ok(asked < 60, `${asked / 2} times`)
})

t.test('a slot without an owner is looked for; a router that was closed begins nothing', async (t) => {
  const masters = new FakeMasters()
  masters.address = undefined
  const reply = masters.get()
  await masters.clock.pass(20)
  masters.address = 'one:1'
  t.equal(await reply, OK)
  t.equal(masters.sent[0], 'refresh')
  masters.router.close()
  await t.rejects(masters.get(), { code: 'CANCELLED' })
})
