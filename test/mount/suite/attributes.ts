import { chmod, chown, lchown, lstat, lutimes, mkdir, stat, statfs, symlink, utimes, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { outcome } from '../../helpers/fs-ops.js'
import { sh } from '../../helpers/mount.js'
import type { Suite } from './suite.js'

async function modeOf(path: string): Promise<number> {
  return (await lstat(path)).mode & 0o7777
}

export const attributes: readonly Suite[] = [
  {
    name: 'chmod and chown change what they should',
    async run(t, root) {
      const file = join(root, 'file')
      await writeFile(file, '', { mode: 0o640 })
      t.equal(await modeOf(file), 0o640)
      await chmod(file, 0o6755)
      t.equal(await modeOf(file), 0o6755)
      await chown(file, 1234, 5678)
      const { uid, gid } = await stat(file)
      t.same([uid, gid], [1234, 5678])
      t.equal(await modeOf(file), 0o755, 'a new owner takes set-user-ID and set-group-ID away')
      await sh('chgrp', '9', file)
      t.same([(await stat(file)).uid, (await stat(file)).gid], [1234, 9])
      await symlink('file', join(root, 'link'))
      await lchown(join(root, 'link'), 42, 43)
      t.equal((await stat(file)).uid, 1234, 'the target of a link keeps its owner')
      t.equal((await lstat(join(root, 'link'))).uid, 42)
    },
  },
  {
    name: 'the umask and the set-group-ID of the folder count for what is made',
    async run(t, root) {
      await sh('sh', '-c', 'umask 027; cd "$0"; touch f; mkdir d', root)
      t.equal(await modeOf(join(root, 'f')), 0o640)
      t.equal(await modeOf(join(root, 'd')), 0o750)
      await chown(join(root, 'd'), 0, 77)
      await chmod(join(root, 'd'), 0o2755)
      await mkdir(join(root, 'd/inner'))
      await writeFile(join(root, 'd/file'), '')
      t.same([(await stat(join(root, 'd/file'))).gid, (await stat(join(root, 'd/inner'))).gid], [77, 77])
      t.equal((await modeOf(join(root, 'd/inner'))) & 0o2000, 0o2000)
    },
  },
  {
    name: 'utimes sets both times, each its own, to the millisecond',
    async run(t, root) {
      const file = join(root, 'file')
      await writeFile(file, 'x')
      await utimes(file, 1_000_000_000.123, 1_200_000_000.456)
      const { atimeMs, mtimeMs, ctimeMs } = await stat(file)
      t.same([atimeMs, mtimeMs], [1_000_000_000_123, 1_200_000_000_456])
      t.ok(Math.abs(ctimeMs - Date.now()) < 600_000, 'ctime is now')
      await symlink('file', join(root, 'link'))
      await lutimes(join(root, 'link'), 5, 6)
      t.equal((await lstat(join(root, 'link'))).mtimeMs, 6_000)
      t.equal((await stat(file)).mtimeMs, 1_200_000_000_456)
    },
  },
  {
    name: 'writing and making entries move mtime',
    async run(t, root) {
      const file = join(root, 'file')
      await writeFile(file, 'x')
      await utimes(file, 1, 1)
      await utimes(root, 1, 1)
      await writeFile(file, 'y', { flag: 'a' })
      await writeFile(join(root, 'other'), '')
      t.ok((await stat(file)).mtimeMs > 1_000)
      t.ok((await stat(root)).mtimeMs > 1_000)
    },
  },
  {
    name: 'extended attributes are set, listed, read and removed',
    async run(t, root) {
      const file = join(root, 'file')
      await writeFile(file, '')
      const long = 'v'.repeat(10_000)
      await sh('setfattr', '-n', 'user.short', '-v', 'value', file)
      await sh('setfattr', '-n', 'user.long', '-v', long, file)
      await sh('setfattr', '-n', 'user.empty', file)
      t.equal(await sh('getfattr', '--only-values', '--absolute-names', '-n', 'user.long', file), long)
      const dump = (await sh('getfattr', '-d', '--absolute-names', file)).split('\n').slice(1)
      t.same(dump.sort(), ['user.empty=""', `user.long="${long}"`, 'user.short="value"'])
      await sh('setfattr', '-x', 'user.short', file)
      await t.rejects(sh('getfattr', '-n', 'user.short', file), /No such attribute/)
      await t.rejects(sh('setfattr', '-x', 'user.short', file), /No such attribute/)
    },
  },
  {
    name: 'special files are made and told apart',
    async run(t, root) {
      await sh('mkfifo', join(root, 'fifo'))
      await sh('mknod', join(root, 'null'), 'c', '1', '3')
      t.ok((await stat(join(root, 'fifo'))).isFIFO())
      const device = await stat(join(root, 'null'))
      t.ok(device.isCharacterDevice())
      t.equal(device.rdev, 0x103)
    },
  },
  {
    name: 'rights are checked',
    async run(t, root) {
      await chmod(root, 0o755)
      await writeFile(join(root, 'secret'), 'x', { mode: 0o600 })
      const nobody = ['--reuid=65534', '--regid=65534', '--clear-groups']
      await t.rejects(sh('setpriv', ...nobody, 'cat', join(root, 'secret')), /Permission denied/)
    },
  },
  {
    name: 'statfs and df tell of space',
    async run(t, root) {
      const { blocks, bfree, bsize } = await statfs(root)
      t.ok(blocks > 0 && bfree > 0 && bfree <= blocks && bsize >= 512)
      t.match(await sh('df', '-P', root), /%/)
    },
  },
  {
    name: 'a file has an end: no offset beyond what a number holds',
    async run(t, root) {
      const file = join(root, 'file')
      await writeFile(file, '')
      t.equal(await outcome(() => sh('truncate', '-s', '9223372036854775807', file).catch(asErrno)), 'EFBIG')
    },
  },
]

function asErrno(error: unknown): never {
  const code = /too large/i.test(String(error)) ? 'EFBIG' : 'OTHER'
  throw Object.assign(new Error(String(error)), { code, syscall: 'truncate' })
}
