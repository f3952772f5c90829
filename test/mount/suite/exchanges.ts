import { mkdir, readFile, readdir, stat, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { RENAME_EXCHANGE, RENAME_NOREPLACE, RENAME_WHITEOUT, renameat2 } from '../../helpers/syscalls.js'
import type { Suite } from './suite.js'

export const exchanges: readonly Suite[] = [
  {
    name: 'renameat2 exchanges whatever two names name, also across folders',
    kernelOnly: true,
    async run(t, root) {
      const at = (name: string): string => join(root, name)
      await mkdir(at('dir/inner'), { recursive: true })
      await writeFile(at('dir/inner/deep'), 'deep')
      await writeFile(at('file'), 'file')
      await symlink('target', at('dir/link'))
      const inodes = async (...names: string[]): Promise<number[]> =>
        Promise.all(names.map(async (name) => (await stat(at(name))).ino))
      const [file, inner] = await inodes('file', 'dir/inner')
      t.equal(await renameat2(at('file'), at('dir/inner'), RENAME_EXCHANGE), 'ok')
      t.same(await inodes('dir/inner', 'file'), [file, inner], 'file and folder')
      t.equal(await readFile(at('dir/inner'), 'utf8'), 'file')
      t.equal(await readFile(at('file/deep'), 'utf8'), 'deep')
      t.equal(await readFile(at('file/../dir/inner'), 'utf8'), 'file', 'the folder knows its new parent')
      t.same([(await stat(root)).nlink, (await stat(at('dir'))).nlink], [4, 2])
      t.equal(await renameat2(at('dir/inner'), at('dir/link'), RENAME_EXCHANGE), 'ok')
      t.equal(await readFile(at('dir/link'), 'utf8'), 'file', 'file and link')
      t.equal(await renameat2(at('dir'), at('file'), RENAME_EXCHANGE), 'ok')
      t.same((await readdir(at('dir'))).sort(), ['deep'])
      t.same((await readdir(at('file'))).sort(), ['inner', 'link'])
    },
  },
  {
    name: 'renameat2 refuses an exchange with nothing, with what is below, and a whiteout',
    kernelOnly: true,
    async run(t, root) {
      const at = (name: string): string => join(root, name)
      await mkdir(at('dir/inner'), { recursive: true })
      await writeFile(at('file'), '')
      t.equal(await renameat2(at('file'), at('none'), RENAME_EXCHANGE), 'ENOENT')
      t.equal(await renameat2(at('none'), at('file'), RENAME_EXCHANGE), 'ENOENT')
      t.equal(await renameat2(at('dir'), at('dir/inner'), RENAME_EXCHANGE), 'EINVAL')
      t.equal(await renameat2(at('dir/inner'), at('dir'), RENAME_EXCHANGE), 'EINVAL')
      t.equal(await renameat2(at('file'), at('dir'), RENAME_EXCHANGE | RENAME_NOREPLACE), 'EINVAL')
      t.equal(await renameat2(at('file'), at('new'), RENAME_WHITEOUT), 'EINVAL')
      t.equal(await renameat2(at('file'), at('dir'), RENAME_NOREPLACE), 'EEXIST')
      t.same((await readdir(root)).sort(), ['dir', 'file'])
    },
  },
]
