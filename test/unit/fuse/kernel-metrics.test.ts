/** Requests are counted where the protocol is answered. */
import t from 'tap'
import { cString, FusePeer, words } from '../../helpers/fuse-peer.js'
import { MemoryVfs } from '../../helpers/memory-vfs.js'

const ROOT = 1

function counts(peer: FusePeer): Record<string, readonly [count: number, errors: number]> {
  const timers = peer.metrics.snapshot().timers.filter(({ group }) => group === 'fuse')
  return Object.fromEntries(timers.map(({ label, count, errors }) => [label, [count, errors]]))
}

t.test('each request is counted once under its operation, and its failure too', async (t) => {
  const peer = new FusePeer(new MemoryVfs())
  await peer.init()
  const before = counts(peer)
  t.equal((await peer.ask('mkdir', ROOT, [words(0o755, 0), cString('a')])).error, 0)
  t.equal((await peer.ask('lookup', ROOT, [cString('a')])).error, 0)
  t.not((await peer.ask('mkdir', ROOT, [words(0o755, 0), cString('a')])).error, 0)
  t.same(counts(peer), { ...before, mkdir: [2, 1], lookup: [1, 0] })
})

t.test('a request that is too short is a failure of its operation', async (t) => {
  const peer = new FusePeer(new MemoryVfs())
  await peer.init()
  t.not((await peer.ask('getattr', ROOT, [])).error, 0)
  t.same(counts(peer)['getattr'], [1, 1])
})
