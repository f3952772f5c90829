/** Packing changes nothing of what a rebuild makes of a file: against a model of the file, and what a rebuild makes without packing. */
import t from 'tap'
import fc from 'fast-check'
import { WINDOW_BYTES } from '../../../src/base/limits.js'
import { commitsOf } from '../../../src/check/rebuild/commits.js'
import { layoutOf, type FileLayout, type FoundChunk } from '../../../src/check/rebuild/layout.js'
import { piecesIn, type ChunkOrigin, type ChunkOriginExtent } from '../../../src/chunk/contract.js'
import type { Extent } from '../../../src/meta/contract.js'
import { propertyRun } from '../../helpers/property.js'

const SIZE = 120
/** All times are so far from each other that what is late has a time for itself. */
const STEP = 1000

/** A byte that was written, by the order of its write. */
interface Written {
  readonly order: number
  readonly at: number
}

interface Seen {
  readonly id: number
  readonly chunkOffset: number
}

type Action =
  | {
      readonly kind: 'write'
      readonly at: number
      readonly length: number
      readonly more: number
      readonly late: number
    }
  | { readonly kind: 'append'; readonly length: number; readonly stale: boolean }
  | { readonly kind: 'truncate'; readonly to: number }
  | { readonly kind: 'pack'; readonly at: number; readonly length: number; readonly late: number }

/** A file as its metadata have it, and all chunks that were ever made for it. */
class ModelFile {
  readonly chunks = new Map<number, FoundChunk>()
  readonly packed = new Set<number>()
  /** Where appended data went to. */
  readonly appendedAt = new Map<number, number>()
  readonly #content = new Map<number, Written[]>()
  #bytes: (Seen | null)[] = []
  #step = 0
  #endBefore = 0

  apply(action: Action): void {
    this.#step++
    if (action.kind === 'write') this.#write(action)
    else if (action.kind === 'append') this.#append(action)
    else if (action.kind === 'truncate') this.#bytes.length = Math.min(this.#bytes.length, action.to)
    else this.#pack(action)
  }

  #order(late = 0): number {
    return STEP * STEP + (this.#step - late) * STEP + this.#step
  }

  #write({ at, length, more, late }: Extract<Action, { kind: 'write' }>): void {
    const extents = [{ fileOffset: at, chunkOffset: 0, lengthBytes: length }]
    if (more > 0) extents.push({ fileOffset: at + length + 3, chunkOffset: length, lengthBytes: more })
    this.#add({ ino: 9, order: this.#order(late), extents }, extents)
  }

  #append({ length, stale }: Extract<Action, { kind: 'append' }>): void {
    const end = this.#bytes.length
    const guess = stale ? Math.min(this.#endBefore, end) : end
    this.#endBefore = end
    const extents = [{ fileOffset: guess, chunkOffset: 0, lengthBytes: length }]
    const id = this.#add({ ino: 9, order: this.#order(), extents, appended: true }, [
      { fileOffset: end, chunkOffset: 0, lengthBytes: length },
    ])
    this.appendedAt.set(id, end)
  }

  /** As a reader does it: runs of what is seen, each with the orders of its header. */
  #pack({ at, length, late }: Extract<Action, { kind: 'pack' }>): void {
    const extents: ChunkOriginExtent[] = []
    const orders: number[] = []
    const appends: number[] = []
    let chunkOffset = 0
    for (const run of this.#runs(at, at + length)) {
      const pieces = piecesIn(this.#chunk(run.id).header.origin, run.chunkOffset, run.lengthBytes)
      for (const { order, appended, ...piece } of pieces) {
        const fileOffset = run.fileOffset + piece.chunkOffset - run.chunkOffset
        if (appended) appends.push(extents.length)
        extents.push({ fileOffset, chunkOffset, lengthBytes: piece.lengthBytes })
        orders.push(order)
        chunkOffset += piece.lengthBytes
      }
    }
    if (extents.length === 0) return
    const marks = appends.length > 0 ? { appends } : {}
    this.packed.add(this.#add({ ino: 9, order: this.#order(late), extents, orders, ...marks }, extents))
  }

  *#runs(from: number, to: number): Iterable<Seen & { fileOffset: number; lengthBytes: number }> {
    for (let at = from; at < to; at++) {
      const first = this.#bytes[at]
      if (first === null || first === undefined) continue
      const start = at
      for (let next = this.#bytes[at + 1]; at + 1 < to; next = this.#bytes[at + 1]) {
        if (next?.id !== first.id || next.chunkOffset !== first.chunkOffset + at + 1 - start) break
        at++
      }
      yield { ...first, fileOffset: start, lengthBytes: at + 1 - start }
    }
  }

  #add(origin: ChunkOrigin, places: readonly ChunkOriginExtent[]): number {
    const id = this.#step
    const lengthBytes = origin.extents.reduce((sum, extent) => sum + extent.lengthBytes, 0)
    this.chunks.set(id, { id, header: { lengthBytes, root: Buffer.alloc(32, id), origin }, named: null })
    const content: Written[] = []
    for (const { fileOffset, chunkOffset, lengthBytes: length } of places) {
      for (let at = 0; at < length; at++) {
        while (this.#bytes.length <= fileOffset + at) this.#bytes.push(null)
        const before = this.#bytes[fileOffset + at] ?? null
        const packed = origin.orders !== undefined && before !== null ? this.#written(before) : null
        content[chunkOffset + at] = packed ?? { order: origin.order, at: chunkOffset + at }
        this.#bytes[fileOffset + at] = { id, chunkOffset: chunkOffset + at }
      }
    }
    this.#content.set(id, content)
    return id
  }

  #chunk(id: number): FoundChunk {
    const chunk = this.chunks.get(id)
    if (chunk === undefined) throw new Error(`no chunk ${id}`)
    return chunk
  }

  #written({ id, chunkOffset }: Seen): Written {
    const written = this.#content.get(id)?.[chunkOffset]
    if (written === undefined) throw new Error(`chunk ${id} has no byte ${chunkOffset}`)
    return written
  }

  get truth(): (Written | null)[] {
    return this.#bytes.map((seen) => (seen === null ? null : this.#written(seen)))
  }

  get named(): Set<number> {
    return new Set(this.#bytes.flatMap((seen) => seen?.id ?? []))
  }

  /** Where the file shows it. */
  shown(id: number): ChunkOriginExtent[] {
    return [...this.#runs(0, this.#bytes.length)].filter((run) => run.id === id)
  }

  /** What a reader sees. */
  painted(extents: readonly Extent[]): (Written | null)[] {
    const bytes: (Written | null)[] = []
    for (const { fileOffset, lengthBytes, chunkOffset, chunk } of extents) {
      if (chunk === null) throw new Error('a hole')
      for (let at = 0; at < lengthBytes; at++) {
        while (bytes.length <= fileOffset + at) bytes.push(null)
        bytes[fileOffset + at] = this.#written({ id: chunk.id, chunkOffset: chunkOffset + at })
      }
    }
    return bytes
  }

  /** All that is made of these chunks, written one over the other; it is also what is said to be seen. */
  restored(ids: Iterable<number>): (Written | null)[] {
    const layout = layoutOf([...ids].map((id) => this.#chunk(id)))
    if (layout.senseless.length > 0) throw new Error(`senseless: ${layout.senseless.join()}`)
    const bytes = this.painted(all(layout))
    if (text(bytes) !== text(this.painted(seen(layout)))) throw new Error('what is seen is not what is made')
    return bytes
  }
}

/** What a file shows by these commits. */
class ModelReader {
  readonly ids: ReadonlySet<number>
  readonly #bytes: (Seen | null)[] = []

  constructor(extents: readonly Extent[]) {
    this.ids = new Set(extents.map(({ chunk }) => chunk?.id ?? 0))
    for (const { fileOffset, chunkOffset, lengthBytes, chunk } of extents) {
      for (let at = 0; at < lengthBytes; at++) {
        while (this.#bytes.length <= fileOffset + at) this.#bytes.push(null)
        this.#bytes[fileOffset + at] = { id: chunk?.id ?? 0, chunkOffset: chunkOffset + at }
      }
    }
  }

  shown(id: number): ChunkOriginExtent[] {
    return this.#bytes.flatMap((seen, at) =>
      seen?.id === id ? [{ fileOffset: at, chunkOffset: seen.chunkOffset, lengthBytes: 1 }] : [],
    )
  }
}

const all = ({ windows }: FileLayout): Extent[] => windows.flatMap(({ hidden, seen }) => [...hidden, ...seen])
const seen = ({ windows }: FileLayout): Extent[] => windows.flatMap((window) => window.seen)
const text = (bytes: readonly (Written | null)[]): string =>
  bytes.map((one) => (one === null ? '.' : `${one.order}:${one.at}`)).join()

const nothing = fc.constant(0)
/** Who takes the end to be elsewhere needs what lies before it, which may be gone. */
const right = fc.constant(false)
const someLate = fc.oneof(nothing, fc.integer({ min: 1, max: 8 }))
const place = { at: fc.nat(SIZE), length: fc.integer({ min: 1, max: 25 }) }

function actions(late: fc.Arbitrary<number>, stale: fc.Arbitrary<boolean>): fc.Arbitrary<Action[]> {
  const write = fc.record({ kind: fc.constant('write' as const), ...place, more: fc.nat(8), late })
  const append = fc.record({
    ...{ kind: fc.constant('append' as const), length: fc.integer({ min: 1, max: 15 }) },
    stale,
  })
  const truncate = fc.record({ kind: fc.constant('truncate' as const), to: fc.nat(SIZE) })
  const pack = fc.record({
    ...{ kind: fc.constant('pack' as const), at: fc.nat(SIZE), late },
    length: fc.integer({ min: 10, max: 2 * SIZE }),
  })
  const weighed = [
    { weight: 5, arbitrary: write },
    { weight: 2, arbitrary: append },
    { weight: 1, arbitrary: truncate },
    { weight: 3, arbitrary: pack },
  ]
  return fc.array(fc.oneof(...weighed), { minLength: 1, maxLength: 25 })
}

function played(list: readonly Action[]): ModelFile {
  const file = new ModelFile()
  for (const action of list) file.apply(action)
  return file
}

const originals = (file: ModelFile): number[] => [...file.chunks.keys()].filter((id) => !file.packed.has(id))

/** Without packing a rebuild finds out where appended data went to: else there is nothing to compare with. */
function isAppendedRight(file: ModelFile): boolean {
  const layout = layoutOf(originals(file).map((id) => file.chunks.get(id)!))
  return all(layout).every(({ fileOffset, chunk }) => {
    const at = file.appendedAt.get(chunk?.id ?? 0)
    return at === undefined || at === fileOffset
  })
}

t.test('with the packed chunks the file is what it is of the others alone, all still there', async (t) => {
  fc.assert(
    fc.property(actions(someLate, fc.boolean()), (list) => {
      const file = played(list)
      fc.pre(isAppendedRight(file))
      return text(file.restored(file.chunks.keys())) === text(file.restored(originals(file)))
    }),
    propertyRun(t, 1000),
  )
  t.pass('every run')
})

t.test('what a file shows is what is made of the chunks that it names, whatever is left of others', async (t) => {
  fc.assert(
    fc.property(actions(nothing, right), fc.infiniteStream(fc.boolean()), (list, isLeft) => {
      const file = played(list)
      fc.pre(isAppendedRight(file))
      const { named, truth } = file
      const left = [...file.chunks.keys()].filter((id) => isLeft.next().value === true || named.has(id))
      const made = file.restored(left)
      return truth.every((one, at) => one === null || text([one]) === text([made[at] ?? null]))
    }),
    propertyRun(t, 1000),
  )
  t.pass('every run')
})

t.test('nothing that is older than what a file shows is made of it, whatever was committed late', async (t) => {
  fc.assert(
    fc.property(actions(someLate, right), fc.infiniteStream(fc.boolean()), (list, isLeft) => {
      const file = played(list)
      fc.pre(isAppendedRight(file))
      const { named, truth } = file
      const left = [...file.chunks.keys()].filter((id) => isLeft.next().value === true || named.has(id))
      const made = file.restored(left)
      return truth.every((one, at) => one === null || one.order <= (made[at]?.order ?? 0))
    }),
    propertyRun(t, 1000),
  )
  t.pass('every run')
})

t.test('of a file that is there nothing is missing, whatever chunks of the same bytes are left', async (t) => {
  fc.assert(
    fc.property(actions(nothing, right), fc.infiniteStream(fc.boolean()), (list, isLeft) => {
      const file = played(list)
      fc.pre(isAppendedRight(file))
      const { named, truth } = file
      const left = [...file.chunks.values()].flatMap((chunk) => {
        if (named.has(chunk.id)) return [{ ...chunk, named: file.shown(chunk.id) }]
        return isLeft.next().value === true ? [chunk] : []
      })
      const pieces = file.painted(seen(layoutOf(left)))
      // What was cut off may be there again.
      return pieces.every((one, at) => one === null || (truth[at] ?? null) === null)
    }),
    propertyRun(t, 1000),
  )
  t.pass('every run')
})

t.test('interrupted behind any commit the next run makes the rest of the file', async (t) => {
  fc.assert(
    fc.property(actions(someLate, right), fc.nat(), (list, salt) => {
      const file = played(list)
      fc.pre(isAppendedRight(file))
      const chunks = [...file.chunks.values()]
      const commits = commitsOf(layoutOf(chunks), true)
      const whole = text(file.painted(commits.flatMap(({ extents }) => extents)))
      const before = commits.slice(0, salt % (commits.length + 1)).flatMap(({ extents }) => extents)
      const half = new ModelReader(before)
      const rest = layoutOf(
        chunks.map((chunk) => (half.ids.has(chunk.id) ? { ...chunk, named: half.shown(chunk.id) } : chunk)),
      )
      const after = commitsOf(rest, false).flatMap(({ extents }) => extents)
      return (
        text(file.painted([...before, ...after])) === whole &&
        commits.reduce((sum, { allocatedDeltaBytes }) => sum + allocatedDeltaBytes, 0) === layoutOf(chunks).seenBytes
      )
    }),
    propertyRun(t, 1000),
  )
  t.pass('every run')
})

t.test('a chunk is named in one commit, however often it is seen; many short ones share one', async (t) => {
  const pieces = Array.from({ length: 2000 }, (_, index) => ({
    ...{ fileOffset: 20 * (1999 - index), chunkOffset: 10 * index, lengthBytes: 10 },
  }))
  const packed = (id: number, shift: number, count: number): FoundChunk => {
    const extents = pieces.slice(0, count).map((piece) => ({ ...piece, fileOffset: piece.fileOffset + shift }))
    return header(id, { ino: 9, order: 9_999_999, extents, orders: extents.map((_, index) => 10 * index + id) })
  }
  const short = (id: number): FoundChunk =>
    header(id, { ino: 9, order: 10_000_000 + id, extents: [{ fileOffset: 60_000, chunkOffset: 0, lengthBytes: 10 }] })
  const shorts = Array.from({ length: 1000 }, (_, index) => short(100 + index))
  const commits = commitsOf(layoutOf([packed(1, 0, 2000), packed(2, 10, 600), ...shorts]), true)
  t.strictSame(
    commits.map(({ extents }) => extents.length),
    [512, 487, 2000, 600, 1],
  )
  for (const id of [1, 2]) {
    t.equal(commits.filter(({ extents }) => extents.some(({ chunk }) => chunk?.id === id)).length, 1)
  }
})

const header = (id: number, origin: ChunkOrigin): FoundChunk => {
  const lengthBytes = origin.extents.reduce((sum, extent) => sum + extent.lengthBytes, 0)
  return { id, header: { lengthBytes, root: Buffer.alloc(32, id), origin }, named: null }
}

/** Two clients append 50 bytes each at the same moment: both take the end to be at 100. */
const appended = (id: number, order: number): FoundChunk =>
  header(id, {
    ...{ ino: 9, order, appended: true },
    extents: [{ fileOffset: 100, chunkOffset: 0, lengthBytes: 50 }],
  })
const PACKED = header(3, {
  ...{ ino: 9, order: 99, orders: [2, 1], appends: [0, 1] },
  extents: [
    { fileOffset: 100, chunkOffset: 0, lengthBytes: 50 },
    { fileOffset: 150, chunkOffset: 50, lengthBytes: 50 },
  ],
})

const placesOf = (layout: FileLayout) =>
  all(layout).map(({ fileOffset, lengthBytes, chunk }) => [chunk?.id, fileOffset, lengthBytes])

t.test('appended data that were packed lie where they were seen, and others behind them', async (t) => {
  // That of the later order was committed first.
  const [early, late] = [appended(1, 1), appended(2, 2)]
  for (const left of [[early], [late], [early, late]]) {
    const layout = layoutOf([PACKED, ...left])
    const places = placesOf(layout).filter(([id]) => id !== PACKED.id)
    const expected = left.map(({ id }) => [id, id === 1 ? 150 : 100, 50])
    t.strictSame(places, expected)
    t.equal(layout.sizeBytes, 200)
    t.equal(layout.moved, 0, 'it is known, and no guess')
  }
  const behind = layoutOf([PACKED, appended(4, 7)])
  t.strictSame(placesOf(behind).at(-1), [4, 200, 50])
  t.equal(behind.moved, 1)
})

t.test(
  'appended data stay where they are when a piece of them was packed, whichever chunk has the lower id',
  async (t) => {
    for (const id of [5, 15]) {
      const plain = header(9, {
        ...{ ino: 9, order: 1, appended: true },
        extents: [{ fileOffset: 0, chunkOffset: 0, lengthBytes: 300 }],
      })
      const packed = header(id, {
        ...{ ino: 9, order: 99, orders: [1], appends: [0] },
        extents: [{ fileOffset: 210, chunkOffset: 0, lengthBytes: 20 }],
      })
      const layout = layoutOf([packed, plain])
      t.strictSame(
        placesOf(layout)
          .filter(([one]) => one === 9)
          .at(0),
        [9, 0, 210],
      )
      t.equal(layout.sizeBytes, 300)
      t.strictSame(layout.gaps, [])
    }
  },
)

t.test('of appended data of which something is seen, the rest is within reach of it, in the same window', async (t) => {
  const packed = (fileOffset: number, orders: readonly number[] = [1]): FoundChunk =>
    header(3, {
      ...{ ino: 9, order: 99, orders, appends: [...orders.keys()] },
      extents: orders.map((_, index) => ({
        ...{ fileOffset: fileOffset + 1000 * index, chunkOffset: 10 * index, lengthBytes: 10 },
      })),
    })
  const at = (chunk: FoundChunk): number => {
    const one = all(layoutOf([chunk, appended(1, 1)])).find((extent) => extent.chunk?.id === 1)
    return one === undefined ? NaN : one.fileOffset - one.chunkOffset
  }
  t.equal(at(packed(120)), 100, 'as its writer took it to be')
  t.equal(at(packed(300)), 260)
  t.equal(at(packed(40)), 40)
  t.equal(at(packed(WINDOW_BYTES)), WINDOW_BYTES)
  t.equal(at(packed(WINDOW_BYTES - 10)), WINDOW_BYTES - 50)
  t.equal(at(packed(300, [1, 1])), 100, 'too far from each other to be of the same')
})

t.test(
  'what was written after the pieces of a packed chunk lies over them, and what was before below, named or not',
  async (t) => {
    const write = (id: number, order: number): FoundChunk =>
      header(id, { ino: 9, order, extents: [{ fileOffset: 140, chunkOffset: 0, lengthBytes: 20 }] })
    const named = { ...PACKED, named: [{ fileOffset: 100, chunkOffset: 0, lengthBytes: 100 }] }
    const both = [write(1, 1.5), write(2, 3)]
    const places = (layout: FileLayout) =>
      seen(layout).map(({ fileOffset, lengthBytes, chunk }) => [chunk?.id, fileOffset, lengthBytes])
    t.strictSame(places(layoutOf([named, write(1, 1.5)])), [[1, 150, 10]])
    t.strictSame(places(layoutOf([named, ...both])), [[2, 140, 20]])
    t.strictSame(places(layoutOf([PACKED, ...both])), [
      [3, 100, 40],
      [2, 140, 20],
      [3, 160, 40],
    ])
  },
)

t.test('a file was written last when the last piece of it was, not when that was packed', async (t) => {
  t.equal(layoutOf([PACKED]).newestUs, 2)
})

t.test('a chunk that is named and shown nowhere is no nonsense; a packed one of two windows is', async (t) => {
  t.strictSame(
    layoutOf([
      { ...PACKED, named: [] },
      { ...appended(1, 1), named: [] },
    ]).senseless,
    [],
  )
  const across = header(5, {
    ...{ ino: 9, order: 99, orders: [1, 2] },
    extents: [
      { fileOffset: 0, chunkOffset: 0, lengthBytes: 50 },
      { fileOffset: WINDOW_BYTES, chunkOffset: 50, lengthBytes: 50 },
    ],
  })
  const layout = layoutOf([across, PACKED])
  t.strictSame(layout.senseless, [5])
  t.equal(layout.windows.length, 1)
})
