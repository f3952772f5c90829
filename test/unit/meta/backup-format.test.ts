/** The reader of backups: what it gives does not depend on how the bytes come, and its work is linear in them, whatever they say. */
import t from 'tap'
import { RecordReader, RecordWriter, WIDE, portionsOf, type BackupRecord } from '../../../src/meta/backup/format.js'

t.setTimeout(300_000)

const KIB = 1024

/** Bytes that Buffers copied, and looked at as numbers, while `work` ran. */
function countWork(work: () => void): number {
  let bytes = 0
  const undo = [
    watch(Buffer, 'concat', (result) => (bytes += Buffer.isBuffer(result) ? result.length : 0)),
    watch(prototypeOf(Buffer), 'copy', (result) => (bytes += Number(result))),
    watch(prototypeOf(Buffer), 'readUInt32LE', () => (bytes += 4)),
  ]
  try {
    work()
  } finally {
    for (const one of undo) one()
  }
  return bytes
}

function prototypeOf(of: { readonly prototype: unknown }): object {
  const { prototype } = of
  if (typeof prototype !== 'object' || prototype === null) throw new Error('no prototype')
  return prototype
}

/** Answers how to end it. */
function watch(of: object, name: string, note: (result: unknown) => void): () => void {
  const before = Object.getOwnPropertyDescriptor(of, name)
  const real: unknown = before?.value
  if (before === undefined || typeof real !== 'function') throw new Error(`no ${name}`)
  const value = function (this: unknown, ...args: unknown[]): unknown {
    const result: unknown = Reflect.apply(real, this, args)
    note(result)
    return result
  }
  Object.defineProperty(of, name, { ...before, value })
  return () => void Object.defineProperty(of, name, before)
}

/** A record of `count` items, of which nothing has come. */
function headOf(count: number): Buffer {
  const head = Buffer.alloc(7 + 2 + 4)
  head.writeUInt8(2, 0)
  head.writeUInt16LE(2, 5)
  head.write(':i', 7, 'latin1')
  head.writeUInt32LE(count, 9)
  return head
}

function pieces(bytes: Buffer, length: number): Buffer[] {
  return Array.from({ length: Math.ceil(bytes.length / length) }, (_, i) =>
    bytes.subarray(i * length, (i + 1) * length),
  )
}

t.test(
  'an item that says that it is long, and never ends, is copied a few times and not with each piece',
  async (t) => {
    const length = Buffer.alloc(4)
    length.writeUInt32LE(60 * KIB * KIB)
    const bytes = Buffer.concat([headOf(1), length, Buffer.alloc(2 * KIB * KIB)])
    const work = countWork(() => {
      const reader = new RecordReader()
      for (const piece of pieces(bytes, 4 * KIB)) t.same(reader.push(piece), [])
      t.throws(() => reader.finish(), { code: 'VOLUME_CORRUPT' })
    })
    t.ok(work < 5 * bytes.length, `${work} bytes of work for ${bytes.length}`)
  },
)

t.test('items without end are looked at once, and not with each piece', async (t) => {
  const bytes = Buffer.concat([headOf(10_000_000), Buffer.alloc(256 * KIB)])
  const work = countWork(() => {
    const reader = new RecordReader()
    for (const piece of pieces(bytes, KIB)) t.same(reader.push(piece), [])
  })
  t.ok(work < 6 * bytes.length, `${work} bytes of work for ${bytes.length}`)
})

t.test('what cannot be the beginning of a record is refused at once', async (t) => {
  t.throws(() => new RecordReader().push(headOf(0xffff_ffff)), { code: 'VOLUME_CORRUPT', message: /too long/ })
  const odd = headOf(1)
  odd.writeUInt8(77, 0)
  t.throws(() => new RecordReader().push(odd), { code: 'VOLUME_CORRUPT', message: /unknown kind 77/ })
})

t.test('records are the same in whatever pieces they come, and stay when more comes', async (t) => {
  const writer = new RecordWriter()
  const written: BackupRecord[] = Array.from({ length: 60 }, (_, i) => ({
    ...({ kind: 'hash', partition: i % 7 === 0 ? WIDE : i, key: `:d:${i}` } as const),
    items: Array.from({ length: i % 5 }, (_, k) => Buffer.alloc((i * 37 + k * 1_001) % 3_000, i + k)),
  }))
  const bytes = Buffer.concat([...written.map((record) => writer.encode(record)), writer.end()])
  for (const length of [1, 2, 3, 7, 64, 1_000, 5_000, bytes.length]) {
    const reader = new RecordReader()
    // Copies: who sends a piece may use its memory again only when it is no longer asked for.
    const found = pieces(bytes, length).flatMap((piece) => reader.push(Buffer.from(piece)))
    reader.finish()
    t.same(found.slice(0, -1), written, `pieces of ${length}`)
    t.equal(found.at(-1)?.kind, 'end')
  }
})

t.test('a record of a page of long claims, as versions before wrote them, can be read', async (t) => {
  const writer = new RecordWriter()
  const claim = Buffer.alloc(16_384 * 53, 1)
  const bytes = writer.encode({ kind: 'list', partition: 3, key: ':g', items: Array.from({ length: 90 }, () => claim) })
  const reader = new RecordReader()
  const [record] = pieces(bytes, 256 * KIB).flatMap((piece) => reader.push(piece))
  t.equal(record?.items.length, 90)
  t.ok(record?.items.every((item) => item.equals(claim)))
  for (const piece of pieces(writer.end(), 7)) reader.push(piece)
  reader.finish()
})

t.test('portions have all items in order, are short, and part nothing that belongs together', async (t) => {
  for (const [together, most] of [[1, 7] as const, [2, 8] as const, [2, undefined] as const]) {
    const lengths = Array.from({ length: 60 }, (_, i) => [10, 300 * KIB, 2 * KIB * KIB, 0, 700 * KIB][(i * 7) % 5] ?? 0)
    const items = lengths.map((length, i) => Buffer.alloc(length, i))
    const portions = [...portionsOf(items, together, most)]
    t.same(portions.flat(), items)
    for (const portion of portions) {
      const bytes = portion.reduce((sum, item) => sum + item.length, 0)
      t.ok(portion.length % together === 0 && portion.length <= (most ?? Infinity))
      t.ok(bytes <= KIB * KIB || portion.length === together, `${portion.length} items of ${bytes} bytes`)
    }
  }
  t.same([...portionsOf([], 1)], [])
  t.same(
    [...portionsOf([1, 'a', 2, 'b'], 2, 2)],
    [
      [1, 'a'],
      [2, 'b'],
    ],
  )
})
