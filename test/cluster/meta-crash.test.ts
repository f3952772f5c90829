/**
 * A client dies in the middle of a change across partitions.
 *
 * Fault model: the process gets SIGKILL when it has done any one of the steps of the change and not begun the next. Each
 * such case has a volume of its own, twice: once others change the same names at once, while the dead one's session still
 * has its lease; once they look at once, and change them after it was cleaned up after.
 */
import t from 'tap'
import { listSessions } from '../../src/meta/format.js'
import type { MetaStore } from '../../src/meta/contract.js'
import { startCases } from '../helpers/crash-host.js'
import type { Case } from '../helpers/meta-actions.js'
import { checkVolume, inParallel } from '../helpers/meta-check.js'
import { SCENARIOS, decisions, look, rehearse, wipe, type Ground, type Plan } from '../helpers/meta-scenarios.js'
import { until, volumesOn, type MetaVolume } from '../helpers/meta.js'
import { startRedis } from '../helpers/redis.js'

const TTL_MS = 3_000
/** Of who must live, though hundreds of clients are in one process. */
const WITNESS_TTL_MS = 10_000
const INTENT_TIMEOUT_MS = 300

interface Crash {
  readonly label: string
  readonly plan: Plan
  readonly haltAt: number
  readonly isPatient: boolean
  readonly volume: MetaVolume
  readonly witness: MetaStore
  readonly ground: Ground
}

t.test('who dies in a change across partitions leaves it done or not done', { timeout: 600_000 }, async (t) => {
  const redis = await startRedis(t)
  const open = volumesOn(t, redis)
  const plans: Plan[] = []
  for (const scenario of SCENARIOS) plans.push(await rehearse(scenario, open))
  const wanted = plans.flatMap((plan) =>
    plan.steps.flatMap((_, haltAt) => [false, true].map((isPatient) => ({ plan, haltAt, isPatient }))),
  )
  const crashes: Crash[] = []
  await inParallel(wanted, async ({ plan, haltAt, isPatient }) => {
    const volume = await open()
    const witness = await volume.client({
      random: () => 0,
      sessionTtlMs: WITNESS_TTL_MS,
      intentTimeoutMs: INTENT_TIMEOUT_MS,
    })
    const ground = await plan.scenario.prepare(witness)
    const label = `${plan.scenario.name}, dead after ${String(plan.steps[haltAt])}, ${isPatient ? 'later' : 'at once'}`
    crashes.push({ label, plan, haltAt, isPatient, volume, witness, ground })
  })
  const child = await startCases(t, redis, crashes.map(toCase), INTENT_TIMEOUT_MS)
  await child.kill()
  await inParallel(crashes, async (crash) => {
    const problems = await (crash.isPatient ? lookThenWait(crash) : changeAtOnce(crash)).catch((error: unknown) => [
      error instanceof Error ? String(error.stack) : String(error),
    ])
    t.strictSame(problems, [], crash.label)
  })
})

function toCase({ volume, ground, haltAt }: Crash, id: number): Case {
  const { name, partitions } = volume.settings
  const { action } = ground
  return { id, volume: name, partitions, action, haltAt, sessionTtlMs: TTL_MS, awaitsSession: false, probe: action }
}

/** Whether the change is done: it must be, once committed, and must not be before. */
function isDone({ plan, haltAt }: Crash): boolean {
  return plan.steps.slice(0, haltAt + 1).some((step) => step.endsWith(':committed'))
}

async function lookThenWait(crash: Crash): Promise<string[]> {
  const { plan, volume, witness } = crash
  const expected = isDone(crash) ? plan.after : plan.before
  const problems = differs('at once', await look(witness), expected)
  await reaped(crash)
  problems.push(...differs('later', await look(witness), expected), ...(await checkVolume(volume)))
  problems.push(...(await change(crash)), ...(await checkVolume(volume)))
  await volume.close()
  return [...problems, ...(await decisions(volume))]
}

async function changeAtOnce(crash: Crash): Promise<string[]> {
  const problems = await change(crash)
  await reaped(crash)
  problems.push(...(await checkVolume(crash.volume)))
  await crash.volume.close()
  return problems
}

async function change(crash: Crash): Promise<string[]> {
  const { plan, witness, ground } = crash
  return differs('names', await wipe(witness, ground.touched), isDone(crash) ? plan.foundAfter : plan.foundBefore)
}

function differs(when: string, seen: readonly string[], expected: readonly string[]): string[] {
  const isSame = JSON.stringify(seen) === JSON.stringify(expected)
  return isSame ? [] : [`${when}: ${seen.join(' | ')} and not ${expected.join(' | ')}`]
}

async function reaped({ volume, witness }: Crash): Promise<void> {
  await until('the dead session is cleaned up', async () => {
    // On a busy machine the witness may have a session anew: that there is one says too little.
    const sessions = await listSessions(volume.redis, volume.settings.name)
    return sessions.length > 0 && sessions.every(({ id }) => id === witness.sessionId)
  })
}
