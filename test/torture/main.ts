/** `npm run torture`: scripts/torture.mjs sets up and starts this. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { messageOf } from '../../src/base/errors.js'
import type { DriverName } from '../../src/fuse/driver.js'
import { OperationLog } from './operation-log.js'
import { Run, type Progress } from './run.js'
import { Cleanup } from './stack.js'

const HELP = `Usage: npm run torture -- [options]

Random operations on mounts of ringfs and on a local folder, compared call by call and tree by tree: in several processes
and as several users at once (as root), with mounts killed, mounted again, and Redis killed in between.

Options:
  --minutes N     how long (default: 10)
  --seed S        a whole number; decides every operation (default: taken from the clock)
  --driver NAME   kernel; fuse-native; mixed: some mounts of a volume with one, some with the other; both: first kernel with
                  all that it can, then mixed (default: both)
  --workers N     (default: 4)
  --no-crashes    kill nothing
  --keep          leave the local folder, with a log of all operations, also when all went well
  --help

Ends with 0 if nothing was wrong, 1 if something was, 2 for options that make no sense, 130 after Ctrl-C.
`

interface Options {
  readonly minutes: number
  readonly seed: number
  /** One after the other, each on a volume of its own: the drivers of its mounts. */
  readonly phases: readonly (readonly DriverName[])[]
  readonly workers: number
  readonly crashes: boolean
  readonly keep: boolean
}

class UsageError extends Error {}

function parse(args: string[]): Options | 'help' {
  const { values } = parseArgs({
    args,
    options: {
      minutes: { type: 'string', default: '10' },
      seed: { type: 'string', default: String(Date.now() % 2 ** 31) },
      driver: { type: 'string', default: 'both' },
      workers: { type: 'string', default: '4' },
      'no-crashes': { type: 'boolean', default: false },
      keep: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  })
  if (values.help) return 'help'
  return {
    minutes: positive('minutes', values.minutes),
    seed: whole('seed', values.seed),
    phases: phasesOf(values.driver),
    workers: whole('workers', values.workers),
    crashes: !values['no-crashes'],
    keep: values.keep,
  }
}

function positive(name: string, text: string): number {
  const value = Number(text)
  if (!(value > 0)) throw new UsageError(`--${name} ${text}: a number above 0`)
  return value
}

function whole(name: string, text: string): number {
  const value = Number(text)
  if (!Number.isSafeInteger(value) || value < 0) throw new UsageError(`--${name} ${text}: a whole number`)
  return value
}

function phasesOf(name: string): readonly (readonly DriverName[])[] {
  const mixed: readonly DriverName[] = ['kernel', 'fuse-native']
  if (name === 'both') return [['kernel'], mixed]
  if (name === 'mixed') return [mixed]
  if (name === 'kernel' || name === 'fuse-native') return [[name]]
  throw new UsageError(`--driver ${name}: kernel, fuse-native, mixed or both`)
}

function say(line: string): void {
  process.stdout.write(`${line}\n`)
}

const REPORT_EVERY_MS = 10_000

/** On a terminal a line that is written over; in a log one line now and then. */
class Reporter {
  readonly #startMs = Date.now()
  #lastMs = 0

  tell({ doing, ...counts }: Progress): void {
    const line = `${this.minutes()} min: ${summary(counts)}; ${doing}`
    if (process.stdout.isTTY) process.stdout.write(`\r\x1b[K${line}`)
    else if (Date.now() - this.#lastMs > REPORT_EVERY_MS) {
      this.#lastMs = Date.now()
      say(line)
    }
  }

  end(): void {
    if (process.stdout.isTTY) process.stdout.write('\r\x1b[K')
  }

  minutes(): string {
    return ((Date.now() - this.#startMs) / 60_000).toFixed(1)
  }
}

function summary({ rounds, operations, crashes, remounts, outages }: Omit<Progress, 'doing'>): string {
  return `${rounds} rounds, ${operations} operations, ${crashes} crashes, ${remounts} remounts, ${outages} outages of Redis`
}

interface Outcome {
  readonly failure?: unknown
  /** What the mounts wrote. */
  readonly output: string
  readonly counts: Omit<Progress, 'doing'> | undefined
}

class Torture {
  readonly #options: Options
  readonly #cleanup = new Cleanup()
  readonly #reporter = new Reporter()
  readonly #stop = new AbortController()

  constructor(options: Options) {
    this.#options = options
  }

  /** Answers the exit code. */
  async run(): Promise<number> {
    const { seed, minutes, phases, workers } = this.#options
    const drivers = phases.map((phase) => phase.join(' and ')).join(', then ')
    say(`torture: seed ${seed}, ${minutes} minutes, ${drivers}, ${workers} workers`)
    const interrupt = (): void => {
      this.#stop.abort()
      // Whoever waits for a call is freed by the end of the mounts.
      void this.#cleanup.run()
    }
    process.once('SIGINT', interrupt)
    process.once('SIGTERM', interrupt)
    for (const phase of phases) {
      const code = await this.#phase(phase, minutes / phases.length)
      if (code !== 0) return code
    }
    return 0
  }

  async #phase(drivers: readonly DriverName[], minutes: number): Promise<number> {
    const folder = await mkdtemp(join(tmpdir(), 'ringfs-torture-'))
    const log = new OperationLog(join(folder, 'operations.log'))
    const outcome = await this.#outcome(drivers, minutes, folder, log)
    this.#reporter.end()
    await this.#cleanup.run()
    await log.flush()
    const interrupted = this.#stop.signal.aborted
    const keeps = this.#options.keep || (outcome.failure !== undefined && !interrupted)
    if (!keeps) await rm(folder, { recursive: true, force: true })
    return this.#report(drivers, outcome, keeps ? folder : '')
  }

  async #outcome(drivers: readonly DriverName[], minutes: number, folder: string, log: OperationLog): Promise<Outcome> {
    const { seed, workers, crashes } = this.#options
    let run: Run | undefined
    try {
      run = await Run.start(
        {
          ...{ seed, minutes, drivers, workers, crashes, folder, stop: this.#stop.signal },
          onProgress: (progress) => this.#reporter.tell(progress),
          onOperation: (line) => log.add(line),
        },
        this.#cleanup,
      )
      await run.torture()
      return { output: '', counts: run.counts }
    } catch (failure) {
      return { failure, output: run?.output ?? '', counts: run?.counts }
    }
  }

  #report(drivers: readonly DriverName[], { failure, output, counts }: Outcome, folder: string): number {
    const { seed } = this.#options
    const done = counts === undefined ? 'nothing' : summary(counts)
    const what = `${drivers.join(' and ')}: ${done} in ${this.#reporter.minutes()} minutes; seed ${seed}`
    if (this.#stop.signal.aborted) {
      say(`torture: interrupted: ${what}`)
      return 130
    }
    if (failure === undefined) {
      say(`torture: ok: ${what}${folder === '' ? '' : `; ${folder}`}`)
      return 0
    }
    say(messageOf(failure))
    if (output !== '') say(`what the mounts said:\n${output}`)
    say(`all operations: ${folder}/operations.log`)
    say(`torture: FAILED: ${what}; again with: npm run torture -- ${this.#again(drivers)}`)
    return 1
  }

  #again(drivers: readonly DriverName[]): string {
    const { seed, minutes, workers, crashes } = this.#options
    const driver = drivers.length > 1 ? 'mixed' : drivers.join('')
    return `--seed ${seed} --minutes ${minutes} --driver ${driver} --workers ${workers}${crashes ? '' : ' --no-crashes'}`
  }
}

try {
  const options = parse(process.argv.slice(2))
  if (options === 'help') process.stdout.write(HELP)
  else process.exitCode = await new Torture(options).run()
} catch (error) {
  process.stderr.write(`torture: ${messageOf(error)}\n`)
  process.exitCode = 2
}
