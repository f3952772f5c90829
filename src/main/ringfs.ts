#!/usr/bin/env node
/** The program. Only here, and in environment.ts, are the arguments and the environment read. */
import { setImmediate as nextTurn } from 'node:timers/promises'
import { exitCodeOf, failureText, isHelp } from '../cli/failures.js'
import { buildProgram, withMetaOption } from '../cli/program.js'
import { endProcess } from './end.js'
import { readEnvironment } from './environment.js'
import { guardStandardOutput } from './standard-output.js'
import { checkWords } from './words.js'

const words = withMetaOption(process.argv.slice(2))
const surroundings = { environment: readEnvironment(), stdout: process.stdout, stderr: process.stderr }

guardStandardOutput()

try {
  checkWords(words)
  const program = await buildProgram(surroundings, words)
  await program.parseAsync([...words], { from: 'user' })
} catch (error) {
  const code = exitCodeOf(error)
  process.exitCode = code
  if (code !== 0 && !isHelp(error)) process.stderr.write(`ringfs: ${failureText(error)}\n`)
  if (words.includes('--debug') && error instanceof Error) process.stderr.write(`${error.stack ?? ''}\n`)
}
// What standard output did not take is told in a turn of its own.
await nextTurn()
// Everything is closed by now. A mount that is held elsewhere (lazily unmounted while in use, or copied into another mount
// namespace) would keep this process alive, with its data folder long unlocked: the end of the process ends the mount.
await endProcess()
