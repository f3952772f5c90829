/** Processes that lock files as they are told (c/locker.c). */
import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import type { Test } from 'tap'
import { compiled } from './compiled.js'
import { within } from './deadline.js'

const SIGNAL_EVERY_MS = 200
const ANSWER_TIMEOUT_MS = 120_000

/** Answers the program's path. */
export function compileLocker(): Promise<string> {
  return compiled('locker.c')
}

export class Locker {
  readonly #child: ChildProcess
  readonly #answers: ((line: string) => void)[] = []

  constructor(t: Pick<Test, 'teardown'>, program: string) {
    this.#child = spawn(program, { stdio: ['pipe', 'pipe', 'inherit'] })
    t.teardown(() => this.kill())
    if (this.#child.stdout === null) throw new Error('stdout is a pipe')
    createInterface(this.#child.stdout).on('line', (line) => this.#answers.shift()?.(line))
  }

  get pid(): number {
    return this.#child.pid ?? 0
  }

  /** What it answers, once it does. */
  tell(command: string): Promise<string> {
    const answer = new Promise<string>((resolve) => this.#answers.push(resolve))
    this.#child.stdin?.write(`${command}\n`)
    return within(ANSWER_TIMEOUT_MS, answer, `the answer to ${command}`)
  }

  /** Signals it until it has answered: it may not have begun to wait when the first one comes. */
  async interrupt(answer: Promise<string>): Promise<string> {
    const timer = setInterval(() => this.#child.kill('SIGUSR1'), SIGNAL_EVERY_MS)
    try {
      return await answer
    } finally {
      clearInterval(timer)
    }
  }

  /** Killed, and gone: it has nothing open any more. */
  async end(): Promise<void> {
    const gone = once(this.#child, 'exit')
    this.kill()
    await gone
  }

  kill(): void {
    this.#child.kill('SIGKILL')
  }
}
