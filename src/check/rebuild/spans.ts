/** A set of ranges of a file that grows: what of a new range was not covered before? */

export interface Span {
  readonly start: number
  /** Not included. */
  readonly end: number
}

export class Spans {
  /** Ascending, with space between any two. */
  #spans: Span[] = []

  get all(): readonly Span[] {
    return this.#spans
  }

  /** Adds the range; answers what of it is new, ascending. */
  add(start: number, end: number): Span[] {
    // From the first that touches the range to the last.
    const from = this.#firstEndingAt(start)
    let to = from
    const fresh: Span[] = []
    let at = start
    for (let one = this.#spans[to]; one !== undefined && one.start <= end; one = this.#spans[++to]) {
      if (one.start > at) fresh.push({ start: at, end: one.start })
      at = Math.max(at, one.end)
    }
    if (at < end) fresh.push({ start: at, end })
    const first = this.#spans[from]
    const last = this.#spans[to - 1]
    const merged =
      to > from && first !== undefined && last !== undefined
        ? { start: Math.min(start, first.start), end: Math.max(end, last.end) }
        : { start, end }
    this.#spans.splice(from, to - from, merged)
    return fresh
  }

  /** Ranges from 0 to the last end that were never added. */
  gaps(): Span[] {
    let at = 0
    return this.#spans.flatMap(({ start, end }) => {
      const gap = start > at ? [{ start: at, end: start }] : []
      at = end
      return gap
    })
  }

  /** Index of the first span that ends at `position` or behind it. */
  #firstEndingAt(position: number): number {
    let low = 0
    let high = this.#spans.length
    while (low < high) {
      const middle = (low + high) >>> 1
      if ((this.#spans[middle]?.end ?? 0) < position) low = middle + 1
      else high = middle
    }
    return low
  }
}

/** As Spans, in bands of so many bytes, each by itself: what it takes to add a range does not grow with the file. */
export class BandedSpans {
  readonly #bandBytes: number
  readonly #bands = new Map<number, Spans>()

  constructor(bandBytes: number) {
    this.#bandBytes = bandBytes
  }

  /** As that of Spans; what is new may be in two parts where a band ends. */
  add(start: number, end: number): Span[] {
    const fresh: Span[] = []
    for (let from = start; from < end;) {
      const band = Math.floor(from / this.#bandBytes)
      const to = Math.min(end, (band + 1) * this.#bandBytes)
      const spans = this.#bands.get(band) ?? new Spans()
      this.#bands.set(band, spans)
      fresh.push(...spans.add(from, to))
      from = to
    }
    return fresh
  }

  joined(): Spans {
    const joined = new Spans()
    for (const [, spans] of [...this.#bands].sort(([a], [b]) => a - b)) {
      for (const { start, end } of spans.all) joined.add(start, end)
    }
    return joined
  }
}
