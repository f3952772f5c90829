/** What the kernel takes in another order than it was told, and what it does with answers by itself: without a kernel. */
import t, { type Test } from 'tap'
import { PosixError } from '../../../src/base/errno.js'
import { ROOT_INO } from '../../../src/base/limits.js'
import type { MetaEvent } from '../../../src/meta/contract.js'
import { CachePeer, readEntry } from '../../helpers/cache-peer.js'
import { ManualClock } from '../../helpers/manual-clock.js'
import { CALLER, Gate, codeOf, fixture, make, settle, type Fixture, type Mounted } from '../../helpers/vfs-fixture.js'

const ATTR_CHANGE = { mode: 0o600 }
const named = Buffer.from('file')
/** What was asked is over for long enough that nobody can still hold a lock in the kernel. */
const QUIET_MS = 20

interface Two extends Fixture {
  readonly peer: CachePeer
  readonly clock: ManualClock
  readonly other: Mounted
  /** A file with some bytes in it, made by the other client; its number. */
  readonly file: number
}

async function two(t: Test): Promise<Two> {
  const one = fixture(t)
  const clock = new ManualClock()
  const peer = new CachePeer(one.vfs, clock)
  const other = one.another()
  const { ino, handle } = await make(other.vfs, 'file')
  await other.vfs.write(handle, 0, Buffer.from('before'))
  await other.vfs.release(handle)
  await settle()
  return { ...one, peer, clock, other, file: ino }
}

/** struct fuse_setattr_in that sets the mode. */
function chmod(mode: number): Buffer {
  const body = Buffer.alloc(88)
  body.writeUInt32LE(1, 0)
  body.writeUInt32LE(mode, 68)
  return body
}

t.test('what the kernel takes whatever it was told meanwhile has no lifetime', async (t) => {
  const { peer, file } = await two(t)
  const { body: changed } = await peer.ask('setattr', file, chmod(0o640))
  t.equal(changed.readBigUInt64LE(0), 0n, 'attributes set')
  const link = Buffer.alloc(8)
  link.writeUInt32LE(file, 0)
  const { body: linked } = await peer.ask('link', ROOT_INO, Buffer.concat([link, Buffer.from('second\0')]))
  t.match(readEntry(linked), { ino: file, entryMs: 30_000, attrMs: 0 })
  const { body: made } = await peer.ask('create', ROOT_INO, Buffer.concat([Buffer.alloc(16), Buffer.from('file\0')]), 0)
  t.match(readEntry(made), { ino: file, entryMs: 30_000, attrMs: 0 })
})

t.test('an answer without a lifetime, which the kernel may ignore, does not end that of the one before', async (t) => {
  const { clock, peer, vfs, other, file } = await two(t)
  await peer.getattr(file)
  await clock.pass(QUIET_MS)
  const { handle } = await vfs.open(CALLER, file, 2)
  await vfs.write(handle, 0, Buffer.from('more than before'))
  t.match(await peer.getattr(file), { attrMs: 0 })
  peer.threads.take()
  await other.vfs.setattr(CALLER, file, ATTR_CHANGE)
  await settle()
  t.same(peer.threads.take(), [`attr ${file}`])
  await vfs.release(handle)
})

function renameBody(to: string, from = 'file'): Buffer {
  const parent = Buffer.alloc(8)
  parent.writeUInt32LE(ROOT_INO, 0)
  return Buffer.concat([parent, Buffer.from(`${from}\0${to}\0`)])
}

function exchangeBody(one: string, other: string): Buffer {
  const body = Buffer.alloc(16)
  body.writeUInt32LE(ROOT_INO, 0)
  body.writeUInt32LE(2, 8)
  return Buffer.concat([body, Buffer.from(`${one}\0${other}\0`)])
}

t.test('a name that was moved here lives as long as the old one was to, and is told', async (t) => {
  const { clock, peer, other } = await two(t)
  await peer.lookup(ROOT_INO, 'file')
  await peer.ask('rename', ROOT_INO, renameBody('moved'))
  await clock.pass(QUIET_MS)
  await settle()
  t.same(peer.threads.take(), [])
  await other.vfs.unlink(CALLER, ROOT_INO, Buffer.from('moved'))
  await settle()
  t.ok(peer.threads.take().includes('entry 1/moved'))
})

t.test('a name that was moved here by what the kernel knew wrongly is told under its new name', async (t) => {
  const { clock, peer, meta, other } = await two(t)
  await peer.lookup(ROOT_INO, 'file')
  const late: MetaEvent[] = []
  meta.receive = (event) => late.push(event)
  await make(other.vfs, 'next')
  await other.vfs.rename(CALLER, ROOT_INO, Buffer.from('next'), ROOT_INO, named, {})
  await peer.ask('rename', ROOT_INO, renameBody('moved'))
  await clock.pass(QUIET_MS)
  peer.threads.take()
  Reflect.deleteProperty(meta, 'receive')
  for (const event of late) meta.receive(event)
  await settle()
  t.ok(peer.threads.take().includes('entry 1/moved'), 'what the kernel moved is not what was moved')
})

interface Moved extends Two {
  /** Has two names, of which the kernel takes one for that of another file. */
  readonly linked: number
  /** The events of these names come. */
  readonly deliver: () => Promise<void>
}

/** `file` means `linked` for the store, and still `file` for the kernel, which knows `linked` by the name `x`. */
async function replacedElsewhere(t: Test): Promise<Moved> {
  const all = await two(t)
  const { clock, peer, meta, other } = all
  const { ino: linked } = await make(other.vfs, 'x')
  await settle()
  await peer.lookup(ROOT_INO, 'file')
  await peer.lookup(ROOT_INO, 'x')
  const late: MetaEvent[] = []
  const receive = meta.receive.bind(meta)
  meta.receive = (event) => (event.kind === 'entry' ? late.push(event) : receive(event))
  await other.vfs.link(CALLER, linked, ROOT_INO, Buffer.from('new'))
  await other.vfs.rename(CALLER, ROOT_INO, Buffer.from('new'), ROOT_INO, named, {})
  await clock.pass(QUIET_MS)
  t.ok((await peer.getattr(linked)).attrMs > 0, 'with two links')
  await clock.pass(QUIET_MS)
  peer.threads.take()
  const deliver = async (): Promise<void> => {
    Reflect.deleteProperty(meta, 'receive')
    for (const event of late) meta.receive(event)
    await settle()
  }
  return { ...all, linked, deliver }
}

for (const [how, opcode, body] of [
  ['unlink', 'unlink', () => Buffer.from('file\0')],
  ['rename over it', 'rename', () => renameBody('file', 'y')],
  ['rename of it', 'rename', () => renameBody('z', 'file')],
  ['exchange', 'rename2', () => exchangeBody('y', 'file')],
] as const) {
  t.test(`${how}: a file that the kernel did not know by this name has the links and times of now`, async (t) => {
    const { peer, vfs, linked, deliver } = await replacedElsewhere(t)
    await make(vfs, 'y')
    peer.threads.isQuick = false
    let isAnswered = false
    const changed = peer.ask(opcode, ROOT_INO, body()).finally(() => (isAnswered = true))
    await settle()
    t.ok(peer.threads.take().includes(`attr ${linked}`))
    t.notOk(isAnswered, 'who looks at its other name behind the answer must see it')
    peer.threads.end(`attr ${linked}`)
    t.match(await changed, { error: 0 })
    await deliver()
  })
}

t.test('of what the kernel changes itself it is told nothing', async (t) => {
  const { clock, peer, vfs, file } = await two(t)
  const inos = [file]
  for (const name of ['a', 'b', 'c']) inos.push((await make(vfs, name)).ino)
  for (const name of ['file', 'a', 'b', 'c']) await peer.lookup(ROOT_INO, name)
  await clock.pass(QUIET_MS)
  peer.threads.take()
  t.match(await peer.ask('rename', ROOT_INO, renameBody('a')), { error: 0 })
  t.match(await peer.ask('rename2', ROOT_INO, exchangeBody('a', 'b')), { error: 0 })
  t.match(await peer.ask('unlink', ROOT_INO, Buffer.from('b\0')), { error: 0 })
  t.match(await peer.ask('unlink', ROOT_INO, Buffer.from('c\0')), { error: 0 })
  await settle()
  t.same(
    peer.threads.take().filter((one) => inos.some((ino) => one === `attr ${ino}`)),
    [],
  )
})

t.test('a directory that the kernel did not know by the name that is removed has no links any more', async (t) => {
  const { clock, peer, meta, other } = await two(t)
  const mkdir = async (name: string): Promise<number> =>
    (await other.vfs.mkdir(CALLER, ROOT_INO, Buffer.from(name), 0o755)).ino
  const [, one] = [await mkdir('d'), await mkdir('e')]
  await settle()
  await peer.lookup(ROOT_INO, 'd')
  const late: MetaEvent[] = []
  const receive = meta.receive.bind(meta)
  meta.receive = (event) => (event.kind === 'entry' ? late.push(event) : receive(event))
  await other.vfs.rename(CALLER, ROOT_INO, Buffer.from('e'), ROOT_INO, Buffer.from('d'), {})
  await peer.getattr(one)
  await clock.pass(QUIET_MS)
  peer.threads.take()
  t.match(await peer.ask('rmdir', ROOT_INO, Buffer.from('d\0')), { error: 0 })
  t.ok(peer.threads.take().includes(`attr ${one}`))
  Reflect.deleteProperty(meta, 'receive')
})

t.test('both names of an exchange are told', async (t) => {
  const { clock, peer, other } = await two(t)
  await make(other.vfs, 'second')
  await settle()
  await peer.lookup(ROOT_INO, 'file')
  await peer.lookup(ROOT_INO, 'second')
  t.match(await peer.ask('rename2', ROOT_INO, exchangeBody('file', 'second')), { error: 0 })
  await clock.pass(QUIET_MS)
  await other.vfs.unlink(CALLER, ROOT_INO, Buffer.from('second'))
  await settle()
  t.same(
    peer.threads
      .take()
      .filter((one) => one.startsWith('entry'))
      .sort(),
    ['entry 1/file', 'entry 1/second'],
  )
})

/** SETXATTR of one byte, as the kernel sends it. */
function attributeBody(): Buffer {
  const head = Buffer.alloc(16)
  head.writeUInt32LE(1, 0)
  return Buffer.concat([head, Buffer.from('user.a\0x')])
}

t.test('an attribute that is set gives the inode a new version, also for an answer on its way', async (t) => {
  const { peer, file } = await two(t)
  await peer.getattr(file)
  t.match(await peer.ask('setxattr', file, attributeBody()), { error: 0 })
  await settle()
  t.same(peer.threads.take(), [`attr ${file}`])
})

t.test('an attribute that is set is answered when the kernel has that version, not before', async (t) => {
  const { peer, file } = await two(t)
  await peer.getattr(file)
  peer.threads.isQuick = false
  let isAnswered = false
  const set = peer.ask('setxattr', file, attributeBody())
  void set.then(() => (isAnswered = true))
  await settle()
  t.equal(isAnswered, false, 'what is asked behind the answer would be overtaken')
  peer.threads.end(`attr ${file}`)
  t.match(await set, { error: 0 })
})

t.test('what the kernel does not hold is not told when changes of others are heard of again', async (t) => {
  const { clock, peer, meta, file } = await two(t)
  await peer.getattr(file)
  await clock.pass(QUIET_MS)
  meta.setCoherent(false)
  await peer.getattr(file)
  await settle()
  t.ok(peer.threads.take().includes(`attr ${file}`))
  meta.setCoherent(true)
  await settle()
  await clock.pass(QUIET_MS)
  t.notOk(peer.threads.take().includes(`attr ${file}`), 'it has to ask, and the answer must not be overtaken')
})

t.test('of a file whose attributes the kernel does not hold only the pages are dropped', async (t) => {
  const { clock, peer, meta, other, file } = await two(t)
  await peer.open(file)
  await clock.pass(QUIET_MS)
  const told = async (): Promise<string[]> => {
    await settle()
    await clock.pass(QUIET_MS)
    return peer.threads.take().filter((one) => one.endsWith(` ${file}`))
  }
  meta.setCoherent(false)
  t.same(await told(), [`data ${file}`], 'a notice about attributes would overtake the answer to who asks for them')
  meta.setCoherent(true)
  t.same(await told(), [`data ${file}`])
  await other.vfs.setattr(CALLER, file, { sizeBytes: 1 })
  t.same(await told(), [`data ${file}`])
  await peer.getattr(file)
  await other.vfs.setattr(CALLER, file, { sizeBytes: 2 })
  t.same(await told(), [`attr ${file}`, `data ${file}`], 'those that it holds must go before a read looks at them')
})

t.test('a notice waits until who asks has taken rights that the kernel did not know', async (t) => {
  const { clock, peer, other, file } = await two(t)
  await peer.getattr(file)
  await clock.pass(QUIET_MS)
  await other.vfs.setattr(CALLER, file, { mode: 0o600 })
  await settle()
  t.same(peer.threads.take(), [`attr ${file}`])
  t.match(await peer.getattr(file), { mode: 0o600, attrMs: 30_000 })
  await other.vfs.setattr(CALLER, file, { atime: 'now' })
  await settle()
  t.same(peer.threads.take(), [], 'overtaken, the answer would leave the mode of before')
  await clock.pass(2)
  t.same(peer.threads.take(), [`attr ${file}`])
  t.match(await peer.getattr(file), { mode: 0o600, attrMs: 30_000 })
  await other.vfs.setattr(CALLER, file, { atime: 'now' })
  await settle()
  t.same(peer.threads.take(), [`attr ${file}`], 'these it knows')
})

t.test('rights whose answer was overtaken are not known', async (t) => {
  const { clock, peer, other, file } = await two(t)
  await peer.getattr(file)
  await clock.pass(QUIET_MS)
  await other.vfs.setattr(CALLER, file, { mode: 0o600 })
  await settle()
  await peer.getattr(file)
  peer.server.cache.doubt({ names: [], attrs: [file], contents: [] })
  await clock.pass(QUIET_MS)
  await peer.getattr(file)
  peer.threads.take()
  await other.vfs.setattr(CALLER, file, { atime: 'now' })
  await settle()
  t.same(peer.threads.take(), [])
  await clock.pass(2)
  t.same(peer.threads.take(), [`attr ${file}`])
})

t.test('a notice waits for the answer to who asks for attributes just now', async (t) => {
  const { clock, peer, vfs, other, file } = await two(t)
  await peer.getattr(file)
  await clock.pass(QUIET_MS)
  // Nobody answers at once for what is unwritten.
  const { handle } = await vfs.open(CALLER, file, 2)
  await vfs.write(handle, 0, Buffer.from('AFTER!'))
  const gate = new Gate()
  const getattr = vfs.getattr.bind(vfs)
  t.capture(vfs, 'getattr', async (...values: Parameters<typeof getattr>) => {
    await gate.passed
    return getattr(...values)
  })
  const asked = peer.getattr(file)
  await other.vfs.setattr(CALLER, file, { mode: 0o600 })
  await settle()
  t.same(peer.threads.take(), [])
  gate.open()
  t.match(await asked, { mode: 0o600 })
  await clock.pass(QUIET_MS)
  t.same(peer.threads.take(), [`attr ${file}`])
  await vfs.release(handle)
})

t.test('pages of what was written and lost are dropped', async (t) => {
  const { peer, vfs, chunks, file } = await two(t)
  const { body } = await peer.ask('open', file, Buffer.alloc(8))
  t.equal(body.length, 16)
  const { handle } = await vfs.open(CALLER, file, 2)
  chunks.before = (call) => {
    if (call === 'write') throw new PosixError('ENOSPC')
  }
  await vfs.write(handle, 0, Buffer.from('AFTER!'))
  peer.threads.take()
  t.equal(await codeOf(vfs.release(handle)), 'ENOSPC')
  await settle()
  t.ok(peer.threads.take().includes(`data ${file}`))
})

t.test(
  'attributes of a directory that another thread was given just before it changes here do not count',
  async (t) => {
    const { clock, peer } = await two(t)
    const mkdir = (name: string, pid: number): Promise<unknown> =>
      peer.ask('mkdir', ROOT_INO, Buffer.concat([Buffer.alloc(8), Buffer.from(`${name}\0`)]), pid)
    const getattr = async (pid: number): Promise<void> => {
      const { body } = await peer.ask('getattr', ROOT_INO, Buffer.alloc(16), pid)
      t.ok(body.readBigUInt64LE(0) > 0n, 'with a lifetime')
    }
    await getattr(7)
    await mkdir('a', 7)
    await settle()
    t.same(peer.threads.take(), [], 'its own it has taken before it asked for the change')
    await getattr(8)
    await mkdir('b', 7)
    await settle()
    t.same(peer.threads.take(), [`attr ${ROOT_INO}`])
    await getattr(8)
    await getattr(7)
    await mkdir('c', 7)
    await settle()
    t.same(peer.threads.take(), [`attr ${ROOT_INO}`], 'also when it asked, too')
    await getattr(8)
    await clock.pass(2_000)
    await mkdir('d', 7)
    await settle()
    t.same(peer.threads.take(), [], 'by now it has been taken')
  },
)
