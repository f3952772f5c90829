// `npm run ok`: one command that says whether all is well. Every step runs, so that one run tells everything; the tests'
// line `N passed, N failed` is the last of the output.
//
//   node scripts/ok.mjs             everything
//   node scripts/ok.mjs lint types  these static checks only
//
// The static checks run one after another beside the build, which uses one processor, and the tests, which wait for timers part of
// their time. The types are not checked twice: the build has done it. A static check that fails counts as one failure in that line, one that passes counts for nothing: the numbers are
// those of the tests.
import { spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { createInterface } from 'node:readline'
import { text } from 'node:stream/consumers'
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

/** Its output is told when it has ended, in one piece. */
async function run(name, words) {
  const startMs = performance.now()
  const child = spawn(NODE, words, { stdio: ['ignore', 'pipe', 'pipe'] })
  const ended = new Promise((resolve) => child.once('close', resolve))
  const said = (await Promise.all([text(child.stdout), text(child.stderr)])).join('').trimEnd()
  const ok = (await ended) === 0
  if (said !== '') console.log(said)
  console.log(`${name}: ${ok ? 'ok' : 'FAILED'} (${((performance.now() - startMs) / 1000).toFixed(1)} s)`)
  return ok
}

/** One after another. Answers the names of those that failed. */
async function runAll(checks) {
  const bad = []
  for (const { name, words } of checks) if (!(await run(name, words))) bad.push(name)
  return bad
}

/** Prints the tests' output as it comes, but for the closing line, which is given back. */
async function runTests() {
  const child = spawn(NODE, ['scripts/test.mjs', '--times'], { stdio: ['ignore', 'pipe', 'inherit'] })
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

async function everything() {
  const checking = runAll(CHECKS.filter(({ name }) => name !== 'types'))
  const isBuilt = await run('build', ['scripts/setup.mjs', '--tests'])
  const tests = isBuilt ? await runTests() : { ok: false, passed: 0, failed: 0, skipped: '' }
  const bad = await checking
  if (!isBuilt) bad.unshift('build')
  if (bad.length > 0) console.log(`failed: ${bad.join(', ')}`)
  console.log(`${tests.passed} passed, ${tests.failed + bad.length} failed${tests.skipped}`)
  return tests.ok && bad.length === 0
}

async function main(names) {
  if (!(await run('packages', ['scripts/setup.mjs', '--no-build']))) {
    console.log('0 passed, 1 failed')
    return false
  }
  if (names.length === 0) return everything()
  const bad = await runAll(CHECKS.filter(({ name }) => names.includes(name)))
  return bad.length === 0
}

process.exitCode = (await main(process.argv.slice(2))) ? 0 : 1
