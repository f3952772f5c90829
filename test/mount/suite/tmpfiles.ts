import { constants } from 'node:fs'
import { chmod, chown, link, mkdir, open, readFile, readdir, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { outcome } from '../../helpers/fs-ops.js'
import { sh } from '../../helpers/mount.js'
import { perlOutcome } from '../../helpers/syscalls.js'
import type { Suite } from './suite.js'

/** asm-generic/fcntl.h: with the bit of O_DIRECTORY in it. */
const O_TMPFILE = 0o20200000
const { O_RDWR, O_EXCL } = constants
const AT_FDCWD = -100
const AT_EMPTY_PATH = 0x1000
const AT_SYMLINK_FOLLOW = 0x400
/** linkat(2). */
const LINKAT = process.arch === 'arm64' ? 37 : 265

export const tmpfiles: readonly Suite[] = [
  {
    name: 'a file made with O_TMPFILE has no name, and gets one by linkat through /proc',
    kernelOnly: true,
    async run(t, root) {
      const before = await stat(root, { bigint: true })
      const file = await open(root, O_RDWR | O_TMPFILE, 0o640)
      await file.writeFile('contents')
      t.match(await file.stat(), { nlink: 0, size: 8, mode: 0o100640 })
      t.same(await readdir(root), [])
      t.equal((await stat(root, { bigint: true })).mtimeNs, before.mtimeNs)
      await file.chmod(0o600)
      await sh('ln', '-L', `/proc/${process.pid}/fd/${file.fd}`, join(root, 'named'))
      t.equal((await file.stat()).nlink, 1)
      await file.close()
      t.equal(await readFile(join(root, 'named'), 'utf8'), 'contents')
      t.match(await stat(join(root, 'named')), { nlink: 1, mode: 0o100600 })
    },
  },
  {
    name: 'AT_EMPTY_PATH names a file made with O_TMPFILE, in another folder too; O_EXCL forbids it',
    kernelOnly: true,
    async run(t, root) {
      await mkdir(join(root, 'far'))
      for (const [flags, result] of [
        [O_TMPFILE, 'ok'],
        [O_TMPFILE | O_EXCL, 'ENOENT'],
      ] as const) {
        const path = join(root, `far/${result}`)
        const script = `sysopen(F, $ARGV[0], ${O_RDWR | flags}, 0644) or return 0; syswrite(F, "bytes");
          my $empty = ""; syscall(${LINKAT}, fileno(F), $empty, ${AT_FDCWD}, $ARGV[1], ${AT_EMPTY_PATH}) == 0`
        t.equal(await perlOutcome(script, root, path), result)
        t.equal(await outcome(() => readFile(path)), result)
      }
    },
  },
  {
    name: 'a file that was removed gets no name again, unlike one that never had any',
    kernelOnly: true,
    async run(t, root) {
      const path = join(root, 'file')
      await writeFile(path, 'x')
      const script = `sysopen(F, $ARGV[0], ${O_RDWR}) or return 0; unlink($ARGV[0]) or return 0;
        my $from = "/proc/self/fd/" . fileno(F);
        syscall(${LINKAT}, ${AT_FDCWD}, $from, ${AT_FDCWD}, $ARGV[1], ${AT_SYMLINK_FOLLOW}) == 0`
      t.equal(await perlOutcome(script, path, join(root, 'again')), 'ENOENT')
      t.same(await readdir(root), [])
    },
  },
  {
    name: 'a file made with O_TMPFILE inherits the group of a set-group-ID folder; many come and go',
    kernelOnly: true,
    async run(t, root) {
      await chown(root, 0, 77)
      await chmod(root, 0o2777)
      const file = await open(root, O_RDWR | O_TMPFILE, 0o666)
      t.equal((await file.stat()).gid, 77)
      await file.close()
      const all = await Promise.all(Array.from({ length: 50 }, () => open(root, O_RDWR | O_TMPFILE, 0o600)))
      t.equal(new Set(await Promise.all(all.map(async (one) => (await one.stat()).ino))).size, 50)
      for (const one of all) await one.close()
      t.equal(await outcome(() => link(join(root, 'none'), join(root, 'new'))), 'ENOENT')
      t.same(await readdir(root), [])
    },
  },
]
