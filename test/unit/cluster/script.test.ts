import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import t from 'tap'
import { loadScript } from '../../../src/cluster/script.js'

async function temporaryFolder(t: { teardown(fn: () => Promise<void>): void }): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'ringfs-unit-'))
  t.teardown(() => rm(folder, { recursive: true, force: true }))
  return folder
}

t.test('a script is its prelude and its text, known by SHA-1', async (t) => {
  const folder = await temporaryFolder(t)
  await writeFile(join(folder, 'x.lua'), 'return 1')
  const script = loadScript(folder, 'x')
  t.strictSame(script, { name: 'x', source: 'return 1', sha1: 'e0e1f9fabfc9d4800c877a703b823ac0578ff8db' })
  t.strictSame(loadScript(pathToFileURL(`${folder}/`), 'x'), script)
  t.equal(loadScript(folder, 'x', 'local a').source, 'local a\nreturn 1')
})
