import { mkdir, readFile, readdir, rename, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describeTree } from '../../helpers/fs-ops.js'
import { sh } from '../../helpers/mount.js'
import type { Suite } from './suite.js'

/** Files and folders as a small project has them. */
async function makeTree(root: string): Promise<void> {
  await mkdir(join(root, 'src/deep/er'), { recursive: true })
  await writeFile(join(root, 'README'), 'read me\n')
  await writeFile(join(root, 'src/empty'), '')
  await writeFile(join(root, 'src/deep/er/data'), Buffer.alloc(300_000, 7))
  await sh('ln', '-s', '../README', join(root, 'src/link'))
  await sh('chmod', '750', join(root, 'src/deep'))
}

export const programs: readonly Suite[] = [
  {
    name: 'ls, cp, cat, mv and rm work',
    async run(t, root) {
      const [a, b, c] = [join(root, 'a'), join(root, 'b'), join(root, 'c')]
      await writeFile(a, 'hello\n')
      await sh('cp', a, b)
      t.equal(await sh('cat', b), 'hello')
      await sh('mv', b, c)
      t.equal(await sh('ls', root), 'a\nc')
      await sh('rm', c)
      t.equal(await sh('ls', root), 'a')
    },
  },
  {
    name: 'cp -a and rm -r take a whole tree',
    async run(t, root) {
      await mkdir(join(root, 'from'))
      await makeTree(join(root, 'from'))
      await sh('cp', '-a', join(root, 'from'), join(root, 'to'))
      t.same(await describeTree(join(root, 'to')), await describeTree(join(root, 'from')))
      await sh('rm', '-r', join(root, 'from'))
      t.same(await readdir(root), ['to'])
    },
  },
  {
    name: 'tar packs and unpacks a tree',
    async run(t, root) {
      await mkdir(join(root, 'from'))
      await mkdir(join(root, 'to'))
      await makeTree(join(root, 'from'))
      await sh('tar', '-C', join(root, 'from'), '-cf', join(root, 'archive.tar'), '.')
      await sh('tar', '-C', join(root, 'to'), '-xpf', join(root, 'archive.tar'))
      t.same(await describeTree(join(root, 'to')), await describeTree(join(root, 'from')))
    },
  },
  {
    name: 'find, du and grep walk a tree',
    async run(t, root) {
      await makeTree(root)
      const found = (await sh('find', root, '-type', 'f')).split('\n')
      t.same(found.sort(), ['README', 'src/deep/er/data', 'src/empty'].map((name) => join(root, name)).sort())
      t.equal(await sh('grep', '-rl', 'read me', root), join(root, 'README'))
      t.ok(Number.parseInt(await sh('du', '-sk', root), 10) >= 290, 'du counts what is stored')
    },
  },
  {
    name: 'several processes that append to one file lose no line',
    async run(t, root) {
      const file = join(root, 'log')
      const loop = 'for i in $(seq 100); do echo "$1 $i" >> "$0"; done'
      await Promise.all(['a', 'b', 'c', 'd'].map((writer) => sh('sh', '-c', loop, file, writer)))
      const lines = (await readFile(file, 'utf8')).trimEnd().split('\n')
      t.equal(new Set(lines).size, 400)
      t.equal(lines.length, 400)
    },
  },
  {
    name: 'paths longer than PATH_MAX are reached step by step',
    async run(t, root) {
      // Two halves, one put below the other: no single call may name the whole path.
      const half = Array<string>(10).fill('d'.repeat(250)).join('/')
      await mkdir(join(root, 'upper', half), { recursive: true })
      await mkdir(join(root, 'lower', half), { recursive: true })
      await writeFile(join(root, 'lower', half, 'file'), 'deep')
      await rename(join(root, 'lower'), join(root, 'upper', half, 'lower'))
      t.equal(await sh('find', root, '-name', 'file', '-execdir', 'cat', '{}', ';'), 'deep')
      await sh('rm', '-r', join(root, 'upper'))
      t.same(await readdir(root), [])
    },
  },
]
