/** Who may change what is given away meanwhile: the kernel judges by the owner and the group that it holds (handlers/owner.ts). */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import t, { type Test } from 'tap'
import { ROOT_INO } from '../../../src/base/limits.js'
import type { Attr, AttrChange } from '../../../src/vfs/contract.js'
import { ACCESS, aclOf } from '../../helpers/acls.js'
import { FusePeer, cString, words, type PeerCaller } from '../../helpers/fuse-peer.js'
import type { MemoryMeta } from '../../helpers/memory-meta.js'
import { CALLER, fixture } from '../../helpers/vfs-fixture.js'

const EPERM = -1
const EACCES = -13
const HANDLE_KILLPRIV_V2 = 1 << 28
const FATTR = { mode: 1, uid: 2, gid: 4, size: 8, atime: 16, mtime: 32, atimeNow: 128, mtimeNow: 256 }
/** Nobody who runs tests is of these. */
const USER = 4_242
const OTHER = 4_343
const NAMED = aclOf('u::rwx,u:1000:rw-,g::r-x,m::rwx,o::r--')

/** A process that may act as the owner of nothing but its own: it has its capabilities in a user namespace. */
async function unable(t: Pick<Test, 'teardown'>): Promise<number> {
  const child = spawn('unshare', ['-Ur', 'sh', '-c', 'echo; exec sleep 300'], { stdio: ['ignore', 'pipe', 'inherit'] })
  t.teardown(() => child.kill('SIGKILL'))
  await once(child.stdout, 'data')
  return child.pid ?? 0
}

function setattr({ sizeBytes = 0, mode = 0, uid = 0, gid = 0 }: AttrChange, valid: number): Buffer {
  const body = Buffer.alloc(88)
  body.writeUInt32LE(valid, 0)
  body.writeBigUInt64LE(BigInt(sizeBytes), 16)
  body.writeUInt32LE(mode, 68)
  body.writeUInt32LE(uid, 76)
  body.writeUInt32LE(gid, 80)
  return body
}

function setAcl(): Buffer[] {
  return [words(NAMED.length, 0, 0, 0), cString(String(ACCESS)), NAMED]
}

type Ask = (peer: FusePeer, ino: number, caller: PeerCaller) => Promise<number>

function changes(change: AttrChange, valid: number): Ask {
  return async (peer, ino, caller) => (await peer.ask('setattr', ino, [setattr(change, valid)], caller)).error
}

const chmod = (mode: number): Ask => changes({ mode }, FATTR.mode)
const chgrp = (gid: number): Ask => changes({ gid }, FATTR.gid)
const TOUCH = changes({}, FATTR.atime | FATTR.mtime | FATTR.atimeNow | FATTR.mtimeNow)
/** UTIME_NOW and UTIME_OMIT. */
const TOUCH_ATIME = changes({}, FATTR.atime | FATTR.atimeNow)
const TOUCH_MTIME = changes({}, FATTR.mtime | FATTR.mtimeNow)
const BY_OWNER: Readonly<Record<string, Ask>> = {
  chmod: chmod(0o4755),
  chgrp: chgrp(USER),
  utimes: changes({}, FATTR.atime | FATTR.mtime),
  'utimes of now': TOUCH,
  setfacl: async (peer, ino, caller) => (await peer.ask('setxattr', ino, setAcl(), caller)).error,
  'setfacl -b': async (peer, ino, caller) =>
    (await peer.ask('removexattr', ino, [cString(String(ACCESS))], caller)).error,
}

/** Calls that change attributes or ACLs, when they are on their way to the store. */
const CALLS: ReadonlySet<string> = new Set(['setattr', 'setxattr', 'removexattr', 'commitInline'])

interface Scene {
  readonly peer: FusePeer
  readonly ino: number
  readonly caller: PeerCaller
  readonly meta: MemoryMeta
  /** Does so on another mount while the next change is on its way. */
  readonly meanwhile: (change: AttrChange) => void
  /** As another mount has it, which makes this change before. */
  readonly attr: (change?: AttrChange) => Promise<Attr>
}

async function scene(t: Test, flags?: number): Promise<Scene> {
  const { vfs, meta, another } = fixture(t)
  const other = another()
  const peer = new FusePeer(vfs)
  await peer.init(flags)
  const { ino } = await vfs.mknod(CALLER, ROOT_INO, Buffer.from('f'), 0o100644, 0)
  await vfs.setattr(CALLER, ino, { uid: USER, gid: USER })
  await vfs.setxattr(ino, ACCESS, aclOf('u::rw-,u:1000:rw-,g::r--,m::r--,o::r--'), 0)
  await vfs.getattr(CALLER, ino)
  const meanwhile = (change: AttrChange): void => {
    meta.before = async (call) => {
      if (!CALLS.has(call)) return
      meta.before = () => undefined
      await other.vfs.setattr(CALLER, ino, change)
    }
  }
  const caller = { uid: USER, gid: USER, pid: await unable(t) }
  const attr = async (change?: AttrChange): Promise<Attr> =>
    change ? await other.vfs.setattr(CALLER, ino, change) : await other.vfs.getattr(CALLER, ino)
  return { peer, ino, caller, meta, meanwhile, attr }
}

t.test('a change on its way while the file is given away is EPERM, and not made', async (t) => {
  const { peer, ino, caller, meanwhile, attr } = await scene(t)
  for (const [name, ask] of Object.entries(BY_OWNER)) {
    await peer.ask('setattr', ino, [setattr({ uid: USER, gid: OTHER }, FATTR.uid | FATTR.gid)])
    meanwhile({ uid: OTHER })
    t.equal(await ask(peer, ino, caller), name === 'utimes of now' ? EACCES : EPERM, name)
    const { mode, uid, gid, mtime } = await attr()
    t.same([mode, uid, gid], [0o644, OTHER, OTHER], name)
    t.not(mtime.sec, 0, name)
    t.equal(await ask(peer, ino, caller), name === 'utimes of now' ? EACCES : EPERM, `${name}, known before`)
  }
})

t.test('a cut is not made where what comes with it may not be', async (t) => {
  const { peer, ino, caller, meanwhile, attr } = await scene(t)
  const cuts = {
    mode: changes({ sizeBytes: 5, mode: 0o600 }, FATTR.size | FATTR.mode),
    group: changes({ sizeBytes: 5, gid: USER }, FATTR.size | FATTR.gid),
    times: changes({ sizeBytes: 5 }, FATTR.size | FATTR.mtime),
  }
  for (const [name, cut] of Object.entries(cuts)) {
    await peer.ask('setattr', ino, [setattr({ sizeBytes: 9, mode: 0o666 }, FATTR.size | FATTR.mode)])
    await peer.ask('setattr', ino, [setattr({ uid: USER, gid: USER }, FATTR.uid | FATTR.gid)])
    t.equal(await cut(peer, ino, { ...caller, uid: OTHER }), EPERM, name)
    meanwhile({ uid: OTHER })
    t.equal(await cut(peer, ino, caller), EPERM, `${name}, on its way`)
    t.match(await attr(), { sizeBytes: 9, mode: 0o666, uid: OTHER, gid: USER }, name)
    await peer.ask('setattr', ino, [setattr({ uid: USER, gid: OTHER }, FATTR.uid | FATTR.gid)])
    t.equal(await cut(peer, ino, caller), 0, name)
    t.match(await attr(), { sizeBytes: 5, mode: name === 'mode' ? 0o600 : 0o666 }, name)
  }
})

t.test('whoever was given it back is not refused by what is known of before', async (t) => {
  const { peer, ino, caller, meta, attr } = await scene(t)
  const receive = meta.receive.bind(meta)
  for (const [name, ask] of Object.entries(BY_OWNER)) {
    const back = { uid: USER, gid: name === 'chgrp' ? OTHER : USER }
    meta.receive = receive
    await peer.ask('setattr', ino, [setattr({ uid: OTHER, gid: OTHER }, FATTR.uid | FATTR.gid)])
    meta.receive = () => undefined
    await attr(back)
    t.equal(await ask(peer, ino, caller), 0, name)
    t.equal((await attr()).gid, USER, name)
  }
  await peer.ask('setattr', ino, [setattr({ uid: OTHER, mode: 0o644 }, FATTR.uid | FATTR.mode)])
  for (const [name, ask] of Object.entries(BY_OWNER)) {
    meta.calls.clear()
    t.equal(await ask(peer, ino, caller), name === 'utimes of now' ? EACCES : EPERM, name)
    t.equal(meta.calls.get('getattr'), 1, name)
  }
})

t.test('given to another group it is tried again, as a change of its own, if the group counts', async (t) => {
  const { peer, ino, caller, meta, meanwhile, attr } = await scene(t)
  const all = { ...BY_OWNER, 'chmod with set-gid': chmod(0o2755) }
  for (const [name, ask] of Object.entries(all)) {
    await peer.ask('setattr', ino, [setattr({ gid: USER }, FATTR.gid)])
    meanwhile({ gid: OTHER })
    meta.calls.clear()
    t.equal(await ask(peer, ino, caller), 0, name)
    t.same(
      [...meta.calls].filter(([call]) => CALLS.has(call)).map(([, times]) => times),
      [['chgrp', 'setfacl', 'chmod with set-gid'].includes(name) ? 2 : 1],
      name,
    )
    t.equal((await attr()).gid, name === 'chgrp' ? USER : OTHER, name)
  }
})

t.test('whoever owns it, or is root, asks the store once', async (t) => {
  const { peer, ino, caller, meta } = await scene(t)
  for (const who of [caller, { uid: 0, gid: 0 }]) {
    for (const [name, ask] of Object.entries(BY_OWNER)) {
      meta.calls.clear()
      t.equal(await ask(peer, ino, who), 0, name)
      t.same([...meta.calls.values()], [1], name)
      await peer.ask('getattr', ino, [Buffer.alloc(16)])
    }
  }
})

t.test('set-gid is given by who is in the group that the file has, whichever the kernel holds', async (t) => {
  const { peer, ino, caller, meanwhile, attr } = await scene(t)
  const given = async (gid: number, ask: Ask): Promise<string> => {
    await peer.ask('setattr', ino, [setattr({ gid, mode: 0o2755 }, FATTR.gid | FATTR.mode)])
    t.equal(await ask(peer, ino, caller), 0)
    return ((await attr()).mode & 0o7777).toString(8)
  }
  const acl = BY_OWNER['setfacl'] ?? TOUCH
  t.same([await given(USER, chmod(0o6755)), await given(USER, acl)], ['6755', '2774'])
  t.same([await given(OTHER, chmod(0o6755)), await given(OTHER, acl)], ['4755', '774'])
  for (const [ask, left] of [
    [chmod(0o2755), '755'],
    [acl, '774'],
  ] as const) {
    await peer.ask('setattr', ino, [setattr({ gid: USER, mode: 0o755 }, FATTR.gid | FATTR.mode)])
    meanwhile({ gid: OTHER, mode: 0o2755 })
    t.equal(await ask(peer, ino, caller), 0)
    t.match(await attr(), { gid: OTHER, mode: Number.parseInt(left, 8) })
  }
  await peer.ask('setattr', ino, [setattr({ gid: OTHER, mode: 0o755 }, FATTR.gid | FATTR.mode)])
  t.equal(
    await chgrp(5_555)(peer, ino, caller),
    EPERM,
    'nor is it given to a group that only the kernel believes it to have',
  )
})

t.test('set-id bits that go with a write go from the mode that the file has then', async (t) => {
  const { peer, ino, meanwhile, attr, caller } = await scene(t)
  const stranger = { ...caller, uid: OTHER, gid: OTHER }
  const write = Buffer.concat([words(0, 0, 0, 0, 1, 4, 0, 0, 0, 0), Buffer.from('x')])
  await peer.ask('setattr', ino, [setattr({ mode: 0o2664 }, FATTR.mode)])
  const { body } = await peer.ask('open', ino, [words(1, 0)])
  body.copy(write, 0, 0, 8)
  meanwhile({ mode: 0o2600 })
  t.equal((await peer.ask('write', ino, [write], stranger)).error, 0)
  t.equal((await attr()).mode, 0o600)
})

t.test('only kernels that have no other way to it take set-id bits away by a mode, for whoever writes', async (t) => {
  for (const [flags, expected] of [
    [0xffffffff, EPERM],
    [0xffffffff & ~HANDLE_KILLPRIV_V2, 0],
  ] as const) {
    const { peer, ino, caller, meanwhile, attr } = await scene(t, flags)
    await peer.ask('setattr', ino, [setattr({ mode: 0o4755 }, FATTR.mode)])
    const stranger = { ...caller, uid: OTHER, gid: OTHER }
    t.equal(await chmod(0o755)(peer, ino, stranger), expected)
    if (expected !== 0) continue
    await peer.ask('setattr', ino, [setattr({ mode: 0o4755 }, FATTR.mode)])
    meanwhile({ mode: 0o700 })
    t.equal(await chmod(0o755)(peer, ino, stranger), EPERM, 'that is more than taking them away')
    t.equal((await attr()).mode, 0o700)
  }
})

t.test('one time alone is set by the owner, be it to now; with a cut it is that of who may write', async (t) => {
  for (const flags of [0xffffffff, 0xffffffff & ~HANDLE_KILLPRIV_V2]) {
    const { peer, ino, caller } = await scene(t, flags)
    const stranger = { ...caller, uid: OTHER, gid: OTHER }
    const cut = changes({ sizeBytes: 1 }, FATTR.size | FATTR.mtime | FATTR.mtimeNow)
    for (const [mode, expected] of [
      [0o666, 0],
      [0o644, EACCES],
    ] as const) {
      await peer.ask('setattr', ino, [setattr({ mode }, FATTR.mode)])
      for (const ask of [TOUCH_ATIME, TOUCH_MTIME]) {
        t.equal(await ask(peer, ino, stranger), EPERM)
        t.equal(await ask(peer, ino, caller), 0)
      }
      t.equal(await TOUCH(peer, ino, stranger), expected)
      t.equal(await cut(peer, ino, stranger), 0, 'the kernel has asked whether he may')
    }
  }
})

t.test('times are set to now by whoever may write, as the mode or the ACL says', async (t) => {
  const { peer, ino, caller } = await scene(t)
  const stranger = { ...caller, uid: OTHER, gid: OTHER }
  const touches = async (mode: number, gid: number, acl?: string): Promise<number> => {
    const root = { uid: 0, gid: 0 }
    await peer.ask('removexattr', ino, [cString(String(ACCESS))], root)
    await peer.ask('setattr', ino, [setattr({ mode, gid }, FATTR.mode | FATTR.gid)], root)
    const value = acl === undefined ? undefined : aclOf(acl)
    if (value) await peer.ask('setxattr', ino, [words(value.length, 0, 0, 0), cString(String(ACCESS)), value], root)
    return await TOUCH(peer, ino, stranger)
  }
  t.same([await touches(0o664, USER), await touches(0o664, OTHER)], [EACCES, 0])
  t.same([await touches(0o646, USER), await touches(0o646, OTHER)], [0, EACCES])
  t.same([await touches(0o666, USER), await touches(0o644, OTHER)], [0, EACCES])
  for (const [acl, expected] of [
    [`u::rw-,u:${OTHER}:rw-,g::r--,m::rw-,o::r--`, 0],
    [`u::rw-,u:${OTHER}:rw-,g::r--,m::r--,o::r--`, EACCES],
    [`u::rw-,u:${OTHER}:r--,g::rw-,m::rw-,o::rw-`, EACCES],
    [`u::rw-,g::r--,g:${OTHER}:rw-,m::rw-,o::r--`, 0],
    [`u::rw-,g::r--,g:${OTHER}:rw-,m::r--,o::rw-`, EACCES],
    [`u::rw-,g::r--,g:${OTHER}:r--,m::rw-,o::rw-`, EACCES],
    [`u::rw-,u:1000:rw-,g::r--,m::rw-,o::rw-`, 0],
  ] as const) {
    t.equal(await touches(0o600, USER, acl), expected, acl)
  }
})
