/** The pages about calls and options leave nothing out. */
import { readFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { OPCODES } from '../../../src/fuse/kernel/opcodes.js'
import { OWN_OPTIONS } from '../../../src/fuse/mount-options.js'

// Seen from dist/test/unit/fuse.
const page = (name: string) => readFile(fileURLToPath(new URL(`../../../../docs/${name}`, import.meta.url)), 'utf8')

/** `copyFileRange` is COPY_FILE_RANGE in linux/fuse.h. */
function kernelName(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => `_${letter}`).toUpperCase()
}

t.test('docs/posix.md says of every request who answers it, and nothing else', async (t) => {
  const text = await page('posix.md')
  const [, answered = '', refused = ''] = /## Requests([\s\S]*?)\| ([A-Z0-9_, ]+) \| ENOSYS/.exec(text) ?? []
  const words = new Set(answered.match(/\b[A-Z][A-Z0-9_]+\b/g))
  for (const { name } of OPCODES) t.ok(words.has(kernelName(name)), name)
  const known = new Set(OPCODES.map(({ name }) => kernelName(name)))
  for (const name of refused.split(', ')) t.notOk(known.has(name), `${name} is answered`)
})

t.test('docs/operations.md has every option of a mount that is of ringfs', async (t) => {
  const text = await page('operations.md')
  for (const { name } of OWN_OPTIONS) t.match(text, `\`${name}=`, name)
})
