// Runs test files, some at a time, and makes one TAP of theirs: a subtest a file.
//
// A test waits for timers and leases for a good part of its time, and how many it takes to keep the processors busy depends on
// which they are: as many as leave nothing idle, between a least and a most number.
import { availableParallelism, cpus } from 'node:os'
import { runFile } from './file.mjs'

const LEAST_JOBS = 2 * availableParallelism()
/** More would make each of them late where a test looks at the time. */
const MOST_JOBS = 4 * availableParallelism()

const LOOK_MS = 1_000
/** Of all processors together. */
const IDLE_SHARE = 0.1
const BUSY_SHARE = 0.02

/**
 * Starts them in this order; `print` gets line after line, a file when it has ended. Answers what each cost. `jobs`: always so many at
 * a time.
 */
export async function runFiles(files, { jobs: asked, stalls }, print) {
  const [least, most] = [asked ?? LEAST_JOBS, asked ?? MOST_JOBS]
  const waiting = [...files]
  const running = new Set()
  const results = []
  let jobs = least
  const start = (file) => {
    const run = runFile(file, { stalls }).then((result) => {
      running.delete(run)
      results.push(result)
      for (const line of asSubtest(result, results.length)) print(line)
    })
    running.add(run)
  }
  const fill = () => {
    while (waiting.length > 0 && running.size < jobs) start(waiting.shift())
  }
  const idle = watchIdle()
  const timer = setInterval(() => {
    jobs = jobsAfter(idle(), jobs, least, most)
    fill()
  }, LOOK_MS)
  for (fill(); running.size > 0; fill()) await Promise.race(running)
  clearInterval(timer)
  return results
}

/** One more at a time: what it costs is seen before the next. `idle`: a share of all processors. */
export function jobsAfter(idle, jobs, least, most) {
  if (idle > IDLE_SHARE) return Math.min(jobs + 1, most)
  if (idle < BUSY_SHARE) return Math.max(jobs - 1, least)
  return jobs
}

/** Answers a function: which share of the processors' time was idle since it was last called. */
function watchIdle() {
  let before = processorTimes()
  return () => {
    const now = processorTimes()
    const [idleMs, allMs] = [now.idleMs - before.idleMs, now.allMs - before.allMs]
    before = now
    return allMs > 0 ? idleMs / allMs : 0
  }
}

function processorTimes() {
  const times = cpus().map((cpu) => cpu.times)
  const sum = (values) => values.reduce((whole, part) => whole + part, 0)
  return { idleMs: sum(times.map(({ idle }) => idle)), allMs: sum(times.flatMap((one) => Object.values(one))) }
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
