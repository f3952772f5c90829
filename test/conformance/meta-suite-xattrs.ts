/** MetaStore: extended attributes. */
import type { Test } from 'tap'
import {
  XATTRS_MAX_BYTES,
  XATTR_LIST_MAX_BYTES,
  XATTR_NAMES_MAX_BYTES,
  XATTR_NAME_MAX_BYTES,
  XATTR_VALUE_MAX_BYTES,
} from '../../src/base/limits.js'
import { ACCESS, aclOf } from '../helpers/acls.js'
import { ROOT, bytes, claim, makeDir, outcome, touch, type OpenVolume } from '../helpers/meta.js'

export function xattrClaims(t: Test, open: OpenVolume): void {
  claim(
    t,
    open,
    'extended attributes of files and directories are bytes, set, replaced and removed',
    async (t, volume) => {
      const meta = await volume.client()
      for (const { ino } of [await touch(meta, ROOT, 'file'), await makeDir(meta, ROOT, 'dir')]) {
        const name = Buffer.from('user.\xfe', 'latin1')
        t.strictSame(await meta.listxattr(ino), [])
        t.equal(await outcome(meta.getxattr(ino, name)), 'ENODATA')
        await meta.setxattr(ino, name, Buffer.from([0, 255]), 'any')
        t.same(await meta.getxattr(ino, name), Buffer.from([0, 255]))
        await meta.setxattr(ino, name, Buffer.alloc(0), 'replace')
        t.same(await meta.getxattr(ino, name), Buffer.alloc(0), 'an empty value is a value')
        t.strictSame(await meta.listxattr(ino), [name])
        t.equal(await outcome(meta.setxattr(ino, name, bytes('x'), 'create')), 'EEXIST')
        t.equal(await outcome(meta.setxattr(ino, bytes('user.new'), bytes('x'), 'replace')), 'ENODATA')
        await meta.removexattr(ino, name)
        t.equal(await outcome(meta.removexattr(ino, name)), 'ENODATA')
        t.strictSame(await meta.listxattr(ino), [])
      }
    },
  )

  claim(t, open, 'extended attributes have the limits of linux/limits.h', async (t, volume) => {
    const meta = await volume.client()
    const { ino } = await touch(meta, ROOT, 'file')
    const set = (name: Buffer, value: Buffer): Promise<string> => outcome(meta.setxattr(ino, name, value, 'any'))
    const long = Buffer.alloc(XATTR_NAME_MAX_BYTES, 0x61)
    t.equal(await set(long, Buffer.alloc(XATTR_VALUE_MAX_BYTES, 1)), 'ok')
    t.same(await meta.getxattr(ino, long), Buffer.alloc(XATTR_VALUE_MAX_BYTES, 1))
    t.equal(await set(Buffer.concat([long, bytes('b')]), bytes('x')), 'ERANGE')
    t.equal(await set(bytes(''), bytes('x')), 'ERANGE')
    t.equal(await set(bytes('user.big'), Buffer.alloc(XATTR_VALUE_MAX_BYTES + 1)), 'E2BIG')
    const room = Math.floor(XATTR_NAMES_MAX_BYTES / (XATTR_NAME_MAX_BYTES + 1))
    for (let i = 1; i < room; i++) await meta.setxattr(ino, nameOf(i), bytes('x'), 'create')
    t.equal(await set(nameOf(room), bytes('x')), 'ENOSPC', 'the list of names is full')
    t.equal(await set(nameOf(1), bytes('y')), 'ok', 'but a value may be replaced')
    t.equal(await outcome(meta.setxattr(ino, ACCESS, aclOf('u::rwx,g::rwx,m::rwx,o::rwx'), 'any')), 'ok')
    const names = await meta.listxattr(ino)
    t.equal(names.length, room + 1)
    const listBytes = names.reduce((sum, name) => sum + name.length + 1, 0)
    t.ok(listBytes <= XATTR_LIST_MAX_BYTES, 'a full list with ACLs still fits')
  })

  claim(t, open, 'the attributes of one inode have a size in all', async (t, volume) => {
    const meta = await volume.client()
    const { ino } = await touch(meta, ROOT, 'file')
    const most = Math.floor(XATTRS_MAX_BYTES / XATTR_VALUE_MAX_BYTES) - 1
    const value = Buffer.alloc(XATTR_VALUE_MAX_BYTES)
    const set = (name: string, value: Buffer): Promise<string> => outcome(meta.setxattr(ino, bytes(name), value, 'any'))
    for (let i = 0; i < most; i++) t.equal(await set(`user.${i}`, value), 'ok')
    t.equal(await set('user.small', bytes('x')), 'ok')
    t.equal(await set('user.more', value), 'ENOSPC')
    t.equal(await set('user.small', value), 'ENOSPC', 'nor may a value grow beyond it')
    t.equal(await set('user.0', value), 'ok', 'but one may be replaced')
    await meta.removexattr(ino, bytes('user.0'))
    t.equal(await set('user.small', value), 'ok')
  })

  claim(t, open, 'attributes of what is gone are gone, and setting one changes ctime only', async (t, volume) => {
    const meta = await volume.client()
    const before = await touch(meta, ROOT, 'file')
    await meta.setxattr(before.ino, bytes('user.a'), bytes('1'), 'any')
    const after = await meta.getattr(before.ino)
    t.same({ ...after, ctime: before.ctime }, { ...before, hasXattrs: true })
    await meta.unlink(ROOT, bytes('file'))
    t.equal(await outcome(meta.getxattr(before.ino, bytes('user.a'))), 'ENOENT')
    t.equal(await outcome(meta.setxattr(before.ino, bytes('user.a'), bytes('1'), 'any')), 'ENOENT')
    t.equal(await outcome(meta.removexattr(before.ino, bytes('user.a'))), 'ENOENT')
    t.equal(await outcome(meta.listxattr(before.ino)), 'ENOENT')
  })
}

function nameOf(index: number): Buffer {
  return bytes(`user.${index}.`.padEnd(XATTR_NAME_MAX_BYTES, 'x'))
}
