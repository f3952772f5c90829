/** The VFS: umask, ACLs, attributes, and what takes set-id bits and capabilities away. */
import { ROOT_INO } from '../../src/base/limits.js'
import { ACCESS, DEFAULT, aclOf, textOf } from '../helpers/acls.js'
import { fails, ROOT_CALLER, USER_CALLER, type Claim, type Client } from './vfs-suite.js'

const O_WRONLY = 1
const O_CREAT = 0o100
const O_TRUNC = 0o1000
const NAMED = 'u::rwx,u:1000:rw-,g::r-x,m::rwx,o::r--'
const CAPABILITY = Buffer.from('security.capability')

async function acl({ vfs }: Client, ino: number, name: Buffer): Promise<string> {
  return vfs.getxattr(ino, name).then(textOf, (error: unknown) => String(error))
}

async function mode({ vfs }: Client, ino: number): Promise<number> {
  return (await vfs.getattr(ROOT_CALLER, ino)).mode
}

export const ACL_CLAIMS: readonly (readonly [string, Claim])[] = [
  [
    'the umask of the caller counts for what is made, until a default ACL takes its place',
    async (t, a) => {
      const caller = { ...USER_CALLER, umask: 0o027 }
      const made = async (parent: number, name: string): Promise<number[]> => {
        const [file, node, dir] = ['file', 'node', 'dir'].map((kind) => Buffer.from(`${name}-${kind}`))
        if (file === undefined || node === undefined || dir === undefined) throw new Error('three names')
        const opened = await a.vfs.create(caller, parent, file, 0o666, O_CREAT | O_WRONLY)
        await a.close(opened.handle)
        const special = await a.vfs.mknod(caller, parent, node, 0o010666, 0)
        return [opened.attr.mode, special.mode, (await a.vfs.mkdir(caller, parent, dir, 0o777)).mode]
      }
      t.same(await made(ROOT_INO, 'plain'), [0o640, 0o640, 0o750])
      const dir = await a.mkdir('dir')
      await a.vfs.setxattr(dir, DEFAULT, aclOf(NAMED), 0)
      t.same(await made(dir, 'inherits'), [0o664, 0o664, 0o774])
      const link = await a.vfs.symlink(caller, dir, Buffer.from('link'), Buffer.from('target'))
      t.equal(link.mode, 0o777)
    },
  ],
  [
    'a mode and an access ACL are one, here and at other clients',
    async (t, a, b, pair) => {
      const ino = await a.put('file', 'text')
      for (const client of [a, b]) t.match(await acl(client, ino, ACCESS), /ENODATA/)
      await b.vfs.setxattr(ino, ACCESS, aclOf(NAMED), 0)
      await pair.settle()
      for (const client of [a, b]) t.same([await mode(client, ino), await acl(client, ino, ACCESS)], [0o774, NAMED])
      await a.vfs.setattr(ROOT_CALLER, ino, { mode: 0o640 })
      await pair.settle()
      for (const client of [a, b]) t.equal(await acl(client, ino, ACCESS), 'u::rw-,u:1000:rw-,g::r-x,m::r--,o::---')
      await b.vfs.removexattr(ino, ACCESS)
      await pair.settle()
      for (const client of [a, b]) {
        t.match(await acl(client, ino, ACCESS), /ENODATA/)
        t.same(await client.vfs.listxattr(ino), [])
      }
    },
  ],
  [
    'the values of attributes follow changes made elsewhere',
    async (t, a, b, pair) => {
      const ino = await a.put('file', 'text')
      const name = Buffer.from('user.a')
      for (const value of ['1', '2', '3']) {
        await a.vfs.setxattr(ino, name, Buffer.from(value), 0)
        await pair.settle()
        for (const client of [b, a, b]) t.equal(String(await client.vfs.getxattr(ino, name)), value)
        await fails(t, b.vfs.getxattr(ino, Buffer.from('user.none')), 'ENODATA', 'one that it does not have')
      }
      await b.vfs.setxattr(ino, Buffer.from('user.none'), Buffer.from('now'), 0)
      await pair.settle()
      t.equal(String(await a.vfs.getxattr(ino, Buffer.from('user.none'))), 'now')
    },
  ],
  [
    'an open that cuts the file takes the same as a write: set-id bits unless the caller keeps them, and capabilities',
    async (t, a) => {
      const ino = await a.put('file', 'text')
      const left = async (caller: typeof USER_CALLER, flags: number): Promise<string> => {
        await a.vfs.setattr(ROOT_CALLER, ino, { mode: 0o6755 })
        await a.vfs.setxattr(ino, CAPABILITY, Buffer.from('cap'), 0)
        await a.close((await a.vfs.open(caller, ino, flags)).handle)
        const has = (await a.vfs.listxattr(ino)).length > 0
        return `${(await mode(a, ino)).toString(8)} ${has}`
      }
      t.equal(await left(USER_CALLER, O_WRONLY), '6755 true')
      t.equal(await left(USER_CALLER, O_WRONLY | O_TRUNC), '755 false')
      t.equal(await left(ROOT_CALLER, O_WRONLY | O_TRUNC), '6755 false')
      t.equal(await left({ ...USER_CALLER, keepsSetid: true }, O_WRONLY | O_TRUNC), '6755 false')
      t.equal(await left({ ...ROOT_CALLER, keepsSetid: false }, O_WRONLY | O_TRUNC), '755 false')
    },
  ],
  [
    'a capability that is set after a write stays when that is committed',
    async (t, a, b) => {
      const { ino, handle } = await a.create('file')
      await a.vfs.write(handle, 0, Buffer.from('program'))
      await a.vfs.setxattr(ino, CAPABILITY, Buffer.from('cap'), 0)
      await a.close(handle)
      t.equal(String(await b.vfs.getxattr(ino, CAPABILITY)), 'cap')
      const again = await a.open(ino)
      await a.vfs.write(again, 0, Buffer.from('another'))
      await a.close(again)
      await fails(t, b.vfs.getxattr(ino, CAPABILITY), 'ENODATA', 'but goes with the next write')
    },
  ],
  [
    'the namespace system has ACLs and nothing else',
    async (t, a) => {
      const ino = await a.put('file', 'text')
      const other = Buffer.from('system.other')
      await fails(t, a.vfs.getxattr(ino, other), 'EOPNOTSUPP', 'getxattr')
      await fails(t, a.vfs.setxattr(ino, other, Buffer.from('x'), 0), 'EOPNOTSUPP', 'setxattr')
      await fails(t, a.vfs.removexattr(ino, other), 'EOPNOTSUPP', 'removexattr')
      await fails(t, a.vfs.setxattr(ino, ACCESS, Buffer.from('no ACL'), 0), 'EOPNOTSUPP', 'another version')
      await fails(t, a.vfs.setxattr(ino, ACCESS, aclOf('u::rwx,g::r-x'), 0), 'EINVAL', 'half an ACL')
      await fails(t, a.vfs.setxattr(ino, DEFAULT, aclOf(NAMED), 0), 'EACCES', 'a default ACL of a file')
    },
  ],
]
