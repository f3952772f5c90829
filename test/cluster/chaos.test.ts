/** A short run of `npm run chaos` with a fixed seed; longer ones are for those who ask. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { runCommand } from '../../src/fuse/command.js'
import { ChaosRun, scheduleText } from '../chaos/run.js'
import { Cleanup } from '../torture/stack.js'

const MAIN = fileURLToPath(new URL('../chaos/main.js', import.meta.url))
const SHAPE = { nodes: 5, mounts: 3 }
const COMMAND_TIMEOUT_MS = 120_000
const SEED = 17
const ROUNDS = 1

t.setTimeout(600_000)

t.test('random faults against random work: everything acknowledged is there, and all is whole', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'ringfs-chaos-'))
  t.teardown(() => rm(folder, { recursive: true, force: true, maxRetries: 50, retryDelay: 100 }))
  const cleanup = new Cleanup()
  t.teardown(() => cleanup.run())
  const events: string[] = []
  const options = {
    ...{ seed: SEED, rounds: ROUNDS, minutes: Infinity, ...SHAPE, folder, stop: new AbortController().signal },
    onEvent: ({ what }: { readonly what: string }) => void events.push(what),
    onOperation: () => undefined,
  }
  const run = await ChaosRun.start(options, cleanup)
  try {
    await run.play()
  } catch (error) {
    t.comment(`seed ${SEED}\n${scheduleText(options, ROUNDS)}${events.join('\n')}`)
    throw error
  }
  t.ok(run.counts.operations > 0 && run.counts.chunks > 0, JSON.stringify(run.counts))
})

t.test('the command tells its options and refuses what makes no sense', async (t) => {
  const run = (...words: string[]): ReturnType<typeof runCommand> =>
    runCommand(process.execPath, [MAIN, ...words], COMMAND_TIMEOUT_MS)
  const help = await run('--help')
  t.equal(help.exitCode, 0)
  t.match(help.output, /--minutes N[^]*--seed S/)
  t.match((await run('--schedule', '--seed', '4')).output, /^round 1\n {2}at /)
  for (const words of [['--nodes', '2'], ['--what']]) {
    t.equal((await run(...words)).exitCode, 2, words.join(' '))
  }
})
