/**
 * The messages of service FileService. Lengths that POSIX limits (names, paths, xattrs) are not refused here but by the
 * service, which knows the errno; here only what cannot be sensible at all.
 */
import type { TimeSpec } from '../base/clock.js'
import { FILE_MAX_BYTES, FRAME_HEADER_MAX_BYTES, NAME_MAX_BYTES } from '../base/limits.js'
import { codec, defineMethod, EMPTY_CODEC, type Codec } from './method.js'
import { enumValues, type Fields } from './protobuf.js'

export type FileType = 'file' | 'directory' | 'symlink' | 'fifo' | 'socket' | 'char' | 'block'

/** As struct stat. */
export interface FileStat {
  readonly ino: number
  readonly type: FileType
  /** Permission bits with suid, sgid and sticky. */
  readonly mode: number
  readonly uid: number
  readonly gid: number
  readonly nlink: number
  readonly sizeBytes: number
  readonly allocatedBytes: number
  readonly rdev: number
  readonly atime: TimeSpec
  readonly mtime: TimeSpec
  readonly ctime: TimeSpec
  readonly btime: TimeSpec
}

/** How many owners must have the data of a write. */
export type WriteDurability = 'all' | 'quorum' | 'async'

export interface Owner {
  readonly uid: number
  readonly gid: number
}

export interface Target {
  /** An open handle; 0: the path. */
  readonly handle: number
  readonly path: Buffer
  /** Do not follow a symlink at the end of the path. */
  readonly noFollow: boolean
}

export interface SetattrRequest {
  readonly target: Target
  readonly mode?: number
  readonly uid?: number
  readonly gid?: number
  readonly sizeBytes?: number
  readonly atime?: TimeSpec | 'now'
  readonly mtime?: TimeSpec | 'now'
}

export interface ListedEntry {
  readonly name: Buffer
  readonly ino: number
  readonly type: FileType
  readonly attr?: FileStat
}

export interface FsStat {
  readonly blockBytes: number
  readonly blocks: number
  readonly blocksFree: number
  readonly files: number
  readonly filesFree: number
  readonly nameMaxBytes: number
}

interface OpenRequest {
  readonly path: Buffer
  readonly flags: number
  readonly mode: number
  readonly owner?: Owner
}

interface WriteRequest {
  readonly handle: number
  readonly offset: number
  readonly durability?: WriteDurability
}

interface MkdirRequest {
  readonly path: Buffer
  readonly mode: number
  readonly recursive: boolean
  readonly owner?: Owner
}

interface SymlinkRequest {
  readonly target: Buffer
  readonly path: Buffer
  readonly owner?: Owner
}

interface MknodRequest {
  readonly path: Buffer
  readonly mode: number
  readonly rdev: number
  readonly owner?: Owner
}

interface ReaddirRequest {
  readonly handle: number
  readonly path: Buffer
  readonly cursor: Buffer
  readonly limit: number
  readonly plus: boolean
}

interface ReaddirReply {
  readonly handle: number
  readonly entries: readonly ListedEntry[]
  readonly cursor: Buffer
}

const UINT32_MAX = 0xffff_ffff
const MODE_MAX = 0o177777
export const CURSOR_BYTES = 8

/** Names of an enum in TypeScript, by number and back. */
class EnumNames<Name extends string> {
  readonly #names = new Map<number, Name>()
  readonly #numbers = new Map<Name, number>()

  constructor(type: string, protoNames: Readonly<Record<Name, string>>, names: readonly Name[]) {
    const values = enumValues(type)
    for (const name of names) {
      const number = values.get(protoNames[name]) ?? 0
      this.#names.set(number, name)
      this.#numbers.set(name, number)
    }
  }

  number(name: Name): number {
    return this.#numbers.get(name) ?? 0
  }

  name(number: number): Name | undefined {
    return this.#names.get(number)
  }
}

const FILE_TYPES = new EnumNames<FileType>(
  'InodeType',
  {
    file: 'FILE',
    directory: 'DIRECTORY',
    symlink: 'SYMLINK',
    fifo: 'FIFO',
    socket: 'SOCKET',
    char: 'CHAR',
    block: 'BLOCK',
  },
  ['file', 'directory', 'symlink', 'fifo', 'socket', 'char', 'block'],
)
const DURABILITIES = new EnumNames<WriteDurability>(
  'Durability',
  { all: 'DURABILITY_ALL', quorum: 'DURABILITY_QUORUM', async: 'DURABILITY_ASYNC' },
  ['all', 'quorum', 'async'],
)

const readTime = (fields: Fields): TimeSpec => ({ sec: fields.int('sec'), nsec: fields.uint('nsec', 999_999_999) })

function readStat(fields: Fields): FileStat {
  return {
    ino: fields.uint('ino'),
    type: readType(fields),
    mode: fields.uint('mode', MODE_MAX),
    uid: fields.uint('uid'),
    gid: fields.uint('gid'),
    nlink: fields.uint('nlink'),
    sizeBytes: fields.uint('sizeBytes'),
    allocatedBytes: fields.uint('allocatedBytes'),
    rdev: fields.uint('rdev'),
    atime: readTime(fields.message('atime', 'Time')),
    mtime: readTime(fields.message('mtime', 'Time')),
    ctime: readTime(fields.message('ctime', 'Time')),
    btime: readTime(fields.message('btime', 'Time')),
  }
}

/** A type of a newer peer is shown as a plain file: it can still be listed. */
function readType(fields: Fields): FileType {
  return FILE_TYPES.name(fields.uint('type')) ?? 'file'
}

const statFields = (stat: FileStat): object => ({ ...stat, type: FILE_TYPES.number(stat.type) })

const readPath = (fields: Fields, name = 'path'): Buffer => fields.bytes(name, 0, FRAME_HEADER_MAX_BYTES)

function readOwner(fields: Fields): { owner?: Owner } {
  if (!fields.has('owner')) return {}
  const owner = fields.message('owner', 'Owner')
  return { owner: { uid: owner.uint('uid'), gid: owner.uint('gid') } }
}

const readTargetFields = (fields: Fields): Target => ({
  handle: fields.uint('handle'),
  path: readPath(fields),
  noFollow: fields.bool('noFollow'),
})
const readTarget = (fields: Fields): Target => readTargetFields(fields.message('target', 'Target'))

function readSetattr(fields: Fields): SetattrRequest {
  const optional = <Name extends string>(name: Name, max: number): { [Key in Name]?: number } | object =>
    fields.has(name) ? { [name]: fields.uint(name, max) } : {}
  return {
    target: readTarget(fields),
    ...optional('mode', MODE_MAX),
    ...optional('uid', UINT32_MAX),
    ...optional('gid', UINT32_MAX),
    ...optional('sizeBytes', FILE_MAX_BYTES),
    ...readTimeChange(fields, 'atime'),
    ...readTimeChange(fields, 'mtime'),
  }
}

function readTimeChange(
  fields: Fields,
  name: 'atime' | 'mtime',
): { readonly atime?: TimeSpec | 'now'; mtime?: TimeSpec | 'now' } {
  if (fields.bool(`${name}Now`)) return { [name]: 'now' }
  return fields.has(name) ? { [name]: readTime(fields.message(name, 'Time')) } : {}
}

function setattrFields(request: SetattrRequest): object {
  const { atime, mtime, ...rest } = request
  return {
    ...rest,
    ...(atime === 'now' ? { atimeNow: true } : { atime }),
    ...(mtime === 'now' ? { mtimeNow: true } : { mtime }),
  }
}

const statCodec: Codec<FileStat> = codec('Attr', readStat, statFields)
const targetCodec = codec<Target>('Target', readTargetFields)
const pathCodec = codec('PathRequest', (fields) => ({ path: readPath(fields) }))
const handleCodec = codec('HandleRequest', (fields) => ({ handle: fields.uint('handle') }))

const openRequest = codec<OpenRequest>('OpenRequest', (fields) => ({
  path: readPath(fields),
  flags: fields.uint('flags'),
  mode: fields.uint('mode', MODE_MAX),
  ...readOwner(fields),
}))
const openReply = codec<{ readonly handle: number; readonly attr: FileStat }>(
  'OpenReply',
  (fields) => ({ handle: fields.uint('handle'), attr: readStat(fields.message('attr', 'Attr')) }),
  ({ handle, attr }) => ({ handle, attr: statFields(attr) }),
)

const readRequest = codec('ReadRequest', (fields) => ({
  handle: fields.uint('handle'),
  offset: fields.uint('offset'),
  lengthBytes: fields.uint('lengthBytes'),
}))
const writeRequest = codec<WriteRequest>(
  'WriteRequest',
  (fields) => {
    const durability = DURABILITIES.name(fields.uint('durability'))
    return { handle: fields.uint('handle'), offset: fields.uint('offset'), ...(durability && { durability }) }
  },
  ({ durability, ...rest }) => ({
    ...rest,
    durability: durability === undefined ? 0 : DURABILITIES.number(durability),
  }),
)
const writeReply = codec('WriteReply', (fields) => ({ writtenBytes: fields.uint('writtenBytes') }))
const syncRequest = codec('FileSyncRequest', (fields) => ({
  handle: fields.uint('handle'),
  dataOnly: fields.bool('dataOnly'),
}))

const readdirRequest = codec<ReaddirRequest>('ReaddirRequest', (fields) => ({
  handle: fields.uint('handle'),
  path: readPath(fields),
  cursor: fields.bytes('cursor', 0, CURSOR_BYTES),
  limit: fields.uint('limit'),
  plus: fields.bool('plus'),
}))
const readEntry = (fields: Fields): ListedEntry => ({
  name: fields.bytes('name', 1, NAME_MAX_BYTES),
  ino: fields.uint('ino'),
  type: readType(fields),
  ...(fields.has('attr') ? { attr: readStat(fields.message('attr', 'Attr')) } : {}),
})
const entryFields = ({ attr, type, ...entry }: ListedEntry): object => ({
  ...entry,
  type: FILE_TYPES.number(type),
  ...(attr && { attr: statFields(attr) }),
})
const readdirReply = codec<ReaddirReply>(
  'ReaddirReply',
  (fields) => ({
    handle: fields.uint('handle'),
    entries: fields.messages('entries', 'DirEntry').map(readEntry),
    cursor: fields.bytes('cursor', 0, CURSOR_BYTES),
  }),
  ({ entries, ...rest }) => ({ ...rest, entries: entries.map(entryFields) }),
)

const mkdirRequest = codec<MkdirRequest>('MkdirRequest', (fields) => ({
  path: readPath(fields),
  mode: fields.uint('mode', MODE_MAX),
  recursive: fields.bool('recursive'),
  ...readOwner(fields),
}))
const renameRequest = codec('RenameRequest', (fields) => ({
  from: readPath(fields, 'from'),
  to: readPath(fields, 'to'),
  noReplace: fields.bool('noReplace'),
  exchange: fields.bool('exchange'),
}))
const symlinkRequest = codec<SymlinkRequest>('SymlinkRequest', (fields) => ({
  target: readPath(fields, 'target'),
  path: readPath(fields),
  ...readOwner(fields),
}))
const readlinkReply = codec('ReadlinkReply', (fields) => ({ target: readPath(fields, 'target') }))
const linkRequest = codec('LinkRequest', (fields) => ({
  existing: readPath(fields, 'existing'),
  path: readPath(fields),
}))
const mknodRequest = codec<MknodRequest>('MknodRequest', (fields) => ({
  path: readPath(fields),
  mode: fields.uint('mode', MODE_MAX),
  rdev: fields.uint('rdev'),
  ...readOwner(fields),
}))

const xattrRequest = codec('XattrRequest', (fields) => ({ target: readTarget(fields), name: readPath(fields, 'name') }))
const setxattrRequest = codec('SetxattrRequest', (fields) => ({
  target: readTarget(fields),
  name: readPath(fields, 'name'),
  flags: fields.uint('flags'),
}))
const listxattrReply = codec<{ readonly names: readonly Buffer[] }>('ListxattrReply', (fields) => ({
  names: fields.bytesList('names', 1, FRAME_HEADER_MAX_BYTES),
}))

const statfsReply = codec<FsStat>('StatfsReply', (fields) => ({
  blockBytes: fields.uint('blockBytes'),
  blocks: fields.uint('blocks'),
  blocksFree: fields.uint('blocksFree'),
  files: fields.uint('files'),
  filesFree: fields.uint('filesFree'),
  nameMaxBytes: fields.uint('nameMaxBytes'),
}))

export const FILE_OPEN = defineMethod('FILE_OPEN', openRequest, openReply)
export const FILE_CLOSE = defineMethod('FILE_CLOSE', handleCodec, EMPTY_CODEC)
export const FILE_READ = defineMethod('FILE_READ', readRequest, EMPTY_CODEC)
export const FILE_WRITE = defineMethod('FILE_WRITE', writeRequest, writeReply)
export const FILE_SYNC = defineMethod('FILE_SYNC', syncRequest, EMPTY_CODEC)
export const FILE_STAT = defineMethod('FILE_STAT', targetCodec, statCodec)
export const FILE_SETATTR = defineMethod('FILE_SETATTR', codec('SetattrRequest', readSetattr, setattrFields), statCodec)
export const FILE_READDIR = defineMethod('FILE_READDIR', readdirRequest, readdirReply)
export const FILE_MKDIR = defineMethod('FILE_MKDIR', mkdirRequest, statCodec)
export const FILE_RMDIR = defineMethod('FILE_RMDIR', pathCodec, EMPTY_CODEC)
export const FILE_UNLINK = defineMethod('FILE_UNLINK', pathCodec, EMPTY_CODEC)
export const FILE_RENAME = defineMethod('FILE_RENAME', renameRequest, EMPTY_CODEC)
export const FILE_SYMLINK = defineMethod('FILE_SYMLINK', symlinkRequest, statCodec)
export const FILE_READLINK = defineMethod('FILE_READLINK', pathCodec, readlinkReply)
export const FILE_LINK = defineMethod('FILE_LINK', linkRequest, statCodec)
export const FILE_MKNOD = defineMethod('FILE_MKNOD', mknodRequest, statCodec)
export const FILE_GETXATTR = defineMethod('FILE_GETXATTR', xattrRequest, EMPTY_CODEC)
export const FILE_LISTXATTR = defineMethod('FILE_LISTXATTR', targetCodec, listxattrReply)
export const FILE_SETXATTR = defineMethod('FILE_SETXATTR', setxattrRequest, EMPTY_CODEC)
export const FILE_REMOVEXATTR = defineMethod('FILE_REMOVEXATTR', xattrRequest, EMPTY_CODEC)
export const FILE_STATFS = defineMethod('FILE_STATFS', EMPTY_CODEC, statfsReply)

/** In the order of the service's declaration, which a test compares. */
export const FILE_METHODS = [
  FILE_OPEN,
  FILE_CLOSE,
  FILE_READ,
  FILE_WRITE,
  FILE_SYNC,
  FILE_STAT,
  FILE_SETATTR,
  FILE_READDIR,
  FILE_MKDIR,
  FILE_RMDIR,
  FILE_UNLINK,
  FILE_RENAME,
  FILE_SYMLINK,
  FILE_READLINK,
  FILE_LINK,
  FILE_MKNOD,
  FILE_GETXATTR,
  FILE_LISTXATTR,
  FILE_SETXATTR,
  FILE_REMOVEXATTR,
  FILE_STATFS,
] as const
