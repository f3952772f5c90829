/**
 * A client process for killing and stopping: does each case's action in a session of its own, and holds it up after the
 * step that the case names. Says what it reaches; lives until its parent is gone.
 */
import { silentLog } from '../../src/base/log.js'
import type { RedisStore } from '../../src/cluster/contract.js'
import type { MetaStore } from '../../src/meta/contract.js'
import { openMeta } from '../../src/meta/engine.js'
import { loadVolume } from '../../src/meta/format.js'
import { Orders, act, type Case, type News } from './meta-actions.js'
import { PATIENCE_MS } from './deadline.js'
import { outcome, until } from './meta.js'
import { connectPatiently } from './redis.js'

let release = (): void => undefined
const released = new Promise<void>((resolve) => (release = resolve))

function tell(news: News): void {
  process.send?.(news)
}

async function runCase(redis: RedisStore, one: Case, intentTimeoutMs: number): Promise<void> {
  let step = 0
  let before = 0
  const meta: MetaStore = await openMeta(redis, await loadVolume(redis, one.volume), {
    log: silentLog,
    sessionTtlMs: one.sessionTtlMs,
    intentTimeoutMs,
    operationDeadlineMs: PATIENCE_MS,
    // Always the same partition for a new directory: its inode number is known to the test.
    random: () => 0.6,
    numbersAhead: 1,
    onStep: async () => {
      if (step++ !== one.haltAt) return
      tell({ kind: 'halted', id: one.id })
      await released
      if (one.awaitsSession) await until('the session is replaced', () => meta.sessionId !== before)
    },
  })
  before = meta.sessionId
  const action = await outcome(act(meta, one.action))
  await released
  const probe = await tryProbe(() => outcome(act(meta, one.probe)))
  tell({ kind: 'done', id: one.id, action, probe, before, after: meta.sessionId })
}

/** A session that has just been found dead is replaced in the background: calls fail with EIO until then. */
async function tryProbe(probe: () => Promise<string>): Promise<string> {
  let result = ''
  await until('a call is taken', async () => (result = await probe()) !== 'EIO').catch(() => undefined)
  return result
}

process.on('disconnect', () => process.exit(0))
process.on('message', (message) => {
  const orders = Orders.parse(message)
  if (orders.kind === 'go') release()
  else void begin(orders)
})

async function begin(orders: Extract<Orders, { kind: 'begin' }>): Promise<void> {
  const { hosts, password, intentTimeoutMs } = orders
  const redis = await connectPatiently({ hosts, password, volume: 'any' })
  await Promise.all(orders.cases.map((one) => runCase(redis, one, intentTimeoutMs)))
}
