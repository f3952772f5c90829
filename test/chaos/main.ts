/** `npm run chaos`: scripts/chaos.mjs sets up and starts this. */
import { cp, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { messageOf } from '../../src/base/errors.js'
import { OperationLog } from '../torture/operation-log.js'
import { Cleanup } from '../torture/stack.js'
import { FAULT_KINDS } from './schedule.js'
import { ChaosRun, scheduleText, type ChaosCounts, type ChaosEvent, type ChaosOptions } from './run.js'

const HELP = `Usage: npm run chaos -- [options]

Random faults against random work: a Redis Cluster of three masters and three replicas, chunk nodes and mounts, each a process, nodes and
mounts on hosts of their own (network namespaces). Processes are killed and stopped, cables cut, one way too, packets lost, late and
doubled, masters replaced, slots moved, disks full, rotten and lost, clocks set. What was acknowledged is kept in a local folder, and
must be there in the end, byte for byte, on every mount. Needs root.

Options:
  --minutes N    rounds begin for so long (default: 10)
  --seed S       a whole number; decides every fault and every operation (default: taken from the clock)
  --nodes N      at least 3 (default: 5)
  --mounts N     (default: 3)
  --only KINDS   nothing but these faults, with commas between them: ${FAULT_KINDS.join(', ')}
  --schedule     only print the schedule of the first rounds
  --json         one line of JSON for each event
  --keep         leave the folder with logs and operations also when all went well
  --help

Ends with 0 if nothing was wrong, 1 if something was, 2 for options that make no sense, 130 after Ctrl-C.
`

const SCHEDULE_ROUNDS = 20

interface Options {
  readonly minutes: number
  readonly seed: number
  readonly nodes: number
  readonly mounts: number
  readonly only?: readonly string[]
  readonly json: boolean
  readonly keep: boolean
}

function parse(args: string[]): (Options & { readonly task: 'run' | 'schedule' }) | 'help' {
  const { values } = parseArgs({
    args,
    options: {
      minutes: { type: 'string', default: '10' },
      seed: { type: 'string', default: String(Date.now() % 2 ** 31) },
      nodes: { type: 'string', default: '5' },
      mounts: { type: 'string', default: '3' },
      only: { type: 'string' },
      schedule: { type: 'boolean', default: false },
      json: { type: 'boolean', default: false },
      keep: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  })
  if (values.help) return 'help'
  const minutes = Number(values.minutes)
  if (!(minutes > 0)) throw new Error(`--minutes ${values.minutes}: a number above 0`)
  return {
    minutes,
    seed: whole('seed', values.seed, 0, Number.MAX_SAFE_INTEGER),
    nodes: whole('nodes', values.nodes, 3, 20),
    mounts: whole('mounts', values.mounts, 1, 20),
    ...(values.only !== undefined && { only: kindsOf(values.only) }),
    json: values.json,
    keep: values.keep,
    task: values.schedule ? 'schedule' : 'run',
  }
}

function whole(name: string, text: string, min: number, max: number): number {
  const value = Number(text)
  if (!Number.isSafeInteger(value) || value < min || value > max) {
    throw new Error(`--${name} ${text}: a whole number from ${min} to ${max}`)
  }
  return value
}

function kindsOf(text: string): readonly string[] {
  const kinds = text.split(',')
  const strange = kinds.find((kind) => !FAULT_KINDS.includes(kind))
  if (strange !== undefined) throw new Error(`--only ${strange}: there are ${FAULT_KINDS.join(', ')}`)
  return kinds
}

interface Facts {
  /** Since the start. */
  readonly s?: number
  readonly round?: number
  readonly what: string
  readonly [more: string]: unknown
}

class Chaos {
  readonly #options: Options
  readonly #startMs = Date.now()
  readonly #cleanup = new Cleanup()
  readonly #stop = new AbortController()
  #rounds = 0
  /** Faults that were under way may end later. */
  #isOver = false

  constructor(options: Options) {
    this.#options = options
  }

  /** Answers the exit code. */
  async run(): Promise<number> {
    const { seed, minutes, nodes, mounts } = this.#options
    this.#say({ what: 'chaos', seed, minutes, nodes, mounts })
    const interrupt = (): void => {
      this.#stop.abort()
      void this.#cleanup.run()
    }
    process.once('SIGINT', interrupt)
    process.once('SIGTERM', interrupt)
    const folder = await mkdtemp(join(tmpdir(), 'ringfs-chaos-'))
    const log = new OperationLog(join(folder, 'operations.log'))
    let run: ChaosRun | undefined
    let failure: unknown
    try {
      run = await ChaosRun.start(this.#runOptions(folder, log), this.#cleanup)
      await run.play()
    } catch (error) {
      failure = error
    }
    this.#isOver = true
    const logs = failure === undefined && !this.#options.keep ? '' : await kept(folder)
    await this.#cleanup.run()
    await log.flush()
    if (logs !== '') await cp(join(folder, 'operations.log'), join(logs, 'operations.log')).catch(() => undefined)
    await rm(folder, { recursive: true, force: true })
    return this.#report(failure, run?.counts, logs)
  }

  #runOptions(folder: string, log: OperationLog): ChaosOptions {
    const { seed, minutes, nodes, mounts, only } = this.#options
    return {
      ...(only && { only }),
      ...{ seed, minutes, nodes, mounts, folder, stop: this.#stop.signal },
      onEvent: (event) => this.#event(event),
      onOperation: (line) => log.add(line),
    }
  }

  #event({ round, what }: ChaosEvent): void {
    if (this.#isOver) return
    this.#rounds = Math.max(this.#rounds, round)
    this.#say({ s: this.#seconds(), round, what })
  }

  #seconds(): number {
    return Math.round((Date.now() - this.#startMs) / 100) / 10
  }

  #say(facts: Facts): void {
    const { s, round, what, ...rest } = facts
    const more = Object.keys(rest).length === 0 ? '' : ` ${JSON.stringify(rest)}`
    const where = s === undefined ? '' : `${s} s, round ${round}: `
    process.stdout.write(this.#options.json ? `${JSON.stringify(facts)}\n` : `${where}${what}${more}\n`)
  }

  #report(failure: unknown, counts: ChaosCounts | undefined, logs: string): number {
    const facts = { seed: this.#options.seed, seconds: this.#seconds(), ...counts, ...(logs !== '' && { logs }) }
    if (this.#stop.signal.aborted) {
      this.#say({ what: 'interrupted', ...facts })
      return 130
    }
    if (failure === undefined) {
      this.#say({ what: 'ok', ...facts })
      return 0
    }
    const { seed, nodes, mounts, minutes, only } = this.#options
    const kinds = only === undefined ? '' : ` --only ${only.join(',')}`
    const again = `npm run chaos -- --seed ${seed} --minutes ${minutes} --nodes ${nodes} --mounts ${mounts}${kinds}`
    if (!this.#options.json) process.stdout.write(`${messageOf(failure)}\n${scheduleText(this.#options, this.#rounds)}`)
    this.#say({ what: 'FAILED', ...(this.#options.json && { why: messageOf(failure) }), again, ...facts })
    return 1
  }
}

/** Copies of the logs, which outlive the run. */
async function kept(folder: string): Promise<string> {
  const target = await mkdtemp(join(tmpdir(), 'ringfs-chaos-logs-'))
  await cp(join(folder, 'logs'), join(target, 'logs'), { recursive: true }).catch(() => undefined)
  await cp(join(folder, 'oracle'), join(target, 'oracle'), { recursive: true }).catch(() => undefined)
  return target
}

try {
  const options = parse(process.argv.slice(2))
  if (options === 'help') process.stdout.write(HELP)
  else if (options.task === 'schedule') process.stdout.write(scheduleText(options, SCHEDULE_ROUNDS))
  else process.exitCode = await new Chaos(options).run()
} catch (error) {
  process.stderr.write(`chaos: ${messageOf(error)}\n`)
  process.exitCode = 2
}
