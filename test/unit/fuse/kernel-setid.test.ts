/** Set-id bits that go with a write or a cut: the kernel leaves them to the driver (FUSE_HANDLE_KILLPRIV_V2), without a kernel. */
import t from 'tap'
import { ROOT_INO } from '../../../src/base/limits.js'
import { MODE_BITS } from '../../../src/vfs/flags.js'
import { CachePeer } from '../../helpers/cache-peer.js'
import { FusePeer, cString, words } from '../../helpers/fuse-peer.js'
import { ManualClock } from '../../helpers/manual-clock.js'
import { MemoryVfs } from '../../helpers/memory-vfs.js'
import { CALLER, fixture, make, settle } from '../../helpers/vfs-fixture.js'

const OPEN_KILL = 1
const WRITE_KILL = 4
const O_TRUNC = 0o1000
const FATTR_SIZE_AND_KILL = 8 | 2048

function writeBody(handle: Buffer): Buffer {
  return Buffer.concat([handle, words(0, 0, 1, WRITE_KILL, 0, 0, 0, 0), Buffer.from('x')])
}

t.test(
  'set-gid where the group may not execute goes with a write and a cut by a stranger to the group alone',
  async (t) => {
    const vfs = new MemoryVfs()
    const peer = new FusePeer(vfs)
    await peer.init()
    const { ino } = await vfs.mknod(CALLER, ROOT_INO, Buffer.from('f'), 0o100644, 0)
    await vfs.setattr(CALLER, ino, { uid: 5, gid: 50 })
    const opened = await peer.ask('open', ino, [words(1, 0)])
    const after = async (gid: number, name: string, node: number, ...parts: readonly Buffer[]): Promise<number> => {
      await vfs.setattr(CALLER, ino, { mode: 0o2644 })
      t.equal((await peer.ask(name, node, parts, { uid: 5, gid })).error, 0, name)
      return (await vfs.getattr(CALLER, ino)).mode & MODE_BITS
    }
    for (const [gid, left] of [
      [50, 0o2644],
      [51, 0o644],
    ] as const) {
      t.equal(await after(gid, 'write', ino, writeBody(opened.body.subarray(0, 8))), left)
      t.equal(await after(gid, 'setattr', ino, words(FATTR_SIZE_AND_KILL), Buffer.alloc(84)), left)
      t.equal(await after(gid, 'open', ino, words(O_TRUNC | 1, OPEN_KILL)), left)
      const create = words(O_TRUNC | 0o101, 0o100600, 0, OPEN_KILL)
      t.equal(await after(gid, 'create', ROOT_INO, create, cString('f')), left)
    }
  },
)

t.test('who took set-id bits away is answered when the kernel no longer goes by them', async (t) => {
  const { vfs } = fixture(t)
  const peer = new CachePeer(vfs, new ManualClock())
  const { ino, handle } = await make(vfs, 'file')
  await vfs.release(handle)
  const opened = (await peer.ask('open', ino, words(2, 0))).body.subarray(0, 8)
  const changes = {
    write: async () => peer.ask('write', ino, writeBody(opened)),
    open: async () => peer.ask('open', ino, words(O_TRUNC | 1, OPEN_KILL)),
  }
  for (const [name, change] of Object.entries(changes)) {
    await vfs.setattr(CALLER, ino, { mode: 0o4755 })
    t.match(await peer.getattr(ino), { mode: 0o4755, attrMs: 30_000 })
    peer.threads.take()
    peer.threads.isQuick = false
    let isAnswered = false
    const answer = change().finally(() => (isAnswered = true))
    await settle()
    t.same(peer.threads.take(), [`attr ${ino}`], name)
    t.notOk(isAnswered, 'it might look at once, and see them still')
    peer.threads.end(`attr ${ino}`)
    peer.threads.isQuick = true
    t.equal((await answer).error, 0)
    t.match(await peer.getattr(ino), { mode: 0o755 })
  }
  await peer.getattr(ino)
  await changes.open()
  t.same(peer.threads.take(), [], 'where there are none, the kernel is right')
})
