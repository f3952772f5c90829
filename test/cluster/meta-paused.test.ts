/**
 * A client is stopped in the middle of a change across partitions and goes on later, not knowing that time has passed.
 *
 * Fault model: the process gets SIGSTOP when it has done any one of the steps of the change; meanwhile others change the
 * same names (its session being alive still), or clean up after its session; then it gets SIGCONT.
 */
import t, { type Test } from 'tap'
import { listSessions } from '../../src/meta/format.js'
import type { MetaStore } from '../../src/meta/contract.js'
import { PATIENCE_MS } from '../helpers/deadline.js'
import { startCases, type CrashChild } from '../helpers/crash-host.js'
import { act, type Action, type Case } from '../helpers/meta-actions.js'
import { checkVolume, inParallel } from '../helpers/meta-check.js'
import { SCENARIOS, decisions, look, rehearse, shape, wipe, type Ground, type Plan } from '../helpers/meta-scenarios.js'
import { ROOT, bytes, outcome, until, volumesOn, type MetaVolume, type OpenVolume } from '../helpers/meta.js'
import { startRedis, type TestRedis } from '../helpers/redis.js'

const INTENT_TIMEOUT_MS = 300
/** Of the witness, and of a client that is to be declared dead. */
const SHORT_TTL_MS = 2_000
/** Of who must live, though hundreds of clients are in one process. */
const WITNESS_TTL_MS = 8_000
/** Of who is to live though it stands still, however long the others are judged. */
const LONG_TTL_MS = 900_000
const PROBE: Action = { op: 'mkdir', parent: ROOT, name: 'probe' }

interface Pause {
  readonly id: number
  readonly label: string
  readonly plan: Plan
  readonly isCommitted: boolean
  readonly volume: MetaVolume
  readonly witness: MetaStore
  readonly ground: Ground
}

interface Stage {
  readonly pauses: readonly Pause[]
  readonly child: CrashChild
}

/**
 * Every case at its step, and the process stopped. `awaits`: each case once with each of these values. A call may go on
 * before its client knows that the session has ended, or after that has been replaced.
 */
async function stopAll(
  t: Test,
  redis: TestRedis,
  open: OpenVolume,
  ttlMs: number,
  awaits: readonly boolean[],
): Promise<Stage> {
  const plans: Plan[] = []
  for (const scenario of SCENARIOS) plans.push(await rehearse(scenario, open))
  const wanted = plans.flatMap((plan) =>
    plan.steps.flatMap((step, haltAt) => awaits.map((awaitsSession) => ({ plan, step, haltAt, awaitsSession }))),
  )
  const pauses: Pause[] = []
  const cases: Case[] = []
  await inParallel(wanted, async ({ plan, step, haltAt, awaitsSession }) => {
    const volume = await open()
    const options = { random: () => 0, sessionTtlMs: WITNESS_TTL_MS, intentTimeoutMs: INTENT_TIMEOUT_MS }
    const witness = await volume.client(options)
    const ground = await plan.scenario.prepare(witness)
    const isCommitted = plan.steps.slice(0, haltAt + 1).some((one) => one.endsWith(':committed'))
    const id = cases.length
    const { name, partitions } = volume.settings
    const timing = { haltAt, sessionTtlMs: ttlMs, awaitsSession }
    cases.push({ id, volume: name, partitions, action: ground.action, probe: PROBE, ...timing })
    const label = `${plan.scenario.name}, stopped after ${step}${awaitsSession ? ', on in a new session' : ''}`
    pauses.push({ id, label, plan, isCommitted, volume, witness, ground })
  })
  const child = await startCases(t, redis, cases, INTENT_TIMEOUT_MS)
  child.process.kill('SIGSTOP')
  return { pauses, child }
}

async function goOn({ pauses, child }: Stage): Promise<void> {
  child.process.kill('SIGCONT')
  child.go()
  await until('every call has come back', () => child.done.size === pauses.length, 2 * PATIENCE_MS)
}

function differs(when: string, seen: readonly string[], expected: readonly string[]): string[] {
  const isSame = JSON.stringify(seen) === JSON.stringify(expected)
  return isSame ? [] : [`${when}: ${seen.join(' | ')} and not ${expected.join(' | ')}`]
}

/** `work` for each; the problems that it finds are those of the case. */
async function judge(t: Test, pauses: readonly Pause[], work: (pause: Pause) => Promise<string[]>): Promise<void> {
  await inParallel(pauses, async (pause) => {
    const problems = await work(pause).catch((error: unknown) => [String(error)])
    t.strictSame(problems, [], pause.label)
  })
}

t.test('who is stopped while others change the same names', { timeout: 600_000 }, async (t) => {
  const redis = await startRedis(t)
  const open = volumesOn(t, redis)
  const stage = await stopAll(t, redis, open, LONG_TTL_MS, [false])
  const wiped = new Map<number, string[]>()
  await judge(t, stage.pauses, async ({ id, plan, witness, ground, isCommitted }) => {
    const found = await wipe(witness, ground.touched)
    wiped.set(id, await shape(witness))
    return differs('while it is stopped', found, isCommitted ? plan.foundAfter : plan.foundBefore)
  })
  await goOn(stage)
  await judge(t, stage.pauses, async (pause) => {
    const { id, isCommitted, volume, witness } = pause
    const done = stage.child.done.get(id)
    const problems = differs('the next call', [String(done?.probe), String(done?.after)], ['ok', String(done?.before)])
    if (done?.probe === 'ok') await witness.rmdir(ROOT, bytes('probe'))
    // Its change was the past already, or it begins anew on what the others have left.
    const again = isCommitted ? { result: 'ok', seen: wiped.get(id) ?? [] } : await actAfterWipe(pause, open)
    problems.push(...differs('its call', [String(done?.action)], [again.result]))
    problems.push(...differs('in the end', await shape(witness), again.seen))
    problems.push(...(await checkVolume(volume)))
    return problems
  })
  await stage.child.kill()
})

/** What the action does where the names were wiped, on a volume with nothing in its way. */
async function actAfterWipe({ plan }: Pause, open: OpenVolume): Promise<{ result: string; seen: string[] }> {
  const volume = await open()
  const meta = await volume.client({ random: () => 0 })
  const { action, touched } = await plan.scenario.prepare(meta)
  await wipe(meta, touched)
  const result = await outcome(act(meta, action))
  const seen = await shape(meta)
  await volume.close()
  return { result, seen }
}

t.test('who is stopped until its session is ended by others', { timeout: 600_000 }, async (t) => {
  const redis = await startRedis(t)
  const stage = await stopAll(t, redis, volumesOn(t, redis), SHORT_TTL_MS, [false, true])
  await judge(t, stage.pauses, async ({ plan, volume, witness, isCommitted }) => {
    await until('the stopped one is taken for dead', async () => {
      // On a busy machine the stopped one may have ended the witness's first session before: that there is one says too little.
      const sessions = await listSessions(volume.redis, volume.settings.name)
      return sessions.length > 0 && sessions.every(({ id }) => id === witness.sessionId)
    })
    const problems = differs('meanwhile', await look(witness), isCommitted ? plan.after : plan.before)
    return [...problems, ...(await decisions(volume))]
  })
  await goOn(stage)
  await judge(t, stage.pauses, async ({ id, plan, volume, witness, isCommitted }) => {
    const done = stage.child.done.get(id)
    const problems = differs('the next call', [String(done?.probe)], ['ok'])
    if (done?.after === done?.before) problems.push('it goes on under the session that was ended')
    if (done?.probe === 'ok') await witness.rmdir(ROOT, bytes('probe'))
    // An attempt that was given up before it was stopped begins anew, wholly in the new session.
    const isDone = isCommitted || done?.action === 'ok'
    problems.push(...differs('its call', [String(done?.action)], [isDone ? 'ok' : 'EIO']))
    problems.push(...differs('in the end', await look(witness), isDone ? plan.after : plan.before))
    return [...problems, ...(await checkVolume(volume))]
  })
  await stage.child.kill()
})
