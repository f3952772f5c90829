/** Names: lookup, making, linking, removing, renaming. Each change is one call of the store; the caches follow it. */
import { isDot, isDotDot } from '../base/dots.js'
import { PosixError, isErrno } from '../base/errno.js'
import type { Attr, NewInode, RenameFlags, RenameReply, SawDirectory } from '../meta/contract.js'
import type { Attributes } from './attributes.js'
import { NEGATIVE, orMissing } from './cache.js'
import type { Caller } from './contract.js'
import type { VfsContext } from './context.js'
import { MODE_BITS, S_IFMT, typeOfBits } from './flags.js'
import { changeNames } from './name-change.js'
import { checkEntry, checkName, checkTarget, ownerOf } from './names.js'

export class Namespace {
  readonly #context: VfsContext
  readonly #attributes: Attributes

  constructor(context: VfsContext, attributes: Attributes) {
    this.#context = context
    this.#attributes = attributes
  }

  async lookup(parent: number, name: Buffer): Promise<Attr> {
    checkName(name)
    if (isDot(name) || isDotDot(name)) return await this.#lookupDots(parent, name)
    const known = this.#context.dentries.peek(parent, name)
    const { meta, dentries, attrs, fresh } = this.#context
    if (known !== undefined) dentries.hits++
    else dentries.misses++
    if (known === NEGATIVE) throw new PosixError('ENOENT')
    if (known !== undefined) {
      const attr = await orMissing(this.#attributes.get(known))
      if (attr !== null) return attr
    }
    const mark = fresh.mark()
    const attr = await ofDirectory(orMissing(meta.lookup(parent, name)))
    dentries.put(parent, name, attr?.ino ?? NEGATIVE, mark)
    if (attr === null) throw new PosixError('ENOENT')
    attrs.put(attr, mark)
    return await this.#attributes.complete(attr)
  }

  async #lookupDots(parent: number, name: Buffer): Promise<Attr> {
    const attr = await this.#attributes.get(parent)
    if (attr.type !== 'directory') throw new PosixError('ENOTDIR')
    return isDot(name) ? attr : await this.#attributes.get(attr.parent)
  }

  async mknod(caller: Caller, parent: number, name: Buffer, mode: number, rdev: number): Promise<Attr> {
    const type = (mode & S_IFMT) === 0 ? 'file' : typeOfBits(mode)
    if (type === 'directory') throw new PosixError('EPERM', 'mkdir makes directories')
    if (type === undefined || type === 'symlink') throw new PosixError('EINVAL', 'no such type of file')
    const device = type === 'char' || type === 'block' ? { rdev } : {}
    return await this.#make(parent, name, { type, mode: mode & MODE_BITS, ...ownerOf(caller), ...device })
  }

  async symlink(caller: Caller, parent: number, name: Buffer, target: Buffer): Promise<Attr> {
    checkTarget(target)
    return await this.#make(parent, name, { type: 'symlink', mode: 0o777, ...ownerOf(caller), target })
  }

  async mkdir(caller: Caller, parent: number, name: Buffer, mode: number): Promise<Attr> {
    checkEntry(name, 'EEXIST', 'EEXIST')
    const { uid, gid, umask } = ownerOf(caller)
    const { meta, fresh, complete } = this.#context
    const make = (saw: SawDirectory): Promise<Attr> => meta.mkdir(parent, name, mode & MODE_BITS, uid, gid, umask, saw)
    const [mark, doubts] = [fresh.mark(), complete.mark()]
    const attr = await this.#added(parent, name, make)
    // Nobody else has done anything in it yet.
    if (fresh.inodeIsFresh(attr.ino, mark)) complete.add(attr.ino, doubts)
    return attr
  }

  async link(ino: number, parent: number, name: Buffer): Promise<Attr> {
    checkEntry(name, 'EEXIST', 'EEXIST')
    const { meta } = this.#context
    const link = (saw: SawDirectory): Promise<Attr> =>
      this.#context.mutate(ino, () => meta.link(ino, parent, name, saw))
    const attr = await this.#changed(parent, name, link, (reply) => reply.ino)
    return await this.#attributes.complete(attr)
  }

  async unlink(parent: number, name: Buffer): Promise<number> {
    checkEntry(name, 'EISDIR', 'EISDIR')
    const attr = await this.#changed(
      parent,
      name,
      (saw) => this.#context.meta.unlink(parent, name, saw),
      () => NEGATIVE,
    )
    this.#context.attrs.drop(attr.ino)
    if (attr.nlink === 0 && this.#context.states.peek(attr.ino) === undefined)
      this.#context.uploader.unsynced.forgetFile(attr.ino)
    return attr.ino
  }

  async rmdir(parent: number, name: Buffer): Promise<number> {
    checkEntry(name, 'EINVAL', 'ENOTEMPTY')
    const known = this.#context.dentries.peek(parent, name)
    await this.#seeOpenDirectory(known)
    // What the name is known to mean may have changed a moment ago: what is gone, the store says.
    const removed = await this.#changed(
      parent,
      name,
      (saw) => this.#context.meta.rmdir(parent, name, saw, known),
      () => NEGATIVE,
    )
    this.#context.attrs.drop(removed)
    this.#context.complete.forget(removed)
    return removed
  }

  async rename(
    parent: number,
    name: Buffer,
    newParent: number,
    newName: Buffer,
    flags: RenameFlags,
  ): Promise<RenameReply> {
    checkEntry(name, 'EBUSY', 'EBUSY')
    checkEntry(newName, flags.noReplace ? 'EEXIST' : 'EBUSY', flags.noReplace ? 'EEXIST' : 'EBUSY')
    const { meta, attrs } = this.#context
    await this.#seeOpenDirectory(await this.#meaning(newParent, newName))
    // What the names are known to mean may have changed a moment ago: what was moved, the store says.
    const { moved, replaced } = await changeNames(
      this.#context,
      [
        { parent, name },
        { parent: newParent, name: newName },
      ],
      (saw) => meta.rename(parent, name, newParent, newName, flags, saw),
      // Renaming one hard link of a file over another does nothing: both names stay.
      (reply) => [flags.exchange === true || reply.moved === reply.replaced ? reply.replaced : NEGATIVE, reply.moved],
    )
    for (const ino of [moved, replaced]) if (ino !== 0) attrs.drop(ino)
    return { moved, replaced }
  }

  /** The inode, or NEGATIVE; undefined while nothing is kept. */
  async #meaning(parent: number, name: Buffer): Promise<number | undefined> {
    const { dentries, fresh } = this.#context
    const known = dentries.peek(parent, name)
    if (known !== undefined || !fresh.hears(parent)) return known
    return (await orMissing(this.lookup(parent, name)))?.ino ?? NEGATIVE
  }

  async #make(parent: number, name: Buffer, inode: NewInode): Promise<Attr> {
    checkEntry(name, 'EEXIST', 'EEXIST')
    const { meta } = this.#context
    return await this.#added(
      parent,
      name,
      async (saw) => (await meta.create(parent, name, inode, { exclusive: true, open: false }, saw)).attr,
    )
  }

  async #added(parent: number, name: Buffer, make: (saw: SawDirectory) => Promise<Attr>): Promise<Attr> {
    const { fresh, attrs, tail } = this.#context
    const [mark, before] = [fresh.mark(), tail.mark()]
    const attr = await this.#changed(parent, name, make, (reply) => reply.ino)
    tail.made(attr.ino, before)
    attrs.put(attr, mark)
    return attr
  }

  /** Runs a change of a name; `means` tells what the name means afterwards. */
  #changed<T>(
    parent: number,
    name: Buffer,
    change: (saw: SawDirectory) => Promise<T>,
    means: (reply: T) => number,
  ): Promise<T> {
    return changeNames(this.#context, [{ parent, name }], change, (reply) => [means(reply)])
  }

  /** It may be gone in a moment: open-directories.ts. */
  async #seeOpenDirectory(ino: number | undefined): Promise<void> {
    if (ino === undefined || !this.#context.directories.has(ino)) return
    const attr = await orMissing(this.#context.attrs.get(ino))
    if (attr !== null) this.#context.directories.saw(attr)
  }
}

/** A name that is missing because its directory is gone: not kept as missing, for the directory is not there to be told of. */
async function ofDirectory<T>(question: Promise<T>): Promise<T> {
  try {
    return await question
  } catch (error) {
    if (!isErrno(error, 'ESTALE')) throw error
    throw new PosixError('ENOENT', 'the directory is gone', { cause: error })
  }
}
