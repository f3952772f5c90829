/** System calls on files that Node does not have, made by a process compiled from c/file-calls.c. */
import { type ChildProcess, spawn } from 'node:child_process'
import { constants } from 'node:os'
import { createInterface } from 'node:readline'
import type { Test } from 'tap'
import { compiled } from './compiled.js'
import { within } from './deadline.js'

const CALL_TIMEOUT_MS = 90_000

export const FLAGS = {
  rdonly: 0,
  wronly: 1,
  rdwr: 2,
  creat: 0o100,
  append: 0o2000,
  dsync: 0o10000,
  sync: 0o4010000,
  direct: process.arch === 'arm64' ? 0o200000 : 0o40000,
} as const
export const FALLOC = { keepSize: 1, punch: 3, collapse: 8, zero: 16, zeroKeep: 17, insert: 32, unshare: 64 } as const
export const SEEK = { data: 3, hole: 4 } as const
export const PROT = { read: 1, write: 2 } as const
export const MAP = { shared: 1, private: 2 } as const

type Waiting = (line: string) => void

export class FileCalls {
  readonly #child: ChildProcess
  readonly #waiting: Waiting[] = []

  private constructor(program: string) {
    this.#child = spawn(program, { stdio: ['pipe', 'pipe', 'inherit'] })
    const { stdout } = this.#child
    if (stdout === null) throw new Error('there is a pipe')
    createInterface({ input: stdout }).on('line', (line) => this.#waiting.shift()?.(line))
    // A call that killed the process (SIGBUS, say) is answered, too.
    this.#child.once('exit', (code, signal) => {
      for (const answer of this.#waiting.splice(0)) answer(`ended ${signal ?? code}`)
    })
  }

  static async start(t: Pick<Test, 'teardown'>): Promise<FileCalls> {
    const calls = new FileCalls(await compiled('file-calls.c'))
    t.teardown(() => calls.#child.kill('SIGKILL'))
    return calls
  }

  /** The answer as it is: a number, and what was read in hex. */
  async raw(...words: readonly (string | number)[]): Promise<string> {
    const answer = new Promise<string>((resolve) => this.#waiting.push(resolve))
    this.#child.stdin?.write(`${words.join(' ')}\n`)
    return await within(CALL_TIMEOUT_MS, answer, words.join(' '))
  }

  /** What the call returned, or the errno's name. */
  async call(...words: readonly (string | number)[]): Promise<number | string> {
    const answer = await this.raw(...words)
    const value = Number(answer.split(' ')[0])
    if (Number.isNaN(value)) return answer
    return value < 0 ? nameOf(-value) : value
  }

  /** For calls that must work. */
  async ok(...words: readonly (string | number)[]): Promise<number> {
    const value = await this.call(...words)
    if (typeof value === 'string') throw new Error(`${words.join(' ')}: ${value}`)
    return value
  }

  /** What `pread` or `peek` read. */
  async bytes(...words: readonly (string | number)[]): Promise<Buffer> {
    const answer = await this.raw(...words)
    const [count, hex = ''] = answer.split(' ')
    if (!(Number(count) >= 0)) throw new Error(`${words.join(' ')}: ${answer}`)
    return Buffer.from(hex, 'hex')
  }
}

function nameOf(errno: number): string {
  return Object.entries(constants.errno).findLast(([, value]) => value === errno)?.[0] ?? `errno ${errno}`
}
