/** Opens under delegations: what is asked for when the file, and the directories by which the kernel came to it, are held. */
import t, { type Test } from 'tap'
import { ROOT_INO } from '../../../src/base/limits.js'
import { LIFETIME_MAX_MS } from '../../../src/fuse/kernel/handed.js'
import { SymlinkWays, Way } from '../../../src/fuse/kernel/way.js'
import { CachePeer } from '../../helpers/cache-peer.js'
import { ManualClock } from '../../helpers/manual-clock.js'
import { CALLER, fixture, settle, type Fixture } from '../../helpers/vfs-fixture.js'

interface Ground extends Fixture {
  readonly peer: CachePeer
  /** Of another client's making: a directory, and a file in it. */
  readonly dir: number
  readonly file: number
  /** What an open asks for: the file, and events. */
  readonly asked: () => Promise<string[]>
}

async function ground(t: Test): Promise<Ground> {
  const one = fixture(t)
  const { vfs } = one.another()
  const dir = await vfs.mkdir(CALLER, ROOT_INO, Buffer.from('dir'), 0o755)
  const { attr, handle } = await vfs.create(CALLER, dir.ino, Buffer.from('file'), 0o644, 2)
  await vfs.release(handle)
  await settle()
  const peer = new CachePeer(one.vfs, new ManualClock())
  await peer.lookup(ROOT_INO, 'dir')
  await peer.lookup(dir.ino, 'file')
  const count = (): number[] => ['open', 'caughtUp'].map((call) => one.meta.calls.get(call) ?? 0)
  const asked = async (): Promise<string[]> => {
    const [opens = 0, caughtUp = 0] = count()
    const { error, body } = await peer.ask('open', attr.ino, Buffer.alloc(8))
    t.equal(error, 0)
    const [opensNow = 0, caughtUpNow = 0] = count()
    await peer.ask('release', attr.ino, Buffer.concat([body.subarray(0, 8), Buffer.alloc(16)]))
    return [...(opensNow > opens ? ['open'] : []), ...(caughtUpNow > caughtUp ? ['caughtUp'] : [])]
  }
  return { ...one, peer, dir: dir.ino, file: attr.ino, asked }
}

t.test('an open under delegations of the file and of all directories above asks for nothing', async (t) => {
  const { meta, dir, file, asked } = await ground(t)
  t.same(await asked(), ['open', 'caughtUp'])
  meta.held = () => true
  t.same(await asked(), [])
  meta.held = (ino) => ino !== file
  t.same(await asked(), ['open'])
  meta.held = (ino) => ino !== dir
  t.same(await asked(), ['caughtUp'])
  meta.held = (ino) => ino !== ROOT_INO
  t.same(await asked(), ['caughtUp'])
})

t.test('all directories are asked for, also behind one that is not held', async (t) => {
  const { meta, dir, file, asked } = await ground(t)
  const seen: number[] = []
  meta.held = (ino) => {
    seen.push(ino)
    return false
  }
  await asked()
  t.same(seen, [dir, ROOT_INO, file])
})

t.test('a file that the kernel finds in two directories is asked for', async (t) => {
  const { peer, meta, vfs, file, asked } = await ground(t)
  meta.held = () => true
  t.same(await asked(), [])
  await vfs.link(CALLER, file, ROOT_INO, Buffer.from('link'))
  await peer.lookup(ROOT_INO, 'link')
  t.same(await asked(), ['caughtUp'])
})

t.test('a directory in which the kernel knows a symlink is on every way, and what is above it', async (t) => {
  const { peer, meta, vfs, another, dir, file, asked } = await ground(t)
  const other = await another().vfs.mkdir(CALLER, ROOT_INO, Buffer.from('other'), 0o755)
  await vfs.symlink(CALLER, other.ino, Buffer.from('link'), Buffer.from('../dir'))
  meta.held = (ino) => ino !== other.ino
  t.same(await asked(), [], 'it does not know it yet')
  await peer.lookup(ROOT_INO, 'other')
  await peer.lookup(other.ino, 'link')
  t.same(await asked(), ['caughtUp'])
  meta.held = () => true
  t.same(await asked(), [])
  t.not(dir, file)
})

t.test('of more symlinks than can be looked at all are in doubt until their lifetimes are over', (t) => {
  const ways = new SymlinkWays()
  t.same([...(ways.directories(0) ?? [-1])], [])
  for (let directory = 1; directory <= 8; directory++) ways.add(directory, directory)
  t.same([...(ways.directories(9) ?? [])], [1, 2, 3, 4, 5, 6, 7, 8])
  ways.add(9, 10)
  t.equal(ways.directories(LIFETIME_MAX_MS + 9), undefined)
  t.same([...(ways.directories(LIFETIME_MAX_MS + 10) ?? [-1])], [])
  ways.add(9, LIFETIME_MAX_MS + 10)
  t.same([...(ways.directories(LIFETIME_MAX_MS + 11) ?? [])], [9])
  t.end()
})

t.test('a file of which nothing is known in this process is asked for', async (t) => {
  const { vfs, meta, file } = await ground(t)
  meta.held = () => true
  meta.setCoherent(false)
  const before = meta.calls.get('open') ?? 0
  const { handle } = await vfs.open(CALLER, file, 0)
  t.equal(meta.calls.get('open'), before + 1)
  await vfs.release(handle)
})

t.test(
  'of several directories none is the only one until the longest lifetime has passed since the last change',
  (t) => {
    const way = new Way()
    t.equal(way.only, undefined)
    way.add(5, 0)
    t.equal(way.only, 5)
    way.add(6, 10)
    t.equal(way.only, undefined)
    way.add(6, LIFETIME_MAX_MS)
    t.equal(way.only, undefined)
    way.add(5, LIFETIME_MAX_MS + 1)
    way.add(5, LIFETIME_MAX_MS + 10)
    t.equal(way.only, undefined, 'the other was given again meanwhile')
    way.add(5, 2 * LIFETIME_MAX_MS + 1)
    t.equal(way.only, 5)
    t.end()
  },
)
