/** Runs a system program that may get stuck on a mount, without ever waiting longer than a deadline for it. */
import { spawn } from 'node:child_process'
import { atUsualPriority } from '../base/priority.js'

/** env(1): the program was not found. */
const EXIT_NOT_FOUND = 127
/** More is read and dropped, unless the caller says how much he wants. */
const OUTPUT_MAX = 65_536

export interface CommandResult {
  /** null: it was killed, or it did not come back in time. */
  readonly exitCode: number | null
  readonly missing: boolean
  readonly timedOut: boolean
  /** stdout and stderr. */
  readonly output: string
}

/**
 * A program stuck in a request to a mount that nobody serves cannot even be killed: it is left behind, not waited for.
 * That is why such calls are made in a child at all: a thread of this process stuck there would keep it from exiting.
 */
export function runCommand(
  program: string,
  args: readonly string[],
  timeoutMs: number,
  outputMax = OUTPUT_MAX,
): Promise<CommandResult> {
  return new Promise((resolve) => {
    // What it says is looked at: in English, whatever the user's language.
    const words = ['LC_ALL=C', program, ...args]
    const child = atUsualPriority(() => spawn('env', words, { stdio: ['ignore', 'pipe', 'pipe'] }))
    let output = ''
    const finish = (exitCode: number | null, timedOut: boolean) => {
      clearTimeout(timer)
      resolve({ exitCode, missing: exitCode === EXIT_NOT_FOUND, timedOut, output: output.trim() })
    }
    const timer = setTimeout(() => {
      child.kill('SIGKILL')
      child.stdout.destroy()
      child.stderr.destroy()
      child.unref()
      finish(null, true)
    }, timeoutMs)
    const heard = (data: Buffer): void => {
      if (output.length < outputMax) output += data.toString()
    }
    child.stdout.on('data', heard)
    child.stderr.on('data', heard)
    child.on('error', () => finish(null, false))
    child.on('close', (exitCode) => finish(exitCode, false))
  })
}
