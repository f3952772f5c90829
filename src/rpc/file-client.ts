/**
 * The typed client of FileService: a volume's files for a program that does not mount it.
 *
 *     const fs = await connect('unix:/run/ringfs/demo.sock')
 *     await fs.put(Buffer.from('hello'), '/hello.txt')
 *     for await (const entry of fs.readdir('/')) console.log(entry.name.toString())
 *     await fs.close()
 *
 * What the file system refuses is PosixError (`code` as in Node's own fs: ENOENT, EEXIST, …); what happens to the
 * connection is RingfsError (NODE_UNREACHABLE, KEY_REQUIRED, CONNECTION_LOST, DEADLINE, …). After CONNECTION_LOST the next
 * call connects again; open files and listings end with their connection.
 */
import type { Readable } from 'node:stream'
import type { TimeSpec } from '../base/clock.js'
import { RpcChannel } from './channel.js'
import { bytesOf, checkRange, FileSession, type CallSettings, type PathLike } from './file-session.js'
import { getStream, putFile, type GetSettings, type PutSettings, type PutSource } from './file-transfer.js'
import { join } from './frame.js'
import { KeyRing } from './key-ring.js'
import type { ClientLimits } from './limits.js'
import * as calls from './messages-file.js'
import type { Method } from './method.js'
import { openFlags } from './open-flags.js'
import { RemoteFile, timeOf, type TimeChange, type WriteSettings } from './remote-file.js'
import { findRunning } from './run-files.js'

export type { PathLike, CallSettings } from './file-session.js'
export type { GetSettings, PutSettings, PutSource } from './file-transfer.js'
export type { FileStat, FileType, FsStat, ListedEntry, Owner, WriteDurability } from './messages-file.js'
export { RemoteFile, type TimeChange, type WriteSettings } from './remote-file.js'

const DEADLINE_DEFAULT_MS = 120_000
const PAGE_ENTRIES = 1000
const DIRECTORY_MODE = 0o755
const FILE_MODE = 0o644

export interface ConnectOptions {
  /** `host:port` or `unix:/path`; without it the `ringfs up` that runs here. */
  readonly address?: string
  /** Of several that run here, the one of this volume. */
  readonly volume?: string
  /** Where running processes leave their run files. */
  readonly runFolder?: string
  /** Cluster key, at least 16 bytes; for a TCP address whose server has one. */
  readonly key?: Buffer
  /** Of every single call; default 120,000. */
  readonly deadlineMs?: number
  readonly limits?: Partial<ClientLimits>
}

/**
 * Connects, so that a wrong address or key is told here.
 * Errors: RingfsError NOT_RUNNING, USAGE, NODE_UNREACHABLE, KEY_REQUIRED.
 */
export async function connectClient(target: string | ConnectOptions, defaultRunFolder: string): Promise<RingfsClient> {
  const options: ConnectOptions = typeof target === 'string' ? { address: target } : target
  const { key, limits } = options
  const address = options.address ?? (await findRunning(options.runFolder ?? defaultRunFolder, options.volume)).address
  const channel = new RpcChannel(address, { ...(key && { key: KeyRing.of(key) }), ...(limits && { limits }) })
  const deadlineMs = options.deadlineMs ?? DEADLINE_DEFAULT_MS
  await channel.ping({ deadlineMs })
  return new RingfsClient(channel, deadlineMs)
}

/** Makes `connect` for a program: only its entry point knows the environment, and with it the folder of run files. */
export function connector(defaultRunFolder: string): (target?: string | ConnectOptions) => Promise<RingfsClient> {
  return (target = {}) => connectClient(target, defaultRunFolder)
}

export interface OpenSettings extends CallSettings {
  /** For a new file; default 0o644. The server applies no umask. */
  readonly mode?: number
  readonly owner?: calls.Owner
}

export interface ReaddirSettings extends CallSettings {
  /** With the attributes of each entry. */
  readonly stats?: boolean
  readonly pageEntries?: number
}

export interface LinkSettings extends CallSettings {
  /** Act on a symlink itself. */
  readonly noFollow?: boolean
}

export class RingfsClient {
  readonly #session: FileSession

  constructor(channel: RpcChannel, deadlineMs: number) {
    this.#session = new FileSession(channel, deadlineMs)
  }

  /** `flags` as in Node's fs.open ('r', 'r+', 'w', 'wx', 'a', …) or Linux numbers (OPEN_FLAG). */
  async open(path: PathLike, flags: string | number = 'r', settings: OpenSettings = {}): Promise<RemoteFile> {
    const { mode = FILE_MODE, owner } = settings
    const number = openFlags(flags)
    const request = { path: bytesOf(path), flags: number, mode, ...(owner && { owner }) }
    const { handle, attr } = await this.#reply(calls.FILE_OPEN, request, settings)
    return new RemoteFile(this.#session, handle, attr, number)
  }

  /** A piece of a file, the whole of it unless told otherwise. Short only at its end. */
  async read(path: PathLike, offset = 0, lengthBytes?: number, settings: CallSettings = {}): Promise<Buffer> {
    const file = await this.open(path, 'r', settings)
    try {
      return await file.read(offset, lengthBytes ?? Math.max(0, file.opened.sizeBytes - offset), settings)
    } finally {
      await file.close()
    }
  }

  /** Overwrites from `offset` on and makes the file if it is missing. To replace a whole file use put. */
  async write(
    path: PathLike,
    offset: number,
    data: Uint8Array,
    settings: WriteSettings & OpenSettings = {},
  ): Promise<void> {
    const file = await this.open(path, OPEN_FOR_WRITE, settings)
    try {
      await file.write(offset, data, settings)
    } catch (error) {
      await file.close().catch(() => undefined)
      throw error
    }
    await file.close()
  }

  /** Without `.` and `..`. Every name that stays throughout comes exactly once. */
  async *readdir(path: PathLike, settings: ReaddirSettings = {}): AsyncGenerator<calls.ListedEntry, void, undefined> {
    const { stats: plus = false, pageEntries: limit = PAGE_ENTRIES } = settings
    let request = { handle: 0, path: bytesOf(path), cursor: NO_BYTES, limit, plus }
    let generation = 0
    try {
      do {
        if (request.handle !== 0) this.#session.checkGeneration(generation)
        const page = await this.#reply(calls.FILE_READDIR, request, settings)
        generation = this.#session.channel.generation
        request = { ...request, path: NO_BYTES, handle: page.handle, cursor: page.cursor }
        yield* page.entries
      } while (request.handle !== 0)
    } finally {
      if (request.handle !== 0 && generation === this.#session.channel.generation) {
        await this.#reply(calls.FILE_CLOSE, { handle: request.handle }, {}).catch(() => undefined)
      }
    }
  }

  async stat(path: PathLike, settings: CallSettings = {}): Promise<calls.FileStat> {
    return this.#reply(calls.FILE_STAT, target(path, false), settings)
  }

  async lstat(path: PathLike, settings: CallSettings = {}): Promise<calls.FileStat> {
    return this.#reply(calls.FILE_STAT, target(path, true), settings)
  }

  /** recursive: parents too, and what is there already is no error. */
  async mkdir(path: PathLike, settings: OpenSettings & { readonly recursive?: boolean } = {}): Promise<calls.FileStat> {
    const { mode = DIRECTORY_MODE, recursive = false, owner } = settings
    return this.#reply(calls.FILE_MKDIR, { path: bytesOf(path), mode, recursive, ...(owner && { owner }) }, settings)
  }

  async rmdir(path: PathLike, settings: CallSettings = {}): Promise<void> {
    await this.#reply(calls.FILE_RMDIR, { path: bytesOf(path) }, settings)
  }

  async unlink(path: PathLike, settings: CallSettings = {}): Promise<void> {
    await this.#reply(calls.FILE_UNLINK, { path: bytesOf(path) }, settings)
  }

  async rename(
    from: PathLike,
    to: PathLike,
    settings: CallSettings & { readonly noReplace?: boolean; readonly exchange?: boolean } = {},
  ): Promise<void> {
    const { noReplace = false, exchange = false } = settings
    const request = { from: bytesOf(from), to: bytesOf(to), noReplace, exchange }
    await this.#reply(calls.FILE_RENAME, request, settings)
  }

  async symlink(linkTarget: PathLike, path: PathLike, settings: OpenSettings = {}): Promise<calls.FileStat> {
    const { owner } = settings
    const request = { target: bytesOf(linkTarget), path: bytesOf(path), ...(owner && { owner }) }
    return this.#reply(calls.FILE_SYMLINK, request, settings)
  }

  async readlink(path: PathLike, settings: CallSettings = {}): Promise<Buffer> {
    return (await this.#reply(calls.FILE_READLINK, { path: bytesOf(path) }, settings)).target
  }

  async link(existing: PathLike, path: PathLike, settings: CallSettings = {}): Promise<calls.FileStat> {
    return this.#reply(calls.FILE_LINK, { existing: bytesOf(existing), path: bytesOf(path) }, settings)
  }

  /** `mode` with its S_IFMT bits, as mknod(2). */
  async mknod(path: PathLike, mode: number, rdev = 0, settings: OpenSettings = {}): Promise<calls.FileStat> {
    const { owner } = settings
    return this.#reply(calls.FILE_MKNOD, { path: bytesOf(path), mode, rdev, ...(owner && { owner }) }, settings)
  }

  async chmod(path: PathLike, mode: number, settings: CallSettings = {}): Promise<calls.FileStat> {
    return this.#setattr(path, { mode }, settings)
  }

  async chown(path: PathLike, uid: number, gid: number, settings: LinkSettings = {}): Promise<calls.FileStat> {
    return this.#setattr(path, { uid, gid }, settings)
  }

  async utimes(
    path: PathLike,
    atime: TimeChange,
    mtime: TimeChange,
    settings: LinkSettings = {},
  ): Promise<calls.FileStat> {
    const change: { atime: TimeSpec | 'now'; mtime: TimeSpec | 'now' } = { atime: timeOf(atime), mtime: timeOf(mtime) }
    return this.#setattr(path, change, settings)
  }

  async truncate(path: PathLike, sizeBytes = 0, settings: CallSettings = {}): Promise<calls.FileStat> {
    checkRange(sizeBytes, 0)
    return this.#setattr(path, { sizeBytes }, settings)
  }

  async getxattr(path: PathLike, name: PathLike, settings: LinkSettings = {}): Promise<Buffer> {
    const request = { target: target(path, settings.noFollow), name: bytesOf(name) }
    return join((await this.#session.call(calls.FILE_GETXATTR, request, settings)).payload)
  }

  async listxattr(path: PathLike, settings: LinkSettings = {}): Promise<readonly Buffer[]> {
    return (await this.#reply(calls.FILE_LISTXATTR, target(path, settings.noFollow), settings)).names
  }

  /** 'create' fails with EEXIST, 'replace' with ENODATA. */
  async setxattr(
    path: PathLike,
    name: PathLike,
    value: Uint8Array,
    settings: LinkSettings & { readonly mode?: 'any' | 'create' | 'replace' } = {},
  ): Promise<void> {
    const flags = XATTR_FLAGS[settings.mode ?? 'any']
    const request = { target: target(path, settings.noFollow), name: bytesOf(name), flags }
    await this.#session.call(calls.FILE_SETXATTR, request, settings, value.length === 0 ? [] : [value])
  }

  async removexattr(path: PathLike, name: PathLike, settings: LinkSettings = {}): Promise<void> {
    await this.#reply(
      calls.FILE_REMOVEXATTR,
      { target: target(path, settings.noFollow), name: bytesOf(name) },
      settings,
    )
  }

  async statfs(settings: CallSettings = {}): Promise<calls.FsStat> {
    return this.#reply(calls.FILE_STATFS, {}, settings)
  }

  /** Everything that the server holds back is written, as sync(2). */
  async sync(settings: CallSettings = {}): Promise<void> {
    await this.#reply(calls.FILE_SYNC, { handle: 0, dataOnly: false }, settings)
  }

  /**
   * A whole file, from memory, a stream or a local file (a string is its path). It gets its name when it is complete: a
   * reader sees the old file or the new one. A symlink at the path is replaced.
   */
  async put(source: PutSource, path: PathLike, settings: PutSettings = {}): Promise<void> {
    await putFile(this, source, bytesOf(path), settings)
  }

  /** The bytes from `start` to before `end` as a stream, read ahead. Errors, ENOENT too, come through the stream. */
  get(path: PathLike, settings: GetSettings = {}): Readable {
    return getStream(() => this.open(path, 'r', settings), settings)
  }

  /** Round trip in milliseconds, and the pid of the server. */
  async ping(deadlineMs = 10_000): Promise<{ readonly ms: number; readonly pid: number }> {
    const { ms, pid } = await this.#session.channel.ping({ deadlineMs })
    return { ms, pid }
  }

  /** Ends the connection when calls in flight are answered. Open files are closed by the server. */
  close(): Promise<void> {
    return this.#session.channel.close()
  }

  /** `await using fs = await connect()` */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }

  #setattr(
    path: PathLike,
    change: Omit<calls.SetattrRequest, 'target'>,
    settings: LinkSettings,
  ): Promise<calls.FileStat> {
    return this.#reply(calls.FILE_SETATTR, { target: target(path, settings.noFollow), ...change }, settings)
  }

  async #reply<Request, Reply>(
    method: Method<Request, Reply>,
    request: Request,
    settings: CallSettings,
  ): Promise<Reply> {
    return (await this.#session.call(method, request, settings)).reply
  }
}

const NO_BYTES: Buffer = Buffer.alloc(0)
const XATTR_FLAGS = { any: 0, create: 1, replace: 2 } as const
/** O_WRONLY | O_CREAT, without O_TRUNC: there is no word for it. */
const OPEN_FOR_WRITE = 0o101

function target(path: PathLike, noFollow: boolean | undefined): calls.Target {
  return { handle: 0, path: bytesOf(path), noFollow: noFollow ?? false }
}
