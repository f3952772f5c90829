import t from 'tap'
import { silentLog } from '../../../src/base/log.js'
import type { ClusterView, Member, Unreachable } from '../../../src/cluster/contract.js'
import { NOTHING_HEALED, decodeReport, encodeReport } from '../../../src/cluster/report.js'
import { Sight, sightProblems } from '../../../src/cluster/sight.js'
import { ManualClock } from '../../helpers/manual-clock.js'

function member(id: string, unreachable: readonly string[] = [], change: Partial<Member> = {}): Member {
  return {
    ...{ id, address: `${id}:7400`, zone: '', weight: 1, state: 'up', pid: 1, incarnation: '1' },
    ...{ totalBytes: 1, freeBytes: 1, chunks: 0, silentMs: 10, queueLength: 0 },
    report: { clockOffsetMs: 0, unreachable: unreachable.map(blind), heal: NOTHING_HEALED, disks: [] },
    ...change,
  }
}

function blind(id: string): Unreachable {
  return { id, address: `${id}:7400`, why: 'connect ETIMEDOUT', forMs: 5000 }
}

function viewOf(...members: readonly Member[]): ClusterView {
  return { epoch: 1, members }
}

t.test('a peer that fails twice in a row is unreachable until it answers', async (t) => {
  const failing = new Set(['b'])
  const asked: string[] = []
  const sight = new Sight({
    nodeId: 'a',
    view: () => viewOf(member('a'), member('b'), member('c'), member('d', [], { state: 'down' })),
    ask: (id) => {
      asked.push(id)
      return failing.has(id) ? Promise.reject(new Error('no answer')) : Promise.resolve(id)
    },
    clock: new ManualClock(),
    log: silentLog,
  })
  await sight.look()
  t.strictSame(sight.unreachable(), [], 'once may be chance')
  await sight.look()
  t.match(sight.unreachable(), [{ id: 'b', address: 'b:7400', why: 'no answer' }])
  t.strictSame([...new Set(asked)], ['b', 'c'], 'neither itself nor who is down')
  failing.clear()
  await sight.look()
  t.strictSame(sight.unreachable(), [])
})

t.test('of many members each is asked in its turn', async (t) => {
  const ids = Array.from({ length: 40 }, (_, index) => `n${index}`)
  const asked = new Set<string>()
  const sight = new Sight({
    nodeId: 'n0',
    view: () => viewOf(...ids.map((id) => member(id))),
    ask: (id) => {
      asked.add(id)
      return Promise.resolve(id)
    },
    clock: new ManualClock(),
    log: silentLog,
  })
  await sight.look()
  t.equal(asked.size, 16)
  await sight.look()
  await sight.look()
  t.equal(asked.size, 39)
})

t.test('who cannot reach whom is said in words: one way, both ways, nobody', (t) => {
  t.match(sightProblems(viewOf(member('a', ['b']), member('b'), member('c'))), [
    /^a does not reach b at b:7400 \(one way only\): connect ETIMEDOUT$/,
  ])
  t.match(sightProblems(viewOf(member('a', ['b']), member('b', ['a']), member('c'))), [
    /^b does not reach a .*nor the other way round/,
    /^a does not reach b .*nor the other way round/,
  ])
  t.match(sightProblems(viewOf(member('a', ['c']), member('b', ['c']), member('c'))), [
    /^no node reaches c at c:7400, though it reaches Redis: is its --advertise address right/,
  ])
  t.strictSame(sightProblems(viewOf(member('a', ['b'], { silentMs: 60_000 }), member('b'))), [], 'no news')
  t.end()
})

t.test('the advertised address is asked after only where Redis hears the node, since others do not', (t) => {
  const named = (change: Partial<Member>): readonly string[] =>
    sightProblems(viewOf(member('a', ['c']), member('b', ['c']), member('c', [], change)))
  t.match(named({ silentMs: 900 }), [/is its --advertise address right/])
  t.strictSame(named({ silentMs: 5_300 }), ['no node reaches c at c:7400 (connect ETIMEDOUT)'], 'killed just now')
  const killed = named({ silentMs: 11_000, state: 'suspect' })
  t.match(killed, [/^no node reaches c at c:7400, and it is silent: it has ended, or hangs, or is cut off \(connect/])
  const two = viewOf(
    member('a', ['b', 'c']),
    member('b', ['a'], { silentMs: 11_000 }),
    member('c', [], { silentMs: 11_000 }),
  )
  t.match(sightProblems(two), [
    /^a does not reach b .* \(which is silent\)/,
    /^a does not reach c .* \(which is silent\)/,
  ])
  t.strictSame(named({ silentMs: 20_000, state: 'down' }), [], 'the table says it')
  t.end()
})

t.test('a report comes back as it was sent; what is no report is none', (t) => {
  const room = { totalBytes: 3, freeBytes: 2, chunks: 1, damaged: 4, waiting: 5, unlisted: 6, unlistedWhy: 'EIO' }
  const disk = { disk: 'd', folder: '/a', state: 'failed', why: 'EIO', ...room, leaving: 'stuck' } as const
  const heal = { ...NOTHING_HEALED, walked: 9, plan: 'x' }
  const report = { clockOffsetMs: -7, unreachable: [blind('b')], heal, disks: [disk] }
  t.strictSame(decodeReport(encodeReport(report)), report)
  for (const text of ['', '{', '[]', '7']) t.equal(decodeReport(text), undefined)
  t.match(decodeReport('{"clockOffsetMs":"?","heal":3}'), {
    clockOffsetMs: 0,
    unreachable: [],
    heal: { plan: '' },
    disks: [],
  })
  t.end()
})
