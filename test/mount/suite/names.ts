import {
  type FileHandle,
  link,
  lstat,
  mkdir,
  open,
  opendir,
  readFile,
  readdir,
  readlink,
  rename,
  rm,
  rmdir,
  stat,
  symlink,
  unlink,
  utimes,
  writeFile,
} from 'node:fs/promises'
import { join } from 'node:path'
import { exists, outcome, readAt } from '../../helpers/fs-ops.js'
import { sh } from '../../helpers/mount.js'
import type { Suite } from './suite.js'

/** Several listings of the metadata, and many of the kernel. */
const ENTRIES = 2_000
const OLD = new Date('2001-02-03T04:05:06Z')

function tryWrite(path: string): Promise<void> {
  return writeFile(path, '')
}

/** As an editor saves: a new file beside the old one, synced, put in its place. */
async function save(path: string, text: string): Promise<void> {
  const file = await open(`${path}.new`, 'w')
  await file.writeFile(text)
  await file.sync()
  await file.close()
  await rename(`${path}.new`, path)
}

export const names: readonly Suite[] = [
  {
    name: 'an editor saves by rename, and who has the old file open keeps it',
    async run(t, root) {
      const path = join(root, 'text')
      await writeFile(path, 'old')
      const reader = await open(path)
      await save(path, 'new')
      t.equal(await readFile(path, 'utf8'), 'new')
      t.equal((await readAt(reader, 0, 10)).toString(), 'old')
      t.equal((await reader.stat()).nlink, 0)
      await reader.close()
      t.same(await readdir(root), ['text'])
    },
  },
  {
    name: 'an open file that is replaced by rename again and again is never missing and never half',
    async run(t, root) {
      const path = join(root, 'config')
      await save(path, 'version 0')
      const loop = 'while [ ! -e "$0.stop" ]; do cat "$0" || echo missing; echo; done | sort -u'
      const reader = sh('sh', '-c', loop, path)
      // Open all the time: that is when libfuse makes two steps of a rename.
      const holders: FileHandle[] = []
      for (let version = 1; version <= 100; version++) {
        holders.push(await open(path))
        await save(path, `version ${version}`)
      }
      await writeFile(`${path}.stop`, '')
      const others = (await reader).split('\n').filter((line) => line !== '' && !/^version \d+$/.test(line))
      t.same(others, [])
      for (const holder of holders) await holder.close()
    },
  },
  {
    name: 'who opens, or follows a link, while both are replaced by rename again and again, finds one or the other',
    kernelOnly: true,
    async run(t, root) {
      const [path, to] = [join(root, 'config'), join(root, 'link')]
      const link = async (): Promise<void> => {
        await symlink('config', `${to}.new`)
        await rename(`${to}.new`, to)
      }
      await writeFile(path, 'version 0')
      await link()
      let isOver = false
      const seen = new Map<string, number>()
      const read = async (name: string): Promise<void> => {
        t.match(await readFile(name, 'utf8'), /^version \d+$/)
      }
      const look = async (what: () => Promise<unknown>): Promise<void> => {
        while (!isOver) {
          const found = await outcome(what)
          seen.set(found, (seen.get(found) ?? 0) + 1)
        }
      }
      const looks = [() => read(path), () => read(to), () => readlink(to)].map(look)
      for (let version = 1; version <= 300; version++) {
        await writeFile(`${path}.new`, `version ${version}`)
        await rename(`${path}.new`, path)
        await link()
      }
      isOver = true
      await Promise.all(looks)
      t.same(
        [...seen.keys()].filter((found) => found !== 'ok'),
        [],
      )
      t.ok((seen.get('ok') ?? 0) > 100)
    },
  },
  {
    name: 'a file that was removed while open can be read, written, cut and changed until it is closed',
    async run(t, root) {
      const path = join(root, 'removed')
      await writeFile(path, 'contents')
      const file = await open(path, 'r+')
      await unlink(path)
      t.notOk(await exists(path))
      t.same(await readdir(root), [], 'no trace of it')
      t.equal((await file.stat()).nlink, 0)
      t.equal((await readAt(file, 0, 20)).toString(), 'contents')
      await file.write('CON', 0)
      await file.truncate(5)
      await file.chmod(0o600)
      await file.utimes(1_000, 2_000)
      const { size, mode, mtimeMs } = await file.stat()
      t.same({ size, mode: mode & 0o777, mtimeMs }, { size: 5, mode: 0o600, mtimeMs: 2_000_000 })
      await writeFile(path, 'another')
      t.equal((await readAt(file, 0, 20)).toString(), 'CONte')
      t.equal(await readFile(path, 'utf8'), 'another')
      await file.close()
      t.same(await readdir(root), ['removed'])
    },
  },
  {
    name: 'the times of a folder tell at once of an open file that was removed from it, and set ones stay',
    async run(t, root) {
      const files = [await open(join(root, 'a'), 'w'), await open(join(root, 'b'), 'w')]
      await utimes(root, OLD, OLD)
      await unlink(join(root, 'a'))
      const at = await stat(root)
      t.not(at.mtimeMs, OLD.getTime())
      t.same(await readdir(root), ['b'])
      const { mtimeMs, ctimeMs } = await stat(root)
      t.same([mtimeMs, ctimeMs], [at.mtimeMs, at.ctimeMs], 'the same later')
      await unlink(join(root, 'b'))
      await utimes(root, OLD, OLD)
      t.same(await readdir(root), [])
      t.equal((await stat(root)).mtimeMs, OLD.getTime())
      for (const file of files) await file.close()
    },
  },
  {
    name: 'a removed open file with another name keeps that name, and its count of links is right',
    async run(t, root) {
      const [one, other] = [join(root, 'one'), join(root, 'other')]
      await writeFile(one, 'both')
      await link(one, other)
      const file = await open(one)
      await unlink(one)
      t.equal((await file.stat()).nlink, 1)
      t.equal((await stat(other)).nlink, 1)
      t.equal(await readFile(other, 'utf8'), 'both')
      await file.close()
      t.same(await readdir(root), ['other'])
    },
  },
  {
    name: 'rename replaces a file and an empty folder, and nothing else',
    async run(t, root) {
      const at = (name: string) => join(root, name)
      for (const name of ['file', 'file2']) await writeFile(at(name), name)
      for (const name of ['empty', 'empty2', 'full', 'full/inside']) await mkdir(at(name))
      await rename(at('file2'), at('file'))
      t.equal(await readFile(at('file'), 'utf8'), 'file2')
      await rename(at('empty2'), at('empty'))
      t.equal(await outcome(() => rename(at('empty'), at('full'))), 'ENOTEMPTY')
      t.equal(await outcome(() => rename(at('file'), at('empty'))), 'EISDIR')
      t.equal(await outcome(() => rename(at('empty'), at('file'))), 'ENOTDIR')
      t.equal(await outcome(() => rename(at('full'), at('full/inside/again'))), 'EINVAL')
      t.equal(await outcome(() => rename(at('none'), at('some'))), 'ENOENT')
      t.same((await readdir(root)).sort(), ['empty', 'file', 'full'])
    },
  },
  {
    name: 'symbolic links are followed and read, also when they lead nowhere',
    async run(t, root) {
      const at = (name: string) => join(root, name)
      await writeFile(at('target'), 'here')
      await symlink('target', at('good'))
      await symlink('nowhere/ünïcode', at('bad'))
      await symlink('loop', at('loop'))
      t.equal(await readFile(at('good'), 'utf8'), 'here')
      t.equal(await readlink(at('bad')), 'nowhere/ünïcode')
      t.equal((await lstat(at('bad'))).size, Buffer.byteLength('nowhere/ünïcode'))
      t.equal(await outcome(() => stat(at('bad'))), 'ENOENT')
      t.equal(await outcome(() => stat(at('loop'))), 'ELOOP')
      await symlink('x'.repeat(4_000), at('long'))
      t.equal((await readlink(at('long'))).length, 4_000)
    },
  },
  {
    name: 'hard links are one file',
    async run(t, root) {
      const at = (name: string) => join(root, name)
      await writeFile(at('one'), 'before')
      await link(at('one'), at('two'))
      await writeFile(at('two'), 'after!')
      t.equal(await readFile(at('one'), 'utf8'), 'after!')
      const [one, two] = [await stat(at('one')), await stat(at('two'))]
      t.same([one.ino, one.nlink], [two.ino, 2])
      t.equal(await outcome(() => link(at('one'), at('two'))), 'EEXIST')
      t.equal(await outcome(() => link(root, at('dir'))), 'EPERM')
      await unlink(at('one'))
      t.equal((await stat(at('two'))).nlink, 1)
    },
  },
  {
    name: 'names have up to 255 bytes, and paths up to PATH_MAX',
    async run(t, root) {
      const longest = 'é'.repeat(127) + 'x'
      await writeFile(join(root, longest), 'long')
      t.same(await readdir(root), [longest])
      t.equal(await readFile(join(root, longest), 'utf8'), 'long')
      for (const work of [tryWrite, mkdir, stat, unlink, rmdir]) {
        t.equal(await outcome(() => work(join(root, `${longest}x`))), 'ENAMETOOLONG')
      }
      t.equal(await outcome(() => rename(join(root, longest), join(root, `${longest}x`))), 'ENAMETOOLONG')
      t.equal(await outcome(() => stat(join(root, 'd/'.repeat(2_100)))), 'ENAMETOOLONG')
    },
  },
  {
    name: 'names may have any character but slash and NUL',
    async run(t, root) {
      const strange = [' ', '\n', '\\', '"', "'", '*', '-rf', '…', '日本語', '👩‍🔧', ',', ':', '\u0001', '...']
      for (const name of strange) await writeFile(join(root, name), name)
      t.same((await readdir(root)).sort(), [...strange].sort())
      for (const name of strange) t.equal(await readFile(join(root, name), 'utf8'), name)
    },
  },
  {
    name: 'a folder is removed when it is empty, and only then',
    async run(t, root) {
      const at = (name: string) => join(root, name)
      await mkdir(at('d'))
      await writeFile(at('d/f'), '')
      t.equal(await outcome(() => rmdir(at('d'))), 'ENOTEMPTY')
      t.equal(await outcome(() => rmdir(at('d/f'))), 'ENOTDIR')
      t.equal(await outcome(() => unlink(at('d'))), 'EISDIR')
      t.equal(await outcome(() => writeFile(at('d'), '')), 'EISDIR')
      t.equal(await outcome(() => stat(at('d/f/g'))), 'ENOTDIR')
      t.equal((await stat(at('d'))).nlink, 2)
      t.equal((await stat(root)).nlink, 3)
      await rm(at('d'), { recursive: true })
      t.equal((await stat(root)).nlink, 2)
    },
  },
  {
    name: 'a listing of 2,000 names has every name that stays once, while others come and go',
    async run(t, root) {
      const stay = Array.from({ length: ENTRIES }, (_, i) => `stay-${i}`)
      await sh(
        'sh',
        '-c',
        'cd "$0" && seq -f stay-%.0f 0 1999 | xargs touch && seq -f go-%.0f 0 499 | xargs touch',
        root,
      )
      const churn = sh(
        'sh',
        '-c',
        'cd "$0" && seq -f go-%.0f 0 499 | xargs rm && seq -f new-%.0f 0 499 | xargs touch',
        root,
      )
      const seen: string[] = []
      for await (const { name } of await opendir(root, { bufferSize: 16 }))
        if (name.startsWith('stay-')) seen.push(name)
      await churn
      t.same(seen.sort(), stay.sort())
      t.equal((await readdir(root)).filter((name) => name.startsWith('go-')).length, 0)
    },
  },
]
