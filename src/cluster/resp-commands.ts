/**
 * Commands of RESP, the protocol of Redis (redis.io: "Redis serialization protocol specification"): written behind each other into one
 * buffer, which goes to the socket in one piece. What comes back: resp-replies.ts.
 *
 * ioredis speaks it, too; but one of its commands costs a dozen objects and a system call of its own, and here a call of the
 * file system is hardly more than one command (docs/performance.md).
 */
import type { RedisArg } from './contract.js'

const CR = 13
const LF = 10
const ZERO = 48

const FIRST_BYTES = 16 * 1024
const KEPT_BYTES = 256 * 1024
/** Longest header of an argument: `$` or `*`, digits, CR LF. */
const HEADER_BYTES = 24
/** Up to this length a text is written by the character, which is quicker than asking for its length in UTF-8 first. */
const SHORT_CHARACTERS = 64

const NONE: readonly RedisArg[] = []

/** The first arguments of many commands, encoded once. */
export interface Prefix {
  readonly bytes: Buffer
  readonly count: number
}

/** Of a command that is not one of many. */
export const NO_PREFIX: Prefix = { bytes: Buffer.alloc(0), count: 0 }

export function encodePrefix(...args: readonly RedisArg[]): Prefix {
  const buffer = new CommandBuffer()
  buffer.addArguments(args)
  let bytes: Buffer = Buffer.alloc(0)
  buffer.drain((all) => {
    bytes = Buffer.from(all)
    return true
  })
  return { bytes, count: args.length }
}

/** Commands in the order in which they are added, ready to be written to a socket. */
export class CommandBuffer {
  #bytes = Buffer.allocUnsafeSlow(FIRST_BYTES)
  #length = 0

  get length(): number {
    return this.#length
  }

  /** The command that these make up, one behind the other. */
  add(prefix: Prefix, first: readonly RedisArg[], second: readonly RedisArg[] = NONE): void {
    this.#header(0x2a, prefix.count + first.length + second.length)
    this.#raw(prefix.bytes)
    for (const arg of first) this.#argument(arg)
    for (const arg of second) this.#argument(arg)
  }

  /** Arguments without a command around them. */
  addArguments(args: readonly RedisArg[]): void {
    for (const arg of args) this.#argument(arg)
  }

  /** Gives `write` what was added since the last time. It answers whether it is done with the memory already. */
  drain(write: (bytes: Buffer) => boolean): void {
    const isDone = write(this.#bytes.subarray(0, this.#length))
    this.#length = 0
    // A buffer that grew for one large command is not kept.
    if (!isDone || this.#bytes.length > KEPT_BYTES) this.#bytes = Buffer.allocUnsafeSlow(FIRST_BYTES)
  }

  #argument(arg: RedisArg): void {
    if (typeof arg === 'number') this.#number(arg)
    else if (typeof arg === 'string') this.#text(arg)
    else this.#binary(arg)
  }

  #binary(arg: Buffer): void {
    this.#header(0x24, arg.length)
    this.#raw(arg)
    this.#room(2)
    this.#end()
  }

  #raw(bytes: Buffer): void {
    this.#room(bytes.length)
    this.#bytes.set(bytes, this.#length)
    this.#length += bytes.length
  }

  #number(arg: number): void {
    if (!Number.isInteger(arg) || arg < 0 || arg > Number.MAX_SAFE_INTEGER) {
      this.#text(String(arg))
      return
    }
    this.#header(0x24, digitsOf(arg))
    this.#room(HEADER_BYTES)
    this.#digits(arg)
    this.#end()
  }

  #text(arg: string): void {
    if (arg.length <= SHORT_CHARACTERS && this.#shortText(arg)) return
    const bytes = Buffer.byteLength(arg)
    this.#header(0x24, bytes)
    this.#room(bytes + 2)
    this.#length += this.#bytes.write(arg, this.#length)
    this.#end()
  }

  /** false, and nothing is written: not all is ASCII. */
  #shortText(arg: string): boolean {
    const start = this.#length
    this.#header(0x24, arg.length)
    this.#room(arg.length + 2)
    const bytes = this.#bytes
    let at = this.#length
    for (let i = 0; i < arg.length; i++) {
      const code = arg.charCodeAt(i)
      if (code > 0x7f) {
        this.#length = start
        return false
      }
      bytes[at++] = code
    }
    this.#length = at
    this.#end()
    return true
  }

  #header(type: number, count: number): void {
    this.#room(HEADER_BYTES)
    this.#bytes[this.#length++] = type
    this.#digits(count)
    this.#end()
  }

  #digits(value: number): void {
    const bytes = this.#bytes
    let at = this.#length + digitsOf(value)
    this.#length = at
    let left = value
    do {
      const next = Math.floor(left / 10)
      bytes[--at] = ZERO + (left - next * 10)
      left = next
    } while (left > 0)
  }

  #end(): void {
    this.#bytes[this.#length++] = CR
    this.#bytes[this.#length++] = LF
  }

  #room(bytes: number): void {
    const needed = this.#length + bytes
    if (needed <= this.#bytes.length) return
    const larger = Buffer.allocUnsafeSlow(Math.max(FIRST_BYTES, needed, 2 * this.#bytes.length))
    larger.set(this.#bytes.subarray(0, this.#length))
    this.#bytes = larger
  }
}

function digitsOf(value: number): number {
  let digits = 1
  for (let limit = 10; value >= limit; limit *= 10) digits++
  return digits
}
