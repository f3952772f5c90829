/** One call of the contract: its number, and how its messages become bytes. The tables are messages-*.ts. */
import { invariant } from '../base/invariant.js'
import { MessageType, enumValues, type Fields } from './protobuf.js'

/** A message with the TypeScript shape it has on both ends. */
export interface Codec<T> {
  readonly type: string
  encode(value: T): Uint8Array
  /** Errors: RingfsError FRAME_BAD. */
  decode(bytes: Uint8Array): T
}

export interface Method<Request, Reply> {
  readonly name: string
  readonly number: number
  readonly request: Codec<Request>
  readonly reply: Codec<Reply>
}

const NUMBERS = enumValues('Method')

/** `name` as in the enum Method of common.proto. */
export function defineMethod<Request, Reply>(
  name: string,
  request: Codec<Request>,
  reply: Codec<Reply>,
): Method<Request, Reply> {
  const number = NUMBERS.get(name)
  invariant(number !== undefined && number > 0, `common.proto has a method ${name}`)
  return { name, number, request, reply }
}

/** `toFields` is needed where the shape differs from the message's. */
export function codec<T extends object>(
  type: string,
  read: (fields: Fields) => T,
  toFields: (value: T) => object = (value) => value,
): Codec<T> {
  const message = new MessageType(type)
  return { type, encode: (value) => message.encode(toFields(value)), decode: (bytes) => read(message.decode(bytes)) }
}

export const EMPTY_CODEC: Codec<object> = codec('Empty', () => ({}))
export const PING = defineMethod(
  'PING',
  EMPTY_CODEC,
  codec('PingReply', (fields) => ({ pid: fields.uint('pid') })),
)
