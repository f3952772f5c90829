/** One bar on a terminal: what is measured now, and how fast it is so far. */
import { Presets, SingleBar } from 'cli-progress'
import { rateText } from './report.js'

const EVERY_MS = 100
const TITLE_WIDTH = 42

export interface BarOptions {
  readonly stream: NodeJS.WritableStream
  readonly isShown: boolean
}

export class BenchProgress {
  readonly #options: BarOptions

  constructor(options: BarOptions) {
    this.#options = options
  }

  /** While `work` runs. `done`: operations so far, of `total`, each worth `worth` of `unit`. */
  async during<T>(
    { title, unit, worth, total }: { title: string; unit: string; worth: number; total: number },
    done: () => number,
    work: Promise<T>,
  ): Promise<T> {
    if (!this.#options.isShown) return await work
    const format = '{title} {bar} {rate} {unit}'
    const bar = new SingleBar(
      { stream: this.#options.stream, format, clearOnComplete: true, hideCursor: true, barsize: 24 },
      Presets.shades_classic,
    )
    const startMs = performance.now()
    const rate = (): string => {
      const seconds = (performance.now() - startMs) / 1000
      return seconds < 0.05 ? '' : rateText((done() * worth) / seconds).padStart(9)
    }
    bar.start(total, 0, { title: title.padEnd(TITLE_WIDTH), unit, rate: '' })
    const timer = setInterval(() => bar.update(Math.min(done(), total), { rate: rate() }), EVERY_MS)
    try {
      return await work
    } finally {
      clearInterval(timer)
      bar.stop()
    }
  }
}
