/** A process that waits for a mount whose store hangs: a signal that it handles leaves it waiting, a deadly one ends it. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { MIB } from '../../src/base/limits.js'
import { until, within } from '../helpers/deadline.js'
import { FAULT_LOOKUP_HANGS, FAULT_READ_HANGS } from '../helpers/faulty-vfs.js'
import { mountTest } from '../helpers/mount.js'

const DEADLINE_MS = 60_000

/** Handles USR1, says that it is about to wait, and what came of it. */
function perl(call: string): string {
  return `$SIG{USR1} = sub {}; $| = 1; print "waits\\n"; my $got = ${call}; print defined $got ? "got $got\\n" : "$!\\n"`
}

class Waiting {
  readonly #child: ChildProcess
  readonly ended: Promise<unknown[]>
  output = ''

  constructor(t: Test, call: string) {
    this.#child = spawn('perl', ['-MFcntl', '-e', perl(call)], { stdio: ['ignore', 'pipe', 'inherit'] })
    this.ended = once(this.#child, 'exit')
    this.#child.stdout?.on('data', (data: Buffer) => (this.output += data.toString()))
    t.teardown(() => this.#child.kill('SIGKILL'))
  }

  async begun(): Promise<void> {
    await until('it is about to wait', () => this.output.includes('waits'))
    await sleep(300)
  }

  kill(signal: NodeJS.Signals): void {
    this.#child.kill(signal)
  }
}

t.test('a process that waits for a mount whose store hangs can be killed, and then the mount unmounts', async (t) => {
  const mount = await mountTest(t, { driver: 'kernel', backend: 'memory' })
  // A file for each: while a page of a file is being read, its next open waits to drop the page, and nothing ends that.
  const fileFor = (signal: string): string => join(mount.mountpoint, `${FAULT_READ_HANGS}-${signal}`)
  const calls = {
    'looks a name up': () => `(lstat('${join(mount.mountpoint, FAULT_LOOKUP_HANGS)}'))[1]`,
    'reads a file': (signal: string) => `sysopen(F, '${fileFor(signal)}', O_RDWR) && sysread(F, $bytes, 10)`,
  }
  for (const [what, call] of Object.entries(calls)) {
    for (const signal of ['SIGKILL', 'SIGTERM'] as const) {
      await writeFile(fileFor(signal), '')
      // What it holds was never read, so no page cache has it.
      await truncate(fileFor(signal), MIB)
      const waiting = new Waiting(t, call(signal))
      await waiting.begun()
      if (signal === 'SIGKILL') waiting.kill('SIGUSR1')
      await sleep(400)
      t.equal(waiting.output, 'waits\n', `a process that ${what} goes on waiting after a signal that it handles`)
      waiting.kill(signal)
      t.same(await within(DEADLINE_MS, waiting.ended, `the end by ${signal}`), [null, signal])
    }
  }
  mount.signal('SIGTERM')
  t.equal(await mount.exited(), 0)
})
