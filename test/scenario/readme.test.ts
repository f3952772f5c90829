/** The README's TypeScript example, taken from the README, compiled, and run against a live `ringfs up`. */
import { mkdir, readFile, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { Ringfs, runIn } from '../helpers/ringfs.js'

// Seen from dist/test/scenario.
const ROOT = fileURLToPath(new URL('../../..', import.meta.url))

t.test('the example of the README is right TypeScript and does what it says', async (t) => {
  const text = await readFile(join(ROOT, 'README.md'), 'utf8')
  const example = /```ts\n([\s\S]*?)```/.exec(text)?.[1] ?? ''
  t.match(example, /from 'ringfs'/)
  const expected = [...example.matchAll(/console\.log\(.*\) \/\/ (.*)/g)].map((match) => match[1])
  t.ok(expected.length > 0, 'it says what it prints')

  const ringfs = await Ringfs.in(t)
  const program = join(ringfs.folder, 'program')
  await mkdir(join(program, 'node_modules', '@types'), { recursive: true })
  await symlink(ROOT, join(program, 'node_modules', 'ringfs'))
  await symlink(join(ROOT, 'node_modules', '@types', 'node'), join(program, 'node_modules', '@types', 'node'))
  await writeFile(join(program, 'package.json'), '{"type":"module"}')
  await writeFile(join(program, 'example.ts'), example)
  const options = ['--strict', '--module', 'nodenext', '--target', 'es2023', '--lib', 'es2023,esnext.disposable']
  const tsc = join(ROOT, 'node_modules', 'typescript', 'bin', 'tsc')
  const built = await runIn(program, process.execPath, [tsc, ...options, '--skipLibCheck', 'example.ts'])
  t.equal(built.code, 0, built.stdout)

  await ringfs.ok('up', '--detach')
  const ran = await runIn(program, process.execPath, ['example.js'], ringfs.env)
  t.equal(ran.code, 0, ran.stderr)
  t.same(ran.stdout.trimEnd().split('\n'), expected)
  await ringfs.ok('down')
})
