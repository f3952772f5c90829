/**
 * Standard output and standard error of the program.
 *
 * Invariants:
 * - Nobody is told that standard error takes nothing (its terminal is gone, the disk of its file is full), and nothing else changes by
 *   it: what would end this process could leave data unwritten.
 * - What a command says on standard output is there as a whole, or the command fails. A reader that has seen enough is no failure.
 * - Who serves others (serve) goes on whatever becomes of either.
 */
import { writeSync } from 'node:fs'
import { Socket } from 'node:net'
import { EXIT_FAILED, failureText } from '../cli/failures.js'

let isServing = false

/** There is a mount or a node in this process by now. */
export function serve(): void {
  isServing = true
}

export function guardStandardOutput(): void {
  const { stdout, stderr } = process
  stderr.on('error', () => undefined)
  stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (isServing) return
    // `ringfs cat /big | head`: whoever read has seen enough.
    if (error.code === 'EPIPE') process.exit()
    stderr.write(`ringfs: standard output: ${failureText(error)}\n`)
    process.exit(EXIT_FAILED)
  })
  // Neither a terminal nor a pipe: a file.
  if (!(stdout instanceof Socket)) Reflect.set(stdout, '_write', writeWhole)
}

/** Node takes a short write for a whole one: the end of what is said would be missing when the disk gets full. */
function writeWhole(chunk: Uint8Array, _encoding: string, done: (error?: Error) => void): void {
  try {
    for (let at = 0; at < chunk.length;) at += writeSync(process.stdout.fd, chunk, at)
    done()
  } catch (error) {
    done(error instanceof Error ? error : new Error(String(error)))
  }
}
