/** ringfs as its user has it: the built program in processes of its own, in a folder that is removed afterwards. */
import { execFile, spawn, type ChildProcess } from 'node:child_process'
import { readFileSync, readdirSync, readlinkSync } from 'node:fs'
import { mkdir, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Test } from 'tap'
import { readMounts } from '../../src/fuse/mounts.js'
import { readRunFiles, type RunFile } from '../../src/main/runfiles.js'
import { PATIENCE_MS } from './deadline.js'

// Seen from dist/test/helpers.
export const PROGRAM = fileURLToPath(new URL('../../src/main/ringfs.js', import.meta.url))
export const COMMAND_TIMEOUT_MS = 180_000

export interface Ran {
  /** -1 for a process that was killed. */
  readonly code: number
  readonly stdout: string
  readonly stderr: string
}

export class Ringfs {
  readonly folder: string
  readonly data: string
  readonly mountpoint: string
  readonly env: NodeJS.ProcessEnv

  private constructor(folder: string) {
    this.folder = folder
    this.data = join(folder, 'ringfs-data')
    this.mountpoint = join(folder, 'mnt')
    const xdg = join(folder, 'run')
    const folders = { HOME: folder, XDG_RUNTIME_DIR: xdg, XDG_STATE_HOME: xdg }
    this.env = { PATH: process.env['PATH'] ?? '', ...folders, LANG: 'C.UTF-8' }
  }

  /** Whatever is left of it at the end of the test is killed and unmounted. */
  static async in(t: Pick<Test, 'teardown'>): Promise<Ringfs> {
    const folder = await mkdtemp(join(tmpdir(), 'ringfs-scenario-'))
    const ringfs = new Ringfs(folder)
    await mkdir(ringfs.env['XDG_RUNTIME_DIR'] ?? folder, { mode: 0o700 })
    t.teardown(() => ringfs.#cleanUp())
    return ringfs
  }

  async #cleanUp(): Promise<void> {
    // Several rounds: what is started meanwhile is found by the next one.
    for (let round = 0; round < 5 && this.processes().length > 0; round++) {
      for (const pid of this.processes()) kill(pid)
      await sleep(200)
    }
    for (const { mountpoint } of await readMounts()) {
      if (mountpoint.startsWith(this.folder)) await sh('umount', '--lazy', mountpoint)
    }
    await rm(this.folder, { recursive: true, force: true, maxRetries: 50, retryDelay: 100 })
  }

  /** Runs a command in the folder, so that the defaults ./ringfs-data and ./mnt are its own. */
  run(...words: readonly string[]): Promise<Ran> {
    return runIn(this.folder, process.execPath, [PROGRAM, ...words], this.env)
  }

  /** Its output. Throws when it fails. */
  async ok(...words: readonly string[]): Promise<string> {
    const { code, stdout, stderr } = await this.run(...words)
    if (code !== 0) throw new Error(`ringfs ${words.join(' ')}: exit code ${code}: ${stderr}`)
    return stdout
  }

  /** A command that goes on. */
  start(...words: readonly string[]): ChildProcess {
    return spawn(process.execPath, [PROGRAM, ...words], {
      cwd: this.folder,
      env: this.env,
      stdio: ['ignore', 'pipe', 'pipe'],
    })
  }

  /** Of the oldest process with a mount. */
  runFile(): RunFile | undefined {
    return this.runFiles()[0]
  }

  runFiles(): readonly RunFile[] {
    return readRunFiles(join(this.env['XDG_RUNTIME_DIR'] ?? '', 'ringfs'))
  }

  /** What program a process runs; '' for one that has ended. */
  nameOf(pid: number): string {
    try {
      return readFileSync(`/proc/${pid}/comm`, 'utf8').trim()
    } catch {
      return ''
    }
  }

  /** Pids of every process that belongs to it: started here, or with its folder among its arguments. */
  processes(): readonly number[] {
    return readdirSync('/proc')
      .filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid)
      .map(Number)
      .filter((pid) => belongsTo(pid, this.folder))
  }
}

function belongsTo(pid: number, folder: string): boolean {
  try {
    // One that has ended and waits for its parent has neither.
    if (readlinkSync(`/proc/${pid}/cwd`).startsWith(folder)) return true
    // A detached one works in / and was given relative paths: it has the folder in its environment.
    const files = ['cmdline', 'environ'].map((name) => readFileSync(`/proc/${pid}/${name}`, 'latin1'))
    return files.some((text) => text.includes(folder))
  } catch {
    return false
  }
}

export function kill(pid: number, signal: NodeJS.Signals = 'SIGKILL'): void {
  try {
    process.kill(pid, signal)
  } catch {
    // It has ended meanwhile.
  }
}

export function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms))
}

/** Asks until it is so. Throws with what was seen last. */
export async function eventually<T>(
  what: string,
  look: () => Promise<T> | T,
  isSo: (seen: T) => boolean,
  timeoutMs = PATIENCE_MS,
): Promise<T> {
  const deadline = Date.now() + timeoutMs
  for (;;) {
    const seen = await look()
    if (isSo(seen)) return seen
    if (Date.now() > deadline)
      throw new Error(`${what}: not so after ${timeoutMs} ms; last seen ${JSON.stringify(seen)}`)
    await sleep(100)
  }
}

export function runIn(
  cwd: string,
  program: string,
  words: readonly string[],
  env: NodeJS.ProcessEnv = process.env,
  timeoutMs = COMMAND_TIMEOUT_MS,
): Promise<Ran> {
  return new Promise((resolve) => {
    const options = { cwd, env, timeout: timeoutMs, killSignal: 'SIGKILL', maxBuffer: 1 << 28 } as const
    const child = execFile(program, words, options, (error, stdout, stderr) => {
      const code = error === null ? 0 : typeof error.code === 'number' ? error.code : -1
      resolve({ code, stdout, stderr })
    })
    child.stdin?.end()
  })
}

/** A program of the system, which may wait for the mount as long as it likes: this process does not. Throws when it fails. */
export async function sh(program: string, ...words: readonly string[]): Promise<string> {
  const { code, stdout, stderr } = await runIn('/', program, words)
  if (code !== 0) throw new Error(`${program} ${words.join(' ')}: exit code ${code}: ${stderr}`)
  return stdout
}
