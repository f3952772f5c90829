// `npm run ok`: one command that says whether all is well. Every step runs, so that one run tells everything; the tests
// come last, and their line `N passed, N failed` is the last of the output.
//
//   node scripts/ok.mjs             everything
//   node scripts/ok.mjs lint types  these static checks only
//
// A static check that fails counts as one failure in that line, one that passes counts for nothing: the numbers are
// those of the tests.
import { spawn, spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'

const NODE = process.execPath
process.chdir(join(dirname(fileURLToPath(import.meta.url)), '..'))

const CHECKS = [
  { name: 'format', words: ['node_modules/prettier/bin/prettier.cjs', '--check', '--log-level=warn', '.'] },
  { name: 'lint', words: ['node_modules/eslint/bin/eslint.js', '--max-warnings=0', '.'] },
  {
    name: 'layering',
    words: [
      'node_modules/dependency-cruiser/bin/dependency-cruise.mjs',
      ...['--config', '.dependency-cruiser.cjs'],
      ...['src', 'workers', 'test', 'bench'].filter((folder) => existsSync(folder)),
    ],
  },
  { name: 'types', words: ['node_modules/typescript/bin/tsc', '--noEmit', '--incremental', 'false'] },
]

function run(name, words) {
  const startMs = performance.now()
  const { status } = spawnSync(NODE, words, { stdio: ['ignore', 'inherit', 'inherit'] })
  const seconds = ((performance.now() - startMs) / 1000).toFixed(1)
  console.log(`${name}: ${status === 0 ? 'ok' : 'FAILED'} (${seconds} s)`)
  return status === 0
}

/** Prints the tests' output as it comes, but for the closing line, which is given back. */
async function runTests() {
  const child = spawn(NODE, ['scripts/test.mjs'], { stdio: ['ignore', 'pipe', 'inherit'] })
  const ended = new Promise((resolve) => child.once('close', resolve))
  let closing = null
  let held
  for await (const line of createInterface({ input: child.stdout })) {
    if (held !== undefined) console.log(held)
    held = line
    closing = /^(\d+) passed, (\d+) failed(, \d+ skipped)?$/.exec(line)
  }
  if (closing === null && held !== undefined) console.log(held)
  const isGood = (await ended) === 0
  const [, passed = '0', failed = '1', skipped = ''] = closing ?? []
  return { ok: isGood, passed: Number(passed), failed: Math.max(Number(failed), isGood ? 0 : 1), skipped }
}

async function everything(bad) {
  if (!run('build', ['scripts/setup.mjs', '--tests'])) bad.push('build')
  const tests = bad.includes('build') ? { ok: false, passed: 0, failed: 0, skipped: '' } : await runTests()
  if (bad.length > 0) console.log(`failed: ${bad.join(', ')}`)
  console.log(`${tests.passed} passed, ${tests.failed + bad.length} failed${tests.skipped}`)
  return tests.ok && bad.length === 0
}

async function main(names) {
  if (!run('packages', ['scripts/setup.mjs', '--no-build'])) {
    console.log('0 passed, 1 failed')
    return false
  }
  const chosen = CHECKS.filter((check) => names.length === 0 || names.includes(check.name))
  const bad = chosen.filter((check) => !run(check.name, check.words)).map((check) => check.name)
  return names.length === 0 ? await everything(bad) : bad.length === 0
}

process.exitCode = (await main(process.argv.slice(2))) ? 0 : 1
