/** `npm run coherence`: scripts/coherence.mjs sets up and starts this. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { messageOf } from '../../src/base/errors.js'
import { disturb } from './disturb.js'
import { randomFrom } from '../helpers/random.js'
import { twoMounts } from './two-mounts.js'

const HELP = `Usage: npm run coherence -- [options]

Changes files on one mount and looks at them on another, caches on: nothing may be stale. Prints how long what is cached lags.

Options:
  --rounds N     (default: 100000)
  --eager        delegations come back as soon as they can: many recalls
  --listen-ms N  what is not used for so long is not listened to, and now and then nobody does anything for thrice as long
  --disturbed    mounts are stopped, subscriptions cut and Redis killed meanwhile
  --seed S       a whole number; decides every round (default: taken from the clock)
  --help

Ends with 0 if nothing was stale, 1 if something was, 2 for options that make no sense.
`

const undo: (() => unknown)[] = []

interface Settings {
  readonly rounds: number
  readonly seed: number
  readonly eager: boolean
  readonly listenMs: number | undefined
  readonly disturbed: boolean
}

async function main({ rounds, seed, eager, listenMs, disturbed }: Settings): Promise<number> {
  process.stdout.write(`seed ${seed}\n`)
  const teardown = (call: () => unknown): void => {
    undo.push(call)
  }
  const mounts = await twoMounts({ teardown }, { eager, ...(listenMs === undefined ? {} : { listenMs }) })
  const { a, b } = mounts
  // The last that is done: they tell at their end.
  undo.unshift(() => {
    process.stdout.write(`a: ${a.output()}b: ${b.output()}`)
  })
  const player = fileURLToPath(new URL('./player.js', import.meta.url))
  const words = [player, a.mountpoint, b.mountpoint, String(rounds), String(seed), String((listenMs ?? 0) * 3)]
  const child = spawn(process.execPath, words, { stdio: ['ignore', 'inherit', 'inherit'] })
  const stop = (): void => void child.kill('SIGKILL')
  process.once('SIGINT', stop)
  process.once('SIGTERM', stop)
  const closed = once(child, 'close')
  if (disturbed) {
    const isOver = (): boolean => child.exitCode !== null || child.signalCode !== null
    process.stdout.write(`${JSON.stringify(await disturb(mounts, randomFrom(seed), isOver))}\n`)
  }
  await closed
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
      disturbed: { type: 'boolean', default: false },
      eager: { type: 'boolean', default: false },
      'listen-ms': { type: 'string' },
      seed: { type: 'string', default: String(Date.now() % 2 ** 31) },
      help: { type: 'boolean', default: false },
    },
  })
  if (values.help) process.stdout.write(HELP)
  else {
    const { 'listen-ms': ms, ...others } = values
    const listenMs = ms === undefined ? undefined : positive(ms)
    const [rounds, seed] = [positive(values.rounds), positive(values.seed)]
    process.exitCode = await main({ ...others, listenMs, rounds, seed })
  }
} catch (error) {
  process.stderr.write(`${messageOf(error)}\n${HELP}`)
  process.exitCode = 2
} finally {
  for (const call of undo.reverse()) await call()
}
