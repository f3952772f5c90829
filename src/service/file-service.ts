/**
 * FileService on a VFS: everything a mount can do, over RPC. Who may connect may do everything that this process may
 * (the socket's mode or the cluster key decides); an owner given with a request is the owner of what it creates.
 */
import { randomInt } from 'node:crypto'
import { PosixError } from '../base/errno.js'
import { messageOf } from '../base/errors.js'
import { FRAME_PAYLOAD_MAX_BYTES, XATTR_NAME_MAX_BYTES, XATTR_VALUE_MAX_BYTES } from '../base/limits.js'
import { silentLog, type Log } from '../base/log.js'
import { join } from '../rpc/frame.js'
import * as calls from '../rpc/messages-file.js'
import type { Method } from '../rpc/method.js'
import type { CallContext, HandlerReply, RpcServer } from '../rpc/server.js'
import type { Attr, AttrChange, Caller, VfsContract } from '../vfs/contract.js'
import { HandleTable, type OpenHandle } from './handles.js'
import { listPage } from './list.js'
import * as names from './names.js'
import { openFile, writable } from './open.js'
import { resolveExisting } from './resolve.js'

const HANDLES_MAX_PER_CONNECTION = 1024

export interface FileServiceOptions {
  readonly identity: calls.Owner
  readonly log?: Log
  readonly maxHandles?: number
  /** Where handle numbers start: different after each start, so that a handle of an earlier process is none of this one. */
  readonly firstHandle?: number
}

type Connection = CallContext['connection']

export class FileService {
  readonly #vfs: VfsContract
  readonly #identity: Caller
  readonly #log: Log
  readonly #maxHandles: number
  readonly #tables = new Map<Connection, HandleTable>()
  readonly #releasing = new Set<Promise<void>>()
  #lastHandle: number

  constructor(vfs: VfsContract, options: FileServiceOptions) {
    this.#vfs = vfs
    this.#identity = { uid: options.identity.uid, gid: options.identity.gid, pid: process.pid }
    this.#log = options.log ?? silentLog
    this.#maxHandles = options.maxHandles ?? HANDLES_MAX_PER_CONNECTION
    this.#lastHandle = options.firstHandle ?? randomInt(2 ** 47)
  }

  register(server: RpcServer): void {
    this.#registerHandles(server)
    this.#registerNames(server)
    this.#registerAttributes(server)
  }

  /** Settles when every handle of connections that have ended is released. Call it between RpcServer.close and VFS shutdown. */
  async released(): Promise<void> {
    while (this.#releasing.size > 0) await Promise.all(this.#releasing)
  }

  #registerHandles(server: RpcServer): void {
    const vfs = this.#vfs
    server.handle(calls.FILE_OPEN, async ({ path, flags, mode, owner }, _payload, context) => {
      const table = this.#table(context.connection)
      const { id, attr } = await table.add(() => openFile(vfs, this.#caller(owner), path, flags, mode))
      await this.#closeIfUnheard(table, id, context)
      return { reply: { handle: id, attr } }
    })
    server.handle(calls.FILE_CLOSE, async ({ handle }, _payload, { connection }) => {
      await this.#table(connection).close(handle)
      return DONE
    })
    server.handle(calls.FILE_READ, ({ handle, offset, lengthBytes }, _payload, context) =>
      this.#table(context.connection).use(handle, 'file', async (open) => {
        if (lengthBytes > FRAME_PAYLOAD_MAX_BYTES) throw new PosixError('EINVAL', 'too much for one read')
        await context.reserve(lengthBytes)
        return { reply: {}, payload: [await vfs.read(open.handle, offset, lengthBytes)] }
      }),
    )
    server.handle(calls.FILE_WRITE, ({ handle, offset, durability }, payload, { connection }) =>
      this.#table(connection).use(handle, 'file', async (open) => ({
        reply: { writtenBytes: await vfs.write(open.handle, offset, join(payload), durability && { durability }) },
      })),
    )
    server.handle(calls.FILE_SYNC, async ({ handle, dataOnly }, _payload, { connection }) => {
      if (handle === 0) await vfs.syncAll(true)
      else await this.#table(connection).use(handle, 'file', (open) => vfs.fsync(open.handle, dataOnly))
      return DONE
    })
    server.handle(calls.FILE_READDIR, async (request, _payload, context) => {
      const table = this.#table(context.connection)
      const reply = await this.#readdir(table, request)
      if (request.handle === 0 && reply.handle !== 0) await this.#closeIfUnheard(table, reply.handle, context)
      return { reply }
    })
  }

  #registerNames(server: RpcServer): void {
    const vfs = this.#vfs
    const me = this.#identity
    server.handle(calls.FILE_MKDIR, async ({ path, mode, recursive, owner }) => {
      const make = recursive ? names.makeDirectories : names.makeDirectory
      return { reply: await make(vfs, this.#caller(owner), path, mode) }
    })
    this.#simple(server, calls.FILE_RMDIR, ({ path }) => names.removeDirectory(vfs, me, path))
    this.#simple(server, calls.FILE_UNLINK, ({ path }) => names.removeFile(vfs, me, path))
    this.#simple(server, calls.FILE_RENAME, ({ from, to, noReplace, exchange }) =>
      names.renamePath(vfs, me, from, to, { noReplace, exchange }),
    )
    server.handle(calls.FILE_SYMLINK, async ({ target, path, owner }) => ({
      reply: await names.makeSymlink(vfs, this.#caller(owner), target, path),
    }))
    server.handle(calls.FILE_READLINK, async ({ path }) => ({
      reply: { target: await names.readSymlink(vfs, me, path) },
    }))
    server.handle(calls.FILE_LINK, async ({ existing, path }) => ({
      reply: await names.linkPath(vfs, me, existing, path),
    }))
    server.handle(calls.FILE_MKNOD, async ({ path, mode, rdev, owner }) => ({
      reply: await names.makeNode(vfs, this.#caller(owner), path, mode, rdev),
    }))
  }

  #registerAttributes(server: RpcServer): void {
    const vfs = this.#vfs
    server.handle(calls.FILE_STAT, async (target, _payload, { connection }) => ({
      reply: await this.#attrOf(connection, target),
    }))
    server.handle(calls.FILE_SETATTR, async ({ target, ...change }, _payload, { connection }) => ({
      reply: await this.#setattr(connection, target, change),
    }))
    server.handle(calls.FILE_GETXATTR, async ({ target, name }, _payload, { connection }) => {
      const { ino } = await this.#attrOf(connection, target)
      return { reply: {}, payload: [await vfs.getxattr(ino, checkXattrName(name))] }
    })
    server.handle(calls.FILE_LISTXATTR, async (target, _payload, { connection }) => {
      const { ino } = await this.#attrOf(connection, target)
      return { reply: { names: await vfs.listxattr(ino) } }
    })
    server.handle(calls.FILE_SETXATTR, async ({ target, name, flags }, payload, { connection }) => {
      const value = join(payload)
      if (value.length > XATTR_VALUE_MAX_BYTES) throw new PosixError('E2BIG')
      if (flags > 2) throw new PosixError('EINVAL', 'flags of setxattr')
      const { ino } = await this.#attrOf(connection, target)
      await vfs.setxattr(ino, checkXattrName(name), value, flags)
      return DONE
    })
    server.handle(calls.FILE_REMOVEXATTR, async ({ target, name }, _payload, { connection }) => {
      const { ino } = await this.#attrOf(connection, target)
      await vfs.removexattr(ino, checkXattrName(name))
      return DONE
    })
    server.handle(calls.FILE_STATFS, async () => ({ reply: await vfs.statfs() }))
  }

  #simple<Request>(
    server: RpcServer,
    method: Method<Request, object>,
    work: (request: Request) => Promise<void>,
  ): void {
    server.handle(method, async (request) => {
      await work(request)
      return DONE
    })
  }

  async #attrOf(connection: Connection, target: calls.Target): Promise<Attr> {
    if (target.handle !== 0) return this.#vfs.getattr(this.#identity, this.#table(connection).get(target.handle).ino)
    return resolveExisting(this.#vfs, this.#identity, target.path, target.noFollow ? 'slash' : 'always')
  }

  async #setattr(connection: Connection, target: calls.Target, change: AttrChange): Promise<Attr> {
    if (target.handle === 0) {
      const { ino, type } = await this.#attrOf(connection, target)
      if (change.sizeBytes !== undefined) checkTruncatable(type)
      return this.#vfs.setattr(this.#identity, ino, change)
    }
    return this.#table(connection).use(target.handle, 'file', (open) => {
      // ftruncate(2)
      if (change.sizeBytes !== undefined && !writable(open.flags))
        throw new PosixError('EINVAL', 'open for reading only')
      return this.#vfs.setattr(this.#identity, open.ino, change, open.handle)
    })
  }

  /** A listing that is over with its first page needs no handle; a client that stops early closes its handle. */
  async #readdir(
    table: HandleTable,
    request: { handle: number; path: Buffer; cursor: Buffer; limit: number; plus: boolean },
  ): Promise<{ handle: number; entries: readonly calls.ListedEntry[]; cursor: Buffer }> {
    const handle = request.handle === 0 ? (await table.add(() => this.#opendir(request.path))).id : request.handle
    try {
      const page = await table.use(handle, 'directory', (open) =>
        listPage(this.#vfs, this.#identity, open.handle, request),
      )
      if (page.end) await table.close(handle)
      return { handle: page.end ? 0 : handle, entries: page.entries, cursor: page.cursor }
    } catch (error) {
      // The caller never learnt of a handle made for this call.
      if (request.handle === 0) await table.close(handle).catch(() => undefined)
      throw error
    }
  }

  async #opendir(path: Buffer): Promise<{ open: OpenHandle }> {
    const { ino, type } = await resolveExisting(this.#vfs, this.#identity, path, 'always')
    if (type !== 'directory') throw new PosixError('ENOTDIR')
    const handle = await this.#vfs.opendir(this.#identity, ino)
    return { open: { kind: 'directory', handle, ino, flags: 0 } }
  }

  #caller(owner: calls.Owner | undefined): Caller {
    return owner === undefined ? this.#identity : { ...this.#identity, uid: owner.uid, gid: owner.gid }
  }

  #table(connection: Connection): HandleTable {
    const known = this.#tables.get(connection)
    if (known !== undefined) return known
    const table = new HandleTable(
      this.#maxHandles,
      () => ++this.#lastHandle,
      (open) => this.#release(open),
    )
    this.#tables.set(connection, table)
    connection.onClose(() => this.#abandon(connection, table))
    return table
  }

  /** Of a call that is given up, also while its reply is under way, nobody learns the handle. */
  async #closeIfUnheard(table: HandleTable, id: number, context: CallContext): Promise<void> {
    const close = (): Promise<void> => table.close(id).catch(() => undefined)
    if (context.cancelled) return await close()
    table.whenNamed(
      id,
      context.ifUnheard(() => this.#awaited(close())),
    )
  }

  #abandon(connection: Connection, table: HandleTable): void {
    this.#tables.delete(connection)
    this.#awaited(
      table.closeAll((error) =>
        this.#log.warn({ error: messageOf(error) }, 'data of a lost connection could not be written'),
      ),
    )
  }

  /** By released(). */
  #awaited(releasing: Promise<void>): void {
    const done = releasing.finally(() => this.#releasing.delete(done))
    this.#releasing.add(done)
  }

  /** close(2) tells of failed writes, and the handle is gone all the same. */
  async #release(open: OpenHandle): Promise<void> {
    if (open.kind === 'directory') {
      this.#vfs.releasedir(open.handle)
      return
    }
    try {
      await this.#vfs.flush(open.handle)
    } finally {
      await this.#vfs.release(open.handle)
    }
  }
}

const DONE: HandlerReply<object> = { reply: {} }

function checkXattrName(name: Buffer): Buffer {
  if (name.length === 0 || name.length > XATTR_NAME_MAX_BYTES) throw new PosixError('ERANGE', 'length of an xattr name')
  if (name.includes(0)) throw new PosixError('EINVAL', 'a NUL byte in an xattr name')
  return name
}

/** truncate(2) */
function checkTruncatable(type: Attr['type']): void {
  if (type === 'directory') throw new PosixError('EISDIR')
  if (type !== 'file') throw new PosixError('EINVAL', 'not a regular file')
}
