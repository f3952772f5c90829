// Runs test files, some at a time, and makes one TAP of theirs: a subtest a file.
import { availableParallelism } from 'node:os'
import { runFile } from './file.mjs'

/** A test waits for timers and leases for a good part of its time: with four at a time two processors were busy for 77 % of it. */
export const JOBS = Math.ceil(2.5 * availableParallelism())

/** Starts them in this order; `print` gets line after line, a file when it has ended. Answers what each cost. */
export async function runFiles(files, { jobs, stalls }, print) {
  const waiting = [...files]
  const results = []
  const worker = async () => {
    for (let file = waiting.shift(); file !== undefined; file = waiting.shift()) {
      const result = await runFile(file, { stalls })
      results.push(result)
      for (const line of asSubtest(result, results.length)) print(line)
    }
  }
  await Promise.all(Array.from({ length: Math.min(jobs, files.length) }, worker))
  return results
}

/** What is left running is a failure: it would go on costing, and may be a process that does not end when it should. */
function* asSubtest({ file, tap, ok, why, wallS, cpuS, left }, number) {
  yield `# Subtest: ${file}`
  for (const line of tap.split('\n')) if (line !== '' && !line.startsWith('TAP version')) yield `    ${line}`
  const cost = `${wallS.toFixed(1)} s${cpuS === null ? '' : `, ${cpuS.toFixed(1)} s of CPU`}`
  const good = ok && left.length === 0
  yield `${good ? 'ok' : 'not ok'} ${number} - ${file} # ${cost}`
  if (good) return
  yield* ['  ---', `  ended: ${JSON.stringify(why)}`]
  for (const words of left) yield `  left running: ${JSON.stringify(words)}`
  yield '  ...'
}
