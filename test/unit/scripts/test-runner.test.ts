/** What runs the tests: scripts/tests/. As root on Linux: it is the kernel that ends what a file leaves behind. */
import { spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { existsSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { once } from 'node:events'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t, { type Test } from 'tap'
import { mountTest } from '../../helpers/mount.js'
import { eventually, runIn, type Ran } from '../../helpers/ringfs.js'

// Seen from dist/test/unit/scripts.
const ROOT = fileURLToPath(new URL('../../../..', import.meta.url))
const RUN = `
  import { runFiles } from ${JSON.stringify(join(ROOT, 'scripts', 'tests', 'run.mjs'))}
  const [, file, stalls] = process.argv
  const results = await runFiles([file], { jobs: 1, stalls }, console.log)
  console.log(JSON.stringify(results[0]))`
const ASSERTS = 'console.log("TAP version 14\\n# Subtest: x\\n    ok 1 - one\\n    1..1\\nok 1 - x\\n1..1")\n'
/** Starts a process that outlives it, in a session of its own. */
const leaves = (mark: string): string => `
  import { spawn } from 'node:child_process'
  spawn('sh', ['-c', 'sleep 1000; : ${mark}'], { detached: true, stdio: 'ignore' }).unref()\n`
/** Ends only where there are stalls. */
const goesOnUntilItStandsStill = (who: string): string => `
  const { wait } = Atomics
  const running = setInterval(() => 0, 1000)
  Atomics.wait = (...all) => {
    if (running.hasRef()) console.log('# ${who} stands still')
    running.unref()
    return wait(...all)
  }\n`

function testFile(t: Pick<Test, 'teardown'>, program: string): string {
  const folder = mkdtempSync(join(tmpdir(), 'ringfs-runner-'))
  t.teardown(() => rmSync(folder, { recursive: true }))
  const file = join(folder, 'some.test.mjs')
  writeFileSync(file, program)
  return file
}

function run(file: string, ...stalls: readonly string[]): Promise<Ran> {
  return runIn(ROOT, process.execPath, ['--input-type=module', '-e', RUN, file, ...stalls])
}

function hasProcess(mark: string): boolean {
  return readdirSync('/proc').some((name) => {
    try {
      return /^\d+$/.test(name) && readFileSync(`/proc/${name}/cmdline`, 'utf8').includes(mark)
    } catch {
      return false
    }
  })
}

t.test('a file is told as a subtest, with what it cost', async (t) => {
  const { stdout } = await run(testFile(t, ASSERTS))
  const lines = stdout.trim().split('\n')
  t.match(lines[0], /^# Subtest: .*some\.test\.mjs$/)
  t.same(lines.slice(1, -2), ['    # Subtest: x', '        ok 1 - one', '        1..1', '    ok 1 - x', '    1..1'])
  t.match(lines.at(-2), /^ok 1 - .*some\.test\.mjs # [\d.]+ s, [\d.]+ s of CPU$/)
  t.match(JSON.parse(lines.at(-1) ?? ''), { ok: true, left: [], cpuS: Number })
})

t.test('a file that ends badly after its points has failed', async (t) => {
  const { stdout } = await run(testFile(t, `${ASSERTS}process.exit(3)\n`))
  t.match(stdout, /^not ok 1 - .*\n {2}---\n {2}ended: "exit code 3"\n {2}\.\.\.$/m)
})

t.test('what a file leaves running is told, is a failure, and is ended', async (t) => {
  const mark = randomBytes(8).toString('hex')
  const { stdout } = await run(testFile(t, leaves(mark) + ASSERTS))
  t.match(stdout, new RegExp(`^not ok 1 - [^]*^ {2}left running: "sh -c sleep 1000; : ${mark}"$`, 'm'))
  t.notOk(hasProcess(mark))
})

t.test('a runner that is killed takes with it what its files have started', async (t) => {
  const mark = randomBytes(8).toString('hex')
  const file = testFile(t, `${leaves(mark)}setInterval(() => 0, 1000)\n`)
  const runner = spawn(process.execPath, ['--input-type=module', '-e', RUN, file], { stdio: 'ignore' })
  t.teardown(() => runner.kill('SIGKILL'))
  await eventually(
    'the file runs',
    () => hasProcess(`: ${mark}`),
    (isThere) => isThere,
  )
  const ended = once(runner, 'exit')
  runner.kill('SIGKILL')
  await ended
  for (const what of [`: ${mark}`, file]) {
    await eventually(
      'it is gone',
      () => hasProcess(what),
      (isThere) => !isThere,
    )
  }
  t.pass()
})

t.test('a file holds no mount of ringfs that is there outside', async (t) => {
  const { mountpoint } = await mountTest(t)
  const looks = `
    import { readFileSync } from 'node:fs'
    console.log('# mounts: ' + readFileSync('/proc/self/mounts', 'utf8').includes(${JSON.stringify(mountpoint)}))\n`
  const { stdout } = await run(testFile(t, looks + ASSERTS))
  t.match(stdout, /^ {4}# mounts: false$/m)
})

t.test('with stalls every Node of a file stands still now and then, whatever its environment', async (t) => {
  const child = `spawn(process.execPath, ['-e', ${JSON.stringify(goesOnUntilItStandsStill('child'))}], { env: {}, stdio: 'inherit' })`
  const starts = `import { spawn } from 'node:child_process'\n${child}\n`
  const { stdout } = await run(testFile(t, starts + goesOnUntilItStandsStill('file') + ASSERTS), '7')
  t.match(stdout, /^ {4}# file stands still$/m)
  t.match(stdout, /^ {4}# child stands still$/m)
})

t.test('what ends all processes at last refuses to begin unless it is process 1', async (t) => {
  // In a namespace of its own all the same: if it did not refuse, it would end its shell.
  const container = join(ROOT, 'scripts', 'tests', 'contain.sh')
  const words = ['--pid', '--fork', '--kill-child', '--net', '--mount-proc', 'sh', '-c', '"$0" echo ran; echo code $?']
  const { stdout, stderr } = await runIn(ROOT, 'unshare', [...words, container])
  t.equal(stdout, 'code 2\n')
  t.match(stderr, /only as process 1/)
})

t.test('as many files run at a time as keep the processors busy, between two numbers', async (t) => {
  const idles = [1, 0.5, 0.2, 0.05, 0.05, 0, 0, 0, 0]
  const program = `
    import { jobsAfter } from ${JSON.stringify(join(ROOT, 'scripts', 'tests', 'run.mjs'))}
    let jobs = 4
    console.log(JSON.stringify(${JSON.stringify(idles)}.map((idle) => (jobs = jobsAfter(idle, jobs, 4, 6)))))`
  const { stdout } = await runIn(ROOT, process.execPath, ['--input-type=module', '-e', program])
  t.equal(stdout, '[5,6,6,6,6,5,4,4,4]\n')
})

t.test('all files run that there are, also those that are started while others go on', async (t) => {
  const files = Array.from({ length: 7 }, () => testFile(t, `setTimeout(() => 0, 100)\n${ASSERTS}`))
  const program = `
    import { runFiles } from ${JSON.stringify(join(ROOT, 'scripts', 'tests', 'run.mjs'))}
    const results = await runFiles(${JSON.stringify(files)}, {}, () => undefined)
    console.log(JSON.stringify(results.map(({ file, ok }) => ok && file)))`
  const { stdout } = await runIn(ROOT, process.execPath, ['--input-type=module', '-e', program])
  t.strictSame((JSON.parse(stdout) as unknown[]).toSorted(), files.toSorted())
})

t.test('the files that are said to take longest are there', async (t) => {
  const program = `
    import { LONGEST } from ${JSON.stringify(join(ROOT, 'scripts', 'tests', 'order.mjs'))}
    console.log(JSON.stringify(LONGEST))`
  const { stdout } = await runIn(ROOT, process.execPath, ['--input-type=module', '-e', program])
  const names: unknown = JSON.parse(stdout)
  t.same(Array.isArray(names) && names.filter((name) => !existsSync(join(ROOT, 'test', `${name}.test.ts`))), [])
})
