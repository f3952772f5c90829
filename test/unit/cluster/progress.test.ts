import t from 'tap'
import type { ClusterView, Member } from '../../../src/cluster/contract.js'
import { planOf } from '../../../src/cluster/plan.js'
import { copiedSince, healProgress, isHandedOver } from '../../../src/cluster/progress.js'
import { NOTHING_HEALED } from '../../../src/cluster/report.js'

const SETTINGS = {
  ...{ suspectMs: 4_000, downMs: 15_000, outMs: 300_000, healBytesPerS: 0, walks: 0, surplusMs: 60_000, rings: 1 },
  scrubMs: 604_800_000,
}

function memberOf(id: string, more: Partial<Member>): Member {
  return {
    ...{ id, state: 'up', address: '', zone: '', weight: 1, pid: 1, incarnation: '', totalBytes: 0, freeBytes: 0 },
    ...{ chunks: 0, silentMs: 0, queueLength: 0 },
    ...more,
  }
}

function viewOf(drained: Partial<Member>, isDone: boolean, skipped = 0, unlisted = 0): ClusterView {
  const make = (plan: string): ClusterView => {
    const done = {
      unreachable: [],
      clockOffsetMs: 0,
      disks: [],
      heal: { ...NOTHING_HEALED, plan, walked: 4096, isDone: true },
    }
    const own = { ...done, heal: { ...done.heal, isDone, skipped, unlisted } }
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
    t.notOk(isHandedOver(viewOf({}, true, 1), 'd'), 'an owner was down, and may lack what only this node has')
    const short = viewOf({}, true, 0, 1)
    t.notOk(isHandedOver(short, 'd'), 'it may have the only copy of what it cannot list')
    t.match(healProgress(short), { isDone: true, short: ['d'] })
  },
)

t.test('who has walked for another ring, or for one that was the same but not all the time, is not done', async (t) => {
  const view = viewOf({}, true)
  t.ok(healProgress(view).isDone)
  const later: ClusterView = { ...view, settings: { ...SETTINGS, rings: 2 } }
  t.strictSame(healProgress(later).unfinished, ['a', 'b', 'd'])
})

t.test('where no node has a place nothing is whole, and nothing was handed over', async (t) => {
  const make = (plan: string): ClusterView => {
    const heal = { ...NOTHING_HEALED, plan, walked: 4096, isDone: true }
    const report = { unreachable: [], clockOffsetMs: 0, disks: [], heal }
    return { epoch: 1, settings: SETTINGS, members: [memberOf('d', { state: 'draining', report })] }
  }
  const view = make(planOf(make('')))
  t.notOk(healProgress(view).isDone)
  t.notOk(isHandedOver(view, 'd'))
})

t.test('how long it takes is not told while nobody knows what is lacking', async (t) => {
  const heal = { ...NOTHING_HEALED, walked: 2048, copied: 1, copiedBytes: 1000, bytesPerS: 1000 }
  const make = (plan: string, queueLength: number): ClusterView => {
    const report = { unreachable: [], clockOffsetMs: 0, disks: [], heal: { ...heal, plan } }
    return { epoch: 1, settings: SETTINGS, members: [memberOf('a', { report, queueLength })] }
  }
  const plan = planOf(make('', 0))
  t.equal(healProgress(make(plan, 0)).leftMs, null)
  t.equal(healProgress(make(plan, 3)).leftMs, 6000, 'the other half is as full of gaps')
  const walked = { ...heal, walked: 4096 }
  const asked = { unreachable: [], clockOffsetMs: 0, disks: [], heal: { ...walked, plan } }
  const view = { epoch: 1, settings: SETTINGS, members: [memberOf('a', { report: asked })] }
  t.equal(healProgress(view).leftMs, null, 'nothing waits, and it is not whole: it walks again')
})

t.test(
  'what was copied between two looks counts nothing twice, and a node that was started again from its start',
  async (t) => {
    const make = (...nodes: readonly (readonly [string, number] | readonly [string])[]): ClusterView => ({
      ...{ epoch: 1, settings: SETTINGS },
      members: nodes.map(([id, copied]) => {
        if (copied === undefined) return memberOf(id, {})
        const heal = { ...NOTHING_HEALED, copied, copiedBytes: copied * 10 }
        return memberOf(id, { report: { unreachable: [], clockOffsetMs: 0, disks: [], heal } })
      }),
    })
    const first = make(['a', 100], ['b', 50], ['c'])
    t.strictSame(copiedSince(first, first), { copied: 0, copiedBytes: 0 })
    t.strictSame(copiedSince(first, make(['a', 103], ['b', 2], ['c', 4], ['d', 5])), { copied: 14, copiedBytes: 140 })
  },
)
