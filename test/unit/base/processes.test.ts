/** Whether a process has ended: said only when it is certain. */
import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { startOf, systemProcesses, type ProcessId } from '../../../src/base/processes.js'
import { until } from '../../helpers/meta.js'
import { sh } from '../../helpers/mount.js'

function self(): ProcessId {
  const own = systemProcesses.self()
  if (own === null) throw new Error('this process cannot be named')
  return own
}

function start(t: Test, ...command: readonly [string, ...string[]]): ChildProcess {
  const [program, ...args] = command
  const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'inherit'] })
  t.teardown(() => child.kill('SIGKILL'))
  return child
}

function idOf(pid: number): ProcessId {
  return { ...self(), pid, start: startOf(pid) ?? '' }
}

t.test('this process is named by boot, namespaces, pid and start', async (t) => {
  const own = self()
  t.match(own, { pid: process.pid, start: /^\d+$/, pidns: /^pid:/ })
  t.equal(own.boot, readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim())
  t.equal(systemProcesses.hasEnded(own), false)
})

t.test('one that runs or is stopped has not ended; one that was killed has', async (t) => {
  const child = start(t, 'sleep', '300')
  const id = idOf(child.pid ?? 0)
  t.equal(systemProcesses.hasEnded(id), false)
  child.kill('SIGSTOP')
  await until('it is stopped', () => readFileSync(`/proc/${id.pid}/stat`, 'utf8').includes(') T '))
  t.equal(systemProcesses.hasEnded(id), false, 'stopped')
  child.kill('SIGKILL')
  await once(child, 'exit')
  t.ok(systemProcesses.hasEnded(id))
})

t.test('a zombie has ended, although it can be sent signals', async (t) => {
  // sleep(1) never asks for its child, whose number the shell says before it becomes sleep.
  const parent = start(t, 'sh', '-c', 'sleep 300 & echo $!; exec sleep 300')
  if (parent.stdout === null) throw new Error('stdout is a pipe')
  const [said] = (await once(parent.stdout, 'data')) as [Buffer]
  const id = idOf(Number(said.toString()))
  t.equal(systemProcesses.hasEnded(id), false)
  // The shell would take notice of its end.
  await until('the parent is sleep(1)', () => readFileSync(`/proc/${parent.pid ?? 0}/comm`, 'utf8') === 'sleep\n')
  process.kill(id.pid, 'SIGKILL')
  await until('it is a zombie', () => readFileSync(`/proc/${id.pid}/stat`, 'utf8').includes(') Z '))
  process.kill(id.pid, 0)
  t.ok(systemProcesses.hasEnded(id))
  t.equal(startOf(id.pid), null)
})

/** Its first thread ends at once, its second one at a byte, or the end, of the standard input. */
const SECOND_THREAD = `
#include <pthread.h>
#include <unistd.h>
static void *wait_for_input(void *unused) { char byte; (void)!read(0, &byte, 1); _exit(0); }
int main(void) { pthread_t thread; pthread_create(&thread, 0, wait_for_input, 0); pthread_exit(0); }
`

t.test('a process of which only the first thread has ended has not ended', async (t) => {
  const program = join(t.testdir({ 'threads.c': SECOND_THREAD }), 'threads')
  await sh('cc', '-pthread', '-o', program, `${program}.c`)
  const child = spawn(program, { stdio: ['pipe', 'ignore', 'inherit'] })
  t.teardown(() => child.kill('SIGKILL'))
  const id = idOf(child.pid ?? 0)
  await until('its first thread is a zombie', () => readFileSync(`/proc/${id.pid}/stat`, 'utf8').includes(') Z '))
  t.equal(systemProcesses.hasEnded(id), false)
  t.equal(startOf(id.pid), id.start)
  child.stdin.end()
  await once(child, 'exit')
  t.ok(systemProcesses.hasEnded(id))
})

t.test('a pid that another process has now does not stand for the one that ended', async (t) => {
  t.ok(systemProcesses.hasEnded({ ...self(), start: '1' }))
})

t.test('of another boot, pid namespace or time namespace nothing is certain', async (t) => {
  const child = start(t, 'true')
  await once(child, 'exit')
  const gone = { ...self(), pid: child.pid ?? 0 }
  t.ok(systemProcesses.hasEnded(gone))
  for (const other of [{ boot: 'other' }, { pidns: 'pid:[1]' }, { timens: 'time:[1]' }]) {
    t.equal(systemProcesses.hasEnded({ ...gone, ...other }), false, JSON.stringify(other))
  }
})

t.test('in another pid namespace with the /proc of this one a process does not name itself', async (t) => {
  const module = new URL('../../../src/base/processes.js', import.meta.url).href
  const code = `import(${JSON.stringify(module)}).then((m) => console.log(JSON.stringify(m.systemProcesses.self())))`
  const inside = (...options: readonly string[]) =>
    start(t, 'unshare', '-rp', '-f', ...options, process.execPath, '-e', code)
  const answer = async (child: ChildProcess): Promise<string> => {
    let said = ''
    child.stdout?.on('data', (data: Buffer) => (said += data.toString()))
    await once(child, 'close')
    return said
  }
  t.equal(await answer(inside()), 'null\n')
  const named: unknown = JSON.parse(await answer(inside('--mount-proc')))
  t.match(named, { boot: self().boot, pid: 1 })
  t.notMatch(named, { pidns: self().pidns })
})
