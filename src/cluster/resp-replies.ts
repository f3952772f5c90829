/**
 * Replies of RESP, the protocol of Redis (redis.io: "Redis serialization protocol specification"), versions 2 and 3: read from whatever
 * pieces a socket brings. The commands: resp-commands.ts.
 */
import type { RedisValue } from './contract.js'

const CR = 13
const LF = 10
const ZERO = 48
const PLUS = 43
const MINUS = 45

/** No server sends so much in one reply; what says so is no RESP. */
const BULK_MAX_BYTES = 512 * 1024 * 1024
const ITEMS_MAX = 2 ** 27
const DEPTH_MAX = 64
/** Numbers, short texts and errors; what is long comes with its length before it. */
const LINE_MAX_BYTES = 64 * 1024
/** A length is believed as far as bytes follow it: memory grows with what has come, not with what was announced. */
const AHEAD_BYTES = 1024 * 1024

/** An error reply, as Redis wrote it: redis-errors.ts. */
export class ReplyError extends Error {
  override readonly name = 'ReplyError'
}

/** What came is no RESP: nothing that follows on this connection can be understood. */
export class ProtocolError extends Error {
  override readonly name = 'ProtocolError'
}

export interface ReplyListener {
  onReply(value: RedisValue): void
  /** An error in the place of a reply, or anywhere inside one. */
  onError(error: ReplyError): void
  /** Out of band (RESP3): what was published, and what became of subscriptions. */
  onPush(values: readonly RedisValue[]): void
}

/** A list that is not complete yet. */
interface Open {
  readonly items: RedisValue[]
  left: number
  readonly isPush: boolean
}

/**
 * Reads replies. Bulk strings are views of memory of their own, a piece's together: who keeps a small one for long copies it.
 * Maps become lists of keys and values, true and false 1 and 0, doubles and big numbers their text.
 */
export class ReplyReader {
  readonly #listener: ReplyListener
  readonly #open: Open[] = []
  #error: ReplyError | undefined
  /** Bytes of a token that is not complete. */
  #rest = Buffer.alloc(0)
  #restLength = 0
  /** How long the token is at least. */
  #wanted = 0
  #bytes = Buffer.alloc(0)
  #length = 0
  #at = 0

  constructor(listener: ReplyListener) {
    this.#listener = listener
  }

  /** The next bytes; they are not needed afterwards. Throws ProtocolError. */
  push(piece: Buffer): void {
    if (this.#restLength > 0) {
      this.#append(piece)
      if (this.#restLength < this.#wanted) return
      this.#bytes = this.#rest
      this.#length = this.#restLength
      this.#rest = Buffer.alloc(0)
    } else {
      this.#bytes = Buffer.from(piece)
      this.#length = piece.length
    }
    this.#restLength = 0
    this.#at = 0
    while (this.#at < this.#length) {
      const start = this.#at
      this.#wanted = 0
      if (!this.#token()) {
        this.#keep(start)
        return
      }
    }
  }

  #append(piece: Buffer): void {
    const needed = this.#restLength + piece.length
    if (needed > this.#rest.length) {
      const ahead = Math.min(this.#wanted, needed + AHEAD_BYTES)
      const larger = Buffer.allocUnsafeSlow(Math.max(needed, ahead, 2 * this.#rest.length))
      larger.set(this.#rest.subarray(0, this.#restLength))
      this.#rest = larger
    }
    this.#rest.set(piece, this.#restLength)
    this.#restLength = needed
  }

  #keep(start: number): void {
    this.#at = this.#length
    this.#append(this.#bytes.subarray(start, this.#length))
  }

  /** One header with what belongs to it; false if it is not all there. */
  #token(): boolean {
    const bytes = this.#bytes
    const end = this.#lineEnd()
    if (end < 0) {
      if (this.#length - this.#at > LINE_MAX_BYTES) throw new ProtocolError('a line without end')
      return false
    }
    const type = bytes[this.#at]
    const from = this.#at + 1
    switch (type) {
      case 0x24: // $ bulk string
      case 0x3d: // = verbatim string
      case 0x21: // ! bulk error
        return this.#bulk(type, from, end)
      case 0x2a: // * array
      case 0x7e: // ~ set
      case 0x3e: // > push
        this.#list(this.#count(from, end, ITEMS_MAX), type === 0x3e, end)
        return true
      case 0x25: // % map
        this.#list(2 * this.#count(from, end, ITEMS_MAX), false, end)
        return true
      default:
        this.#at = end + 2
        this.#simple(type, from, end)
        return true
    }
  }

  #simple(type: number | undefined, from: number, end: number): void {
    switch (type) {
      case 0x3a: // : integer
        this.#value(this.#integer(from, end))
        return
      case 0x2b: // + simple string
      case 0x2c: // , double
      case 0x28: // ( big number
        this.#value(this.#bytes.subarray(from, end))
        return
      case 0x2d: // - error
        this.#failed(this.#bytes.toString('utf8', from, end))
        return
      case 0x5f: // _ null
        this.#value(null)
        return
      case 0x23: // # boolean
        this.#value(this.#bytes[from] === 0x74 ? 1 : 0)
        return
      default:
        throw new ProtocolError(`no type of RESP begins with byte ${type}`)
    }
  }

  #bulk(type: number, from: number, end: number): boolean {
    const length = this.#count(from, end, BULK_MAX_BYTES)
    const start = end + 2
    if (length < 0) {
      this.#at = start
      this.#value(null)
      return true
    }
    if (start + length + 2 > this.#length) {
      this.#wanted = start + length + 2 - this.#at
      return false
    }
    this.#at = start + length + 2
    // A verbatim string begins with three letters and a colon.
    if (type === 0x21) this.#failed(this.#bytes.toString('utf8', start, start + length))
    else this.#value(this.#bytes.subarray(type === 0x3d ? start + 4 : start, start + length))
    return true
  }

  #list(count: number, isPush: boolean, end: number): void {
    this.#at = end + 2
    if (count < 0) this.#value(null)
    else if (count === 0) this.#done([], isPush)
    else if (this.#open.length >= DEPTH_MAX) throw new ProtocolError('lists in lists without end')
    else this.#open.push({ items: [], left: count, isPush })
  }

  #value(value: RedisValue): void {
    let whole = value
    for (;;) {
      const list = this.#open.at(-1)
      if (list === undefined) {
        this.#tell(whole)
        return
      }
      list.items.push(whole)
      if (--list.left > 0) return
      this.#open.pop()
      if (list.isPush) {
        this.#listener.onPush(list.items)
        return
      }
      whole = list.items
    }
  }

  #done(items: readonly RedisValue[], isPush: boolean): void {
    if (isPush) this.#listener.onPush(items)
    else this.#value(items)
  }

  #failed(message: string): void {
    this.#error ??= new ReplyError(message)
    this.#value(null)
  }

  #tell(value: RedisValue): void {
    const error = this.#error
    this.#error = undefined
    if (error === undefined) this.#listener.onReply(value)
    else this.#listener.onError(error)
  }

  #lineEnd(): number {
    const bytes = this.#bytes
    for (let at = this.#at + 1; at + 1 < this.#length; at++) {
      if (bytes[at] === CR && bytes[at + 1] === LF) return at
    }
    return -1
  }

  #count(from: number, end: number, max: number): number {
    const count = this.#integer(from, end)
    if (count < -1 || count > max) throw new ProtocolError(`a length of ${count}`)
    return count
  }

  #integer(from: number, end: number): number {
    const bytes = this.#bytes
    const isNegative = bytes[from] === MINUS
    let value = 0
    const first = isNegative || bytes[from] === PLUS ? from + 1 : from
    if (first >= end) throw new ProtocolError('a number without digits')
    for (let at = first; at < end; at++) {
      const digit = (bytes[at] ?? 0) - ZERO
      if (digit < 0 || digit > 9) throw new ProtocolError('a number of something else than digits')
      value = value * 10 + digit
    }
    return isNegative ? -value : value
  }
}
