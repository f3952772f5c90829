/**
 * `ringfs bench`: how fast a folder is, whatever file system it is on. The load runs in threads of this process, which serves
 * no mount itself.
 */
import { Command, Option } from 'commander'
import { RingfsError, hasCode, messageOf } from '../../base/errors.js'
import { MIB } from '../../base/limits.js'
import { stopSignal } from '../../main/stop-signal.js'
import { byteSize, integer, positive } from '../arguments.js'
import { print, say, type Surroundings } from '../surroundings.js'
import { makePlace, removePlace, type Place } from './place.js'
import { GROUPS, type Group } from './plan.js'
import { BenchProgress } from './progress.js'
import { measure, needed, orHang, type BenchSettings, type Measured } from './run.js'
import { reportText, type Report } from './report.js'

interface Options {
  readonly threads: number
  readonly size: number
  readonly files: number
  readonly seconds: number
  readonly only: readonly Group[]
  readonly keep?: boolean
  readonly json?: boolean
}

const THREADS_MAX = 64

const EXAMPLES = `
Works in a folder of its own in DIR, and removes it at the end, also after Ctrl-C. Groups of figures:
  large        one file for each thread: written 1 MiB at a time, read, written 4 KiB at a time
  random       4 KiB anywhere in it: read, written, written with an fsync each
  small        files of 4 KiB: made, stat, read, listed, renamed, removed
  directories  made, filled with empty files, removed
For cold figures the kernel's caches are dropped, those of the whole machine: only root can, others get none of these.
Compare on the same machine, in turns, more than once.

Examples:
  $ ringfs bench mnt
  $ ringfs bench mnt --threads 4 --only small,directories
  $ ringfs bench /tmp --size 1G --json > local.json`

export function benchCommand(surroundings: Surroundings): Command {
  return new Command('bench')
    .summary('measure a folder: large and small files, random access, names')
    .description('Measures the file system that a folder is on, ringfs or any other.')
    .argument('<dir>')
    .option('-t, --threads <n>', 'so many work at once, each on files of its own', threadCount, 1)
    .addOption(
      new Option('--size <bytes>', 'of the large files, together').argParser(byteSize).default(256 * MIB, '256M'),
    )
    .option('--files <n>', 'small files, together', integer(1), 1000)
    .option('--seconds <n>', 'longest time of one figure', positive, 3)
    .addOption(new Option('--only <groups>', 'some of them').argParser(groups).default(GROUPS, GROUPS.join(',')))
    .option('--keep', 'leave the files there')
    .option('--json', 'as JSON')
    .addHelpText('after', EXAMPLES)
    .action((path: string, options: Options) => bench(surroundings, path, options))
}

function threadCount(text: string): number {
  const count = integer(1)(text)
  if (count > THREADS_MAX) throw new RingfsError('USAGE', `--threads is 1 to ${THREADS_MAX}`)
  return count
}

function groups(text: string): readonly Group[] {
  const names = text.split(',').map((name) => name.trim())
  const unknown = names.filter((name) => !GROUPS.some((group) => group === name))
  if (unknown.length > 0) {
    throw new RingfsError('USAGE', `there is no group ${unknown.join(', ')}: --only takes ${GROUPS.join(', ')}`)
  }
  return GROUPS.filter((group) => names.includes(group))
}

async function bench(surroundings: Surroundings, path: string, options: Options): Promise<void> {
  const { threads, size: sizeBytes, files, seconds, only, keep = false } = options
  const settings: BenchSettings = { threads, sizeBytes, files, limitMs: seconds * 1000, groups: only }
  if (sizeBytes < threads * MIB) throw new RingfsError('USAGE', '--size is at least 1M for each thread')
  // Before anything is made: a signal that nobody listens to would leave it behind.
  const left: { folder?: string } = {}
  const { stopped } = stopSignal(() => {
    if (left.folder !== undefined) say(surroundings, `its files are left in ${left.folder}`)
  })
  const need = needed(settings)
  const making = makePlace(path, need.bytes, need.files)
  const place = await orDie(
    surroundings,
    orHang(making, stopped, new RingfsError('DEADLINE', `${path} does not answer`)),
  )
  left.folder = place.folder
  const startedAt = new Date().toISOString()
  const startMs = performance.now()
  const isShown = surroundings.stderr.isTTY && options.json !== true
  const progress = new BenchProgress({ stream: surroundings.stderr, isShown })
  const removing = async (): Promise<void> => {
    if (!keep) await orDie(surroundings, removePlace(place))
  }
  const { measured, unremoved } = await measuredIn(surroundings, place, removing, () => {
    return orDie(surroundings, measure(place, settings, progress, stopped))
  })
  const { measured: real, fsType } = place
  const tookS = Number(((performance.now() - startMs) / 1000).toFixed(3))
  const report: Report = {
    ...{ format: 1, path: real, fsType, startedAt, seconds: tookS, threads, sizeBytes, files },
    ...measured,
  }
  print(surroundings, options.json === true ? `${JSON.stringify(report, null, 2)}\n` : reportText(report))
  if (keep) say(surroundings, `its files are in ${place.folder}`)
  if (unremoved !== undefined) throw unremoved.error
  if (!report.isComplete) throw new RingfsError('CANCELLED', 'stopped before the end')
}

interface Unremoved {
  readonly error: unknown
}

/** What it made goes whatever happens. That it cannot go hides neither what was measured nor why measuring failed. */
async function measuredIn(
  surroundings: Surroundings,
  place: Place,
  removing: () => Promise<void>,
  work: () => Promise<Measured>,
): Promise<{ readonly measured: Measured; readonly unremoved: Unremoved | undefined }> {
  const removed = async (): Promise<Unremoved | undefined> => {
    try {
      await removing()
      return undefined
    } catch (error) {
      say(surroundings, `its files are left in ${place.folder}`)
      return { error }
    }
  }
  try {
    const measured = await work()
    return { measured, unremoved: await removed() }
  } catch (error) {
    const unremoved = await removed()
    if (unremoved !== undefined) say(surroundings, messageOf(unremoved.error))
    throw error
  }
}

/**
 * A call that hangs keeps its thread, for which an ordinary end would wait. And what is left on a file system that hangs cannot
 * be removed either.
 */
async function orDie<T>(surroundings: Surroundings, work: Promise<T>): Promise<T> {
  try {
    return await work
  } catch (error) {
    if (hasCode(error, 'DEADLINE')) {
      say(surroundings, messageOf(error))
      process.kill(process.pid, 'SIGKILL')
    }
    throw error
  }
}
