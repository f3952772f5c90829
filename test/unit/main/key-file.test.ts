import { chownSync, lstatSync, mkdtempSync, readdirSync, rmSync, statSync, symlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { addKey, listKeys, newKeyFile, removeKey } from '../../../src/main/key-file.js'

t.test('a changed key file stays whose it was, and where a symlink leads', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'ringfs-keys-'))
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  const [file, link] = [join(folder, 'key'), join(folder, 'link')]
  const first = newKeyFile(file)
  const isRoot = process.getuid?.() === 0
  if (isRoot) chownSync(file, 1234, 5678)
  symlinkSync('key', link)
  const second = addKey(link)
  t.same(listKeys(file), [second, first])
  removeKey(link, first)
  t.same(listKeys(file), [second])
  t.ok(lstatSync(link).isSymbolicLink())
  const { uid, gid, mode } = statSync(file)
  t.equal(mode & 0o777, 0o600)
  if (isRoot) t.same([uid, gid], [1234, 5678])
  t.same(readdirSync(folder).sort(), ['key', 'link'])
})
