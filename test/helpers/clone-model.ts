/**
 * The protocol of src/meta/clone.ts and claims.ts as a model: steps of clients and janitors, each atomic as a script is, in
 * any order. `without` leaves a safeguard out, to see that its absence is noticed.
 *
 * Fault model: who is at work may stop for ever between any two steps (a crash), or for as long as it likes; two janitors
 * work at once.
 */
export type Safeguard = 'verify' | 'fence' | 'compare' | 'rising' | 'look' | 'condition'

interface Claim {
  readonly kind: 'discard' | 'intent'
  readonly ino: number
  readonly window: number
  readonly chunks: readonly number[]
  /** The attempt that it belongs to is over: the grace period has passed. */
  ripe: boolean
}

interface File {
  version: number
  isThere: boolean
  /** Chunks in commit order, by window. */
  readonly windows: Map<number, number[]>
  readonly generations: Map<number, number>
}

interface Place {
  readonly ino: number
  readonly file: File
  readonly window: number
}

interface Attempt {
  readonly source: Place
  readonly target: Place
  readonly version: number
  readonly sourceVersion: number
  readonly chunks: readonly number[]
}

interface Item {
  readonly claim: Claim
  readonly chunk: number
}

export type Steps = Generator<undefined, void, undefined>

export interface ModelOptions {
  readonly random: () => number
  /** false: claims may be settled while the attempt that made them goes on. */
  readonly grace: boolean
  readonly without?: Safeguard | undefined
  readonly files: number
  readonly windows: number
}

export class CloneModel {
  readonly #options: ModelOptions
  readonly #files = new Map<number, File>()
  /** Holder -> version; empty: the chunk is being deleted. */
  readonly #records = new Map<number, Map<string, number>>()
  readonly #claims: Claim[] = []
  readonly chunks = new Set<number>()
  #nextChunk = 1
  #nextIno = 1

  constructor(options: ModelOptions) {
    this.#options = options
    for (let i = 0; i < options.files; i++) this.#addFile()
  }

  #has(safeguard: Safeguard): boolean {
    return this.#options.without !== safeguard
  }

  #addFile(): void {
    this.#files.set(this.#nextIno++, { version: 0, isThere: true, windows: new Map(), generations: new Map() })
  }

  #pick<T>(list: readonly T[]): T {
    const one = list[Math.floor(this.#options.random() * list.length)]
    if (one === undefined) throw new Error('nothing to pick')
    return one
  }

  /** A file and one of its windows, at random. */
  #place(): Place {
    const there = [...this.#files].filter(([, file]) => file.isThere)
    const [ino, file] = this.#pick(there)
    return { ino, file, window: Math.floor(this.#options.random() * this.#options.windows) }
  }

  #claim(kind: Claim['kind'], ino: number, window: number, chunks: readonly number[]): Claim {
    const claim = { kind, ino, window, chunks: [...new Set(chunks)], ripe: kind === 'discard' || !this.#options.grace }
    if (chunks.length > 0) this.#claims.push(claim)
    return claim
  }

  *write(): Steps {
    const { file, window } = this.#place()
    yield
    if (!file.isThere) return
    const chunk = this.#nextChunk++
    this.chunks.add(chunk)
    this.#append(file, window, [chunk])
  }

  #append(file: File, window: number, chunks: readonly number[]): void {
    if (!file.windows.has(window)) file.generations.set(window, file.version + 1)
    file.windows.set(window, [...(file.windows.get(window) ?? []), ...chunks])
    file.version++
  }

  /** A truncation, or a hole. */
  *free(): Steps {
    const { ino, file, window } = this.#place()
    yield
    if (!file.isThere) return
    this.#claim('discard', ino, window, file.windows.get(window) ?? [])
    file.windows.delete(window)
    file.version++
  }

  *unlink(): Steps {
    const { ino, file } = this.#place()
    yield
    if (!file.isThere) return
    file.isThere = false
    this.#addFile()
    for (const [window, chunks] of file.windows) this.#claim('discard', ino, window, chunks)
    file.windows.clear()
  }

  *compact(): Steps {
    const { ino, file, window } = this.#place()
    const old = [...(file.windows.get(window) ?? [])]
    const generation = file.generations.get(window)
    yield
    const now = file.windows.get(window)
    if (!file.isThere || now === undefined || file.generations.get(window) !== generation) return
    const kept = old.filter(() => this.#options.random() < 0.5)
    file.version++
    file.generations.set(window, file.version)
    file.windows.set(window, [...kept, ...now.slice(old.length)])
    const dropped = old.filter((chunk) => !kept.includes(chunk))
    this.#claim('discard', ino, window, dropped)
  }

  *clone(): Steps {
    const target = this.#place()
    const { version } = target.file
    yield
    const source = this.#place()
    const attempt = {
      source,
      target,
      version,
      sourceVersion: source.file.version,
      chunks: (source.file.windows.get(source.window) ?? []).filter(() => this.#options.random() < 0.7),
    }
    if (source.ino === target.ino && version !== attempt.sourceVersion) return
    yield
    const isInside = source.ino === target.ino && source.window === target.window
    const claims: Claim[] = []
    try {
      if (isInside || (yield* this.#secure(attempt, claims))) {
        yield
        const isSame = target.file.isThere && target.file.version === version
        if (isSame || (target.file.isThere && !this.#has('condition'))) {
          this.#append(target.file, target.window, attempt.chunks)
          return
        }
      }
      yield
      claims.push(this.#claim('intent', target.ino, target.window, attempt.chunks))
      yield
      claims.push(this.#claim('intent', source.ino, source.window, attempt.chunks))
    } finally {
      // Also when the client dies here: the grace period passes.
      for (const claim of claims) claim.ripe = true
    }
  }

  *#secure(attempt: Attempt, claims: Claim[]): Generator<undefined, boolean, undefined> {
    const { source, target, version, sourceVersion, chunks } = attempt
    claims.push(this.#claim('intent', target.ino, target.window, chunks))
    if (target.file.version !== version || !target.file.isThere) return false
    yield
    let isHeld = true
    for (const chunk of chunks) {
      isHeld &&= this.#hold(chunk, holderOf(source), sourceVersion, holderOf(target), version)
      yield
    }
    const isSame = source.ino === target.ino || (source.file.isThere && source.file.version === sourceVersion)
    return !this.#has('verify') || (isHeld && isSame)
  }

  #hold(chunk: number, from: string, fromVersion: number, to: string, version: number): boolean {
    const record = this.#records.get(chunk)
    if (record?.size === 0) return false
    const next = record ?? new Map([[from, fromVersion]])
    const known = next.get(to) ?? -1
    next.set(to, this.#has('rising') ? Math.max(known, version) : version)
    this.#records.set(chunk, next)
    return true
  }

  /** One batch. */
  *collect(): Steps {
    const batch: Claim[] = []
    for (const claim of this.#claims) {
      if (!claim.ripe || batch.length >= 3) break
      batch.push(claim)
    }
    yield
    let open = batch.flatMap((claim) => claim.chunks.map((chunk): Item => ({ claim, chunk })))
    const unused = new Set<number>()
    for (let looks = 0; open.length > 0 && looks < 4; looks++) open = yield* this.#look(open, unused)
    for (const chunk of unused) this.chunks.delete(chunk)
    yield
    for (const chunk of unused) if (this.#records.get(chunk)?.size === 0) this.#records.delete(chunk)
    yield
    // Another janitor may have been quicker.
    if (open.length === 0 && batch.length > 0 && this.#claims[0] === batch[0]) this.#claims.splice(0, batch.length)
  }

  /** Answers what must be looked at again. */
  *#look(items: readonly Item[], unused: Set<number>): Generator<undefined, Item[], undefined> {
    const again: Item[] = []
    const seen = items.map((item) => ({ ...item, record: this.#copyOf(item.chunk) }))
    yield
    const looked = new Map<Claim, { version: number; named: readonly number[] }>()
    for (const { claim } of seen) {
      const file = this.#files.get(claim.ino)
      const named = file?.isThere === true ? [...(file.windows.get(claim.window) ?? [])] : []
      looked.set(claim, { version: file?.isThere === true ? file.version : -1, named })
      yield
    }
    for (const { claim, chunk, record } of seen) {
      const look = looked.get(claim)
      if (look === undefined || (this.#has('look') && look.named.includes(chunk))) continue
      const version = record?.get(holderOf(claim))
      if (this.#has('fence') && version !== undefined && version === look.version) {
        this.#fence(claim.ino, version)
        again.push({ claim, chunk })
      } else {
        const answer = this.#release(claim.kind, chunk, holderOf(claim), record, version)
        if (answer === 'unused') unused.add(chunk)
        else if (answer === 'again') again.push({ claim, chunk })
      }
      yield
    }
    return again
  }

  #copyOf(chunk: number): ReadonlyMap<string, number> | null {
    const record = this.#records.get(chunk)
    return record === undefined ? null : new Map(record)
  }

  #fence(ino: number, version: number): void {
    const file = this.#files.get(ino)
    if (file?.isThere === true && file.version === version) file.version++
  }

  #release(
    kind: Claim['kind'],
    chunk: number,
    holder: string,
    seen: ReadonlyMap<string, number> | null,
    version: number | undefined,
  ): 'unused' | 'kept' | 'again' {
    const record = this.#records.get(chunk)
    if (record === undefined) {
      if (seen !== null) return 'again'
      return kind === 'discard' ? 'unused' : 'kept'
    }
    if (record.size === 0) return 'unused'
    const now = record.get(holder)
    if (now === undefined) return 'kept'
    if (this.#has('compare') && (seen === null || now !== version)) return 'again'
    record.delete(holder)
    return record.size === 0 ? 'unused' : 'kept'
  }

  /** Chunks that files name. */
  named(): Set<number> {
    const named = new Set<number>()
    for (const { isThere, windows } of this.#files.values()) {
      if (isThere) for (const list of windows.values()) for (const chunk of list) named.add(chunk)
    }
    return named
  }

  get claims(): number {
    return this.#claims.length
  }

  get emptyRecords(): number {
    return [...this.#records.values()].filter(({ size }) => size === 0).length
  }
}

function holderOf({ ino, window }: { readonly ino: number; readonly window: number }): string {
  return `${ino}/${window}`
}
