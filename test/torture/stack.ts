/** What is tortured: a real Redis, a real chunk node, and mounts of the volume, in processes of their own that are killed. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { messageOf } from '../../src/base/errors.js'
import { runCommand } from '../../src/fuse/command.js'
import type { DriverName } from '../../src/fuse/driver.js'
import { within } from '../helpers/deadline.js'
import { type TestRedis, startRedis } from '../helpers/redis.js'
import type { MountView } from './worker.js'

const READY_TIMEOUT_MS = 90_000
const STOP_TIMEOUT_MS = 90_000
const COMMAND_TIMEOUT_MS = 60_000
const OUTPUT_CHARS_MAX = 20_000
// Seen from dist/test/torture.
export const PROGRAM = fileURLToPath(new URL('../../src/main/ringfs.js', import.meta.url))

/** Undone in the reverse order. */
export class Cleanup {
  readonly #steps: (() => unknown)[] = []
  #running = Promise.resolve()

  teardown(step: () => unknown): void {
    this.#steps.push(step)
  }

  /** Goes on after a step that fails. Waits for what another caller has begun. */
  run(): Promise<void> {
    const steps = this.#steps.splice(0).reverse()
    this.#running = this.#running.then(() => this.#undo(steps))
    return this.#running
  }

  async #undo(steps: readonly (() => unknown)[]): Promise<void> {
    for (const step of steps) {
      await Promise.resolve()
        .then(step)
        .catch((error: unknown) => process.stderr.write(`torture: clean-up: ${String(error)}\n`))
    }
  }
}

/** Where a process runs. */
export interface Surroundings {
  /** Words before the program's: those of nsenter(1), say. It must become the program. */
  readonly within?: readonly string[]
  readonly onOutput?: (data: Buffer) => void
  /** How often it is started before that fails. Default 1. */
  readonly attempts?: number
}

/** One `ringfs` process that goes on. */
export class Daemon {
  readonly #words: readonly string[]
  readonly #env: NodeJS.ProcessEnv
  readonly #surroundings: Surroundings
  #isOver = false
  #child: ChildProcess | undefined
  #closed: Promise<unknown> = Promise.resolve()
  #output = ''

  constructor(words: readonly string[], env: NodeJS.ProcessEnv, surroundings: Surroundings = {}) {
    this.#words = words
    this.#env = env
    this.#surroundings = surroundings
  }

  get output(): string {
    return this.#output
  }

  /** As a service is started: it ends when Redis is not there in time, and is started again. */
  async start(ready: RegExp, extra: readonly string[] = []): Promise<void> {
    for (let left = this.#surroundings.attempts ?? 1; ;) {
      try {
        await this.#startOnce(ready, extra)
        return
      } catch (error) {
        if (--left <= 0 || !/Redis at \S+ cannot be reached[^\n]*\s*$/.test(messageOf(error))) throw error
      }
    }
  }

  async #startOnce(ready: RegExp, extra: readonly string[]): Promise<void> {
    if (this.#isOver) throw new Error('the run is over')
    const words = [...(this.#surroundings.within ?? []), process.execPath, PROGRAM, ...this.#words, ...extra]
    const child = spawn(words[0] ?? '', words.slice(1), { env: this.#env, stdio: 'pipe' })
    this.#child = child
    this.#closed = once(child, 'close').catch(() => undefined)
    const isReady = new Promise<void>((resolve, reject) => {
      let said = ''
      let isSaid = false
      const hear = (data: Buffer): void => {
        this.#output = (this.#output + data.toString()).slice(-OUTPUT_CHARS_MAX)
        this.#surroundings.onOutput?.(data)
        if (isSaid) return
        // What it says may come in pieces.
        said = (said + data.toString()).slice(-OUTPUT_CHARS_MAX)
        isSaid = ready.test(said)
        if (isSaid) resolve()
      }
      child.stdout.on('data', hear)
      child.stderr.on('data', hear)
      child.once('error', reject)
      child.once('close', () => reject(new Error(`ringfs ${this.#words.join(' ')} ended: ${this.#output}`)))
    })
    await within(READY_TIMEOUT_MS, isReady, `the start of ringfs ${this.#words[0] ?? ''}`)
  }

  signal(signal: NodeJS.Signals): void {
    this.#child?.kill(signal)
  }

  async kill(): Promise<void> {
    this.#child?.kill('SIGKILL')
    await this.#closed
  }

  /** For good: also when the run, which is interrupted, is about to start it again. */
  async end(): Promise<void> {
    this.#isOver = true
    await this.kill()
  }

  /** As told: everything is written. Throws when that did not end well. */
  async stop(): Promise<void> {
    this.#child?.kill('SIGTERM')
    await within(STOP_TIMEOUT_MS, this.#closed, `the end of ringfs ${this.#words[0] ?? ''}`)
    if (this.#child?.exitCode !== 0) throw new Error(`ringfs ended with ${this.#child?.exitCode}: ${this.#output}`)
  }
}

export class TortureMount implements MountView {
  readonly mountpoint: string
  readonly #daemon: Daemon
  driver: DriverName = 'kernel'
  crashing = false

  constructor(
    mountpoint: string,
    metaUrl: string,
    env: NodeJS.ProcessEnv,
    surroundings: Surroundings & { readonly options?: readonly string[] } = {},
  ) {
    this.mountpoint = mountpoint
    const root = process.getuid?.() === 0 ? ['-o', 'allow_other'] : []
    const words = ['mount', metaUrl, mountpoint, ...root, ...(surroundings.options ?? [])]
    this.#daemon = new Daemon(words, env, surroundings)
  }

  async start(driver: DriverName): Promise<void> {
    this.driver = driver
    await this.#daemon.start(/ is mounted at /, ['--driver', driver])
    this.crashing = false
  }

  /** kill -9: what is in its memory is gone. The next start takes over the dead mount. */
  async kill(): Promise<void> {
    this.crashing = true
    await this.#daemon.kill()
  }

  signal(signal: 'SIGSTOP' | 'SIGCONT'): void {
    this.#daemon.signal(signal)
  }

  async stop(): Promise<void> {
    await this.#daemon.stop()
  }

  get output(): string {
    return this.#daemon.output
  }

  async takeAway(): Promise<void> {
    await this.#daemon.end()
    for (let layers = 0; layers < 5; layers++) {
      const { exitCode } = await runCommand('umount', ['-l', '--no-canonicalize', this.mountpoint], COMMAND_TIMEOUT_MS)
      if (exitCode !== 0) break
    }
  }
}

export interface Stack {
  readonly redis: TestRedis
  readonly mounts: readonly TortureMount[]
}

/** Not mounted yet. */
export async function startStack(cleanup: Cleanup, folder: string, mounts: number): Promise<Stack> {
  const redis = await startRedis(cleanup)
  const url = redis.urlText('torture')
  const runFolder = join(folder, 'run')
  await mkdir(runFolder, { mode: 0o700 })
  const env = { ...process.env, XDG_RUNTIME_DIR: runFolder }
  const format = await runCommand(process.execPath, [PROGRAM, 'format', url], COMMAND_TIMEOUT_MS)
  if (format.exitCode !== 0) throw new Error(`ringfs format: ${format.output}`)
  const node = new Daemon(['node', '--meta', url, '--data', join(folder, 'node'), '--listen', '127.0.0.1:0'], env)
  cleanup.teardown(() => node.end())
  await node.start(/\S/)
  const made = Array.from({ length: mounts }, (_, index) => new TortureMount(join(folder, `mnt${index}`), url, env))
  for (const mount of made) {
    await mkdir(mount.mountpoint)
    cleanup.teardown(() => mount.takeAway())
  }
  return { redis, mounts: made }
}
