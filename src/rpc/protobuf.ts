/**
 * The only door to protobufjs. The .proto files are loaded once, when this module is; encoders and decoders are
 * generated from them by protobufjs. What was decoded came from outside: `Fields` checks each value as it is read.
 */
import { existsSync } from 'node:fs'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import protobuf from 'protobufjs'
import { RingfsError, messageOf } from '../base/errors.js'
import { invariant } from '../base/invariant.js'
import { BUILD_FOLDER, PACKAGE_FOLDER } from '../base/places.js'

// Without Long, protobufjs makes 64-bit integers plain numbers, exact up to 2^53, which Fields enforces. This must come
// before anything is parsed.
Reflect.set(protobuf.util, 'Long', null)
protobuf.configure()

const PACKAGE = 'ringfs.v1'
const FILES = ['common', 'chunk', 'file', 'stats']

/** The package has proto/ at its top; a build that was copied alone has dist/proto. */
function protoFolder(): string {
  const folder = [PACKAGE_FOLDER, BUILD_FOLDER]
    .map((place) => fileURLToPath(new URL('proto', place)))
    .find((candidate) => existsSync(path.join(candidate, 'ringfs/v1/common.proto')))
  if (folder === undefined)
    throw new RingfsError('PACKAGE_MISSING', 'the folder proto/ is missing: install ringfs again')
  return folder
}

function loadRoot(): protobuf.Root {
  const folder = protoFolder()
  const root = new protobuf.Root()
  root.resolvePath = (_origin, target) => (path.isAbsolute(target) ? target : path.join(folder, target))
  root.loadSync(FILES.map((name) => path.join(folder, `ringfs/v1/${name}.proto`)))
  root.resolveAll()
  return root
}

const root = loadRoot()

export class MessageType {
  readonly #type: protobuf.Type

  constructor(name: string) {
    this.#type = root.lookupType(`${PACKAGE}.${name}`)
  }

  encode(fields: object): Uint8Array {
    return this.#type.encode(fields).finish()
  }

  /** Errors: RingfsError FRAME_BAD. */
  decode(bytes: Uint8Array): Fields {
    return new Fields(this.#type.name, decodeOrThrow(this.#type, bytes))
  }
}

function decodeOrThrow(type: protobuf.Type, bytes: Uint8Array): object {
  try {
    return type.decode(bytes)
  } catch (error) {
    throw badMessage(type.name, messageOf(error))
  }
}

/** Names and numbers of an enum, `Method` for one. */
export function enumValues(name: string): ReadonlyMap<string, number> {
  return new Map(Object.entries(root.lookupEnum(`${PACKAGE}.${name}`).values))
}

/** The calls of a service, as the contract declares them. */
export function serviceCalls(
  name: string,
): readonly { readonly name: string; readonly request: string; readonly reply: string }[] {
  return root
    .lookupService(`${PACKAGE}.${name}`)
    .methodsArray.map((method) => ({ name: method.name, request: method.requestType, reply: method.responseType }))
}

function badMessage(type: string, what: string): RingfsError {
  return new RingfsError('FRAME_BAD', `bad ${type} message: ${what}`)
}

/** Checked access to a decoded message. Every getter throws RingfsError FRAME_BAD on a value outside its range. */
export class Fields {
  readonly #type: string
  readonly #message: object

  constructor(type: string, message: object) {
    this.#type = type
    this.#message = message
  }

  has(name: string): boolean {
    const value = this.#raw(name)
    return value !== null && value !== undefined
  }

  /** An integer from 0 to `max`, which is 2^53-1 unless given. */
  uint(name: string, max = Number.MAX_SAFE_INTEGER): number {
    return this.#checkedInt(name, this.#raw(name), 0, max)
  }

  /** Any integer that a double holds exactly. */
  int(name: string): number {
    return this.#checkedInt(name, this.#raw(name), Number.MIN_SAFE_INTEGER, Number.MAX_SAFE_INTEGER)
  }

  bool(name: string): boolean {
    const value = this.#raw(name)
    if (typeof value !== 'boolean') throw this.#bad(name, 'is no boolean')
    return value
  }

  text(name: string, maxLength: number): string {
    return this.#checkedText(name, this.#raw(name), maxLength)
  }

  bytes(name: string, minBytes: number, maxBytes: number): Buffer {
    return this.#checkedBytes(name, this.#raw(name), minBytes, maxBytes)
  }

  /** A nested message that must be there. */
  message(name: string, type: string): Fields {
    const value = this.#raw(name)
    if (typeof value !== 'object' || value === null) throw this.#bad(name, 'is missing')
    return new Fields(type, value)
  }

  uints(name: string): number[] {
    return this.#list(name).map((value) => this.#checkedInt(name, value, 0, Number.MAX_SAFE_INTEGER))
  }

  texts(name: string, maxLength: number): string[] {
    return this.#list(name).map((value) => this.#checkedText(name, value, maxLength))
  }

  bytesList(name: string, minBytes: number, maxBytes: number): Buffer[] {
    return this.#list(name).map((value) => this.#checkedBytes(name, value, minBytes, maxBytes))
  }

  messages(name: string, type: string): Fields[] {
    return this.#list(name).map((value) => {
      invariant(typeof value === 'object' && value !== null, 'protobufjs decodes a message field to an object')
      return new Fields(type, value)
    })
  }

  #raw(name: string): unknown {
    return Reflect.get(this.#message, name)
  }

  #list(name: string): readonly unknown[] {
    const value = this.#raw(name)
    if (!Array.isArray(value)) throw this.#bad(name, 'is no list')
    return value
  }

  #checkedInt(name: string, value: unknown, min: number, max: number): number {
    if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < min || value > max) {
      throw this.#bad(name, `is not an integer from ${min} to ${max}`)
    }
    return value
  }

  #checkedText(name: string, value: unknown, maxLength: number): string {
    if (typeof value !== 'string' || value.length > maxLength) throw this.#bad(name, `is longer than ${maxLength}`)
    return value
  }

  #checkedBytes(name: string, value: unknown, minBytes: number, maxBytes: number): Buffer {
    const bytes = Buffer.isBuffer(value) ? value : Array.isArray(value) && value.length === 0 ? EMPTY : null
    if (bytes === null || bytes.length < minBytes || bytes.length > maxBytes) {
      throw this.#bad(name, `is not ${minBytes} to ${maxBytes} bytes long`)
    }
    return bytes
  }

  #bad(name: string, what: string): RingfsError {
    return badMessage(this.#type, `${name} ${what}`)
  }
}

const EMPTY = Buffer.alloc(0)
