/** A mount that is killed at the worst moment: a thread of its waits in the kernel behind one who waits for an answer. */
import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t, { type Test } from 'tap'
import { within } from '../helpers/deadline.js'
import { FAULT_MKDIR_HANGS } from '../helpers/faulty-vfs.js'
import { pause, until } from '../helpers/meta.js'
import { newMountpoint, sh, startMount, type MountProcess } from '../helpers/mount.js'

const DEADLINE_MS = 60_000
const MOMENT_MS = 300

t.setTimeout(600_000)

async function stuck(t: Test): Promise<MountProcess> {
  const mountpoint = await newMountpoint(t)
  const entry = fileURLToPath(new URL('../helpers/stuck-notifier.js', import.meta.url))
  return startMount(t, { command: [process.execPath, entry, mountpoint], mountpoint, ready: /^mounted$/m })
}

function mkdir(t: Test, path: string): ChildProcess {
  const child = spawn('mkdir', [path], { stdio: 'ignore' })
  t.teardown(() => child.kill('SIGKILL'))
  return child
}

/** mkdir(2), or mkdirat(2) where there is only that. */
const SYSCALLS = process.arch === 'arm64' ? ['34'] : ['83', '258']

/** It is in its call, and has had a moment to get to where that waits. */
async function inMkdir(child: ChildProcess): Promise<void> {
  const file = `/proc/${child.pid ?? 0}/syscall`
  await until('it is in the kernel', async () => SYSCALLS.includes((await readFile(file, 'utf8')).split(' ')[0] ?? ''))
  await pause(MOMENT_MS)
}

async function end(child: ChildProcess): Promise<number | null> {
  if (child.exitCode === null) await within(DEADLINE_MS, once(child, 'close'), 'the end of a mkdir')
  return child.exitCode
}

t.test('a mount that is killed while it waits in the kernel is over at once', async (t) => {
  const mount = await stuck(t)
  // The first has the folder locked, and its request was read. The second stands in line for the lock, then the thread.
  const first = mkdir(t, join(mount.mountpoint, FAULT_MKDIR_HANGS))
  await inMkdir(first)
  const second = mkdir(t, join(mount.mountpoint, 'second'))
  await inMkdir(second)
  mount.send('now\n')
  await until('it writes', () => /^writing$/m.test(mount.output()))
  await pause(MOMENT_MS)
  t.notMatch(mount.output(), /^written$/m, 'it waits')
  mount.signal('SIGKILL')
  t.equal(await mount.exited(), null)
  t.equal(await end(first), 1)
  t.equal(await end(second), 1)
})

/** Children of the process that are such shells. */
async function guardsOf(pid: number): Promise<number[]> {
  const pids = await sh('sh', '-c', `pgrep -P ${pid} -f ringfs-guard || true`)
  return pids.split('\n').filter(Boolean).map(Number)
}

t.test('a guard goes with its mount, however that ends, and not before', async (t) => {
  for (const signal of ['SIGTERM', 'SIGKILL'] as const) {
    const mount = await stuck(t)
    const [guard = 0, ...more] = await guardsOf(mount.pid)
    t.ok(guard > 0)
    t.same(more, [])
    for (const harmless of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) process.kill(guard, harmless)
    await pause(MOMENT_MS)
    t.same(await guardsOf(mount.pid), [guard], 'who asks a whole service to end has it still')
    mount.signal(signal)
    await mount.exited()
    await until('the guard has ended', () => !existsSync(`/proc/${guard}`))
  }
})
