// `npm test`: runs every compiled test and ends with a line `N passed, N failed`, counted from the tests' own TAP.
//
//   npm test                        everything
//   npm test -- unit/cluster        the tests whose path contains the words
//   npm test -- --tap unit/base     their TAP, as it is
//   npm test -- --times             and what the most expensive files cost
//   npm test -- --jobs=1            so many files at a time; else as many as keep the processors busy
//   npm test -- --stalls=7          as on a machine that has much else to do (scripts/tests/stalls.mjs), from that seed
//
// A file is a process of its own (scripts/tests/file.mjs). One that dies, one that asserts nothing, one that leaves
// processes running, and no test at all are failures: silence is never success.
import { existsSync, readdirSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { countTap } from './tests/count.mjs'
import { longestFirst } from './tests/order.mjs'
import { runFiles } from './tests/run.mjs'
import { tapTeller } from './tests/tell.mjs'
import { tellTimes } from './tests/times.mjs'

/** All in all; a single file has its own limit. */
const RUN_TIMEOUT_MS = 55 * 60_000

const OPTIONS = {
  tap: { type: 'boolean' },
  times: { type: 'boolean' },
  jobs: { type: 'string' },
  stalls: { type: 'string' },
}

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

function closingLine({ passed, failed, skipped }) {
  return `${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ''}`
}

/** The files in it end with this process. */
function stopLate() {
  const timer = setTimeout(() => {
    console.log(`\nstopped: not done after ${RUN_TIMEOUT_MS / 60_000} minutes\n\n0 passed, 1 failed`)
    process.exit(1)
  }, RUN_TIMEOUT_MS)
  timer.unref()
}

async function main(words) {
  process.chdir(join(dirname(fileURLToPath(import.meta.url)), '..'))
  const { values, positionals } = parseArgs({ args: words, options: OPTIONS, allowPositionals: true })
  const isChosen = (file) => positionals.length === 0 || positionals.some((part) => file.includes(part))
  const files = longestFirst(testFiles('dist/test').filter(isChosen))
  stopLate()
  const startMs = performance.now()
  const lines = []
  const tell = values.tap ? console.log : tapTeller(console.log)
  if (values.stalls !== undefined) console.log(`stalls: seed ${values.stalls}`)
  const jobs = values.jobs === undefined ? undefined : Number(values.jobs)
  const results = await runFiles(files, { jobs, stalls: values.stalls }, (line) => {
    lines.push(line)
    tell(line)
  })
  const counts = countTap(lines.join('\n'), files)
  if (values.times) tellTimes(results, (performance.now() - startMs) / 1000, console.log)
  console.log(`\n${closingLine(counts)}`)
  process.exitCode = counts.failed > 0 || counts.passed === 0 ? 1 : 0
}

await main(process.argv.slice(2))
