import fc from 'fast-check'
import t from 'tap'
import { RingfsError } from '../../../src/base/errors.js'
import { FRAME_HEADER_MAX_BYTES, FRAME_PAYLOAD_MAX_BYTES } from '../../../src/base/limits.js'
import { encodeHead, FrameParser, join, KIND, PREAMBLE_BYTES, type Frame } from '../../../src/rpc/frame.js'

const wire = (frame: {
  kind: 1 | 2 | 3 | 4 | 5 | 6
  id: number
  header?: Buffer
  payload?: Buffer
  method?: number
  deadlineMs?: number
}) =>
  Buffer.concat([
    encodeHead(frame.kind, frame.id, frame.header, frame.payload?.length, frame.method, frame.deadlineMs),
    frame.payload ?? Buffer.alloc(0),
  ])

/** Pushes `bytes` cut at `cuts`, each piece in a buffer of its own. */
function parse(bytes: Buffer, cuts: readonly number[] = []): { frames: Frame[]; error: unknown; parser: FrameParser } {
  const frames: Frame[] = []
  const parser = new FrameParser((frame) => frames.push(frame))
  const at = [0, ...cuts.map((cut) => cut % (bytes.length + 1)).sort((a, b) => a - b), bytes.length]
  let error: unknown = null
  try {
    for (let i = 1; i < at.length; i++) parser.push(Buffer.from(bytes.subarray(at[i - 1], at[i])))
  } catch (caught) {
    error = caught
  }
  return { frames, error, parser }
}

const codeOf = (error: unknown) => (error instanceof RingfsError ? error.code : error)

const frameArb = fc.oneof(
  fc.record({
    kind: fc.constant(KIND.request),
    id: fc.integer({ min: 1, max: 0xffffffff }),
    method: fc.integer({ min: 0, max: 0xffff }),
    deadlineMs: fc.integer({ min: 0, max: 0xffffffff }),
    header: fc.uint8Array({ maxLength: 200 }).map((bytes) => Buffer.from(bytes)),
    payload: fc.uint8Array({ maxLength: 300, size: 'max' }).map((bytes) => Buffer.from(bytes)),
  }),
  fc.record({
    kind: fc.constant(KIND.reply),
    id: fc.integer({ min: 1, max: 0xffffffff }),
    header: fc.uint8Array({ maxLength: 50 }).map((bytes) => Buffer.from(bytes)),
    payload: fc.integer({ min: 0, max: 200_000 }).map((length) => Buffer.alloc(length, length)),
  }),
  fc.record({ kind: fc.constantFrom(KIND.cancel, KIND.ping, KIND.pong), id: fc.integer({ min: 1, max: 0xffffffff }) }),
)

t.test('frames come out as they went in, however the stream is split', async (t) => {
  fc.assert(
    fc.property(fc.array(frameArb, { maxLength: 8 }), fc.array(fc.nat(400_000), { maxLength: 60 }), (sent, cuts) => {
      const { frames, error, parser } = parse(Buffer.concat(sent.map(wire)), cuts)
      if (error !== null) return false
      if (frames.length !== sent.length || !parser.idle) return false
      return frames.every((got, i) => {
        const want: Partial<Parameters<typeof wire>[0]> = sent[i] ?? {}
        return (
          got.kind === want.kind &&
          got.id === want.id &&
          got.method === (want.method ?? 0) &&
          got.deadlineMs === (want.deadlineMs ?? 0) &&
          got.header.equals(want.header ?? Buffer.alloc(0)) &&
          join(got.payload).equals(want.payload ?? Buffer.alloc(0)) &&
          got.payloadBytes === (want.payload?.length ?? 0)
        )
      })
    }),
    { numRuns: 300 },
  )
  t.pass('held')
})

t.test('bytes that are no frame are refused and nothing after them is taken for one', async (t) => {
  const good = wire({ kind: KIND.ping, id: 7 })
  fc.assert(
    fc.property(
      fc.uint8Array({ minLength: 1, maxLength: 400 }),
      fc.array(fc.nat(500), { maxLength: 20 }),
      (noise, cuts) => {
        const { frames, error, parser } = parse(Buffer.concat([Buffer.from(noise), good]), cuts)
        // Only noise that is itself the beginning of a frame may pass, and fast-check does not guess the magic.
        if (frames.length !== 0 || !(error instanceof RingfsError)) return false
        try {
          parser.push(good)
          return false
        } catch (again) {
          return again === error
        }
      },
    ),
    { numRuns: 500 },
  )
  t.pass('held')
})

t.test(
  'one flipped byte of a preamble gives a frame of the same form or an error, never a crash or a longer wait than announced',
  async (t) => {
    const original = wire({
      kind: KIND.request,
      id: 9,
      method: 16,
      deadlineMs: 5,
      header: Buffer.from('head'),
      payload: Buffer.from('body'),
    })
    fc.assert(
      fc.property(fc.nat(PREAMBLE_BYTES - 1), fc.integer({ min: 1, max: 255 }), (at, flip) => {
        const bytes = Buffer.from(original)
        bytes[at] = (bytes[at] ?? 0) ^ flip
        const { frames, error } = parse(bytes)
        if (error !== null) return codeOf(error) === 'FRAME_BAD' || codeOf(error) === 'FRAME_TOO_LONG'
        // Method, id, deadline and the two lengths have no redundancy; all else must have been noticed.
        return at >= 6 && !(at >= 8 && at < 12) && frames.length <= 1
      }),
      { numRuns: 1000 },
    )
    t.pass('held')
  },
)

t.test('each kind of bad preamble is named', async (t) => {
  const cases: [string, (head: Buffer) => void, string, RegExp][] = [
    ['magic', (head) => head.write('HTTP', 0), 'FRAME_BAD', /not a ringfs frame/],
    ['TLS', (head) => head.set([0x16, 3, 1, 2, 0], 0), 'FRAME_BAD', /TLS/],
    ['version', (head) => head.writeUInt8(2, 4), 'FRAME_BAD', /version 2/],
    ['kind', (head) => head.writeUInt8(9, 5), 'FRAME_BAD', /unknown frame kind 9/],
    ['flags', (head) => head.writeUInt16BE(1, 8), 'FRAME_BAD', /flags/],
    ['reserved', (head) => head.writeUInt16BE(1, 10), 'FRAME_BAD', /flags/],
    ['id 0', (head) => head.writeUInt32BE(0, 12), 'FRAME_BAD', /id 0/],
    ['header', (head) => head.writeUInt32BE(FRAME_HEADER_MAX_BYTES + 1, 20), 'FRAME_TOO_LONG', /header/],
    ['payload', (head) => head.writeUInt32BE(FRAME_PAYLOAD_MAX_BYTES + 1, 24), 'FRAME_TOO_LONG', /payload/],
  ]
  for (const [name, damage, code, message] of cases) {
    const head = encodeHead(KIND.request, 1, Buffer.alloc(0), 0, 5)
    damage(head)
    const { error } = parse(head)
    t.equal(codeOf(error), code, name)
    t.match(String(error), message, name)
  }
  t.equal(codeOf(parse(Buffer.from('GET')).error), 'FRAME_BAD', 'and without waiting for a whole preamble')
  t.throws(() => encodeHead(KIND.reply, 1, Buffer.alloc(0), FRAME_PAYLOAD_MAX_BYTES + 1), { code: 'FRAME_TOO_LONG' })
})

t.test('a payload that arrives in large pieces is not copied, one that trickles is gathered', async (t) => {
  const payload = Buffer.alloc(200_000, 5)
  const head = encodeHead(KIND.reply, 1, Buffer.alloc(0), payload.length)
  const frames: Frame[] = []
  const parser = new FrameParser((frame) => frames.push(frame))
  parser.push(head)
  parser.push(payload.subarray(0, 100_000))
  parser.push(payload.subarray(100_000))
  t.equal(frames[0]?.payload[0]?.buffer, payload.buffer, 'the same memory')

  parser.push(head)
  for (let at = 0; at < payload.length; at += 10) parser.push(payload.subarray(at, at + 10))
  t.ok((frames[1]?.payload.length ?? 99) <= 4, 'in a few blocks')
  t.ok(join(frames[1]?.payload ?? []).equals(payload))
  t.ok(parser.idle)
})
