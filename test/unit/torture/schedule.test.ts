/** The schedule of `npm run chaos`: from the seed alone, and within the fault model. */
import t from 'tap'
import { planOf, scheduleText } from '../../chaos/run.js'
import type { Fault, RoundPlan } from '../../chaos/schedule.js'

const SHAPE = { nodes: 5, mounts: 3 }
const plans: readonly RoundPlan[] = Array.from({ length: 500 }, (_, round) => planOf({ seed: 7, ...SHAPE }, round))

function count(plan: RoundPlan, ...kinds: readonly Fault['kind'][]): number {
  return plan.faults.filter(({ fault }) => kinds.includes(fault.kind)).length
}

t.test('a seed is one schedule, and another seed another one', (t) => {
  t.equal(scheduleText({ seed: 5, ...SHAPE }, 30), scheduleText({ seed: 5, ...SHAPE }, 30))
  t.not(scheduleText({ seed: 5, ...SHAPE }, 30), scheduleText({ seed: 6, ...SHAPE }, 30))
  t.end()
})

t.test('every fault of the model comes', (t) => {
  const kinds = new Set(plans.flatMap(({ faults }) => faults.map(({ fault }) => fault.kind)))
  const all = ['kill', 'stop', 'cut', 'mute', 'deafen', 'sever', 'fill', 'lose', 'rot', 'impair', 'clock', 'kill-mount']
  const more = ['stop-mount', 'cut-mount', 'kill-redis', 'stop-redis', 'promote-redis', 'move-slots']
  t.strictSame([...kinds].sort(), [...all, ...more].sort())
  t.end()
})

t.test('no more is destroyed at once than W-1 copies, and one Redis server of a pair is away', (t) => {
  t.ok(plans.every((plan) => count(plan, 'lose', 'rot') <= 1))
  t.ok(plans.every((plan) => count(plan, 'kill-redis', 'stop-redis', 'promote-redis', 'move-slots') <= 1))
  t.ok(plans.every((plan) => plan.isDamaging === count(plan, 'lose', 'rot') > 0))
  t.ok(plans.some(({ isStrict }) => isStrict))
  t.ok(plans.some(({ isStrict }) => !isStrict))
  t.end()
})

t.test('a round ends after its last fault', (t) => {
  t.ok(plans.every(({ faults, endMs }) => faults.every(({ atMs, forMs }) => atMs + forMs < endMs)))
  t.end()
})
