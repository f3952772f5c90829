import { chmodSync, mkdirSync, mkdtempSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { makeFolders } from '../../../src/base/make-folders.js'

const NOBODY = 65534
const root = mkdtempSync(join(tmpdir(), 'ringfs-folders-'))
t.teardown(() => rmSync(root, { recursive: true, force: true }))

t.test('what is missing is made, and the uppermost of it told', (t) => {
  t.equal(makeFolders(join(root, 'a/b/c'), 0o700), join(root, 'a'))
  for (const path of ['a', 'a/b', 'a/b/c']) t.equal(statSync(join(root, path)).mode & 0o777, 0o700)
  t.equal(makeFolders(join(root, 'a/b/c')), undefined)
  t.equal(makeFolders(join(root, 'a/b/d/')), join(root, 'a/b/d/'))
  t.equal(makeFolders('/'), undefined)
  t.end()
})

t.test('a folder behind a link is one; a file, or a link to nothing, is in the way', (t) => {
  mkdirSync(join(root, 'there'))
  symlinkSync('there', join(root, 'link'))
  symlinkSync('nowhere', join(root, 'dangling'))
  writeFileSync(join(root, 'file'), '')
  t.equal(makeFolders(join(root, 'link')), undefined)
  t.equal(makeFolders(join(root, 'link/below')), join(root, 'link/below'))
  t.throws(() => makeFolders(join(root, 'file')), { code: 'EEXIST' })
  t.throws(() => makeFolders(join(root, 'file/below')), { code: 'ENOTDIR' })
  t.throws(() => makeFolders(join(root, 'dangling')), { code: 'EEXIST' })
  t.throws(() => makeFolders(join(root, 'dangling/below')), { code: 'EEXIST' })
  t.end()
})

t.test('where the system makes no folders it ends, with what the system says', (t) => {
  // mkdir(2) of Node with `recursive` tries for ever here.
  t.throws(() => makeFolders('/proc/x'), { code: 'ENOENT' })
  t.throws(() => makeFolders('/proc/x/y'), { code: 'ENOENT' })
  t.throws(() => makeFolders(''), { code: 'ENOENT' })
  const before = process.cwd()
  const gone = join(root, 'gone')
  mkdirSync(gone)
  process.chdir(gone)
  rmSync(gone, { recursive: true })
  t.throws(() => makeFolders('a/b'), { code: 'ENOENT' })
  process.chdir(before)
  t.end()
})

t.test('a folder that may not be written into is told', (t) => {
  mkdirSync(join(root, 'ro'))
  chmodSync(root, 0o755)
  chmodSync(join(root, 'ro'), 0o555)
  // Root may write everywhere.
  const isRoot = process.getuid?.() === 0
  if (isRoot) process.seteuid?.(NOBODY)
  t.teardown(() => {
    if (isRoot) process.seteuid?.(0)
  })
  t.throws(() => makeFolders(join(root, 'ro/a')), { code: 'EACCES' })
  t.end()
})
