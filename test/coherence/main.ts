/** `npm run coherence`: scripts/coherence.mjs sets up and starts this. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { messageOf } from '../../src/base/errors.js'
import { twoMounts } from './two-mounts.js'

const HELP = `Usage: npm run coherence -- [options]

Changes files on one mount and looks at them on another, caches on: nothing may be stale. Prints how long what is cached lags.

Options:
  --rounds N   (default: 100000)
  --seed S     a whole number; decides every round (default: taken from the clock)
  --help

Ends with 0 if nothing was stale, 1 if something was, 2 for options that make no sense.
`

const undo: (() => unknown)[] = []

async function main(rounds: number, seed: number): Promise<number> {
  process.stdout.write(`seed ${seed}\n`)
  const teardown = (call: () => unknown): void => {
    undo.push(call)
  }
  const { a, b } = await twoMounts({ teardown })
  const player = fileURLToPath(new URL('./player.js', import.meta.url))
  const words = [player, a.mountpoint, b.mountpoint, String(rounds), String(seed)]
  const child = spawn(process.execPath, words, { stdio: ['ignore', 'inherit', 'inherit'] })
  const stop = (): void => void child.kill('SIGKILL')
  process.once('SIGINT', stop)
  process.once('SIGTERM', stop)
  await once(child, 'close')
  if (child.signalCode !== null) process.stdout.write(`ended by ${child.signalCode}\n`)
  return child.exitCode ?? 130
}

function positive(text: string): number {
  const value = Number(text)
  if (!Number.isSafeInteger(value) || value < 0) throw new Error(`${text} is not a whole number`)
  return value
}

try {
  const { values } = parseArgs({
    options: {
      rounds: { type: 'string', default: '100000' },
      seed: { type: 'string', default: String(Date.now() % 2 ** 31) },
      help: { type: 'boolean', default: false },
    },
  })
  if (values.help) process.stdout.write(HELP)
  else process.exitCode = await main(positive(values.rounds), positive(values.seed))
} catch (error) {
  process.stderr.write(`${messageOf(error)}\n${HELP}`)
  process.exitCode = 2
} finally {
  for (const call of undo.reverse()) await call()
}
