/**
 * One frame, integers big-endian:
 *
 *      0       4         5      6        8       10     12           16            20             24              28
 *      +-------+---------+------+--------+-------+------+------------+-------------+--------------+---------------+
 *      | magic | version | kind | method | flags | zero | request id | deadline ms | header bytes | payload bytes |
 *      +-------+---------+------+--------+-------+------+------------+-------------+--------------+---------------+
 *      | header: one protobuf message (proto/ringfs/v1) | payload: raw bytes, never part of a message             |
 *      +------------------------------------------------+---------------------------------------------------------+
 *
 *  kind     from    id   has
 *  request  client  > 0  method; deadline in ms from its receipt, 0 for none; header and payload
 *  reply    server  > 0  header and payload
 *  error    server  any  header: an Error message. id 0: it is about the connection, which is closed after it
 *  cancel   client  > 0  nothing; the client has forgotten the request
 *  ping     client  > 0  nothing; answered at once by a pong with the same id
 *  pong     server  > 0  nothing
 *
 * What a kind does not have is zero, and flags are zero in version 1: anything else is no frame. A peer that sends no
 * frame cannot be understood from there on, so its connection is closed.
 */
import { RingfsError } from '../base/errors.js'
import { FRAME_HEADER_MAX_BYTES, FRAME_PAYLOAD_MAX_BYTES, KIB } from '../base/limits.js'

export const PREAMBLE_BYTES = 28
const FRAME_VERSION = 1
/** "RNGF" */
const FRAME_MAGIC = 0x524e4746
export const REQUEST_ID_MAX = 0xffff_ffff
export const DEADLINE_MAX_MS = 0xffff_ffff

export const KIND = { request: 1, reply: 2, error: 3, cancel: 4, ping: 5, pong: 6 } as const
export type FrameKind = (typeof KIND)[keyof typeof KIND]

export interface Frame {
  readonly kind: FrameKind
  readonly method: number
  readonly id: number
  readonly deadlineMs: number
  readonly header: Buffer
  /** In order; views of what was read from the socket wherever that is not wasteful. */
  readonly payload: readonly Buffer[]
  readonly payloadBytes: number
  /** Nobody uses the payload any more: memory that was lent for it goes back. Idempotent; without it the memory is lost. */
  readonly release: () => void
}

/** Memory on loan for one payload. */
export interface Landing {
  readonly bytes: Buffer
  /** Idempotent. */
  readonly release: () => void
}

/** Where payloads may land. */
export interface PayloadMemory {
  readonly maxBytes: number
  take(lengthBytes: number): Landing
}

export type LandFrame = (frame: Preamble) => Landing | null

/** Shorter payloads are not worth a loan. */
const LAND_MIN_BYTES = 32 * KIB

const KEEP = (): void => undefined
const EMPTY = Buffer.alloc(0)
const NO_PAYLOAD: readonly Buffer[] = []
/** A payload that trickles in smaller pieces is gathered in blocks: a Buffer for each byte would cost 100 times its size. */
const PIECE_MIN_BYTES = 16 * KIB
const BLOCK_BYTES = 64 * KIB

/** Preamble and header in one buffer; the payload follows on the socket as it is. */
export function encodeHead(
  kind: FrameKind,
  id: number,
  header: Uint8Array = EMPTY,
  payloadBytes = 0,
  method = 0,
  deadlineMs = 0,
): Buffer {
  if (header.length > FRAME_HEADER_MAX_BYTES) throw tooLong('header', header.length, FRAME_HEADER_MAX_BYTES)
  if (payloadBytes > FRAME_PAYLOAD_MAX_BYTES) throw tooLong('payload', payloadBytes, FRAME_PAYLOAD_MAX_BYTES)
  const head = Buffer.allocUnsafe(PREAMBLE_BYTES + header.length)
  head.writeUInt32BE(FRAME_MAGIC, 0)
  head[4] = FRAME_VERSION
  head[5] = kind
  head.writeUInt16BE(method, 6)
  head.writeUInt32BE(0, 8)
  head.writeUInt32BE(id, 12)
  head.writeUInt32BE(deadlineMs, 16)
  head.writeUInt32BE(header.length, 20)
  head.writeUInt32BE(payloadBytes, 24)
  head.set(header, PREAMBLE_BYTES)
  return head
}

export interface Preamble {
  readonly kind: FrameKind
  readonly method: number
  readonly id: number
  readonly deadlineMs: number
  readonly headerBytes: number
  readonly payloadBytes: number
}

function decodePreamble(bytes: Buffer): Preamble {
  checkStart(bytes)
  const preamble: Preamble = {
    kind: kindOf(bytes.readUInt8(5)),
    method: bytes.readUInt16BE(6),
    id: bytes.readUInt32BE(12),
    deadlineMs: bytes.readUInt32BE(16),
    headerBytes: bytes.readUInt32BE(20),
    payloadBytes: bytes.readUInt32BE(24),
  }
  if (bytes.readUInt32BE(8) !== 0) throw bad('unknown flags')
  checkShape(preamble)
  return preamble
}

/** Magic and version, as far as `bytes` has them: what is no frame is refused without waiting for 28 bytes of it. */
function checkStart(bytes: Buffer): void {
  for (let at = 0; at < Math.min(4, bytes.length); at++) {
    if (bytes[at] !== ((FRAME_MAGIC >>> (24 - 8 * at)) & 0xff)) throw bad(`not a ringfs frame${guessPeer(bytes)}`)
  }
  if (bytes.length > 4 && bytes[4] !== FRAME_VERSION) {
    throw bad(`the peer speaks frame version ${bytes[4]}, this program ${FRAME_VERSION}: update the older one`)
  }
}

/** A TLS record starts with its type (20 to 23) and version (3, x); the usual mistake deserves its name. */
function guessPeer(bytes: Buffer): string {
  const first = bytes[0] ?? 0
  return first >= 20 && first <= 23 && (bytes[1] ?? 3) === 3
    ? ' but TLS: the peer has a cluster key, this side none'
    : ''
}

function kindOf(value: number): FrameKind {
  for (const kind of Object.values(KIND)) if (kind === value) return kind
  throw bad(`unknown frame kind ${value}`)
}

function checkShape(frame: Preamble): void {
  const { kind } = frame
  if (frame.headerBytes > FRAME_HEADER_MAX_BYTES) throw tooLong('header', frame.headerBytes, FRAME_HEADER_MAX_BYTES)
  if (frame.payloadBytes > FRAME_PAYLOAD_MAX_BYTES) {
    throw tooLong('payload', frame.payloadBytes, FRAME_PAYLOAD_MAX_BYTES)
  }
  if (frame.id === 0 && kind !== KIND.error) throw bad('request id 0')
  if (kind !== KIND.request && (frame.method !== 0 || frame.deadlineMs !== 0)) {
    throw bad('method or deadline outside a request')
  }
  const bare = kind === KIND.cancel || kind === KIND.ping || kind === KIND.pong
  if (bare && frame.headerBytes !== 0) throw bad('a header where none belongs')
  if ((bare || kind === KIND.error) && frame.payloadBytes !== 0) throw bad('a payload where none belongs')
}

function bad(what: string): RingfsError {
  return new RingfsError('FRAME_BAD', `bad frame: ${what}`)
}

function tooLong(part: string, bytes: number, max: number): RingfsError {
  return new RingfsError('FRAME_TOO_LONG', `frame too long: ${part} of ${bytes} bytes, at most ${max}`)
}

/**
 * Cuts a stream of bytes into frames, however it is split. `push` throws RingfsError FRAME_BAD or FRAME_TOO_LONG, and from
 * then on always the same: nothing after bad bytes is ever taken for a frame.
 *
 * Memory held is at most one frame. A header is copied (it is small, and what is decoded from it must not keep a whole
 * read buffer alive). A payload goes into the memory that `land` lends for it: at best it is read from the socket right into
 * it (room, landed). Without that it is not copied unless it comes in small pieces or in passing memory.
 */
export class FrameParser {
  readonly #onFrame: (frame: Frame) => void
  readonly #land: LandFrame
  readonly #start = new Gather()
  readonly #header = new Gather()
  readonly #payload = new Gather()
  #preamble: Preamble | null = null
  #landing: Landing | null = null
  /** Of the landing. */
  #landedBytes = 0
  #failure: RingfsError | null = null

  constructor(onFrame: (frame: Frame) => void, land: LandFrame = () => null) {
    this.#onFrame = onFrame
    this.#land = land
    this.#start.expect(PREAMBLE_BYTES)
  }

  /** true between two frames: the stream may end here. */
  get idle(): boolean {
    return this.#preamble === null && this.#start.missing === PREAMBLE_BYTES
  }

  /** `passing`: the memory of `data` is used again afterwards, so that what is kept of it is copied. */
  push(data: Buffer, kind: 'own' | 'passing' = 'own'): void {
    if (this.#failure !== null) throw this.#failure
    let at = 0
    while (at < data.length) {
      const frame = this.#take(data, at, kind === 'passing')
      at += frame.used
      if (frame.done !== null) this.#onFrame(frame.done)
    }
  }

  /** Where the next bytes belong if they are known to be payload; null: push them. */
  room(): Buffer | null {
    if (this.#landing === null || this.#header.missing > 0) return null
    return this.#landing.bytes.subarray(this.#landedBytes)
  }

  /** `bytes` were read into what room() answered. */
  landed(bytes: number): void {
    this.#landedBytes += bytes
    const done = this.#finish()
    if (done !== null) this.#onFrame(done)
  }

  /** The stream has ended: gives back what was lent for a frame that does not come any more. */
  abandon(): void {
    this.#landing?.release()
    this.#landing = null
  }

  #take(data: Buffer, from: number, passing: boolean): { used: number; done: Frame | null } {
    try {
      let at = from
      if (this.#preamble === null) {
        at += this.#start.take(data, at, passing)
        if (this.#start.missing > 0) {
          checkStart(this.#start.peek())
          return { used: at - from, done: null }
        }
        this.#begin(decodePreamble(this.#start.joined()))
      }
      at += this.#header.take(data, at, passing)
      at +=
        this.#landing === null ? this.#payload.take(data, at, passing) : this.#copyToLanding(this.#landing, data, at)
      return { used: at - from, done: this.#finish() }
    } catch (error) {
      this.#failure = error instanceof RingfsError ? error : bad(String(error))
      throw this.#failure
    }
  }

  #begin(preamble: Preamble): void {
    this.#preamble = preamble
    this.#header.expect(preamble.headerBytes)
    this.#landing = preamble.payloadBytes >= LAND_MIN_BYTES ? this.#land(preamble) : null
    this.#landedBytes = 0
    this.#payload.expect(this.#landing === null ? preamble.payloadBytes : 0)
  }

  #copyToLanding(landing: Landing, data: Buffer, at: number): number {
    const copied = data.copy(landing.bytes, this.#landedBytes, at)
    this.#landedBytes += copied
    return copied
  }

  get #payloadMissing(): number {
    return this.#landing === null ? this.#payload.missing : this.#landing.bytes.length - this.#landedBytes
  }

  #finish(): Frame | null {
    const preamble = this.#preamble
    if (preamble === null || this.#header.missing > 0 || this.#payloadMissing > 0) return null
    const { kind, method, id, deadlineMs, payloadBytes } = preamble
    const header = preamble.headerBytes === 0 ? EMPTY : Buffer.from(this.#header.joined())
    const landing = this.#landing
    this.#landing = null
    this.#preamble = null
    this.#start.expect(PREAMBLE_BYTES)
    const payload = payloadBytes === 0 ? NO_PAYLOAD : landing === null ? this.#payload.pieces() : [landing.bytes]
    return { kind, method, id, deadlineMs, header, payload, payloadBytes, release: landing?.release ?? KEEP }
  }
}

/** Collects a known number of bytes out of the pieces they come in. */
class Gather {
  missing = 0
  #total = 0
  #pieces: Buffer[] = []
  /** Where small pieces are copied to; the first #used bytes are not in #pieces yet. */
  #block: Buffer = EMPTY
  #used = 0

  expect(bytes: number): void {
    this.missing = bytes
    this.#total = bytes
    this.#pieces = []
    this.#block = EMPTY
    this.#used = 0
  }

  /** Takes what it still needs of `data` from `at` on; answers how many bytes that was. */
  take(data: Buffer, at: number, passing: boolean): number {
    const bytes = Math.min(this.missing, data.length - at)
    if (bytes === 0) return 0
    const piece = bytes === data.length ? data : data.subarray(at, at + bytes)
    if (!passing && (bytes >= PIECE_MIN_BYTES || bytes === this.#total)) {
      this.#seal()
      this.#pieces.push(piece)
    } else {
      this.#copy(piece)
    }
    this.missing -= bytes
    return bytes
  }

  pieces(): readonly Buffer[] {
    this.#seal()
    const pieces = this.#pieces
    this.#pieces = []
    this.#block = EMPTY
    return pieces
  }

  joined(): Buffer {
    return join(this.pieces())
  }

  /** What there is so far, of less than a block. */
  peek(): Buffer {
    return this.#block.subarray(0, this.#used)
  }

  #copy(piece: Buffer): void {
    let at = 0
    while (at < piece.length) {
      if (this.#used === this.#block.length) {
        this.#seal()
        this.#block = Buffer.allocUnsafe(Math.min(BLOCK_BYTES, this.missing - at))
      }
      const copied = piece.copy(this.#block, this.#used, at)
      this.#used += copied
      at += copied
    }
  }

  #seal(): void {
    if (this.#used === 0) return
    this.#pieces.push(this.#block.subarray(0, this.#used))
    this.#block = this.#block.subarray(this.#used)
    this.#used = 0
  }
}

/** The pieces as one Buffer: itself when there is one, else a copy. */
export function join(pieces: readonly Buffer[]): Buffer {
  const [first] = pieces
  if (first === undefined) return EMPTY
  return pieces.length === 1 ? first : Buffer.concat(pieces)
}

export function totalBytes(pieces: readonly Uint8Array[]): number {
  let bytes = 0
  for (const piece of pieces) bytes += piece.length
  return bytes
}
