import { chmod, chown, lstat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { sh } from '../../helpers/mount.js'
import type { Suite } from './suite.js'

/** What a folder's entry is like: mode, and its ACLs as setfacl(1) takes them, without the mask's remarks. */
async function rights(root: string, name: string): Promise<string> {
  const mode = (await lstat(join(root, name))).mode & 0o7777
  const acl = await sh('getfacl', '-n', '-E', '--absolute-names', '-c', join(root, name))
  return [mode.toString(8), ...acl.trim().split('\n')].join(' ')
}

/** A shell script in `root`. */
function inside(root: string, script: string): Promise<string> {
  return sh('sh', '-c', `cd "$0" && { ${script}; }`, root)
}

/** The same by a user of group `gid`, and no other but `groups`. The folders above may be closed to him. */
function as(uid: number, gid: number, root: string, script: string, groups: readonly number[] = []): Promise<string> {
  const others = groups.length === 0 ? '--clear-groups' : `--groups=${groups.join(',')}`
  return sh(
    'sh',
    '-c',
    'cd "$0" && exec "$@"',
    root,
    'setpriv',
    `--reuid=${uid}`,
    `--regid=${gid}`,
    others,
    'sh',
    '-c',
    script,
  )
}

const DENIED = /Permission denied/
const CAPABILITY = '0x0100000200200000000000000000000000000000'

export const acls: readonly Suite[] = [
  {
    name: 'whom an ACL names gets in, as far as its mask lets him',
    kernelOnly: true,
    async run(t, root) {
      await chmod(root, 0o711)
      await writeFile(join(root, 'file'), 'secret\n', { mode: 0o600 })
      await t.rejects(as(1000, 1000, root, 'cat file'), DENIED)
      await inside(root, 'setfacl -m u:1000:r,g:2000:rw file')
      t.equal(await as(1000, 1000, root, 'cat file'), 'secret')
      await t.rejects(as(1001, 1000, root, 'cat file'), DENIED)
      await t.rejects(as(1000, 1000, root, 'echo more >> file'), DENIED)
      await as(1001, 1001, root, 'echo more >> file', [2000])
      t.equal(await rights(root, 'file'), '660 user::rw- user:1000:r-- group::--- group:2000:rw- mask::rw- other::---')
      await chmod(join(root, 'file'), 0o640)
      t.match(await rights(root, 'file'), /^640 .*group::--- .*mask::r-- /)
      await t.rejects(as(1001, 1001, root, 'echo more >> file', [2000]), DENIED)
      t.equal(await as(1001, 1001, root, 'cat file', [2000]), 'secret\nmore')
      await inside(root, 'setfacl -b file')
      t.equal(await rights(root, 'file'), '600 user::rw- group::--- other::---')
      await t.rejects(as(1000, 1000, root, 'cat file'), DENIED)
    },
  },
  {
    name: 'a default ACL says what is made with which rights, and is handed down',
    kernelOnly: true,
    async run(t, root) {
      await inside(root, 'mkdir d && setfacl -d -m u:1000:rwx,g::r-x,o::--- d')
      await inside(
        root,
        'umask 077; cd d; mkdir -p in/deep; touch file; mkfifo fifo; ln -s file link; (umask 0; mkdir -m 700 m)',
      )
      const handed = 'default:user::rwx default:user:1000:rwx default:group::r-x default:mask::rwx default:other::---'
      const own = 'user::rwx user:1000:rwx group::r-x mask::rwx other::---'
      t.equal(await rights(root, 'd/in'), `770 ${own} ${handed}`)
      t.equal(await rights(root, 'd/in/deep'), `770 ${own} ${handed}`)
      t.equal(await rights(root, 'd/file'), '660 user::rw- user:1000:rwx group::r-x mask::rw- other::---')
      t.equal(await rights(root, 'd/fifo'), '660 user::rw- user:1000:rwx group::r-x mask::rw- other::---')
      t.equal((await lstat(join(root, 'd/link'))).mode & 0o777, 0o777)
      t.match(await rights(root, 'd/m'), /^700 user::rwx user:1000:rwx group::r-x mask::--- other::--- default:/)
      await inside(root, 'setfacl -k d && umask 027 && mkdir d/plain')
      t.equal(await rights(root, 'd/plain'), '750 user::rwx group::r-x other::---')
      await t.rejects(inside(root, 'setfacl -d -m u:1000:rwx d/file'), /Only directories|Permission denied/)
    },
  },
  {
    name: 'only the owner changes an ACL, and set-gid goes if he is not in the group',
    kernelOnly: true,
    async run(t, root) {
      await chmod(root, 0o711)
      await writeFile(join(root, 'file'), '')
      await chown(join(root, 'file'), 1000, 2000)
      await chmod(join(root, 'file'), 0o2755)
      await t.rejects(as(1001, 1001, root, 'setfacl -m u:1001:rwx file'), /not permitted/)
      await as(1000, 1000, root, 'setfacl -m u:1001:rwx file', [2000])
      t.match(await rights(root, 'file'), /^2775 /)
      await as(1000, 1000, root, 'setfacl -m u:1001:r-x file')
      t.match(await rights(root, 'file'), /^755 /)
      await chmod(join(root, 'file'), 0o2755)
      await inside(root, 'setfacl -m u:1002:r-x file')
      t.match(await rights(root, 'file'), /^2755 /, 'root keeps it')
    },
  },
  {
    name: 'who writes or cuts without being root takes set-id bits and capabilities away',
    kernelOnly: true,
    async run(t, root) {
      await chmod(root, 0o711)
      const file = join(root, 'file')
      await writeFile(file, 'text')
      const left = async (change: () => Promise<string>): Promise<string> => {
        await chmod(file, 0o6777)
        await sh('setfattr', '-n', 'security.capability', '-v', CAPABILITY, file)
        await change()
        const names = await sh('getfattr', '-m', '-', '--absolute-names', file)
        return `${((await lstat(file)).mode & 0o7777).toString(8)} ${names.includes('capability') ? 'capable' : ''}`.trim()
      }
      t.equal(await left(() => as(1000, 1000, root, 'cat file')), '6777 capable')
      t.equal(await left(() => as(1000, 1000, root, 'echo x >> file')), '777')
      t.equal(await left(() => as(1000, 1000, root, ': > file')), '777', 'O_TRUNC')
      t.equal(await left(() => as(1000, 1000, root, 'truncate -s 9 file')), '777')
      t.equal(await left(() => inside(root, 'echo x >> file')), '6777', 'root keeps the bits, not the capability')
      t.equal(await left(() => inside(root, ': > file')), '6777')
      t.equal(await left(() => inside(root, 'chown 7:7 file')), '777')
      await chown(file, 1000, 1000)
      t.equal(
        await left(() => as(1000, 1000, root, `perl -e 'chown -1, -1, "file" or die'`)),
        '777',
        'chown to nobody new',
      )
      t.equal(await left(() => as(1000, 1000, root, 'fallocate -l 100000 file')), '777')
      t.equal(await left(() => as(1000, 1000, root, 'dd if=/dev/zero of=file bs=4096 count=1 oflag=direct')), '777')
    },
  },
  {
    name: 'attributes have namespaces, each with its own rules',
    kernelOnly: true,
    async run(t, root) {
      await chmod(root, 0o711)
      await inside(root, 'touch file; mkfifo fifo; chmod 666 file fifo')
      await inside(root, 'setfattr -n trusted.t -v 1 file; setfattr -n user.u -v 2 file; setfacl -m u:1000:rw file')
      const names = async (who: Promise<string>): Promise<string[]> =>
        (await who)
          .split('\n')
          .filter((line) => /^(user|trusted|system)\./.test(line))
          .sort()
      t.same(await names(inside(root, 'getfattr -m - file')), ['system.posix_acl_access', 'trusted.t', 'user.u'])
      t.same(await names(as(1000, 1000, root, 'getfattr -m - file')), ['system.posix_acl_access', 'user.u'])
      await t.rejects(as(1000, 1000, root, 'setfattr -n trusted.t -v 1 file'), /not permitted/)
      await t.rejects(inside(root, 'setfattr -n user.u -v 1 fifo'), /not permitted/)
      await t.rejects(inside(root, 'setfattr -n system.other -v 1 file'), /not supported/)
      await t.rejects(inside(root, 'setfattr -n other.name -v 1 file'), /not supported/)
      await t.rejects(inside(root, 'setfattr -n system.posix_acl_access -v 0x02000000 fifo/'), /Not a directory/)
      await t.rejects(inside(root, 'setfattr -n system.posix_acl_access -v 0x0200000001000700ffffffff file'), /Invalid/)
    },
  },
  {
    name: 'cp -a and tar carry ACLs and attributes along',
    kernelOnly: true,
    async run(t, root) {
      await inside(root, 'mkdir -p from/sub && touch from/file && chmod 2751 from/sub')
      await inside(root, 'setfacl -m u:1000:rw from/file; setfacl -m g:2000:rwx from/sub; setfacl -d -m u:1:r from/sub')
      await inside(root, 'setfattr -n user.note -v hello from/file; chown 1000:2000 from/file')
      const dump = (folder: string): Promise<string> =>
        inside(root, `cd ${folder} && getfacl -n -R . && getfattr -R -d -m user . && stat -c '%n %a %u:%g' file sub`)
      const before = await dump('from')
      await inside(
        root,
        'cp -a from copy && mkdir out && tar -C from --acls --xattrs -cf - . | tar -C out --acls --xattrs -xf -',
      )
      t.equal(await dump('copy'), before)
      t.equal(await dump('out'), before)
    },
  },
]
