/** Mounts for tests: made by another process than the test's, and always taken down, also when something hangs. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, mkdtemp, realpath, rmdir } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Test } from 'tap'
import type { DriverName } from '../../src/fuse/driver.js'
import { runCommand } from '../../src/fuse/command.js'
import { within } from './deadline.js'

const READY_TIMEOUT_MS = 120_000
const STOP_TIMEOUT_MS = 90_000
const COMMAND_TIMEOUT_MS = 120_000

type TearDown = Pick<Test, 'teardown'>

/** A process that mounts. */
export interface MountProcess {
  /** Absolute. */
  readonly mountpoint: string
  readonly pid: number
  /** What it wrote to stdout and stderr so far. */
  output(): string
  signal(name: NodeJS.Signals): void
  /** Into its standard input. */
  send(text: string): void
  /** Its exit code, null after a signal. */
  exited(): Promise<number | null>
}

export interface MountStart {
  /** Program and arguments. */
  readonly command: readonly [string, ...string[]]
  readonly mountpoint: string
  /** Mounted once this stands on stdout. */
  readonly ready: RegExp
}

export async function newMountpoint(t: TearDown): Promise<string> {
  const path = join(await realpath(await mkdtemp(join(tmpdir(), 'ringfs-mount-'))), 'mnt')
  // Never removed with what is in it: should the mount still be there, that would be the volume's files.
  t.teardown(async () => {
    await rmdir(path).catch(() => undefined)
    await rmdir(join(path, '..')).catch(() => undefined)
  })
  await mkdir(path)
  return path
}

/** What was started and not taken down when this process ends. */
const left = new Set<Child>()
process.once('exit', () => {
  for (const child of left) child.signal('SIGTERM')
})

/** Starts the process and waits until it has mounted. Its failure to do so rejects with what it wrote. */
export async function startMount(t: TearDown, start: MountStart): Promise<MountProcess> {
  const child = new Child(start)
  t.teardown(async () => {
    await child.takeDown()
    left.delete(child)
  })
  // What a time-out of the runner leaves no time to tear down: it unmounts by itself, and a kill would leave a dead mount.
  left.add(child)
  await within(READY_TIMEOUT_MS, child.ready(start.ready), `mounting on ${start.mountpoint}`)
  return child
}

export interface TestMount {
  /** Default: a new one. */
  readonly mountpoint?: string
  /** Default: fuse-native. */
  readonly driver?: DriverName
  /** See mount-backend.ts. Default: memory. */
  readonly backend?: string
  /** Each call of the VFS takes up to so much longer. */
  readonly delayMs?: number
  /** How long this client may be silent before others clean up after it. */
  readonly sessionTtlMs?: number
  /** What is not used for so long is not listened to. */
  readonly listenMs?: number
  /** The chunks of a backend on Redis lie in this folder, for several mounts of one volume. Default: in memory. */
  readonly chunksFolder?: string
  /** See mount-child.ts. */
  readonly eager?: boolean
  /** -o options. */
  readonly extra?: readonly string[]
}

/** Mounts in a process of the tests' own: mount-child.ts. */
export async function mountTest(t: TearDown, options: TestMount = {}): Promise<MountProcess> {
  const {
    driver = 'fuse-native',
    backend = 'memory',
    delayMs = 0,
    sessionTtlMs,
    listenMs,
    chunksFolder,
    extra = [],
  } = options
  const mountpoint = options.mountpoint ?? (await newMountpoint(t))
  const entry = fileURLToPath(new URL('./mount-child.js', import.meta.url))
  const args = [entry, '--driver', driver, '--mountpoint', mountpoint, '--backend', backend]
  if (sessionTtlMs !== undefined) args.push('--session-ttl-ms', String(sessionTtlMs))
  if (listenMs !== undefined) args.push('--listen-ms', String(listenMs))
  if (chunksFolder !== undefined) args.push('--chunks', chunksFolder)
  if (options.eager === true) args.push('--eager')
  const further = ['--delay-ms', String(delayMs), ...extra.flatMap((option) => ['--option', option])]
  return startMount(t, { command: [process.execPath, ...args, ...further], mountpoint, ready: /^mounted$/m })
}

/** A program that must succeed. Answers what it wrote. */
export async function sh(program: string, ...args: readonly string[]): Promise<string> {
  const { exitCode, output, timedOut } = await runCommand(program, args, COMMAND_TIMEOUT_MS, Infinity)
  if (exitCode === 0) return output
  throw new Error(`${program} ${args.join(' ')}: ${timedOut ? 'timed out' : `exit code ${exitCode}`}: ${output}`)
}

class Child implements MountProcess {
  readonly mountpoint: string
  readonly #child: ChildProcess
  readonly #exited: Promise<number | null>
  #output = ''

  constructor({ command: [program, ...args], mountpoint }: MountStart) {
    this.mountpoint = mountpoint
    this.#child = spawn(program, args, { stdio: 'pipe' })
    this.#child.stdout?.on('data', (data: Buffer) => (this.#output += data.toString()))
    this.#child.stderr?.on('data', (data: Buffer) => (this.#output += data.toString()))
    this.#exited = once(this.#child, 'close').then(() => this.#child.exitCode)
    this.#exited.catch(() => undefined)
  }

  get pid(): number {
    return this.#child.pid ?? 0
  }

  output(): string {
    return this.#output
  }

  signal(name: NodeJS.Signals): void {
    this.#child.kill(name)
  }

  send(text: string): void {
    this.#child.stdin?.write(text)
  }

  exited(): Promise<number | null> {
    return within(STOP_TIMEOUT_MS, this.#exited, 'the end of the mounting process')
  }

  async ready(ready: RegExp): Promise<void> {
    const failed = this.#exited.then((code) => {
      throw new Error(`the mounting process ended with ${code}: ${this.#output}`)
    })
    const seen = new Promise<void>((resolve) => {
      this.#child.stdout?.on('data', () => ready.test(this.#output) && resolve())
    })
    await Promise.race([failed, seen])
  }

  kill(): void {
    if (this.#child.exitCode === null && this.#child.signalCode === null) this.#child.kill('SIGKILL')
  }

  /** Politely, then not. A dead process ends every request of the mount, so nobody hangs after this. */
  async takeDown(): Promise<void> {
    this.signal('SIGTERM')
    await this.exited().catch(() => this.kill())
    for (let layers = 0; layers < 5; layers++) {
      const { exitCode } = await runCommand('umount', ['-l', '--no-canonicalize', this.mountpoint], COMMAND_TIMEOUT_MS)
      if (exitCode !== 0) break
    }
  }
}
