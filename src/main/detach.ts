/** Starting this program again in the background, and waiting until it is ready. */
import { spawn, type ChildProcess } from 'node:child_process'
import { closeSync, fstatSync, openSync, readSync, writeSync } from 'node:fs'
import { dirname } from 'node:path'
import { Readable } from 'node:stream'
import { fileURLToPath } from 'node:url'
import type * as z from 'zod'
import { RingfsError, messageOf } from '../base/errors.js'
import { makeFolders } from '../base/make-folders.js'
import { BUILD_FOLDER } from '../base/places.js'
import { withoutSecrets } from './environment.js'
import { failureLine, firstLine, parseOutcome, successLine } from './outcome-line.js'

/** The descriptor over which a process in the background tells how its start went. */
const READY_FD = 3
const TAIL_BYTES = 2_000

/** The words that start this program: `node PROGRAM …`. */
export const PROGRAM = fileURLToPath(new URL('src/main/ringfs.js', BUILD_FOLDER))

export interface DetachPlan<T extends object> {
  readonly words: readonly string[]
  readonly env: NodeJS.ProcessEnv
  /** Its standard input, for what nobody else may see. */
  readonly input?: string
  /** Its log and whatever else it prints; appended to. */
  readonly logFile: string
  readonly schema: z.ZodType<T>
}

/** Answers what the process told when it was ready, with its pid. Errors: what its start failed with. */
export async function detach<T extends object>(plan: DetachPlan<T>): Promise<T & { readonly pid: number }> {
  const log = openLog(plan.logFile)
  const from = fstatSync(log).size
  const child = spawn(process.execPath, [PROGRAM, ...plan.words], {
    detached: true,
    stdio: [plan.input === undefined ? 'ignore' : 'pipe', log, log, 'pipe'],
    env: withoutSecrets(plan.env),
  })
  // It may end before it has read it; then it says why.
  child.stdin?.on('error', () => undefined)
  child.stdin?.end(plan.input)
  closeSync(log)
  const deaf = passOnSignals(child)
  const failed = new Promise<never>((_resolve, reject) => child.once('error', reject))
  const pipe = child.stdio[READY_FD]
  const line = await Promise.race([failed, pipe instanceof Readable ? firstLine(pipe) : undefined]).finally(deaf)
  child.unref()
  if (pipe instanceof Readable) pipe.destroy()
  if (line === undefined || child.pid === undefined) {
    throw new RingfsError('INTERNAL', `the process ended before it was ready: ${tail(plan.logFile, from)}`)
  }
  return { ...parseOutcome(line, plan.schema), pid: child.pid }
}

/**
 * Ctrl-C while it starts means it, and it is no part of the terminal's job. It says how it ended; a second one ends us.
 * Answers how to stop listening.
 */
function passOnSignals(child: ChildProcess): () => void {
  const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const
  const passOn = (): void => void child.kill('SIGTERM')
  for (const signal of signals) process.once(signal, passOn)
  return () => {
    for (const signal of signals) process.off(signal, passOn)
  }
}

/** Errors: RingfsError USAGE. */
function openLog(file: string): number {
  try {
    makeFolders(dirname(file), 0o700)
    return openSync(file, 'a', 0o600)
  } catch (error) {
    throw new RingfsError('USAGE', `the log ${file} cannot be written: ${messageOf(error)}`, { cause: error })
  }
}

function tail(file: string, from: number): string {
  const fd = openSync(file, 'r')
  try {
    const buffer = Buffer.alloc(TAIL_BYTES)
    const start = Math.max(from, fstatSync(fd).size - TAIL_BYTES)
    const length = readSync(fd, buffer, 0, TAIL_BYTES, start)
    const said = buffer.toString('utf8', 0, length).trim()
    return said === '' ? `see ${file}` : (said.split('\n').at(-1) ?? '')
  } finally {
    closeSync(fd)
  }
}

/** In the process in the background: tells once, and closes. A starter that is gone does not matter. */
export class ReadyPipe {
  #open: boolean

  constructor(isDetached: boolean) {
    this.#open = isDetached
  }

  ready(value: object): void {
    this.#tell(successLine(value))
  }

  failed(error: unknown): void {
    this.#tell(failureLine(error))
  }

  #tell(line: string): void {
    if (!this.#open) return
    this.#open = false
    try {
      writeSync(READY_FD, line)
    } catch {
      // EPIPE: nobody waits any more.
    }
    closeSync(READY_FD)
  }
}
