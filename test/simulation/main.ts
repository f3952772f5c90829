/** `npm run simulate`: scripts/simulate.mjs sets up and starts this. */
import { availableParallelism } from 'node:os'
import { parseArgs } from 'node:util'
import { playAll } from './players.js'
import type { Outcome } from './schedule.js'

const HELP = `Usage: npm run simulate -- [options]

The membership, the replication queues and the healing of ringfs, as they are, with simulated time, network, Redis and disks: nodes are
killed, paused, cut off, lost, joined and drained, messages lost, late and doubled, disks full, slow and broken, while clients write and
read; what must hold is checked at every step. One seed is one schedule, always the same.

Options:
  --schedules N   how many (default: 1000)
  --seed S        of the first; the others follow (default: taken from the clock)
  --nodes N       in each of them at the start (default: 3 to 19, mostly below 8, by the seed)
  --jobs N        at once, each a thread (default: one a processor)
  --json          one line of JSON a schedule, and one at the end
  --help

Ends with 0 if nothing was wrong, 1 if something was, 2 for options that make no sense.
`

class UsageError extends Error {}

function whole(name: string, text: string, least: number): number {
  const value = Number(text)
  if (!Number.isSafeInteger(value) || value < least)
    throw new UsageError(`--${name} ${text}: a whole number from ${least}`)
  return value
}

interface Options {
  readonly schedules: number
  readonly seed: number
  readonly nodes: number | undefined
  readonly jobs: number
  readonly json: boolean
}

function parse(args: string[]): Options | 'help' {
  const { values } = parseArgs({
    args,
    options: {
      schedules: { type: 'string', default: '1000' },
      seed: { type: 'string', default: String(Date.now() % 2 ** 31) },
      nodes: { type: 'string' },
      jobs: { type: 'string', default: String(availableParallelism()) },
      json: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  })
  if (values.help) return 'help'
  return {
    schedules: whole('schedules', values.schedules, 1),
    seed: whole('seed', values.seed, 0),
    nodes: values.nodes === undefined ? undefined : whole('nodes', values.nodes, 3),
    jobs: whole('jobs', values.jobs, 1),
    json: values.json,
  }
}

const REPORT_EVERY_MS = 5_000

class Summary {
  readonly #startMs = performance.now()
  readonly #startCpu = process.cpuUsage()
  readonly #faults = new Map<string, number>()
  readonly failed: number[] = []
  #sums = { schedules: 0, events: 0, simulatedS: 0, moved: 0, needless: 0, queued: 0, reads: 0, failedReads: 0 }

  add(outcome: Outcome): void {
    const { events, simulatedS, moved, needless, queued, reads, failedReads } = outcome
    const one = { schedules: 1, events, simulatedS, moved, needless, queued, reads, failedReads }
    for (const key of keysOf(one)) this.#sums[key] += one[key]
    for (const [name, count] of outcome.faults) this.#faults.set(name, (this.#faults.get(name) ?? 0) + count)
    if (outcome.failures.length > 0) this.failed.push(outcome.seed)
  }

  figures(): Record<string, unknown> {
    const minutes = (performance.now() - this.#startMs) / 60_000
    const { user, system } = process.cpuUsage(this.#startCpu)
    const { schedules } = this.#sums
    return {
      ...this.#sums,
      simulatedS: Math.round(this.#sums.simulatedS),
      perMinute: Math.round(schedules / minutes),
      perCpuMinute: Math.round(schedules / ((user + system) / 60e6)),
      faults: Object.fromEntries(this.#faults),
      failed: this.failed,
    }
  }

  line(): string {
    const { schedules, perMinute, perCpuMinute, moved, needless, events } = this.figures()
    const counts = `${String(schedules)} schedules, ${String(events)} events, ${String(moved)} copies moved (${String(needless)} needless)`
    return `${counts}, ${this.failed.length} failed; ${String(perMinute)} a minute (${String(perCpuMinute)} of CPU)`
  }
}

function keysOf<T extends object>(value: T): (keyof T)[] {
  return Object.keys(value).filter((key): key is Extract<keyof T, string> => Object.hasOwn(value, key))
}

function say(line: string): void {
  process.stdout.write(`${line}\n`)
}

function tellFailure({ seed, kind, nodes, failures }: Outcome, options: Options): void {
  say(`seed ${seed} (${kind}, ${nodes} nodes) FAILED:`)
  for (const failure of failures) say(`  ${failure}`)
  const again = options.nodes === undefined ? '' : ` --nodes ${options.nodes}`
  say(`  again with: npm run simulate -- --schedules 1 --seed ${seed}${again}`)
}

async function run(options: Options): Promise<number> {
  const { schedules, seed, json } = options
  if (!json) say(`simulate: seeds ${seed} to ${seed + schedules - 1}`)
  const summary = new Summary()
  let toldMs = performance.now()
  await playAll(options, (outcome) => {
    summary.add(outcome)
    if (json) say(JSON.stringify({ ...outcome, faults: Object.fromEntries(outcome.faults) }))
    else if (outcome.failures.length > 0) tellFailure(outcome, options)
    if (!json && performance.now() - toldMs > REPORT_EVERY_MS) {
      toldMs = performance.now()
      say(summary.line())
    }
  })
  if (json) say(JSON.stringify(summary.figures()))
  else say(`simulate: ${summary.failed.length === 0 ? 'ok' : 'FAILED'}: ${summary.line()}`)
  return summary.failed.length === 0 ? 0 : 1
}

// Most of them are thrown on purpose, and nobody looks at where.
Error.stackTraceLimit = process.env['RINGFS_STACKS'] === undefined ? 0 : 10
await main()

async function main(): Promise<void> {
  try {
    const options = parse(process.argv.slice(2))
    if (options === 'help') process.stdout.write(HELP)
    else process.exitCode = await run(options)
  } catch (error) {
    process.stderr.write(`simulate: ${error instanceof Error ? error.message : String(error)}\n`)
    process.exitCode = 2
  }
}
