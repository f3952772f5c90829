/**
 * The messages of service ChunkNode. The shapes are those of src/chunk/contract.ts, which rpc does not import: it is
 * below it. src/chunk/remote.ts passes one for the other, so that the compiler compares them.
 */
import { RingfsError } from '../base/errors.js'
import { CHUNK_MAX_BYTES, HASH_BYTES, LEAF_BYTES } from '../base/limits.js'
import { codec, defineMethod, EMPTY_CODEC } from './method.js'
import type { Fields } from './protobuf.js'

const ID_MAX_LENGTH = 128
const LEAVES_MAX_BYTES = (CHUNK_MAX_BYTES / LEAF_BYTES) * HASH_BYTES

interface Origin {
  readonly ino: number
  readonly order: number
  readonly extents: readonly {
    readonly fileOffset: number
    readonly chunkOffset: number
    readonly lengthBytes: number
  }[]
  readonly appended?: true
  readonly orders?: readonly number[]
  readonly appends?: readonly number[]
}

interface PutRequest {
  readonly volume: string
  readonly id: number
  readonly root: Buffer
  readonly leaves: Buffer
  readonly origin: Origin
  readonly sync: boolean
  readonly forward: readonly string[]
  readonly copies: number
  readonly absent: readonly string[]
  readonly epoch?: number
  readonly prepared?: string
}

interface PutReply {
  readonly stored: readonly string[]
  readonly queued: readonly string[]
  readonly missing: readonly string[]
  readonly epoch?: number
}

interface GetRequest {
  readonly volume: string
  readonly id: number
  readonly offset: number
  readonly lengthBytes: number
  readonly withOrigin?: boolean
}

interface GetReply {
  readonly chunkLengthBytes: number
  readonly leaves: Buffer
  readonly firstLeaf: number
  readonly origin?: Origin
}

/** An empty list says nothing. */
const ordersOf = (fields: Fields): Pick<Origin, 'orders' | 'appends'> => {
  const orders = fields.uints('orders')
  const appends = fields.uints('appends')
  return { ...(orders.length > 0 ? { orders } : {}), ...(appends.length > 0 ? { appends } : {}) }
}

const readOrigin = (fields: Fields): Origin => ({
  ino: fields.uint('ino'),
  order: fields.uint('order'),
  extents: fields.messages('extents', 'OriginExtent').map((extent) => ({
    fileOffset: extent.uint('fileOffset'),
    chunkOffset: extent.uint('chunkOffset', CHUNK_MAX_BYTES),
    lengthBytes: extent.uint('lengthBytes', CHUNK_MAX_BYTES),
  })),
  ...(fields.bool('appended') ? { appended: true } : {}),
  ...ordersOf(fields),
})

/** proto3 does not tell 0 from nothing, and no ring has the epoch 0. */
const epochOf = (fields: Fields): { epoch?: number } => {
  const epoch = fields.uint('epoch')
  return epoch === 0 ? {} : { epoch }
}

const preparedOf = (fields: Fields): { prepared?: string } => {
  const prepared = fields.text('prepared', ID_MAX_LENGTH)
  return prepared === '' ? {} : { prepared }
}

const volumeOf = (fields: Fields): string => fields.text('volume', ID_MAX_LENGTH)

const putRequest = codec<PutRequest>('PutRequest', (fields) => ({
  volume: volumeOf(fields),
  id: fields.uint('id'),
  root: fields.bytes('root', HASH_BYTES, HASH_BYTES),
  leaves: fields.bytes('leaves', HASH_BYTES, LEAVES_MAX_BYTES),
  origin: readOrigin(fields.message('origin', 'Origin')),
  sync: fields.bool('sync'),
  forward: fields.texts('forward', ID_MAX_LENGTH),
  copies: fields.uint('copies'),
  absent: fields.texts('absent', ID_MAX_LENGTH),
  ...epochOf(fields),
  ...preparedOf(fields),
}))

const putReply = codec<PutReply>('PutReply', (fields) => ({
  stored: fields.texts('stored', ID_MAX_LENGTH),
  queued: fields.texts('queued', ID_MAX_LENGTH),
  missing: fields.texts('missing', ID_MAX_LENGTH),
  ...epochOf(fields),
}))

const getRequest = codec<GetRequest>('GetRequest', (fields) => ({
  volume: volumeOf(fields),
  id: fields.uint('id'),
  offset: fields.uint('offset', CHUNK_MAX_BYTES),
  lengthBytes: fields.uint('lengthBytes', CHUNK_MAX_BYTES),
  withOrigin: fields.bool('withOrigin'),
}))

const getReply = codec<GetReply>('GetReply', (fields) => ({
  chunkLengthBytes: fields.uint('chunkLengthBytes', CHUNK_MAX_BYTES),
  leaves: fields.bytes('leaves', 0, LEAVES_MAX_BYTES),
  firstLeaf: fields.uint('firstLeaf', CHUNK_MAX_BYTES / LEAF_BYTES),
  ...(fields.has('origin') ? { origin: readOrigin(fields.message('origin', 'Origin')) } : {}),
}))

interface ChunkIds {
  readonly volume: string
  readonly ids: readonly number[]
}

const chunkIds = codec<ChunkIds>('ChunkIds', (fields) => ({ volume: volumeOf(fields), ids: fields.uints('ids') }))
interface LacksRequest extends ChunkIds {
  readonly verify: boolean
}

const lacksRequest = codec<LacksRequest>('LacksRequest', (fields) => ({
  volume: volumeOf(fields),
  ids: fields.uints('ids'),
  verify: fields.bool('verify'),
}))
const syncReply = codec<{ readonly missing: readonly number[] }>('SyncReply', (fields) => ({
  missing: fields.uints('missing'),
}))
const badChunk = codec('BadChunk', (fields) => ({ volume: volumeOf(fields), id: fields.uint('id') }))

const nodeInfo = codec('NodeInfo', (fields) => ({
  id: fields.text('id', ID_MAX_LENGTH),
  volume: volumeOf(fields),
  pid: fields.uint('pid'),
  totalBytes: fields.uint('totalBytes'),
  freeBytes: fields.uint('freeBytes'),
  chunks: fields.uint('chunks'),
  version: fields.text('version', ID_MAX_LENGTH),
  disks: fields.texts('disks', ID_MAX_LENGTH),
}))

interface ListRequest {
  readonly volume: string
  readonly fromBucket: number
  readonly toBucket: number
  readonly fromId: number
  readonly limit: number
  readonly headers: boolean
  readonly withGaps?: boolean
}

interface ListedChunk {
  readonly id: number
  readonly header?: { readonly lengthBytes: number; readonly root: Buffer; readonly origin: Origin }
}

interface ListReply {
  readonly chunks: readonly ListedChunk[]
  readonly next: { readonly bucket: number; readonly id: number } | null
  readonly gaps?: readonly number[]
}

const listRequest = codec<ListRequest>('ListRequest', (fields) => ({
  volume: volumeOf(fields),
  fromBucket: fields.uint('fromBucket'),
  toBucket: fields.uint('toBucket'),
  fromId: fields.uint('fromId'),
  limit: fields.uint('limit'),
  headers: fields.bool('headers'),
  withGaps: fields.bool('withGaps'),
}))

const readListed = (fields: Fields): ListedChunk => {
  const id = fields.uint('id')
  if (!fields.has('origin')) return { id }
  const lengthBytes = fields.uint('lengthBytes', CHUNK_MAX_BYTES)
  const root = fields.bytes('root', HASH_BYTES, HASH_BYTES)
  return { id, header: { lengthBytes, root, origin: readOrigin(fields.message('origin', 'Origin')) } }
}

const readNext = (fields: Fields): ListReply['next'] => {
  if (!fields.has('next')) return null
  const next = fields.message('next', 'ListReply.Position')
  return { bucket: next.uint('bucket'), id: next.uint('id') }
}

/** An empty list says nothing. */
const gapsOf = (fields: Fields): Pick<ListReply, 'gaps'> => {
  const gaps = fields.uints('gaps')
  return gaps.length > 0 ? { gaps } : {}
}

const listReply = codec<ListReply>(
  'ListReply',
  (fields) => ({
    chunks: [...fields.uints('ids').map((id) => ({ id })), ...fields.messages('chunks', 'ListedChunk').map(readListed)],
    next: readNext(fields),
    ...gapsOf(fields),
  }),
  ({ chunks, next, gaps = [] }) => {
    const rest = { gaps, ...(next === null ? {} : { next }) }
    // Bare numbers are packed, which is much shorter.
    if (chunks.every(({ header }) => header === undefined)) return { ids: chunks.map(({ id }) => id), ...rest }
    return { chunks: chunks.map(({ id, header }) => ({ id, ...header })), ...rest }
  },
)

interface DigestRequest {
  readonly volume: string
  readonly groups: readonly (readonly { readonly first: number; readonly last: number }[])[]
}

/** Errors: RingfsError FRAME_BAD. */
function readRanges(fields: Fields): DigestRequest['groups'][number] {
  const bounds = fields.uints('bounds')
  if (bounds.length % 2 !== 0) throw new RingfsError('FRAME_BAD', 'bad DigestRequest message: half a range')
  return Array.from({ length: bounds.length / 2 }, (_, index) => ({
    first: bounds[2 * index] ?? 0,
    last: bounds[2 * index + 1] ?? 0,
  }))
}

const digestRequest = codec<DigestRequest>(
  'DigestRequest',
  (fields) => ({
    volume: volumeOf(fields),
    groups: fields.messages('groups', 'DigestRequest.Group').map(readRanges),
  }),
  ({ volume, groups }) => ({
    volume,
    groups: groups.map((ranges) => ({ bounds: ranges.flatMap(({ first, last }) => [first, last]) })),
  }),
)

const digestReply = codec('DigestReply', (fields) => ({
  digests: fields.messages('digests', 'DigestReply.Digest').map((digest) => ({
    count: digest.uint('count'),
    high: digest.uint('high'),
    low: digest.uint('low'),
  })),
}))

interface ScrubRequest {
  readonly volume: string
  readonly action: 'status' | 'start' | 'stop'
  readonly bytesPerSecond: number
}

/** Whatever is not known changes nothing. */
function readAction(text: string): ScrubRequest['action'] {
  return text === 'start' || text === 'stop' ? text : 'status'
}

const scrubRequest = codec<ScrubRequest>('ScrubRequest', (fields) => ({
  volume: volumeOf(fields),
  action: readAction(fields.text('action', ID_MAX_LENGTH)),
  bytesPerSecond: fields.uint('bytesPerSecond'),
}))

const scrubState = codec('ScrubState', (fields) => ({
  bucket: fields.uint('bucket'),
  buckets: fields.uint('buckets'),
  startedMs: fields.uint('startedMs'),
  finishedMs: fields.uint('finishedMs'),
  checked: fields.uint('checked'),
  checkedBytes: fields.uint('checkedBytes'),
  bad: fields.uint('bad'),
  replaced: fields.uint('replaced'),
  isHasty: fields.bool('isHasty'),
  unread: fields.uint('unread'),
  unlisted: fields.uint('unlisted'),
}))

export const CHUNK_PUT = defineMethod('CHUNK_PUT', putRequest, putReply)
export const CHUNK_GET = defineMethod('CHUNK_GET', getRequest, getReply)
export const CHUNK_SYNC = defineMethod('CHUNK_SYNC', chunkIds, syncReply)
export const CHUNK_REMOVE = defineMethod('CHUNK_REMOVE', chunkIds, EMPTY_CODEC)
export const CHUNK_REPORT_BAD = defineMethod('CHUNK_REPORT_BAD', badChunk, EMPTY_CODEC)
export const CHUNK_INFO = defineMethod('CHUNK_INFO', EMPTY_CODEC, nodeInfo)
export const CHUNK_LIST = defineMethod('CHUNK_LIST', listRequest, listReply)
export const CHUNK_LACKS = defineMethod('CHUNK_LACKS', lacksRequest, syncReply)
export const CHUNK_DIGEST = defineMethod('CHUNK_DIGEST', digestRequest, digestReply)
export const CHUNK_SCRUB = defineMethod('CHUNK_SCRUB', scrubRequest, scrubState)

/** In the order of the service's declaration, which a test compares. */
export const CHUNK_METHODS = [
  ...[CHUNK_PUT, CHUNK_GET, CHUNK_SYNC, CHUNK_REMOVE, CHUNK_REPORT_BAD, CHUNK_INFO],
  CHUNK_LIST,
  CHUNK_SCRUB,
  CHUNK_LACKS,
  CHUNK_DIGEST,
] as const
