/** A short run of `npm run torture`; hours of it are for those who ask. RINGFS_TEST_SEED repeats one. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t, { type Test } from 'tap'
import { runCommand } from '../../src/fuse/command.js'
import type { DriverName } from '../../src/fuse/driver.js'
import { propertyRun } from '../helpers/property.js'
import { Run } from '../torture/run.js'
import { Cleanup } from '../torture/stack.js'

const MINUTES = 0.4
const MAIN = fileURLToPath(new URL('../torture/main.js', import.meta.url))
const COMMAND_TIMEOUT_MS = 120_000

t.setTimeout(600_000)

async function torture(t: Test, drivers: readonly DriverName[]): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'ringfs-torture-'))
  t.teardown(() => rm(folder, { recursive: true, force: true, maxRetries: 50, retryDelay: 100 }))
  const cleanup = new Cleanup()
  t.teardown(() => cleanup.run())
  const { seed } = propertyRun(t, 1)
  const options = {
    ...{ seed, minutes: MINUTES, drivers, workers: 4, crashes: true, folder, stop: new AbortController().signal },
    onProgress: () => undefined,
    onOperation: () => undefined,
  }
  const run = await Run.start(options, cleanup)
  try {
    await run.torture()
  } catch (error) {
    const words = `--seed ${seed} --driver ${drivers.length > 1 ? 'mixed' : drivers.join('')}`
    t.comment(`again, for longer: npm run torture -- ${words}\n${run.output}`)
    throw error
  }
  const { rounds, operations } = run.counts
  t.ok(rounds > 0 && operations > 0, `${operations} operations in ${rounds} rounds`)
}

t.test('the kernel driver does what a local disk does, through crashes and remounts', (t) => torture(t, ['kernel']))

t.test('and so do both drivers on one volume', (t) => torture(t, ['kernel', 'fuse-native']))

t.test('the command tells its options and refuses what makes no sense', async (t) => {
  const run = (...words: string[]): ReturnType<typeof runCommand> =>
    runCommand(process.execPath, [MAIN, ...words], COMMAND_TIMEOUT_MS)
  const help = await run('--help')
  t.equal(help.exitCode, 0)
  t.match(help.output, /--minutes N[^]*--seed S/)
  for (const words of [['--minutes', '0'], ['--seed', 'x'], ['--driver', 'ext4'], ['--what']]) {
    t.equal((await run(...words)).exitCode, 2, words.join(' '))
  }
})
