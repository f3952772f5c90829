/** Which times each call changes: as ext4 mounted with relatime has it, tried there row by row. */
import {
  access,
  chmod,
  chown,
  link,
  lstat,
  lutimes,
  mkdir,
  open,
  readFile,
  readdir,
  readlink,
  rename,
  rmdir,
  stat,
  symlink,
  truncate,
  unlink,
  utimes,
  writeFile,
  type FileHandle,
} from 'node:fs/promises'
import { constants, type BigIntStats } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { sh } from '../../helpers/mount.js'
import { RENAME_EXCHANGE, perlOutcome, renameat2 } from '../../helpers/syscalls.js'
import type { Suite } from './suite.js'

/** Longer than the clock tick that local filesystems take their times from. */
const TICK_MS = 15
const O_NOATIME = 0o1000000
const OLD = new Date('2001-02-03T04:05:06Z')
const OLDER = new Date('2000-02-03T04:05:06Z')

type At = (name: string) => string

interface Row {
  readonly call: string
  /** Changed times by name, `name: atime mtime ctime`; nothing else changes. Names are those after the call. */
  readonly changes: readonly string[]
  /** Where a name was before the call. */
  readonly was?: Readonly<Record<string, string>>
  readonly prepare?: (at: At) => Promise<unknown>
  readonly act: (at: At) => Promise<unknown>
}

/** Each in a folder with these, whose times are old and whose access times are not due. */
const THINGS = ['dir', 'dir/file', 'dir/sub', 'dir/link', 'other', 'other/file'] as const

async function makeThings(at: At): Promise<void> {
  for (const name of ['dir', 'dir/sub', 'other']) await mkdir(at(name))
  await writeFile(at('dir/file'), 'some bytes')
  await writeFile(at('other/file'), 'others')
  await symlink('file', at('dir/link'))
}

/** Access times so old that they are due, or so new that they are not. */
async function settle(at: At, names: readonly string[], atime: 'due' | 'fresh'): Promise<void> {
  const when = atime === 'due' ? OLDER : new Date(Date.now() + 3_600_000)
  for (const name of names) await lutimes(at(name), when, OLD)
}

async function withFile(path: string, flags: number, work: (file: FileHandle) => Promise<unknown>): Promise<void> {
  const file = await open(path, flags)
  try {
    await work(file)
  } finally {
    await file.close()
  }
}

const { O_RDONLY, O_RDWR, O_TRUNC, O_WRONLY, O_APPEND } = constants

const CHANGES: readonly Row[] = [
  { call: 'creat', changes: ['dir: mtime ctime'], act: (at) => writeFile(at('dir/new'), '') },
  { call: 'mkdir', changes: ['dir: mtime ctime'], act: (at) => mkdir(at('dir/new')) },
  { call: 'mkfifo', changes: ['dir: mtime ctime'], act: (at) => sh('mkfifo', at('dir/new')) },
  { call: 'symlink', changes: ['dir: mtime ctime'], act: (at) => symlink('target', at('dir/new')) },
  {
    call: 'open of what exists with O_CREAT',
    changes: [],
    act: (at) => open(at('dir/file'), 'a').then((file) => file.close()),
  },
  {
    call: 'link',
    changes: ['dir/file: ctime', 'other: mtime ctime'],
    act: (at) => link(at('dir/file'), at('other/new')),
  },
  {
    call: 'unlink of one of two names',
    changes: ['dir: mtime ctime', 'other/new: ctime'],
    was: { 'other/new': 'dir/file' },
    prepare: (at) => link(at('dir/file'), at('other/new')),
    act: (at) => unlink(at('dir/file')),
  },
  { call: 'rmdir', changes: ['dir: mtime ctime'], act: (at) => rmdir(at('dir/sub')) },
  {
    call: 'rename in its folder',
    changes: ['dir: mtime ctime', 'dir/new: ctime'],
    was: { 'dir/new': 'dir/file' },
    act: (at) => rename(at('dir/file'), at('dir/new')),
  },
  {
    call: 'rename into another folder',
    changes: ['dir: mtime ctime', 'other: mtime ctime', 'other/new: ctime'],
    was: { 'other/new': 'dir/file' },
    act: (at) => rename(at('dir/file'), at('other/new')),
  },
  {
    call: 'rename of a folder into another',
    changes: ['dir: mtime ctime', 'other: mtime ctime', 'other/new: ctime'],
    was: { 'other/new': 'dir/sub' },
    act: (at) => rename(at('dir/sub'), at('other/new')),
  },
  {
    call: 'rename of a folder in its folder',
    changes: ['dir: mtime ctime', 'dir/new: ctime'],
    was: { 'dir/new': 'dir/sub' },
    act: (at) => rename(at('dir/sub'), at('dir/new')),
  },
  {
    call: 'rename onto one of two names',
    changes: ['dir: mtime ctime', 'other: mtime ctime', 'other/file: ctime', 'dir/second: ctime'],
    was: { 'other/file': 'dir/file', 'dir/second': 'other/file' },
    prepare: (at) => link(at('other/file'), at('dir/second')),
    act: (at) => rename(at('dir/file'), at('other/file')),
  },
  {
    call: 'exchange of a file and a folder',
    changes: ['dir: mtime ctime', 'other: mtime ctime', 'other/file: ctime', 'dir/sub: ctime'],
    was: { 'other/file': 'dir/sub', 'dir/sub': 'other/file' },
    act: (at) => renameat2(at('dir/sub'), at('other/file'), RENAME_EXCHANGE),
  },
  {
    call: 'write',
    changes: ['dir/file: mtime ctime'],
    act: (at) => withFile(at('dir/file'), O_WRONLY, (file) => file.write('x', 2)),
  },
  {
    call: 'write with O_APPEND',
    changes: ['dir/file: mtime ctime'],
    act: (at) => withFile(at('dir/file'), O_WRONLY | O_APPEND, (file) => file.write('x')),
  },
  {
    call: 'write of nothing',
    changes: [],
    act: (at) => withFile(at('dir/file'), O_WRONLY, (file) => file.write(Buffer.alloc(0))),
  },
  {
    call: 'write through a shared mapping',
    changes: ['dir/file: mtime ctime'],
    act: (at) => sh('python3', '-c', MAP_AND_WRITE, at('dir/file')),
  },
  { call: 'truncate, longer', changes: ['dir/file: mtime ctime'], act: (at) => truncate(at('dir/file'), 100) },
  { call: 'truncate, shorter', changes: ['dir/file: mtime ctime'], act: (at) => truncate(at('dir/file'), 3) },
  {
    call: 'truncate(2) to the same size',
    changes: ['dir/file: mtime ctime'],
    act: (at) => sh('python3', '-c', 'import os, sys; os.truncate(sys.argv[1], 10)', at('dir/file')),
  },
  {
    call: 'ftruncate to the same size',
    changes: ['dir/file: mtime ctime'],
    act: (at) => withFile(at('dir/file'), O_RDWR, (file) => file.truncate(10)),
  },
  {
    call: 'open with O_TRUNC',
    changes: ['dir/file: mtime ctime'],
    act: (at) => withFile(at('dir/file'), O_WRONLY | O_TRUNC, () => Promise.resolve()),
  },
  {
    call: 'fallocate',
    changes: ['dir/file: mtime ctime'],
    act: (at) => sh('fallocate', '-l', '8192', at('dir/file')),
  },
  { call: 'chmod', changes: ['dir/file: ctime'], act: (at) => chmod(at('dir/file'), 0o600) },
  {
    call: 'chmod to the same mode',
    changes: ['dir/file: ctime'],
    act: async (at) => chmod(at('dir/file'), (await stat(at('dir/file'))).mode),
  },
  { call: 'chmod of a folder', changes: ['dir: ctime'], act: (at) => chmod(at('dir'), 0o700) },
  { call: 'chown', changes: ['dir/file: ctime'], act: (at) => chown(at('dir/file'), 0, 0) },
  {
    call: 'chown of nothing',
    changes: ['dir/file: ctime'],
    act: (at) => perlOutcome('chown(-1, -1, $ARGV[0])', at('dir/file')),
  },
  {
    call: 'setxattr',
    changes: ['dir/file: ctime'],
    act: (at) => sh('setfattr', '-n', 'user.a', '-v', 'b', at('dir/file')),
  },
  {
    call: 'removexattr',
    changes: ['dir/file: ctime'],
    prepare: (at) => sh('setfattr', '-n', 'user.a', '-v', 'b', at('dir/file')),
    act: (at) => sh('setfattr', '-x', 'user.a', at('dir/file')),
  },
  { call: 'utimensat of both', changes: ['dir/file: atime mtime ctime'], act: (at) => utimes(at('dir/file'), 1, 2) },
  { call: 'utimensat, now', changes: ['dir/file: atime mtime ctime'], act: (at) => sh('touch', at('dir/file')) },
  {
    call: 'utimensat, atime alone',
    changes: ['dir/file: atime ctime'],
    act: (at) => sh('touch', '-a', at('dir/file')),
  },
  {
    call: 'utimensat, mtime alone',
    changes: ['dir/file: mtime ctime'],
    act: (at) => sh('touch', '-m', '-d', '2002-02-02', at('dir/file')),
  },
  {
    call: 'utimensat of a symlink',
    changes: ['dir/link: atime mtime ctime'],
    act: (at) => lutimes(at('dir/link'), 1, 2),
  },
]

const MAP_AND_WRITE = `
import mmap, sys
with open(sys.argv[1], 'r+b') as f:
    with mmap.mmap(f.fileno(), 10) as m:
        m[0:1] = b'X'
        m.flush()
`

/** Access times are due. */
const READS: readonly Row[] = [
  { call: 'read', changes: ['dir/file: atime'], act: (at) => readFile(at('dir/file')) },
  {
    call: 'read with O_NOATIME',
    changes: [],
    act: (at) => withFile(at('dir/file'), O_RDONLY | O_NOATIME, (file) => file.read(Buffer.alloc(10), 0, 10, 0)),
  },
  {
    call: 'read of nothing',
    changes: [],
    act: (at) => withFile(at('dir/file'), O_RDONLY, (file) => file.read(Buffer.alloc(10), 0, 0, 0)),
  },
  { call: 'open and close', changes: [], act: (at) => withFile(at('dir/file'), O_RDONLY, () => Promise.resolve()) },
  {
    call: 'stat and access',
    changes: [],
    act: async (at) => [await stat(at('dir/file')), await access(at('dir/file'))],
  },
  {
    call: 'read through a mapping',
    changes: ['dir/file: atime'],
    act: (at) =>
      sh(
        'python3',
        '-c',
        'import mmap, sys; f = open(sys.argv[1], "rb"); print(mmap.mmap(f.fileno(), 10, prot=mmap.PROT_READ)[0])',
        at('dir/file'),
      ),
  },
  { call: 'readdir', changes: ['dir: atime'], act: (at) => readdir(at('dir')) },
  { call: 'readdir of an empty folder', changes: ['dir/sub: atime'], act: (at) => readdir(at('dir/sub')) },
  { call: 'readlink', changes: ['dir/link: atime'], act: (at) => readlink(at('dir/link')) },
  {
    call: 'write, which is no read',
    changes: ['dir/file: mtime ctime'],
    act: (at) => withFile(at('dir/file'), O_WRONLY, (file) => file.write('x', 2)),
  },
]

const FIELDS = ['atime', 'mtime', 'ctime'] as const

function changed(before: BigIntStats, after: BigIntStats): string {
  return FIELDS.filter((field) => before[`${field}Ns`] !== after[`${field}Ns`]).join(' ')
}

async function look(at: At, names: readonly string[]): Promise<Map<string, BigIntStats>> {
  const found = new Map<string, BigIntStats>()
  for (const name of names) {
    const stats = await lstat(at(name), { bigint: true }).catch(() => undefined)
    if (stats !== undefined) found.set(name, stats)
  }
  return found
}

function suiteOf(title: string, rows: readonly Row[], atime: 'due' | 'fresh'): Suite {
  return {
    name: title,
    kernelOnly: true,
    async run(t, root) {
      for (const [index, row] of rows.entries()) {
        const at: At = (name) => join(root, String(index), name)
        await mkdir(join(root, String(index)))
        await makeThings(at)
        await row.prepare?.(at)
        await settle(at, THINGS, atime)
        const before = await look(at, THINGS)
        await sleep(TICK_MS)
        await row.act(at)
        const was = row.was ?? {}
        const names = [
          ...new Set([...THINGS.filter((name) => !Object.values(was).includes(name)), ...Object.keys(was)]),
        ]
        const seen: string[] = []
        for (const [name, after] of await look(at, names)) {
          const old = before.get(was[name] ?? name)
          const fields = old === undefined ? 'new' : changed(old, after)
          if (fields !== '') seen.push(`${name}: ${fields}`)
        }
        t.same(seen.sort(), [...row.changes].sort(), row.call)
      }
    },
  }
}

export const times: readonly Suite[] = [
  suiteOf('each change of a file or folder sets the times that POSIX says', CHANGES, 'fresh'),
  suiteOf('reads set access times, and nothing else does, while these are due', READS, 'due'),
  suiteOf(
    'reads leave access times that are newer than the other two and not a day old',
    READS.map((row) => (row.call.startsWith('write') ? row : { ...row, changes: [] })),
    'fresh',
  ),
  {
    name: 'an access time set after a read stays',
    async run(t, root) {
      const path = join(root, 'file')
      await writeFile(path, 'bytes')
      await readFile(path)
      await utimes(path, OLDER, OLD)
      await sleep(1_500)
      t.equal((await stat(path)).atimeMs, OLDER.getTime())
    },
  },
  {
    name: 'statx says when a file was made, however old its other times are',
    kernelOnly: true,
    async run(t, root) {
      const before = Math.floor(Date.now() / 1000) - 1
      const path = join(root, 'file')
      await writeFile(path, 'bytes')
      await sh('touch', '-d', '2001-01-01', path)
      const [birth, modified] = (await sh('stat', '-c', '%W %Y', path)).trim().split(' ').map(Number)
      t.ok(Number(birth) >= before && Number(birth) <= Date.now() / 1000 + 1, `born at ${birth}`)
      t.equal(modified, Date.parse('2001-01-01T00:00:00') / 1000)
    },
  },
]
