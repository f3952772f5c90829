// `npm test`: runs every compiled test with tap and ends with a line `N passed, N failed`, counted from tap's own output.
//
//   npm test                        everything
//   npm test -- unit/cluster        the tests whose path contains the words
//   npm test -- --reporter=tap      options are tap's
//
// A runner that dies, a test file that asserts nothing and no test at all are failures: silence is never success.
import { spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { countTap } from './tap-count.mjs'

/** All in all; a single file has the time in .taprc. */
const RUN_TIMEOUT_MS = 30 * 60_000

function testFiles(folder) {
  if (!existsSync(folder)) return []
  return readdirSync(folder, { withFileTypes: true })
    .flatMap((entry) => {
      const path = join(folder, entry.name)
      if (entry.isDirectory()) return testFiles(path)
      return path.endsWith('.test.js') ? [path] : []
    })
    .sort()
}

function runTap(files, options, outputFile) {
  // tap's own choice redraws the screen, which is no good in a log.
  const reporter = process.stdout.isTTY ? [] : ['--reporter=terse']
  const own = [...reporter, `--output-file=${outputFile}`]
  const words = ['node_modules/tap/dist/esm/run.mjs', ...own, ...options, ...files]
  // No standard input: a test must not wait for one, and a terminal's stays with npm.
  const result = spawnSync(process.execPath, words, {
    stdio: ['ignore', 'inherit', 'inherit'],
    timeout: RUN_TIMEOUT_MS,
  })
  return result.status === 0
}

function closingLine({ passed, failed, skipped }) {
  return `${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ''}`
}

function main(words) {
  process.chdir(join(dirname(fileURLToPath(import.meta.url)), '..'))
  const options = words.filter((word) => word.startsWith('-'))
  const parts = words.filter((word) => !word.startsWith('-'))
  const files = testFiles('dist/test').filter((file) => parts.length === 0 || parts.some((part) => file.includes(part)))
  const folder = mkdtempSync(join(tmpdir(), 'ringfs-tap-'))
  try {
    const output = join(folder, 'out.tap')
    const succeeded = files.length > 0 && runTap(files, options, output)
    const counts = countTap(existsSync(output) ? readFileSync(output, 'utf8') : '', files)
    if (!succeeded && counts.failed === 0) counts.failed = 1
    console.log(`\n${closingLine(counts)}`)
    process.exitCode = counts.failed > 0 || counts.passed === 0 ? 1 : 0
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

main(process.argv.slice(2))
