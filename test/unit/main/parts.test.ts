/** Small parts of the composition. */
import { spawn } from 'node:child_process'
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { z } from 'zod'
import { ERROR_CODES, RingfsError } from '../../../src/base/errors.js'
import { silentLog } from '../../../src/base/log.js'
import { Closer } from '../../../src/main/closer.js'
import { findDataFolders, openDataFolders, readUpRecord, writeUpRecord } from '../../../src/main/data-folder.js'
import { readEnvironment } from '../../../src/main/environment.js'
import { failureLine, parseOutcome, successLine } from '../../../src/main/outcome-line.js'
import { Supervisor } from '../../../src/main/supervisor.js'
import { CapturedLog } from '../../helpers/captured-log.js'
import { until } from '../../helpers/deadline.js'

// Seen from dist/test/unit/main.
const ROOT = fileURLToPath(new URL('../../../..', import.meta.url))

t.test('every exit code stands in docs/operations.md, with its name', async (t) => {
  const text = readFileSync(join(ROOT, 'docs', 'operations.md'), 'utf8')
  const documented = [...text.matchAll(/^\| (\d+) \| ([A-Z_]+) \|/gm)].map((match) => [match[2], Number(match[1])])
  t.same(Object.fromEntries(documented), ERROR_CODES)
})

t.test(
  'parts are ended in the reverse order of their making, all of them, and the first failure is told',
  async (t) => {
    const closer = new Closer()
    const ended: number[] = []
    closer.add(() => void ended.push(1))
    closer.add(() => Promise.reject(new Error('two')))
    closer.add(() => void ended.push(3))
    await t.rejects(closer.close(), { message: 'two' })
    t.same(ended, [3, 1])
  },
)

t.test('when making fails, what was made is ended and the failure told is that of the making', async (t) => {
  const closer = new Closer()
  const ended: string[] = []
  const making = closer.orClose(async () => {
    closer.add(() => void ended.push('first'))
    closer.add(() => Promise.reject(new Error('of the end')))
    await Promise.resolve()
    throw new Error('of the making')
  })
  await t.rejects(making, { message: 'of the making' })
  t.same(ended, ['first'])
})

t.test('a failure keeps its code and message on its way to the process that started this one', async (t) => {
  const schema = z.object({ pid: z.number() })
  t.same(parseOutcome(successLine({ pid: 7 }), schema), { pid: 7 })
  const line = failureLine(new RingfsError('MOUNTPOINT_BUSY', 'taken'))
  t.throws(() => parseOutcome(line, schema), { code: 'MOUNTPOINT_BUSY', message: 'taken', exitCode: 31 })
  t.throws(() => parseOutcome(failureLine(new Error('odd')), schema), { code: 'INTERNAL', message: 'odd' })
})

t.test('the environment: what is set to nothing is not set, and the run folder is the user’s own', async (t) => {
  const empty = readEnvironment({ RINGFS_META: '', XDG_RUNTIME_DIR: '' })
  t.equal(empty.metaUrl, undefined)
  t.notMatch(empty.runFolder, /^\/ringfs/)
  t.equal(readEnvironment({ XDG_RUNTIME_DIR: '/x' }).runFolder, '/x/ringfs')
})

t.test('a data folder with other files in it is refused, one of ours is taken again', async (t) => {
  const root = mkdtempSync(join(tmpdir(), 'ringfs-data-'))
  t.teardown(() => rmSync(root, { recursive: true, force: true }))
  const data = join(root, 'data')
  openDataFolders(data)
  t.equal(readUpRecord(data), undefined)
  writeUpRecord(data, { volume: 'home', nodes: 2 })
  writeFileSync(join(data, 'note'), 'mine')
  openDataFolders(data)
  t.same(readUpRecord(data), { format: 1, volume: 'home', nodes: 2 })
  const foreign = join(root, 'foreign')
  mkdirSync(foreign)
  writeFileSync(join(foreign, 'letter'), '')
  t.throws(() => openDataFolders(foreign), { code: 'USAGE', message: /letter/ })
})

t.test('a data folder that came to nothing is taken away, what is used stays', async (t) => {
  const root = mkdtempSync(join(tmpdir(), 'ringfs-data-'))
  t.teardown(() => rmSync(root, { recursive: true, force: true }))
  const data = join(root, 'above/data')
  const first = openDataFolders(data)
  writeFileSync(first.log, 'refused')
  openDataFolders(data).withdraw()
  t.ok(existsSync(join(data, 'nodes')), 'another opening had made it')
  first.withdraw()
  t.same(readdirSync(root), [])
  const used = openDataFolders(data)
  writeFileSync(used.log, 'begun')
  writeFileSync(join(used.redis, 'redis.conf'), '')
  used.withdraw()
  t.same(readdirSync(data).sort(), ['log', 'nodes', 'redis'])
  const own = join(root, 'own')
  mkdirSync(own)
  openDataFolders(own).withdraw()
  t.same(readdirSync(own), [], 'what was there before stays')
})

t.test('a folder that cannot be looked at is not taken for one that is no data folder', async (t) => {
  const root = mkdtempSync(join(tmpdir(), 'ringfs-data-'))
  t.teardown(() => rmSync(root, { recursive: true, force: true }))
  const loop = join(root, 'loop')
  symlinkSync('loop', loop)
  writeFileSync(join(root, 'file'), '')
  t.equal(findDataFolders(join(root, 'none')), undefined)
  t.equal(findDataFolders(join(root, 'file')), undefined)
  t.throws(() => findDataFolders(loop), { code: 'USAGE', message: /cannot be read \(ELOOP.*look at its disk/ })
})

/** A stand-in for a node process: says that it is ready, and ends with its input or when told to die. */
const CHILD = `
process.stdout.write(JSON.stringify({ ok: { id: 'a', address: 'b' } }) + '\\n')
process.stdin.resume()
process.stdin.on('end', () => process.exit(0))
`

function isAlive(pid: number): boolean {
  try {
    // A process that has ended and that nobody waited for yet is no longer alive.
    return !/^\d+ \(.*\) Z/.test(readFileSync(`/proc/${pid}/stat`, 'utf8'))
  } catch {
    return false
  }
}

t.test('a child that dies is started again, and none is left after stop', async (t) => {
  const plan = { name: 'node 1', words: ['-e', CHILD], env: {}, input: '' }
  const supervisor = new Supervisor([plan, { ...plan, name: 'node 2' }], silentLog)
  t.teardown(() => supervisor.stop())
  await supervisor.start()
  const [first = 0, second = 0] = supervisor.pids()
  process.kill(first, 'SIGKILL')
  await until('it is started again', () => supervisor.pids()[0] !== first)
  const [again = 0, same] = supervisor.pids()
  t.not(again, first)
  t.equal(same, second)
  await supervisor.stop()
  await until('both have ended', () => !isAlive(again) && !isAlive(second))
  t.notOk(isAlive(again))
  t.notOk(isAlive(second))
})

t.test('a child that cannot start tells why, and the others are ended', async (t) => {
  const line = failureLine(new RingfsError('NODE_WRONG_VOLUME', 'not ours'))
  const failing = { name: 'bad', words: ['-e', `process.stdout.write(${JSON.stringify(line)})`], env: {}, input: '' }
  const supervisor = new Supervisor([{ name: 'good', words: ['-e', CHILD], env: {}, input: '' }, failing], silentLog)
  await t.rejects(supervisor.start(), { code: 'NODE_WRONG_VOLUME', message: 'not ours' })
  await until('all have ended', () => supervisor.pids().every((pid) => !isAlive(pid)))
  t.same(supervisor.pids().filter(isAlive), [])
})

t.test('a child that takes long is waited for, which is said, and not for ever', async (t) => {
  const captured = new CapturedLog()
  const slow = { name: 'node 1', words: ['-e', `setTimeout(() => { ${CHILD} }, 500)`], env: {}, input: '' }
  const patient = new Supervisor([slow], captured.log, { tellMs: 50 })
  t.teardown(() => patient.stop())
  await patient.start()
  t.ok(captured.tells('msg', 'node 1 is not ready yet'))
  await patient.stop()
  const hung = { ...slow, words: ['-e', 'setInterval(() => undefined, 1000)'] }
  const supervisor = new Supervisor([hung], silentLog, { readyMs: 200 })
  await t.rejects(supervisor.start(), { message: 'node 1 did not become ready: see the log' })
  t.same(supervisor.pids().filter(isAlive), [])
})

t.test('the counting of tests: subtests once, crashes, silent files and skipped ones', async (t) => {
  const count = async (tap: string, files: readonly string[]): Promise<unknown> => {
    const program = `
      import { countTap } from ${JSON.stringify(join(ROOT, 'scripts', 'tests', 'count.mjs'))}
      import { text } from 'node:stream/consumers'
      console.log(JSON.stringify(countTap(await text(process.stdin), ${JSON.stringify(files)})))`
    const child = spawn(process.execPath, ['--input-type=module', '-e', program], {
      stdio: ['pipe', 'pipe', 'inherit'],
    })
    let said = ''
    child.stdout.on('data', (data: Buffer) => (said += data.toString()))
    child.stdin.end(tap)
    await new Promise((resolve) => child.once('close', resolve))
    return JSON.parse(said)
  }
  const good = '# Subtest: a\n    # Subtest: x\n        ok 1 - one\n        ok 2 - two\n    ok 1 - x\nok 1 - a\n'
  t.same(await count(good, ['a']), { passed: 2, failed: 0, skipped: 0 })
  t.same(await count(good, ['a', 'b']), { passed: 2, failed: 1, skipped: 0 }, 'a file that was never run')
  const crashed = '# Subtest: a\n    ok 1 - one\nnot ok 1 - a\n  ---\n  not ok 7\n  ...\n'
  t.same(await count(crashed, ['a']), { passed: 1, failed: 1, skipped: 0 }, 'it ended badly after its points')
  t.same(await count('# Subtest: a\nok 1 - a # SKIP no tests found\n', ['a']), { passed: 0, failed: 1, skipped: 1 })
  const bad = '# Subtest: a\n    not ok 1 - one\n    ok 2 - two # SKIP later\nnot ok 1 - a\n'
  t.same(await count(bad, ['a']), { passed: 0, failed: 1, skipped: 1 })
  t.same(await count('', ['a']), { passed: 0, failed: 1, skipped: 0 }, 'the runner died at once')
})
