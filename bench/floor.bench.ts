/**
 * What no store can take away: calls on the whole VFS, mounted, whose metadata and chunks lie in its own memory. Nothing is kept, nothing is told to others,
 * and no call leaves the process. What ringfs takes longer for the same goes to Redis and to the nodes.
 *
 * Each column is a run of `ringfs bench`, operations a second: so they stand beside those of any folder. In the first runs code is compiled, too.
 */
import { mountTest } from '../test/helpers/mount.js'
import { PROGRAM, sh } from '../test/helpers/ringfs.js'

const RUNS = ['1', '4', '1', '4']

interface Report {
  readonly figures: readonly { readonly title: string; readonly rate: number }[]
}

async function measure(mountpoint: string): Promise<Record<string, Record<string, number>>> {
  const table: Record<string, Record<string, number>> = {}
  for (const [run, threads] of RUNS.entries()) {
    const words = ['bench', mountpoint, '--threads', threads, '--only', 'small,directories', '--json']
    const report = JSON.parse(await sh(process.execPath, PROGRAM, ...words)) as Report
    for (const { title, rate } of report.figures) {
      const row = (table[title] ??= {})
      row[`run ${run + 1}, ${threads === '1' ? 'a thread' : `${threads} threads`}`] = rate
    }
  }
  return table
}

const cleanups: (() => unknown)[] = []
try {
  const t = { teardown: (fn: () => unknown) => void cleanups.push(fn) }
  const { mountpoint } = await mountTest(t, { driver: 'kernel', backend: 'vfs' })
  const table = await measure(mountpoint)
  if (process.argv.includes('--json')) console.log(JSON.stringify(table))
  else console.table(table)
} finally {
  for (const cleanup of cleanups.reverse()) await cleanup()
}
process.exit(0)
