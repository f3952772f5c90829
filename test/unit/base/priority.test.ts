/** Nice values: of all threads, given back for what is started, and never a failure. */
import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync, readdirSync, writeFileSync } from 'node:fs'
import { getPriority, setPriority } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { calmChildren, setNice } from '../../../src/base/priority.js'
import { until } from '../../helpers/meta.js'
import { mayLowerNice } from '../../helpers/priority.js'

const MODULE = new URL('../../../src/base/priority.js', import.meta.url).href
const NOBODY = 65_534

function start(t: Test, ...command: readonly [string, ...string[]]): ChildProcess {
  const [program, ...args] = command
  const child = spawn(program, args, { stdio: ['pipe', 'pipe', 'inherit'], detached: true })
  t.teardown(() => child.kill('SIGKILL'))
  return child
}

const mayLower = mayLowerNice()

/** What a process that serves readily says of itself, of a thread begun later, of its child, and of itself after that. */
async function report(t: Test, wanted: string, user?: number): Promise<unknown> {
  const folder = t.testdir()
  const script = join(folder, 'child.mjs')
  const code = `
    const { serveReadily, atUsualPriority } = await import(process.argv[2])
    const { getPriority } = await import('node:os')
    const { readdirSync, writeSync } = await import('node:fs')
    const { spawnSync } = await import('node:child_process')
    const { Worker } = await import('node:worker_threads')
    if (process.argv[3] !== undefined && process.argv[3] !== '') process.setuid(Number(process.argv[3]))
    const before = getPriority()
    const given = serveReadily(${wanted}, { group: true })
    const threads = new Set(readdirSync('/proc/self/task').map((tid) => getPriority(Number(tid))))
    const look = "require('node:worker_threads').parentPort.postMessage(require('node:os').getPriority(0))"
    const worker = await new Promise((resolve) => new Worker(look, { eval: true }).once('message', resolve))
    const child = atUsualPriority(() => Number(spawnSync('nice').stdout.toString()))
    writeSync(1, JSON.stringify({ before, given: given ?? null, threads: [...threads], worker, child, after: getPriority() }))
    // Without what the test runner does at the end, which that user may not.
    process.kill(process.pid, 'SIGKILL')`
  writeFileSync(script, code)
  const process_ = start(t, process.execPath, script, MODULE, user === undefined ? '' : String(user))
  let output = ''
  process_.stdout?.on('data', (data: Buffer) => (output += data.toString()))
  await once(process_, 'close')
  return JSON.parse(output)
}

t.test('all threads get it, later ones inherit it, programs that are started do not', async (t) => {
  const own = getPriority()
  const got = mayLower ? -4 : own
  const child = mayLower ? 0 : own
  t.same(await report(t, '-4'), { before: own, given: -4, threads: [got], worker: got, child, after: got })
})

t.test('unless it was said otherwise, a process that was started with another value keeps it', async (t) => {
  const own = getPriority()
  const raised = own === 0
  const nice = raised && mayLower ? -10 : own
  t.match(await report(t, 'undefined'), { before: own, given: raised ? -10 : null, threads: [nice], after: nice })
})

t.test('without the right to it nothing fails and nothing changes', async (t) => {
  if (process.getuid?.() !== 0) return t.pass('the tests above were run without')
  const own = getPriority()
  const wanted = Math.min(own - 1, -4)
  // Of less than the usual one everybody may go up to it, and not back.
  const usual = Math.max(own, 0)
  const same = { before: own, given: wanted, threads: [own], worker: own, child: usual, after: usual }
  t.same(await report(t, String(wanted), NOBODY), same)
})

t.test('what another process forks is given the usual value', async (t) => {
  if (!mayLower) return t.pass('no right to it here')
  const parent = start(t, 'sh', '-c', 'sleep 100 & echo there; wait')
  const { pid = 0 } = parent
  setPriority(pid, -5)
  setNice(pid, -6, { group: true })
  if (parent.stdout !== null) await once(parent.stdout, 'data')
  const children = (): readonly number[] =>
    readdirSync('/proc')
      .filter((name) => /^\d+$/.test(name))
      .map(Number)
      .filter((one) => spawnedBy(pid, one))
  await until('it has a child', () => children().length === 1)
  for (const child of children()) setPriority(child, -6)
  t.equal(getPriority(pid), -6)
  calmChildren(pid)
  t.same(
    children().map((child) => getPriority(child)),
    [0],
  )
  t.equal(getPriority(pid), -6, 'itself it stays')
  for (const child of children()) process.kill(child, 'SIGKILL')
})

t.test('one that is gone is no failure', async (t) => {
  const gone = start(t, 'true')
  await once(gone, 'close')
  setNice(gone.pid ?? 0, -4, { group: true })
  calmChildren(gone.pid ?? 0)
  t.pass('nothing was thrown')
})

function spawnedBy(parent: number, pid: number): boolean {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
    return Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1]) === parent
  } catch {
    return false
  }
}
