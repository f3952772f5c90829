// `npm test`: runs every compiled test with tap and ends with a line `N passed, N failed`, counted from tap's own output.
//
//   npm test                        everything
//   npm test -- unit/cluster        the tests whose path contains the words
//   npm test -- --reporter=tap      options are tap's
//
// A runner that dies, a test file that asserts nothing and no test at all are failures: silence is never success.
import { spawn } from 'node:child_process'
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { countTap } from './tap-count.mjs'
import { tapTeller } from './tap-tell.mjs'

/** All in all; a single file has the time in .taprc. */
const RUN_TIMEOUT_MS = 55 * 60_000

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

/**
 * On a terminal tap draws its own picture, in a log it is told line by line. Answers the TAP and whether all went well.
 * (Both at once, --reporter=tap and --output-file, give every line twice.)
 */
async function runTap(files, options, outputFile) {
  const isTerminal = process.stdout.isTTY
  const own = isTerminal ? `--output-file=${outputFile}` : '--reporter=tap'
  const words = ['node_modules/tap/dist/esm/run.mjs', own, ...options, ...files]
  // No standard input: a test must not wait for one, and a terminal's stays with npm.
  const stdio = ['ignore', isTerminal ? 'inherit' : 'pipe', 'inherit']
  const child = spawn(process.execPath, words, { stdio })
  const timer = setTimeout(() => child.kill('SIGKILL'), RUN_TIMEOUT_MS)
  const status = new Promise((resolve) => {
    child.once('error', () => resolve(1))
    child.once('close', resolve)
  })
  const lines = []
  const tell = tapTeller(console.log)
  if (child.stdout !== null) {
    for await (const line of createInterface({ input: child.stdout })) {
      lines.push(line)
      tell(line)
    }
  }
  const succeeded = (await status) === 0
  clearTimeout(timer)
  if (isTerminal && existsSync(outputFile)) return { tap: readFileSync(outputFile, 'utf8'), succeeded }
  return { tap: lines.join('\n'), succeeded }
}

function closingLine({ passed, failed, skipped }) {
  return `${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ''}`
}

async function main(words) {
  process.chdir(join(dirname(fileURLToPath(import.meta.url)), '..'))
  const options = words.filter((word) => word.startsWith('-'))
  const parts = words.filter((word) => !word.startsWith('-'))
  const files = testFiles('dist/test').filter((file) => parts.length === 0 || parts.some((part) => file.includes(part)))
  const folder = mkdtempSync(join(tmpdir(), 'ringfs-tap-'))
  try {
    const nothing = { tap: '', succeeded: false }
    const { tap, succeeded } = files.length > 0 ? await runTap(files, options, join(folder, 'out.tap')) : nothing
    const counts = countTap(tap, files)
    if (!succeeded && counts.failed === 0) counts.failed = 1
    console.log(`\n${closingLine(counts)}`)
    process.exitCode = counts.failed > 0 || counts.passed === 0 ? 1 : 0
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

await main(process.argv.slice(2))
