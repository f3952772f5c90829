/** Progress of put and get: bars on a terminal, nothing else; the figures of the end for everybody. */
import { MultiBar, Presets, type SingleBar } from 'cli-progress'
import type { CliContext } from '../context.js'
import { counted } from '../units.js'
import { bytesText, safe } from './show.js'

export interface Totals {
  files: number
  /** Bytes sent this time. */
  bytes: number
  /** Files that were there already, the same size and time. */
  unchanged: number
  /** Bytes that an earlier, interrupted run had sent. */
  resumedBytes: number
  /** Files in the place of others that this run had copied before: they were in several folders of one name. */
  replaced: number
  skipped: string[]
}

const NAME_WIDTH = 32

export class Progress {
  readonly totals: Totals = { files: 0, bytes: 0, unchanged: 0, resumedBytes: 0, replaced: 0, skipped: [] }
  readonly #bars: MultiBar | null
  readonly #startMs = performance.now()

  constructor(context: CliContext, quiet: boolean) {
    this.#bars = !context.isTerminal || quiet ? null : new MultiBar(options(context.stderr), Presets.shades_classic)
  }

  /** One file's bar. Call `done` when it ends, however it ends. */
  file(name: string, totalBytes: number): FileProgress {
    const bar = this.#bars?.create(totalBytes, 0, { name: shorten(safe(name)) }) ?? null
    return new FileProgress(this.totals, bar, () => {
      if (bar !== null) this.#bars?.remove(bar)
    })
  }

  /** One more file is there. `replaces`: in the place of one that this run had copied before. */
  copied(replaces: boolean): void {
    this.totals.files++
    if (replaces) this.totals.replaced++
  }

  stop(): void {
    this.#bars?.stop()
  }

  summary(verb: string): string {
    const { files, bytes, unchanged, resumedBytes, skipped } = this.totals
    const seconds = (performance.now() - this.#startMs) / 1000
    const parts = [`${verb} ${counted(files, 'file')}, ${bytesText(bytes)} in ${seconds.toFixed(1)} s`]
    if (resumedBytes > 0) parts.push(`${bytesText(resumedBytes)} were there from an interrupted run`)
    if (unchanged > 0) parts.push(`${counted(unchanged, 'file')} ${unchanged === 1 ? 'was' : 'were'} there already`)
    if (skipped.length > 0) parts.push(`${skipped.length} left out`)
    return parts.join(', ')
  }
}

export class FileProgress {
  readonly #totals: Totals
  readonly #bar: SingleBar | null
  readonly #end: () => void

  constructor(totals: Totals, bar: SingleBar | null, end: () => void) {
    this.#totals = totals
    this.#bar = bar
    this.#end = end
  }

  resumed(bytes: number): void {
    this.#totals.resumedBytes += bytes
    this.#bar?.increment(bytes)
  }

  add(bytes: number): void {
    this.#totals.bytes += bytes
    this.#bar?.increment(bytes)
  }

  done(): void {
    this.#end()
  }
}

function options(stream: NodeJS.WritableStream): ConstructorParameters<typeof MultiBar>[0] {
  return {
    stream,
    format: '{name} {bar} {percentage}% {value}/{total} {eta_formatted}',
    formatValue: (value, _options, type) => (type === 'value' || type === 'total' ? bytesText(value) : String(value)),
    clearOnComplete: true,
    hideCursor: true,
    stopOnComplete: false,
  }
}

function shorten(name: string): string {
  if (name.length <= NAME_WIDTH) return name.padEnd(NAME_WIDTH)
  return `…${name.slice(name.length - NAME_WIDTH + 1)}`
}
