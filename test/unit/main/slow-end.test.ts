/** What is told of an end that takes long. */
import t from 'tap'
import type { ClusterView, Member, NodeState } from '../../../src/cluster/contract.js'
import { parseMetaUrl } from '../../../src/cluster/url.js'
import { SlowEnd, type SlowEndDeps } from '../../../src/main/slow-end.js'
import { ManualClock } from '../../helpers/manual-clock.js'

interface Stage {
  readonly clock: ManualClock
  readonly told: string[]
  readonly end: SlowEnd
  /** undefined: Redis does not answer. */
  states: readonly NodeState[] | undefined
}

function stage(): Stage {
  const clock = new ManualClock()
  const told: string[] = []
  const refresh = (): Promise<ClusterView> => {
    if (self.states === undefined) return new Promise(() => undefined)
    const members = self.states.map((state, index) => ({ id: `n${index}`, state }) as Member)
    return Promise.resolve({ members } as unknown as ClusterView)
  }
  const url = parseMetaUrl('redis://:secret@10.0.0.1:6379,10.0.0.2:7000/home')
  const volume = { url, watcher: { refresh } } satisfies SlowEndDeps['volume']
  const end = new SlowEnd({ volume, clock, tell: (why) => told.push(why) })
  const self: Stage = { clock, told, end, states: ['up'] }
  return self
}

t.test('a usual end tells nothing', async (t) => {
  const { clock, told, end } = stage()
  end.begin()
  await clock.pass(2_900)
  end.over()
  await clock.pass(60_000)
  t.same(told, [])
})

t.test('what is waited for is told once, and again when it is something else', async (t) => {
  const self = stage()
  const { clock, told, end } = self
  self.states = undefined
  end.begin()
  await clock.pass(60_000)
  t.same(told, ['Redis at 10.0.0.1:6379, 10.0.0.2:7000 does not answer'])
  self.states = ['up', 'suspect', 'down', 'gone', 'draining']
  await clock.pass(20_000)
  t.same(told.slice(1), ['2 of 4 nodes do not answer (n1, n2)'])
  self.states = ['up', 'up']
  await clock.pass(20_000)
  t.same(told.slice(2), ['what is buffered is being written'])
})

t.test('what is found out when it is over is not told', async (t) => {
  const self = stage()
  self.states = undefined
  self.end.begin()
  await self.clock.pass(4_000)
  self.end.over()
  await self.clock.pass(60_000)
  t.same(self.told, [])
})
