/** Whole files: put and get, many requests in flight. */
import { randomBytes } from 'node:crypto'
import { open, type FileHandle } from 'node:fs/promises'
import { Readable } from 'node:stream'
import { PosixError } from '../base/errno.js'
import { cancelled } from './client.js'
import { IO_BYTES, Window, type CallSettings, type PathLike } from './file-session.js'
import type { Owner } from './messages-file.js'
import type { RemoteFile, WriteSettings } from './remote-file.js'

const PARALLEL_DEFAULT = 8
const MODE_DEFAULT = 0o644
/** What an interrupted put leaves behind begins so. */
const PUT_PREFIX = '.ringfs-put-'

/** A string is the path of a local file. */
export type PutSource = string | Uint8Array | AsyncIterable<Uint8Array>

export interface PutSettings extends WriteSettings {
  /** Permission bits; without them those of the local file, or 0o644. */
  readonly mode?: number
  readonly owner?: Owner
  /** EEXIST when the path exists. */
  readonly noReplace?: boolean
  /** On disk at the write quorum before it gets its name. */
  readonly sync?: boolean
  readonly parallel?: number
  /** Bytes written so far. */
  readonly onProgress?: (bytes: number) => void
}

export interface GetSettings extends CallSettings {
  /** First byte; default 0. */
  readonly start?: number
  /** Byte after the last; default the end of the file. */
  readonly end?: number
  readonly parallel?: number
}

interface Piece {
  readonly offset: number
  readonly data: Uint8Array
}

/** What put needs of a client. */
export interface PutTarget {
  open(path: PathLike, flags: string, settings: { mode: number; owner?: Owner } & CallSettings): Promise<RemoteFile>
  rename(from: PathLike, to: PathLike, settings: { noReplace: boolean } & CallSettings): Promise<void>
  unlink(path: PathLike): Promise<void>
}

/**
 * Writes under a temporary name in the same folder and renames: the path has the old contents or the new, never a part.
 * A symlink at the path is replaced, not followed.
 */
export async function putFile(
  client: PutTarget,
  source: PutSource,
  path: Buffer,
  settings: PutSettings,
): Promise<void> {
  const local = typeof source === 'string' ? await open(source, 'r') : null
  try {
    const mode = settings.mode ?? (local === null ? MODE_DEFAULT : (await checkRegular(local)).mode & 0o777)
    const temporary = temporaryName(path)
    const { owner, signal, noReplace = false } = settings
    const file = await openTemporary(client, temporary, { mode, ...(owner && { owner }) }, signal)
    try {
      await writePieces(file, piecesOf(local ?? source), settings)
      await client.rename(temporary, path, { noReplace, ...(signal && { signal }) })
    } catch (error) {
      await discard(client, temporary, file)
      throw error
    }
  } finally {
    await local?.close()
  }
}

/** A call that is cancelled may make the file all the same, a moment later. So it is not cancelled: what it made is removed behind it. */
async function openTemporary(
  client: PutTarget,
  temporary: Buffer,
  settings: { mode: number; owner?: Owner },
  signal: AbortSignal | undefined,
): Promise<RemoteFile> {
  if (signal?.aborted === true) throw cancelled()
  const opening = client.open(temporary, 'wx', settings)
  if (signal === undefined) return await opening
  let onAbort = (): void => undefined
  const aborted = new Promise<never>((_, reject) => {
    onAbort = () => {
      reject(cancelled())
      opening.then(
        (file) => discard(client, temporary, file),
        () => undefined,
      )
    }
    signal.addEventListener('abort', onAbort, { once: true })
  })
  try {
    return await Promise.race([opening, aborted])
  } finally {
    signal.removeEventListener('abort', onAbort)
  }
}

async function discard(client: PutTarget, temporary: Buffer, file: RemoteFile): Promise<void> {
  await file.close().catch(() => undefined)
  await client.unlink(temporary).catch(() => undefined)
}

async function writePieces(file: RemoteFile, pieces: AsyncIterable<Piece>, settings: PutSettings): Promise<void> {
  const { parallel = PARALLEL_DEFAULT, onProgress, sync = false } = settings
  const window = new Window(parallel)
  let written = 0
  try {
    for await (const { offset, data } of pieces) {
      await window.add(async () => {
        await file.write(offset, data, settings)
        written += data.length
        onProgress?.(written)
      })
    }
  } finally {
    // Even when the source fails: nothing may still write when the temporary file is removed.
    await window.drain()
  }
  if (sync) await file.sync()
  await file.close()
}

async function checkRegular(local: FileHandle): Promise<{ mode: number }> {
  const stat = await local.stat()
  if (stat.isDirectory()) throw new PosixError('EISDIR', 'put takes a file')
  return stat
}

function temporaryName(path: Buffer): Buffer {
  const folder = path.subarray(0, path.lastIndexOf(0x2f) + 1)
  if (path.length === folder.length) throw new PosixError(path.length === 0 ? 'ENOENT' : 'EISDIR')
  return Buffer.concat([folder, Buffer.from(PUT_PREFIX + randomBytes(8).toString('hex'))])
}

function piecesOf(source: FileHandle | Uint8Array | AsyncIterable<Uint8Array> | string): AsyncIterable<Piece> {
  if (typeof source === 'string') throw new PosixError('EINVAL')
  if (source instanceof Uint8Array) return slices(source)
  return Symbol.asyncIterator in source ? gathered(source) : localPieces(source)
}

async function* slices(data: Uint8Array): AsyncGenerator<Piece> {
  for (let at = 0; at < data.length; at += IO_BYTES) yield { offset: at, data: data.subarray(at, at + IO_BYTES) }
}

async function* localPieces(local: FileHandle): AsyncGenerator<Piece> {
  for (let offset = 0; ;) {
    const { bytesRead, buffer } = await local.read(Buffer.allocUnsafe(IO_BYTES), 0, IO_BYTES, offset)
    if (bytesRead === 0) return
    yield { offset, data: buffer.subarray(0, bytesRead) }
    offset += bytesRead
  }
}

/** A stream's pieces may be tiny, and their memory may be used again: they are copied into full blocks. */
async function* gathered(source: AsyncIterable<Uint8Array>): AsyncGenerator<Piece> {
  let block = Buffer.allocUnsafe(IO_BYTES)
  let used = 0
  let offset = 0
  for await (const piece of source) {
    const bytes = typeof piece === 'string' ? Buffer.from(piece) : piece
    for (let at = 0; at < bytes.length;) {
      const part = bytes.subarray(at, at + IO_BYTES - used)
      block.set(part, used)
      used += part.length
      at += part.length
      if (used < IO_BYTES) continue
      yield { offset, data: block }
      offset += used
      block = Buffer.allocUnsafe(IO_BYTES)
      used = 0
    }
  }
  if (used > 0) yield { offset, data: block.subarray(0, used) }
}

/** Reads ahead `parallel` requests, gives out in order. `open` is called when reading begins. */
export function getStream(open: () => Promise<RemoteFile>, settings: GetSettings): Readable {
  return Readable.from(readAhead(open, settings), { objectMode: false })
}

async function* readAhead(open: () => Promise<RemoteFile>, settings: GetSettings): AsyncGenerator<Buffer> {
  const { start = 0, end = Number.MAX_SAFE_INTEGER, parallel = PARALLEL_DEFAULT } = settings
  if (!Number.isSafeInteger(start) || !Number.isSafeInteger(end) || start < 0 || end < start) {
    throw new PosixError('EINVAL', `not a range: ${start} to ${end}`)
  }
  const file = await open()
  const ahead: { readonly data: Promise<Buffer>; readonly bytes: number }[] = []
  let next = start
  try {
    // Beyond the size that was seen one request at a time: a file that grows meanwhile is read to its new end.
    for (let ended = false; !ended;) {
      while (next < end && (ahead.length === 0 || (ahead.length < parallel && next < file.opened.sizeBytes))) {
        const bytes = Math.min(IO_BYTES, end - next)
        const data = file.read(next, bytes, settings)
        // A rejection is taken up when its turn comes; until then it is not unhandled.
        data.catch(() => undefined)
        ahead.push({ data, bytes })
        next += bytes
      }
      const first = ahead.shift()
      if (first === undefined) return
      const data = await first.data
      ended = data.length < first.bytes
      if (data.length > 0) yield data
    }
  } finally {
    await Promise.allSettled(ahead.map(({ data }) => data))
    await file.close()
  }
}
