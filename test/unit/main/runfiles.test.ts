/** Run files: what is believed, what is cleaned away, what is refused. */
import { spawn } from 'node:child_process'
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { isRunning, readRunFiles, writeRunFile } from '../../../src/main/runfiles.js'
import { socketIn } from '../../../src/main/sockets.js'

const CONTENT = {
  volume: 'home',
  metaUrl: 'redis://:secret@127.0.0.1:7000/home',
  dataDir: '/data',
  mountpoint: '/mnt',
  socket: '/data/files.sock',
  driver: 'kernel',
  readOnly: false,
}

function folder(t: Pick<Test, 'teardown'>): string {
  const path = mkdtempSync(join(tmpdir(), 'ringfs-run-'))
  t.teardown(() => rmSync(path, { recursive: true, force: true }))
  return join(path, 'ringfs')
}

t.test('a run file is found, only its user can read it, and it is gone when it is taken away', async (t) => {
  const run = folder(t)
  t.same(readRunFiles(run), [], 'without a folder nothing runs')
  const remove = writeRunFile(run, CONTENT)
  t.match(readRunFiles(run), [{ ...CONTENT, pid: process.pid }])
  t.equal(statSync(run).mode & 0o777, 0o700)
  t.equal(statSync(join(run, `${process.pid}.json`)).mode & 0o777, 0o600)
  remove()
  t.same(readRunFiles(run), [])
})

t.test('the file of a process that has died is not believed, and removed', async (t) => {
  const run = folder(t)
  writeRunFile(run, CONTENT)
  const child = spawn('true')
  await new Promise((resolve) => child.once('exit', resolve))
  const dead = join(run, `${child.pid}.json`)
  writeFileSync(dead, JSON.stringify({ ...CONTENT, pid: child.pid, startedAt: null }))
  t.equal(readRunFiles(run).length, 1)
  t.notOk(existsSync(dead))
})

t.test('where it is not certain that a process has died its file stays', async (t) => {
  const run = folder(t)
  const remove = writeRunFile(run, CONTENT)
  const file = join(run, `${process.pid}.json`)
  const whole = JSON.parse(readFileSync(file, 'utf8')) as { readonly process: Record<string, unknown> }
  remove()
  const put = (change: Record<string, unknown>): void =>
    writeFileSync(file, JSON.stringify({ ...whole, startedAt: '1', process: { ...whole.process, ...change } }))
  put({ pidns: 'pid:[1]' })
  t.same(readRunFiles(run), [], 'not believed from here')
  t.ok(existsSync(file), 'of another pid namespace')
  put({ timens: 'time:[1]' })
  t.same(readRunFiles(run), [])
  t.ok(existsSync(file), 'of another time namespace')
  put({ boot: 'another' })
  t.same(readRunFiles(run), [])
  t.notOk(existsSync(file), 'of the boot before')
  put({ start: '1' })
  t.same(readRunFiles(run), [])
  t.notOk(existsSync(file), 'the pid is of another one now')
})

t.test('a pid that another process has now is told by the time of its start', async (t) => {
  t.ok(isRunning({ pid: process.pid, startedAt: null }))
  t.notOk(isRunning({ pid: process.pid, startedAt: '1' }))
})

t.test('what is no run file is left alone and does not disturb', async (t) => {
  const run = folder(t)
  mkdirSync(run, { mode: 0o700 })
  writeFileSync(join(run, '1.json'), 'nonsense')
  writeFileSync(join(run, '2.json'), '{"volume":"from another version"}')
  t.same(readRunFiles(run), [])
  t.ok(existsSync(join(run, '1.json')))
})

t.test('a folder that others can look into is refused: the password would be theirs', async (t) => {
  const run = folder(t)
  mkdirSync(run)
  chmodSync(run, 0o755)
  t.throws(() => writeRunFile(run, CONTENT), { code: 'USAGE', message: /0700/ })
})

t.test('a socket whose path the kernel would not take lies in the run folder', async (t) => {
  const run = folder(t)
  t.equal(socketIn('/data', 'files', run), '/data/files.sock')
  const deep = `/${'deep/'.repeat(30)}data`
  const short = socketIn(deep, 'files', run)
  t.ok(short.startsWith(run))
  t.equal(short, socketIn(deep, 'files', run))
  t.not(short, socketIn(deep, 'node', run))
})
