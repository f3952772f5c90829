/** Names: lookup, create, mkdir, link, unlink, rmdir, rename. One script each where one partition has it all. */
import { isDots } from '../base/dots.js'
import { PosixError, isErrno } from '../base/errno.js'
import { NAME_MAX_BYTES, SYMLINK_MAX_BYTES } from '../base/limits.js'
import type { RedisArg } from '../cluster/contract.js'
import type { Attr, CreateReply, NewInode, RenameFlags, RenameReply, SawDirectory } from './contract.js'
import type { Reserved } from './births.js'
import type { Core } from './core.js'
import { exchange } from './exchange.js'
import { refuseLoop, withMoveLease } from './move-lease.js'
import { nameHash } from './name-hash.js'
import { TAIL_NONE, TAIL_NUMBER, TAIL_TARGET, decodeInode, typeCode, writeU56 } from './records.js'
import { STATUS_FAR, type Reply } from './reply.js'
import { SCRIPTS } from './scripts.js'
import {
  Restart,
  Transaction,
  changeInode,
  ignoreGone,
  putEntry,
  removeDirectory,
  removeEntry,
  restartIfGone,
  untilDone,
  type Entry,
} from './transaction.js'

const DIRECTORY = typeCode('directory')

interface Found {
  readonly ino: number
  readonly type: number
  readonly record: Buffer | null
}

/** What names need of inodes. */
export interface Inodes {
  getattr(ino: number): Promise<Attr>
  /** Sets ctime. */
  touch(ino: number): Promise<void>
}

interface NewDirectory {
  readonly mode: number
  readonly uid: number
  readonly gid: number
  readonly umask: number
}

export class Namespace {
  readonly #core: Core
  readonly #inodes: Inodes
  readonly #getattr: (ino: number) => Promise<Attr>

  constructor(core: Core, inodes: Inodes) {
    this.#core = core
    this.#inodes = inodes
    this.#getattr = (ino) => inodes.getattr(ino)
  }

  async lookup(parent: number, name: Buffer): Promise<Attr> {
    const entry = entryOf(parent, name)
    return await untilDone(this.#core, async () => {
      const found = await this.#ask(entry)
      if (found.record !== null) return decodeInode(found.ino, found.record).attr
      // Gone between the two round trips: the name is, too, or it names another inode by now (a rename over it).
      return this.#orBorn(this.#getattr(found.ino), [[entry, found.ino]], 'restart')
    })
  }

  /** A directory that is gone has no names, for all but lookup. */
  async #find(entry: Entry): Promise<Found> {
    try {
      return await this.#ask(entry)
    } catch (error) {
      if (!isErrno(error, 'ESTALE')) throw error
      throw new PosixError('ENOENT', 'the directory is gone', { cause: error })
    }
  }

  async #ask(entry: Entry): Promise<Found> {
    const { keys, partitions } = this.#core
    const reply = await this.#core.read(
      SCRIPTS.lookup,
      keys.home(entry.parent),
      [keys.of(entry.parent).names(entry.parent)],
      [entry.parent, entry.name, entry.hash, partitions],
    )
    return { ino: reply.number(1), type: reply.number(2), record: reply.optionalBuffer(3) }
  }

  async #findOrNull(entry: Entry): Promise<Found | null> {
    try {
      return await this.#find(entry)
    } catch (error) {
      if (isErrno(error, 'ENOENT')) return null
      throw error
    }
  }

  /** Runs a script whose own keys are the names of the entry's directory and the ACLs of its partition. */
  #changeEntry(script: (typeof SCRIPTS)['create'], entry: Entry, args: readonly RedisArg[]): Promise<Reply> {
    const { keys } = this.#core
    const partition = keys.of(entry.parent)
    return this.#core.change(
      script,
      keys.home(entry.parent),
      [partition.names(entry.parent), partition.acls],
      [entry.parent, entry.name, entry.hash, ...args],
    )
  }

  /** `created: false` with an attr: the caller opens it himself. */
  async create(
    parent: number,
    name: Buffer,
    inode: NewInode,
    { exclusive, open }: { readonly exclusive: boolean; readonly open: boolean },
    saw?: SawDirectory,
  ): Promise<CreateReply> {
    const entry = entryOf(parent, name)
    const { kind, tail } = tailOf(inode)
    return await untilDone(this.#core, async () => {
      const reply = await this.#changeEntry(SCRIPTS.create, entry, [
        typeCode(inode.type),
        inode.mode & 0o7777,
        inode.uid,
        inode.gid,
        kind,
        tail,
        exclusive ? 1 : 0,
        open ? 1 : 0,
        this.#core.partitions,
        inode.umask ?? 0,
        this.#core.lone,
      ])
      // Who finds a name and loses it to another client's unlink makes it: ENOENT would be no answer to O_CREAT.
      if (reply.status === STATUS_FAR) {
        const ino = reply.number(1)
        return { created: false, attr: await this.#orBorn(this.#getattr(ino), [[entry, ino]], 'restart') }
      }
      tell(saw, parent, reply.optionalBuffer(4))
      return { created: reply.number(1) === 1, attr: decodeInode(reply.number(2), reply.buffer(3)).attr }
    })
  }

  async tmpfile(parent: number, inode: NewInode): Promise<Attr> {
    const { keys, partitions } = this.#core
    const { mode, uid, gid, umask = 0 } = inode
    const args = [parent, mode & 0o7777, uid, gid, partitions, umask, this.#core.lone]
    const reply = await this.#core.change(SCRIPTS.tmpfile, keys.home(parent), [keys.of(parent).acls], args)
    return decodeInode(reply.number(1), reply.buffer(2)).attr
  }

  /** One round trip: the name. The inode follows (births.ts). */
  async mkdir(parent: number, name: Buffer, made: NewDirectory, saw?: SawDirectory): Promise<Attr> {
    const entry = entryOf(parent, name)
    const { births, keys } = this.#core
    const number = await births.number()
    await this.#core.step('mkdir:reserved')
    const reply = await this.#nameDirectory(entry, number, made)
    await this.#core.step('mkdir:committed')
    const birth = reply.buffer(3)
    if (birth.length > 0) births.add(number.ino, keys.home(parent), birth)
    tell(saw, parent, reply.buffer(2))
    return decodeInode(number.ino, reply.buffer(1)).attr
  }

  async #nameDirectory(entry: Entry, number: Reserved, { mode, uid, gid, umask }: NewDirectory): Promise<Reply> {
    const { keys, partitions, births } = this.#core
    const { parent, name, hash } = entry
    const partition = keys.of(parent)
    const { store } = this.#core.options
    const server = store.serverOf(partition.inodes)
    try {
      return await this.#core.change(
        SCRIPTS.mkdir,
        keys.home(parent),
        [partition.names(parent), partition.acls, partition.reserved],
        [parent, name, hash, number.ino, number.session, mode & 0o7777, uid, gid, umask, partitions],
      )
    } catch (error) {
      // Of EIO nobody knows what was done before it, nor what a server did that was replaced.
      const isKnown = error instanceof PosixError && error.code !== 'EIO'
      if (isKnown && store.serverOf(partition.inodes) === server) births.giveBack(number)
      throw error
    }
  }

  /** ENOENT of an inode that a name led to: it may be a directory that is still to be made. Else `otherwise` is done. */
  async #orBorn<T>(
    work: Promise<T>,
    found: readonly (readonly [Entry, number])[],
    otherwise: 'restart' | 'fail',
  ): Promise<T> {
    try {
      return await work
    } catch (error) {
      if (!isErrno(error, 'ENOENT')) throw error
      const { births } = this.#core
      const made = await Promise.all(found.map(([entry, ino]) => births.mend(entry.parent, ino)))
      if (made.includes(true)) throw new Restart()
      throw otherwise === 'restart' ? new Restart(true) : error
    }
  }

  async link(ino: number, parent: number, name: Buffer, saw?: SawDirectory): Promise<Attr> {
    const entry = entryOf(parent, name)
    const { keys } = this.#core
    if (keys.home(ino) === keys.home(parent)) {
      const reply = await this.#changeEntry(SCRIPTS.link, entry, [ino])
      tell(saw, parent, reply.buffer(2))
      return decodeInode(ino, reply.buffer(1)).attr
    }
    const { type } = await this.#getattr(ino)
    if (type === 'directory') {
      // As link.lua has it: the path leads through a file before anything is said of what it names.
      if ((await this.#getattr(parent)).type !== 'directory') throw new PosixError('ENOTDIR', 'not a directory')
      throw new PosixError('EPERM', 'a directory cannot have a second name')
    }
    await untilDone(this.#core, () =>
      new Transaction(this.#core, 'link', parent).run([
        changeInode(ino, 1),
        putEntry(entry, ino, typeCode(type), 0, null),
      ]),
    )
    return this.#getattr(ino)
  }

  unlink(parent: number, name: Buffer, saw?: SawDirectory): Promise<Attr> {
    return untilDone(this.#core, async () => {
      const entry = entryOf(parent, name)
      const reply = await this.#changeEntry(SCRIPTS.unlink, entry, [this.#core.partitions])
      if (reply.status !== STATUS_FAR) {
        tell(saw, parent, reply.buffer(3))
        return decodeInode(reply.number(1), reply.buffer(2)).attr
      }
      const ino = reply.number(1)
      const before = await restartIfGone(this.#getattr(ino))
      const tx = new Transaction(this.#core, 'unlink', parent)
      await tx.run([changeInode(ino, -1), removeEntry(entry, ino, reply.number(2), 0)])
      return before.nlink > 1 ? { ...before, nlink: before.nlink - 1 } : await this.#leftOf(before)
    })
  }

  /** It may have got another name meanwhile, and who takes it for gone forgets what an fsync owes it. So it is not called gone unseen. */
  async #leftOf(before: Attr): Promise<Attr> {
    try {
      return await this.#getattr(before.ino)
    } catch (error) {
      return isErrno(error, 'ENOENT') ? { ...before, nlink: 0 } : before
    }
  }

  /** Two round trips with a guess of what the name means, which is tried once. */
  async rmdir(parent: number, name: Buffer, saw?: SawDirectory, guess = 0): Promise<number> {
    const entry = entryOf(parent, name)
    if (guess !== 0 && (await this.#rmdirGuessed(entry, guess, saw))) return guess
    return await untilDone(this.#core, async () => {
      const found = await this.#find(entry)
      if (found.type !== DIRECTORY) throw new PosixError('ENOTDIR', 'not a directory')
      await this.#orBorn(this.#rmdirOf(entry, found.ino, saw), [[entry, found.ino]], 'restart')
      return found.ino
    })
  }

  #rmdirOf(entry: Entry, ino: number, saw?: SawDirectory): Promise<void> {
    const parts = [removeDirectory(ino), removeEntry(entry, ino, DIRECTORY, -1)]
    return new Transaction(this.#core, 'rmdir', entry.parent).run(parts, saw)
  }

  /** false: nothing was done. A refusal may be about another directory than the one that has the name. */
  async #rmdirGuessed(entry: Entry, ino: number, saw?: SawDirectory): Promise<boolean> {
    try {
      await this.#rmdirOf(entry, ino, saw)
      return true
    } catch (error) {
      if (error instanceof Restart || isErrno(error, 'ENOENT') || isErrno(error, 'ENOTDIR')) return false
      if (isErrno(error, 'ENOTEMPTY')) return false
      throw error
    }
  }

  async rename(
    parent: number,
    name: Buffer,
    newParent: number,
    newName: Buffer,
    flags: RenameFlags,
    saw?: SawDirectory,
  ): Promise<RenameReply> {
    const from = entryOf(parent, name)
    const to = entryOf(newParent, newName)
    if (flags.exchange === true) {
      if (flags.noReplace === true) throw new PosixError('EINVAL', 'an exchange replaces both names')
      const deps = {
        core: this.#core,
        getattr: this.#getattr,
        find: (entry: Entry) => this.#find(entry),
        orBorn: (work: Promise<void>, found: readonly (readonly [Entry, number])[]) =>
          this.#orBorn(work, found, 'restart'),
      }
      return await exchange(deps, from, to)
    }
    const isLocal = this.#core.keys.home(parent) === this.#core.keys.home(newParent)
    return await untilDone(this.#core, async () => {
      const done = isLocal ? await this.#renameLocal(from, to, flags, saw) : null
      return done ?? (await this.#renameFar(from, to, flags, saw))
    })
  }

  /** null: takes a transaction. */
  async #renameLocal(from: Entry, to: Entry, flags: RenameFlags, saw?: SawDirectory): Promise<RenameReply | null> {
    const { keys, partitions } = this.#core
    const partition = keys.of(from.parent)
    const reply = await this.#core.change(
      SCRIPTS.rename,
      keys.home(from.parent),
      [partition.names(from.parent), partition.names(to.parent)],
      [from.parent, from.name, from.hash, to.parent, to.name, to.hash, flags.noReplace === true ? 1 : 0, partitions],
    )
    if (reply.status === STATUS_FAR) return null
    tell(saw, from.parent, reply.optionalBuffer(3))
    tell(saw, to.parent, reply.optionalBuffer(4))
    const moved = reply.number(1)
    // A directory renamed in its parent: its inode is elsewhere. Only its ctime is still missing.
    if (reply.number(2) === 1) await this.#inodes.touch(moved).catch(ignoreGone)
    return { moved, replaced: reply.length > 3 ? reply.number(5) : moved }
  }

  async #renameFar(from: Entry, to: Entry, flags: RenameFlags, saw?: SawDirectory): Promise<RenameReply> {
    const [source, target] = await Promise.all([this.#find(from), this.#findOrNull(to)])
    const reply = { moved: source.ino, replaced: target?.ino ?? 0 }
    if (target !== null) {
      if (flags.noReplace === true) throw new PosixError('EEXIST', 'the new name exists')
      if (target.ino === source.ino) return reply
      checkReplace(source.type, target.type)
    }
    const isDirectory = source.type === DIRECTORY
    const moves = isDirectory && from.parent !== to.parent
    const up = isDirectory ? 1 : 0
    const replaced = target === null ? [] : [replacedPart(target)]
    const parts = [
      removeEntry(from, source.ino, source.type, -up),
      putEntry(to, source.ino, source.type, up - (target?.type === DIRECTORY ? 1 : 0), target),
      changeInode(source.ino, 0, moves ? to.parent : 0),
      ...replaced,
    ]
    const tx = new Transaction(this.#core, 'rename', to.parent)
    const found: [Entry, number][] = [[from, source.ino]]
    if (target !== null) found.push([to, target.ino])
    const run = (): Promise<void> => this.#orBorn(restartIfExists(tx.run(parts, saw), flags), found, 'fail')
    if (!moves) {
      await run()
      return reply
    }
    await withMoveLease(this.#core, tx, async () => {
      await refuseLoop(this.#getattr, source.ino, to.parent)
      await run()
    })
    return reply
  }
}

function tell(saw: SawDirectory | undefined, ino: number, record: Buffer | null): void {
  if (saw !== undefined && record !== null) saw(decodeInode(ino, record).attr)
}

function entryOf(parent: number, name: Buffer): Entry {
  if (name.length > NAME_MAX_BYTES) throw new PosixError('ENAMETOOLONG', `a name has at most ${NAME_MAX_BYTES} bytes`)
  if (name.length === 0) throw new PosixError('ENOENT', 'an empty name')
  if (name.includes(0) || name.includes(0x2f)) throw new PosixError('EINVAL', 'a name has no slash and no NUL')
  // The caller walks these itself: as entries they would hide the real ones.
  if (isDots(name)) throw new PosixError('EINVAL', '. and .. are no names of entries')
  return { parent, name, hash: nameHash(name) }
}

function tailOf(inode: NewInode): { kind: number; tail: Buffer } {
  if (inode.type === 'symlink') {
    const target = inode.target ?? Buffer.alloc(0)
    if (target.length === 0) throw new PosixError('ENOENT', 'a symlink has a target')
    if (target.length > SYMLINK_MAX_BYTES) throw new PosixError('ENAMETOOLONG', 'the target of a symlink is too long')
    return { kind: TAIL_TARGET, tail: target }
  }
  if (inode.type === 'char' || inode.type === 'block') {
    const tail = Buffer.alloc(7)
    writeU56(tail, inode.rdev ?? 0, 0)
    return { kind: TAIL_NUMBER, tail }
  }
  if (inode.type === 'directory') throw new PosixError('EINVAL', 'directories are made by mkdir')
  return { kind: TAIL_NONE, tail: Buffer.alloc(0) }
}

/** rename(2): a directory replaces an empty directory only, and nothing else replaces one. */
function checkReplace(source: number, target: number): void {
  if (source === DIRECTORY && target !== DIRECTORY) throw new PosixError('ENOTDIR', 'the new name is no directory')
  if (source !== DIRECTORY && target === DIRECTORY) throw new PosixError('EISDIR', 'the new name is a directory')
}

function replacedPart(target: Found): ReturnType<typeof changeInode> {
  return target.type === DIRECTORY ? removeDirectory(target.ino) : changeInode(target.ino, -1)
}

/** The new name came into being after we looked: a rename that may replace it looks again. */
async function restartIfExists(work: Promise<void>, flags: RenameFlags): Promise<void> {
  try {
    await work
  } catch (error) {
    const isRace = isErrno(error, 'EEXIST') && flags.noReplace !== true
    if (isRace) throw new Restart()
    throw error
  }
}
