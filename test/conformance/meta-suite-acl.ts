/** MetaStore: POSIX ACLs, the umask, and what takes set-id bits and capabilities away. Sources: acl(5), inode(7), xattr(7). */
import type { Test } from 'tap'
import type { AttrChange, MetaStore } from '../../src/meta/contract.js'
import { ACCESS, DEFAULT, aclOf, textOf } from '../helpers/acls.js'
import {
  ROOT,
  bytes,
  coherent,
  isRefusedUnseen,
  newFile,
  outcome,
  touch,
  type ClientOptions,
  until,
} from '../helpers/meta.js'

/** A claim about a store that `client` opens, as often as it is asked. */
export type AclClaim = (name: string, body: (t: Test, client: OpenClient) => Promise<void>) => void
export type OpenClient = (options?: ClientOptions) => Promise<MetaStore>

const NAMED = 'u::rwx,u:1000:rw-,g::r-x,m::rwx,o::r--'
const CAPABILITY = bytes('security.capability')

async function aclText(meta: MetaStore, ino: number, name: Buffer): Promise<string> {
  let text = ''
  const result = await outcome(
    meta.getxattr(ino, name).then((acl) => {
      text = textOf(acl)
    }),
  )
  return result === 'ok' ? text : result
}

async function modeOf(meta: MetaStore, ino: number): Promise<string> {
  return (await meta.getattr(ino)).mode.toString(8)
}

function setAcl(meta: MetaStore, ino: number, name: Buffer, text: string): Promise<string> {
  return outcome(meta.setxattr(ino, name, aclOf(text), 'any'))
}

export function aclClaims(claim: AclClaim): void {
  creationClaims(claim)
  modeClaims(claim)
  refusalClaims(claim)
  privilegeClaims(claim)
}

function creationClaims(claim: AclClaim): void {
  claim('without a default ACL the umask is taken from the mode', async (t, client) => {
    const meta = await client()
    const file = await touch(meta, ROOT, 'file', newFile({ mode: 0o6666, umask: 0o027 }))
    const dir = await meta.mkdir(ROOT, bytes('dir'), 0o1777, 0, 0, 0o027)
    const link = await touch(meta, ROOT, 'link', { ...newFile({ mode: 0o777, umask: 0o077 }), ...SYMLINK })
    t.same([file.mode, dir.mode, link.mode], [0o6640, 0o1750, 0o777])
    t.same([file.hasXattrs, dir.hasXattrs], [false, false])
    t.same((await meta.getattr(dir.ino)).mode, 0o1750)
  })

  claim('a default ACL takes the place of the umask and is handed down', async (t, client) => {
    const meta = await client()
    const dir = await meta.mkdir(ROOT, bytes('dir'), 0o755, 0, 0)
    t.equal(await setAcl(meta, dir.ino, DEFAULT, NAMED), 'ok')
    t.equal(await modeOf(meta, dir.ino), '755', 'it says nothing about the directory itself')
    const file = await touch(meta, dir.ino, 'file', newFile({ mode: 0o666, umask: 0o077 }))
    t.same([file.mode, file.hasXattrs], [0o664, true])
    t.equal(await aclText(meta, file.ino, ACCESS), 'u::rw-,u:1000:rw-,g::r-x,m::rw-,o::r--')
    t.equal(await aclText(meta, file.ino, DEFAULT), 'ENODATA')
    const inner = await meta.mkdir(dir.ino, bytes('inner'), 0o750, 0, 0, 0o077)
    t.same([inner.mode, inner.hasXattrs], [0o750, true])
    t.equal(await aclText(meta, inner.ino, ACCESS), 'u::rwx,u:1000:rw-,g::r-x,m::r-x,o::---')
    t.equal(await aclText(meta, inner.ino, DEFAULT), NAMED)
    const deep = await meta.mkdir(inner.ino, bytes('deep'), 0o777, 0, 0, 0o077)
    t.equal(await aclText(meta, deep.ino, DEFAULT), NAMED)
    const fifo = await touch(meta, deep.ino, 'fifo', newFile({ type: 'fifo', mode: 0o622, umask: 0o777 }))
    t.equal(await aclText(meta, fifo.ino, ACCESS), 'u::rw-,u:1000:rw-,g::r-x,m::-w-,o::---')
    const link = await touch(meta, dir.ino, 'link', { ...newFile({ mode: 0o777, umask: 0o077 }), ...SYMLINK })
    t.same([link.mode, link.hasXattrs], [0o777, false])
    const again = await meta.create(dir.ino, bytes('file'), newFile({ mode: 0o600 }), { exclusive: false, open: false })
    t.same([again.created, again.attr.mode], [false, 0o664], 'what is there already keeps its rights')
  })

  claim('a default ACL that says no more than a mode leaves no ACL on files', async (t, client) => {
    const meta = await client()
    const dir = await meta.mkdir(ROOT, bytes('dir'), 0o755, 0, 0)
    await setAcl(meta, dir.ino, DEFAULT, 'u::rwx,g::r-x,o::---')
    const file = await touch(meta, dir.ino, 'file', newFile({ mode: 0o666, umask: 0o777 }))
    t.same([file.mode, file.hasXattrs], [0o640, false])
    const inner = await meta.mkdir(dir.ino, bytes('inner'), 0o777, 0, 0, 0o777)
    t.same([inner.mode, await aclText(meta, inner.ino, ACCESS)], [0o750, 'ENODATA'])
    t.equal(await aclText(meta, inner.ino, DEFAULT), 'u::rwx,g::r-x,o::---')
  })

  claim('a set-gid directory hands down its group with its default ACL', async (t, client) => {
    const meta = await client()
    const dir = await meta.mkdir(ROOT, bytes('dir'), 0o2775, 0, 77)
    await setAcl(meta, dir.ino, DEFAULT, NAMED)
    const inner = await meta.mkdir(dir.ino, bytes('inner'), 0o777, 5, 5, 0o022)
    t.same([inner.gid, inner.mode], [77, 0o2774])
    const file = await touch(meta, inner.ino, 'file', newFile({ mode: 0o644, uid: 5, gid: 5 }))
    t.same([file.gid, file.uid, file.mode], [77, 5, 0o644])
  })

  claim('mkdir inherits what the directory has now, whatever this client knew of it', async (t, client) => {
    const [one, two] = [await client(), await client()]
    const dir = await one.mkdir(ROOT, bytes('dir'), 0o755, 0, 0)
    const made = async (name: string): Promise<string> => {
      const { ino } = await one.mkdir(dir.ino, bytes(name), 0o777, 0, 0, 0o022)
      return `${await modeOf(one, ino)} ${await aclText(one, ino, DEFAULT)}`
    }
    t.equal(await made('a'), '755 ENODATA')
    await setAcl(two, dir.ino, DEFAULT, NAMED)
    t.equal(await made('b'), `774 ${NAMED}`)
    await setAcl(two, dir.ino, DEFAULT, 'u::rwx,g::---,o::---')
    t.equal(await made('c'), '700 u::rwx,g::---,o::---')
    await two.setattr(dir.ino, { mode: 0o2755 })
    t.equal(await made('d'), '2700 u::rwx,g::---,o::---')
    await two.removexattr(dir.ino, DEFAULT)
    await two.setattr(dir.ino, { mode: 0o755 })
    t.equal(await made('e'), '755 ENODATA')
  })
}

const SYMLINK = { type: 'symlink', target: bytes('target') } as const

function modeClaims(claim: AclClaim): void {
  claim('setting an access ACL sets the mode; one that says no more than a mode is not kept', async (t, client) => {
    const meta = await client()
    const { ino } = await touch(meta, ROOT, 'file', newFile({ mode: 0o2644 }))
    t.equal(await setAcl(meta, ino, ACCESS, 'u::rw-,u:1000:rwx,g::r--,m::-w-,o::---'), 'ok')
    t.same([await modeOf(meta, ino), (await meta.getattr(ino)).hasXattrs], ['2620', true])
    t.same(await meta.listxattr(ino), [ACCESS])
    t.equal(await setAcl(meta, ino, ACCESS, 'u::rwx,g::r-x,o::r-x'), 'ok')
    t.same([await modeOf(meta, ino), (await meta.getattr(ino)).hasXattrs], ['2755', false])
    t.equal(await aclText(meta, ino, ACCESS), 'ENODATA')
    t.same(await meta.listxattr(ino), [])
    await meta.setxattr(ino, ACCESS, aclOf(NAMED), 'any', true)
    t.equal(await modeOf(meta, ino), '774', 'set-gid goes where the caller has no right to it')
  })

  claim('chmod changes the entries of owner, mask and others', async (t, client) => {
    const meta = await client()
    const { ino } = await touch(meta, ROOT, 'file')
    await setAcl(meta, ino, ACCESS, NAMED)
    const attr = await meta.setattr(ino, { mode: 0o4510 })
    t.same([attr.mode, attr.hasXattrs], [0o4510, true])
    t.equal(await aclText(meta, ino, ACCESS), 'u::r-x,u:1000:rw-,g::r-x,m::--x,o::---')
    await meta.setattr(ino, { uid: 7, atime: 'now' })
    t.equal(await aclText(meta, ino, ACCESS), 'u::r-x,u:1000:rw-,g::r-x,m::--x,o::---')
  })

  claim(
    'an ACL that is removed leaves the mode; user attributes and ACLs do not disturb each other',
    async (t, client) => {
      const meta = await client()
      const { ino } = await meta.mkdir(ROOT, bytes('dir'), 0o755, 0, 0)
      await setAcl(meta, ino, ACCESS, NAMED)
      await setAcl(meta, ino, DEFAULT, NAMED)
      await meta.setxattr(ino, bytes('user.a'), bytes('1'), 'any')
      t.same((await meta.listxattr(ino)).map(String).sort(), [String(ACCESS), String(DEFAULT), 'user.a'])
      await meta.removexattr(ino, ACCESS)
      t.equal(await modeOf(meta, ino), '774')
      t.equal(await outcome(meta.removexattr(ino, ACCESS)), 'ENODATA')
      await meta.removexattr(ino, bytes('user.a'))
      t.equal((await meta.getattr(ino)).hasXattrs, true)
      await meta.setxattr(ino, DEFAULT, Buffer.alloc(0), 'any')
      t.equal(await aclText(meta, ino, DEFAULT), 'ENODATA', 'an empty ACL is none')
      t.equal((await meta.getattr(ino)).hasXattrs, false)
    },
  )

  claim('an ACL that rests on an owner or a group of before is neither set nor removed', async (t, client) => {
    const [meta, other] = [await client(), await client()]
    const { ino } = await touch(meta, ROOT, 'file')
    const seen = { uid: 1000, gid: 1000 }
    const remove = (): Promise<void> => meta.removexattr(ino, ACCESS, seen)
    const set = (): Promise<void> => meta.setxattr(ino, ACCESS, aclOf(NAMED), 'any', false, seen)
    await set()
    await remove()
    await set()
    for (const given of [{ uid: 0 }, { gid: 0 }]) {
      const before = await other.setattr(ino, { uid: 1000, gid: 1000, ...given })
      t.ok(await isRefusedUnseen(set()))
      t.ok(await isRefusedUnseen(remove()))
      t.same([await meta.getattr(ino), await aclText(meta, ino, ACCESS)], [before, NAMED])
    }
  })

  claim('a change of an ACL moves ctime only, and is told to other clients', async (t, client) => {
    const [meta, other] = [await client(), await client()]
    const before = await touch(meta, ROOT, 'file')
    await coherent(other)
    const told: number[] = []
    other.onEvent((event) => event.kind === 'attr' && event.ino === before.ino && told.push(event.ino))
    await setAcl(meta, before.ino, ACCESS, NAMED)
    const after = await meta.getattr(before.ino)
    t.same({ ...after, ctime: before.ctime }, { ...before, mode: 0o774, hasXattrs: true })
    await meta.removexattr(before.ino, ACCESS)
    await until('both are told', () => told.length >= 2)
    t.same(told, [before.ino, before.ino])
  })
}

function refusalClaims(claim: AclClaim): void {
  claim('only valid ACLs are taken, and only where they belong', async (t, client) => {
    const meta = await client()
    const file = await touch(meta, ROOT, 'file')
    const link = await touch(meta, ROOT, 'link', { ...newFile(), ...SYMLINK })
    for (const text of INVALID) t.equal(await setAcl(meta, file.ino, ACCESS, text), 'EINVAL', text)
    const set = (ino: number, name: Buffer, value: Buffer): Promise<string> =>
      outcome(meta.setxattr(ino, name, value, 'any'))
    const valid = aclOf(NAMED)
    t.equal(await set(file.ino, ACCESS, valid.subarray(0, -1)), 'EINVAL')
    t.equal(await set(file.ino, ACCESS, valid.subarray(0, 3)), 'EINVAL')
    t.equal(await set(file.ino, ACCESS, Buffer.concat([Buffer.from([1]), valid.subarray(1)])), 'EOPNOTSUPP')
    const many = Array.from({ length: 600 }, (_, id) => `u:${id}:r--`).join(',')
    t.equal(await setAcl(meta, file.ino, ACCESS, `u::rwx,${many},g::r--,m::r--,o::r--`), 'E2BIG')
    t.equal(await set(file.ino, DEFAULT, valid), 'EACCES')
    t.equal(await set(link.ino, ACCESS, valid), 'EOPNOTSUPP')
    t.equal(await set(file.ino, bytes('system.other'), valid), 'EOPNOTSUPP')
    t.equal(await outcome(meta.getxattr(file.ino, bytes('system.other'))), 'EOPNOTSUPP')
    t.equal(await outcome(meta.removexattr(file.ino, bytes('system.other'))), 'EOPNOTSUPP')
    t.same([await modeOf(meta, file.ino), (await meta.listxattr(file.ino)).length], ['644', 0])
  })

  claim('user attributes are for files and directories only', async (t, client) => {
    const meta = await client()
    const fifo = await touch(meta, ROOT, 'fifo', newFile({ type: 'fifo' }))
    const set = (name: string): Promise<string> => outcome(meta.setxattr(fifo.ino, bytes(name), bytes('x'), 'any'))
    t.same([await set('user.a'), await set('trusted.a'), await set('security.a')], ['EPERM', 'ok', 'ok'])
  })
}

const INVALID: readonly string[] = [
  'u::rwx,g::r-x',
  'u::rwx,u:5:rwx,g::r-x,o::r-x',
  'u::rwx,g::r-x,m::r-x,m::r-x,o::r-x',
  'u::rwx,u::rwx,g::r-x,o::r-x',
  'g::r-x,u::rwx,o::r-x',
  'u::rwx,g::r-x,o::r-x,m::r-x',
  'u::rwx,u:4294967295:rwx,g::r-x,m::r-x,o::r-x',
]

function privilegeClaims(claim: AclClaim): void {
  claim('set-id bits and capabilities go as the change says', async (t, client) => {
    const meta = await client()
    const { ino } = await touch(meta, ROOT, 'file')
    const left = async (mode: number, change: AttrChange): Promise<string> => {
      await meta.setattr(ino, { mode })
      await meta.setxattr(ino, CAPABILITY, bytes('cap'), 'any')
      await meta.setattr(ino, change)
      return `${await modeOf(meta, ino)} ${await outcome(meta.getxattr(ino, CAPABILITY))}`
    }
    t.equal(await left(0o6755, { dropPrivileges: true }), '755 ENODATA')
    t.equal(await left(0o6745, { dropPrivileges: true }), '2745 ENODATA', 'set-gid without execution is no right')
    t.equal(await left(0o6755, { sizeBytes: 5 }), '6755 ENODATA')
    t.equal(await left(0o6755, { sizeBytes: 3, dropPrivileges: true }), '755 ENODATA')
    t.equal(await left(0o6755, { sizeBytes: 3, dropPrivileges: true, mode: 0o6711 }), '6711 ENODATA')
    t.equal(await left(0o6755, { uid: 3 }), '755 ENODATA')
    t.equal(await left(0o6755, { gid: 3, mode: 0o4700 }), '4700 ENODATA')
    t.equal(await left(0o6755, { atime: 'now' }), '6755 ok')
    t.equal(await left(0o6755, { mode: 0o6711 }), '6711 ok')
    const dir = await meta.mkdir(ROOT, bytes('dir'), 0o6755, 0, 0)
    await meta.setattr(dir.ino, { uid: 5, dropPrivileges: true })
    t.equal(await modeOf(meta, dir.ino), '6755', 'of a directory they are no rights')
  })

  claim(
    'opening with truncation and committing data take capabilities, and set-id bits if asked to',
    async (t, client) => {
      const meta = await client()
      const { ino } = await touch(meta, ROOT, 'file')
      const request = {
        extents: [],
        mode: 'at',
        allocatedDeltaBytes: 0,
        mtime: { sec: 1, nsec: 0 },
        minSizeBytes: 9,
      } as const
      const left = async (change: () => Promise<unknown>): Promise<string> => {
        await meta.setattr(ino, { mode: 0o6755 })
        await meta.setxattr(ino, CAPABILITY, bytes('cap'), 'any')
        await change()
        return `${await modeOf(meta, ino)} ${await outcome(meta.getxattr(ino, CAPABILITY))}`
      }
      t.equal(await left(() => meta.commit(ino, request)), '6755 ENODATA')
      t.equal(await left(() => meta.commit(ino, { ...request, clearSuid: true })), '755 ENODATA')
      t.equal(await left(() => meta.open(ino, { truncate: true })), '6755 ENODATA')
      t.equal(await left(() => meta.open(ino, { truncate: true, dropPrivileges: true })), '755 ENODATA')
      t.equal(await left(() => meta.open(ino, { truncate: false })), '6755 ok')
      for (let i = 0; i < 3; i++) meta.close(ino)
    },
  )
}
