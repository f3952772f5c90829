/**
 * Ranges of numbers that carry a value; a later range hides what it overlaps. Pure.
 *
 * Invariant: the intervals are sorted, not empty and do not overlap. `at` is the place inside `value` of the interval's
 * first unit, so that cutting an interval keeps what it means.
 */
export interface Interval<T> {
  readonly start: number
  readonly end: number
  readonly value: T
  readonly at: number
}

export class IntervalMap<T> {
  #items: Interval<T>[] = []

  /** Number of intervals. */
  get size(): number {
    return this.#items.length
  }

  /** End of the last interval; 0 when empty. */
  get end(): number {
    return this.#items.at(-1)?.end ?? 0
  }

  /** Sum of the lengths. O(n). */
  get totalLength(): number {
    let sum = 0
    for (const item of this.#items) sum += item.end - item.start
    return sum
  }

  [Symbol.iterator](): IterableIterator<Interval<T>> {
    return this.#items[Symbol.iterator]()
  }

  set(start: number, end: number, value: T, at: number): void {
    if (end <= start) return
    const last = this.#items.at(-1)
    if (last === undefined || last.end <= start) this.#push(last, { start, end, value, at })
    else this.#replace(start, end, { start, end, value, at })
  }

  delete(start: number, end: number): void {
    if (end > start && start < this.end) this.#replace(start, end, undefined)
  }

  clear(): void {
    this.#items = []
  }

  /** The parts of intervals inside [start, end), in order. */
  overlapping(start: number, end: number): Interval<T>[] {
    const found: Interval<T>[] = []
    for (let i = this.#firstEndingAfter(start); i < this.#items.length; i++) {
      const item = this.#items[i]
      if (item === undefined || item.start >= end) break
      found.push(clip(item, start, end))
    }
    return found
  }

  /** The parts of [start, end) that no interval covers, in order. */
  gaps(start: number, end: number): { readonly start: number; readonly end: number }[] {
    const found: { start: number; end: number }[] = []
    let from = start
    for (const item of this.overlapping(start, end)) {
      if (item.start > from) found.push({ start: from, end: item.start })
      from = item.end
    }
    if (from < end) found.push({ start: from, end })
    return found
  }

  /** How much of [start, end) is covered. */
  covered(start: number, end: number): number {
    let sum = 0
    for (const item of this.overlapping(start, end)) sum += item.end - item.start
    return sum
  }

  /** Index of the first interval that ends after `point`. */
  #firstEndingAfter(point: number): number {
    let low = 0
    let high = this.#items.length
    while (low < high) {
      const middle = (low + high) >>> 1
      const item = this.#items[middle]
      if (item !== undefined && item.end > point) high = middle
      else low = middle + 1
    }
    return low
  }

  #push(last: Interval<T> | undefined, item: Interval<T>): void {
    if (last !== undefined && continues(last, item)) this.#items[this.#items.length - 1] = { ...last, end: item.end }
    else this.#items.push(item)
  }

  /** Cuts [start, end) out and puts `item`, if given, in its place, joined with what it continues. */
  #replace(start: number, end: number, item: Interval<T> | undefined): void {
    const from = this.#firstEndingAfter(start)
    let to = from
    while (to < this.#items.length && (this.#items[to]?.start ?? end) < end) to++
    const first = this.#items[from]
    const last = this.#items[to - 1]
    const parts: Interval<T>[] = []
    if (to > from && first !== undefined && first.start < start) parts.push(clip(first, first.start, start))
    if (item !== undefined) addJoined(parts, item)
    if (to > from && last !== undefined && last.end > end) addJoined(parts, clip(last, end, last.end))
    this.#items.splice(from, to - from, ...parts)
  }
}

function addJoined<T>(parts: Interval<T>[], item: Interval<T>): void {
  const last = parts.at(-1)
  if (last !== undefined && continues(last, item)) parts[parts.length - 1] = { ...last, end: item.end }
  else parts.push(item)
}

function continues<T>(left: Interval<T>, right: Interval<T>): boolean {
  return left.end === right.start && left.value === right.value && left.at + (left.end - left.start) === right.at
}

function clip<T>(item: Interval<T>, start: number, end: number): Interval<T> {
  if (item.start >= start && item.end <= end) return item
  const from = Math.max(item.start, start)
  return { start: from, end: Math.min(item.end, end), value: item.value, at: item.at + (from - item.start) }
}
