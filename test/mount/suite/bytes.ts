/** Names and targets of symlinks are bytes; the longest of each. */
import { lstat, mkdir, readFile, readdir, readlink, rename, stat, symlink, unlink, writeFile } from 'node:fs/promises'
import { outcome } from '../../helpers/fs-ops.js'
import type { Suite } from './suite.js'

const SLASH = 0x2f
const PATH_MAX = 4096
const NAME_MAX = 255

const ALL = Buffer.from(Array.from({ length: 255 }, (_, i) => i + 1))
const IN_NAMES = Buffer.from(ALL.filter((byte) => byte !== SLASH))

function below(root: string, ...names: readonly Buffer[]): Buffer {
  return Buffer.concat([Buffer.from(root), ...names.flatMap((name) => [Buffer.from('/'), name])])
}

async function list(path: Buffer): Promise<Buffer[]> {
  return (await readdir(path, { encoding: 'buffer' })).sort((a, b) => a.compare(b))
}

export const rawBytes: readonly Suite[] = [
  {
    name: 'a name may have any byte but slash and NUL, valid UTF-8 or not',
    kernelOnly: true,
    async run(t, root) {
      const names = [...IN_NAMES].map((byte) => Buffer.from([0x78, byte, byte]))
      names.push(IN_NAMES, Buffer.from([0xff]), Buffer.alloc(NAME_MAX, 0xfe), Buffer.from([0xc3]), Buffer.from([0x80]))
      for (const name of names) await writeFile(below(root, name), name)
      const sorted = [...names].sort((a, b) => a.compare(b))
      t.same(await list(below(root)), sorted)
      for (const name of names) t.ok((await readFile(below(root, name))).equals(name))
      const moved = Buffer.from([0x79, 0xe9, 0x0a])
      await rename(below(root, IN_NAMES), below(root, moved))
      t.equal(await outcome(() => stat(below(root, IN_NAMES))), 'ENOENT')
      t.ok((await readFile(below(root, moved))).equals(IN_NAMES))
      for (const name of names) if (!name.equals(IN_NAMES)) await unlink(below(root, name))
      t.same(await list(below(root)), [moved])
    },
  },
  {
    name: 'the target of a symlink may have any byte but NUL, and 4,095 of them',
    kernelOnly: true,
    async run(t, root) {
      const targets = [ALL, Buffer.from([0xff, 0xc3, 0x28]), Buffer.alloc(PATH_MAX - 1, 0xe9)]
      for (const [index, target] of targets.entries()) {
        const path = below(root, Buffer.from([0xf0, index + 1]))
        await symlink(target, path)
        t.ok((await readlink(path, { encoding: 'buffer' })).equals(target))
        t.equal((await lstat(path)).size, target.length)
      }
      t.equal(
        await outcome(() => symlink(Buffer.alloc(PATH_MAX, 0xe9), below(root, Buffer.from('long')))),
        'ENAMETOOLONG',
      )
      const file = Buffer.from([0x66, 0xfc])
      await writeFile(below(root, file), 'bytes')
      await symlink(file, below(root, Buffer.from('link')))
      t.equal(await readFile(below(root, Buffer.from('link')), 'utf8'), 'bytes')
    },
  },
  {
    name: 'a path may have 4,095 bytes',
    kernelOnly: true,
    async run(t, root) {
      let path = below(root)
      // Folders of the longest name, and a file whose name fills what is left: 2 to 255 bytes.
      while (PATH_MAX - 1 - path.length > 2 * (NAME_MAX + 1)) {
        path = below(path.toString('latin1'), Buffer.alloc(NAME_MAX, 0x64))
        await mkdir(path)
      }
      const half = Math.floor((PATH_MAX - 1 - path.length) / 2) - 1
      path = below(path.toString('latin1'), Buffer.alloc(half, 0x65))
      await mkdir(path)
      const left = PATH_MAX - 1 - path.length - 1
      const longest = below(path.toString('latin1'), Buffer.alloc(left, 0x66))
      t.equal(longest.length, PATH_MAX - 1)
      await writeFile(longest, 'deep')
      t.equal(await readFile(longest, 'utf8'), 'deep')
      t.equal(await outcome(() => stat(Buffer.concat([longest, Buffer.from('f')]))), 'ENAMETOOLONG')
    },
  },
]
