/** Programs and libraries in C that tests use (c/), compiled once a build: dozens of tests ask for the same few. */
import { createHash, randomUUID } from 'node:crypto'
import { access, mkdir, readFile, rename } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { runCommand } from '../../src/fuse/command.js'

const TIMEOUT_MS = 120_000
// Seen from dist/test/helpers.
const SOURCES = fileURLToPath(new URL('../../../test/helpers/c', import.meta.url))
const RESULTS = fileURLToPath(new URL('./compiled', import.meta.url))
const FLAGS = ['-O2', '-Wall', '-Wextra', '-Werror']

/** Answers what comes of a file of test/helpers/c, compiled as it is now. It is others', too: it must stay as it is. */
export async function compiled(source: string, ...flags: readonly string[]): Promise<string> {
  const path = join(SOURCES, source)
  const words = [...FLAGS, ...flags, path, '-ldl']
  const hash = createHash('sha256')
    .update(words.join('\0'))
    .update(await readFile(path))
  const folder = join(RESULTS, hash.digest('hex').slice(0, 16))
  const result = join(folder, source.replace(/\.c$/, ''))
  if (await exists(result)) return result
  await mkdir(folder, { recursive: true })
  // Others may be at it: whoever finds it finds it whole.
  const partial = join(folder, randomUUID())
  const { exitCode, output } = await runCommand('gcc', [...words, '-o', partial], TIMEOUT_MS)
  if (exitCode !== 0) throw new Error(`gcc (apt-get install gcc) could not build ${source}: ${output}`)
  await rename(partial, result)
  return result
}

function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  )
}
