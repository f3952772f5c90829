import t from 'tap'
import type { ClusterView, Member } from '../../../src/cluster/contract.js'
import { planOf } from '../../../src/cluster/plan.js'
import { healProgress, isHandedOver } from '../../../src/cluster/progress.js'
import { NOTHING_HEALED } from '../../../src/cluster/report.js'

const SETTINGS = {
  ...{ suspectMs: 4_000, downMs: 15_000, outMs: 300_000, healBytesPerS: 0, walks: 0, surplusMs: 60_000, rings: 1 },
}

function memberOf(id: string, more: Partial<Member>): Member {
  return {
    ...{ id, state: 'up', address: '', zone: '', weight: 1, pid: 1, incarnation: '', totalBytes: 0, freeBytes: 0 },
    ...{ chunks: 0, silentMs: 0, queueLength: 0 },
    ...more,
  }
}

function viewOf(drained: Partial<Member>, isDone: boolean): ClusterView {
  const make = (plan: string): ClusterView => {
    const done = { unreachable: [], clockOffsetMs: 0, disks: [], heal: { ...NOTHING_HEALED, plan, isDone: true } }
    const own = { ...done, heal: { ...done.heal, isDone } }
    return {
      ...{ epoch: 1, settings: SETTINGS },
      members: [
        memberOf('a', { report: done }),
        memberOf('b', { report: done }),
        memberOf('d', { state: 'draining', report: own, ...drained }),
      ],
    }
  }
  return make(planOf(make('')))
}

t.test(
  'a node that drains has handed over all that it has when it says so, also when it is silent by now',
  async (t) => {
    t.ok(isHandedOver(viewOf({}, true), 'd'))
    t.notOk(isHandedOver(viewOf({}, false), 'd'))
    const silent = viewOf({ silentMs: 60_000 }, false)
    t.ok(healProgress(silent).isDone, 'nobody else lacks anything, as far as they know')
    t.notOk(isHandedOver(silent, 'd'), 'it has not said that it has offered all of its own')
    t.ok(isHandedOver(viewOf({ silentMs: 60_000 }, true), 'd'))
    t.notOk(isHandedOver(viewOf({ queueLength: 1 }, true), 'd'))
    t.notOk(isHandedOver(viewOf({}, true), 'nobody'))
  },
)

t.test('who has walked for another ring, or for one that was the same but not all the time, is not done', async (t) => {
  const view = viewOf({}, true)
  t.ok(healProgress(view).isDone)
  const later: ClusterView = { ...view, settings: { ...SETTINGS, rings: 2 } }
  t.strictSame(healProgress(later).unfinished, ['a', 'b', 'd'])
})
