/**
 * `ringfs put`: local files into the volume.
 *
 * Invariants. A file gets its name in the volume only when it is whole: it is written under a temporary name beside it and
 * renamed. The temporary name is made of the machine and of the local path, inode, size and times, so an interrupted put is found
 * and continued by the next, never with other contents, and never disturbed by another machine, nor by another put of this one while it runs,
 * whatever file that finds at the path (one-copy.ts). It is written front to back, and what could not be stored is a hole: so all
 * before its first hole is good, whatever lies behind. But it may be in the memory of nodes only: it is on their disks before the file gets its
 * name, and none behind a multiple of SYNC_BYTES is written before all up to the multiple before that one is, so that the next put trusts no
 * byte that a loss of power may have taken. When the command ends well, the names are as durable. A local file that changes
 * meanwhile is an error, not a mixture.
 */
import { createHash, randomBytes } from 'node:crypto'
import { lstat, open, opendir, readlink, realpath, stat, type FileHandle } from 'node:fs/promises'
import { basename, join } from 'node:path'
import type { BigIntStats } from 'node:fs'
import type { Command } from 'commander'
import { isDots } from '../../base/dots.js'
import { PosixError } from '../../base/errno.js'
import { RingfsError } from '../../base/errors.js'
import { KIB, MIB } from '../../base/limits.js'
import type { Attr, TimeSpec } from '../../vfs/contract.js'
import { O_CREAT, O_EXCL, O_WRONLY, SEEK_HOLE } from '../../vfs/flags.js'
import type { CliContext } from '../context.js'
import { failureText, systemError } from '../failures.js'
import { Checkpoints, bytesCertain } from './checkpoints.js'
import { mkdir } from './mkdir.js'
import { Names } from './names.js'
import { lockCopy } from './one-copy.js'
import { ALL_BEFORE, each } from './parallel.js'
import type { FileProgress, Progress } from './progress.js'
import { named, type Session } from './session.js'
import { PIECE_BYTES, transferCommand, type Transfer, type TransferOptions } from './transfer.js'

/** A failed upload is heard of then, too. An interrupted put sends at most twice as much again. */
const SYNC_BYTES = 32 * MIB
/** Files whose length nobody knows are read so. */
const PIECE_MIN_BYTES = 64 * KIB
const PREFIX = '.ringfs-put-'

export function register(program: Command, context: CliContext): void {
  const begin = (session: Session, options: TransferOptions, progress: Progress): Upload =>
    new Upload(session, context.machine, options, progress)
  transferCommand(program.command('put'), context, 'put', begin)
    .summary('copy local files into a volume')
    .description(
      'Copies local files into a volume. Run it again after an interruption, and it goes on where it stopped.',
    )
    .usage('[options] <from...> <to>')
    .argument('<paths...>', 'local paths, and then path in the volume: a directory, or a new name for one file')
    .addHelpText('after', '\nExamples:\n  $ ringfs put cat.jpg /photos/\n  $ ringfs put -r ~/photos /backup')
}

interface Job {
  readonly local: string
  readonly parent: number
  readonly name: Buffer
  readonly stat: BigIntStats
  /** What this run has copied before. */
  readonly replaces: boolean
}

class Upload implements Transfer {
  readonly #session: Session
  readonly #machine: string
  readonly #options: TransferOptions
  readonly #progress: Progress

  constructor(session: Session, machine: string, options: TransferOptions, progress: Progress) {
    this.#session = session
    this.#machine = machine
    this.#options = options
    this.#progress = progress
  }

  async run(from: readonly string[], to: string): Promise<void> {
    await each(this.#jobs(from, to), this.#options.parallel, (job) => named(job.local, this.#put(job)))
    await this.#session.vfs.syncAll(true)
  }

  async *#jobs(from: readonly string[], to: string): AsyncGenerator<Job | typeof ALL_BEFORE> {
    const target = await this.#session.statOrNull(to, 'always')
    const isFolder = target?.type === 'directory'
    if (!isFolder && (from.length > 1 || to.endsWith('/'))) {
      throw new PosixError('ENOTDIR', `${to}: is not a directory in the volume (make it with ringfs mkdir)`)
    }
    const names = new Names<string>(this.#progress)
    for (const local of from) {
      const info = await localStat(local)
      const name = isFolder ? await nameOf(local) : ''
      const path = isFolder ? `${to}/${name}` : to
      const before = names.take(name, local, info.isDirectory() ? local : null)
      if (before === null) continue
      if (before.length > 0) yield ALL_BEFORE
      if (info.isDirectory()) yield* this.#tree(local, path, before)
      else yield { local, ...(await this.#session.place(path)), stat: info, replaces: false }
    }
  }

  /** `before`: folders that have become the same one. */
  async *#tree(local: string, path: string, before: readonly string[]): AsyncGenerator<Job> {
    if (this.#options.recursive !== true) {
      throw new PosixError('EISDIR', `${local}: is a directory (copy it with -r)`)
    }
    const known = await this.#session.statOrNull(path, 'always')
    if (known === null) await mkdir(this.#session, path, Number((await localStat(local)).mode) & 0o7777)
    else if (known.type !== 'directory') throw new PosixError('ENOTDIR', `${path}: exists and is not a directory`)
    const { ino } = await this.#session.stat(path, 'always')
    yield* this.#folder(local, ino, before)
  }

  /** Names of local files are taken as bytes. */
  async *#folder(local: string, ino: number, before: readonly string[]): AsyncGenerator<Job> {
    for await (const { name } of await opendir(local)) {
      const path = join(local, name)
      // By such a name it is not found here.
      if (name.includes('\ufffd')) {
        this.#progress.totals.skipped.push(`${path}: its name is not UTF-8; copy it through a mount`)
        continue
      }
      const info = await lstat(path, { bigint: true })
      const bytes = Buffer.from(name)
      const others = before.map((folder) => join(folder, name))
      if (info.isDirectory()) yield* this.#folder(path, await this.#subfolder(ino, bytes, info), others)
      else if (info.isSymbolicLink()) await this.#symlink(path, ino, bytes, await isOneThere(others))
      else if (info.isFile())
        yield { local: path, parent: ino, name: bytes, stat: info, replaces: await isOneThere(others) }
      else this.#progress.totals.skipped.push(`${path}: neither a file nor a directory nor a symbolic link`)
    }
  }

  async #subfolder(parent: number, name: Buffer, info: BigIntStats): Promise<number> {
    const known = await this.#session.lookupOrNull(parent, name)
    if (known?.type === 'directory') return known.ino
    const { vfs, caller } = this.#session
    return (await vfs.mkdir(caller, parent, name, Number(info.mode) & 0o7777)).ino
  }

  async #symlink(path: string, parent: number, name: Buffer, replaces: boolean): Promise<void> {
    const { vfs, caller } = this.#session
    const target = await readlink(path, 'buffer')
    const known = await this.#session.lookupOrNull(parent, name)
    if (known?.type === 'symlink' && (await vfs.readlink(caller, known.ino)).equals(target)) {
      this.#progress.totals.unchanged++
      return
    }
    if (known?.type === 'directory')
      throw new PosixError('EISDIR', `${path}: a directory of this name is in the volume`)
    if (known === null) await vfs.symlink(caller, parent, name, target)
    else await this.#replaceBySymlink(parent, name, target)
    this.#progress.copied(replaces)
  }

  /** What has the name keeps it until the link is there. */
  async #replaceBySymlink(parent: number, name: Buffer, target: Buffer): Promise<void> {
    const { vfs, caller } = this.#session
    const temporary = Buffer.from(`${PREFIX}${randomBytes(16).toString('hex')}`)
    await vfs.symlink(caller, parent, temporary, target)
    try {
      await vfs.rename(caller, parent, temporary, parent, name, {})
    } catch (error) {
      await vfs.unlink(caller, parent, temporary).catch(() => undefined)
      throw error
    }
  }

  async #put(job: Job): Promise<void> {
    const known = await this.#session.lookupOrNull(job.parent, job.name)
    if (known?.type === 'directory') throw new PosixError('EISDIR', 'a directory of this name is in the volume')
    if (known !== null && isSame(known, job.stat)) {
      this.#progress.totals.unchanged++
      return
    }
    const bar = this.#progress.file(job.local, Number(job.stat.size))
    const local = await open(job.local, 'r')
    try {
      await this.#send(job, local, bar)
      this.#progress.copied(job.replaces)
    } finally {
      bar.done()
      await local.close()
    }
  }

  async #send(job: Job, local: FileHandle, bar: FileProgress): Promise<void> {
    const { temporary, prefix } = await temporaryNames(this.#machine, job)
    const lock = await lockCopy([this.#session.volume, job.parent, prefix], job.local)
    try {
      await this.#removeOthers(job.parent, prefix, temporary)
      await this.#sendAlone(job, temporary, local, bar)
    } finally {
      await lock.release()
    }
  }

  async #sendAlone(job: Job, temporary: Buffer, local: FileHandle, bar: FileProgress): Promise<void> {
    const { vfs, caller } = this.#session
    const partial = await this.#partial(job.parent, temporary)
    const { attr, handle } =
      partial === null
        ? await vfs.create(caller, job.parent, temporary, Number(job.stat.mode) & 0o777, O_CREAT | O_EXCL | O_WRONLY)
        : await vfs.open(caller, partial.ino, O_WRONLY)
    try {
      if (attr.sizeBytes > Number(job.stat.size))
        throw new PosixError('EIO', 'the interrupted copy is longer than the file')
      const good = partial === null ? 0 : await this.#goodBytes(attr, handle)
      bar.resumed(good)
      const [sizeBytes, ino] = [Number(job.stat.size), attr.ino]
      await this.#write(local, { handle, ino, good, sizeBytes, hasHoles: hasHoles(job.stat) }, bar)
      await vfs.fsync(handle, false)
    } finally {
      await vfs.release(handle)
    }
    if (!(await this.#isUntouched(job.stat, local, attr.ino))) {
      await vfs.unlink(caller, job.parent, temporary)
      throw new RingfsError('USAGE', `${job.local} was changed while it was copied: run it again`)
    }
    const mode = Number(job.stat.mode) & 0o777
    await vfs.setattr(caller, attr.ino, { mode, mtime: timeOf(job.stat.mtimeNs) })
    await vfs.rename(caller, job.parent, temporary, job.parent, job.name, {})
  }

  /** A time of change that was set back shows in ctime, which other names and other rights change too: then what was sent is compared. */
  async #isUntouched(before: BigIntStats, local: FileHandle, ino: number): Promise<boolean> {
    const { vfs, caller } = this.#session
    const after = await local.stat({ bigint: true })
    if (before.size !== after.size || before.mtimeNs !== after.mtimeNs) return false
    if (before.ctimeNs === after.ctimeNs) return true
    const { handle } = await vfs.open(caller, ino, 0)
    try {
      if (!(await isEqual(local, (offset) => vfs.read(handle, offset, PIECE_BYTES)))) return false
    } finally {
      await vfs.release(handle)
    }
    const { size, mtimeNs, ctimeNs } = await local.stat({ bigint: true })
    return size === after.size && mtimeNs === after.mtimeNs && ctimeNs === after.ctimeNs
  }

  /** What an interrupted put of the same caller left. Whatever else has its name goes: somebody else has put it there. */
  async #partial(parent: number, temporary: Buffer): Promise<Attr | null> {
    const { vfs, caller } = this.#session
    const known = await this.#session.lookupOrNull(parent, temporary)
    if (known === null) return null
    if (known.type === 'file' && known.uid === caller.uid && known.nlink === 1) return known
    await vfs.unlink(caller, parent, temporary)
    return null
  }

  /** How much of an interrupted copy can stay: what lies behind a hole goes, and what may not be on disk. */
  async #goodBytes({ ino, sizeBytes }: Attr, handle: number): Promise<number> {
    const { vfs, caller } = this.#session
    const whole = sizeBytes === 0 ? 0 : await vfs.seek(handle, 0, SEEK_HOLE)
    const good = bytesCertain(whole, SYNC_BYTES)
    if (good < sizeBytes) await vfs.setattr(caller, ino, { sizeBytes: good }, handle)
    return good
  }

  /** Left by earlier attempts with the same file as it was then. Nobody sends any of them: the lock is for all with that prefix. */
  async #removeOthers(parent: number, prefix: string, temporary: Buffer): Promise<void> {
    const { vfs, caller } = this.#session
    if (this.#options.recursive === true) return
    for await (const { name } of this.#session.entries(parent, false)) {
      if (name.toString('latin1').startsWith(prefix) && !name.equals(temporary)) await vfs.unlink(caller, parent, name)
    }
  }

  /** Of a file that has holes, whole pieces of zeros become holes, too; where its are, Node cannot tell. */
  async #write(
    local: FileHandle,
    { handle, ino, good, sizeBytes, hasHoles }: Target,
    bar: FileProgress,
  ): Promise<void> {
    const { vfs, caller } = this.#session
    // V8 counts it: of a MiB for each small file a few dozen together are a full collection.
    const buffer = Buffer.allocUnsafe(Math.max(PIECE_MIN_BYTES, Math.min(PIECE_BYTES, sizeBytes)))
    const checkpoints = new Checkpoints(SYNC_BYTES, good, () => vfs.fsync(handle, true))
    for (let [offset, written] = [good, good]; ;) {
      const { bytesRead } = await local.read(buffer, 0, buffer.length, offset)
      if (bytesRead === 0) {
        if (written < offset) await vfs.setattr(caller, ino, { sizeBytes: offset }, handle)
        return await checkpoints.end()
      }
      const piece = buffer.subarray(0, bytesRead)
      offset += bytesRead
      if (!hasHoles || !piece.equals(ZEROS.subarray(0, bytesRead))) {
        await checkpoints.before(offset)
        // The VFS has copied the bytes when it answers.
        await vfs.write(handle, offset - bytesRead, piece)
        written = offset
      }
      bar.add(bytesRead)
    }
  }
}

interface Target {
  readonly handle: number
  readonly ino: number
  /** So much of it is there. */
  readonly good: number
  /** Of the local file; what the system makes as it is read says 0. */
  readonly sizeBytes: number
  readonly hasHoles: boolean
}

const BLOCK_BYTES = 512n
const ZEROS = Buffer.alloc(PIECE_BYTES)

function hasHoles({ blocks, size }: BigIntStats): boolean {
  return blocks * BLOCK_BYTES < size
}

async function isOneThere(paths: readonly string[]): Promise<boolean> {
  for (const path of paths) {
    const info = await lstat(path).catch(() => null)
    if (info?.isFile() === true || info?.isSymbolicLink() === true) return true
  }
  return false
}

/** A symbolic link's own; `.` and `..` have that of their directory. */
async function nameOf(local: string): Promise<string> {
  const name = basename(local)
  return isDots(Buffer.from(name)) ? basename(await realpath(local)) : name
}

async function localStat(path: string): Promise<BigIntStats> {
  try {
    return await stat(path, { bigint: true })
  } catch (error) {
    const reason = failureText(systemError(error) ?? error)
    throw new RingfsError('USAGE', `${path} cannot be read: ${reason}`, { cause: error })
  }
}

async function temporaryNames(
  machine: string,
  job: Job,
): Promise<{ readonly temporary: Buffer; readonly prefix: string }> {
  const short = (text: string): string => createHash('sha256').update(text).digest('hex').slice(0, 16)
  const { size, mtimeNs, ctimeNs, ino, dev } = job.stat
  const where = [machine, await realpath(job.local), job.name.toString('latin1')].join('\0')
  const prefix = `${PREFIX}${short(where)}-`
  return { temporary: Buffer.from(prefix + short(`${size} ${mtimeNs} ${ctimeNs} ${ino} ${dev}`)), prefix }
}

function isSame(attr: Attr, local: BigIntStats): boolean {
  if (attr.type !== 'file' || BigInt(attr.sizeBytes) !== local.size) return false
  const time = timeOf(local.mtimeNs)
  return attr.mtime.sec === time.sec && attr.mtime.nsec === time.nsec
}

/** Both to their ends. */
async function isEqual(local: FileHandle, readOther: (offset: number) => Promise<Buffer>): Promise<boolean> {
  const buffer = Buffer.allocUnsafe(PIECE_BYTES)
  for (let offset = 0; ;) {
    const [{ bytesRead }, other] = await Promise.all([local.read(buffer, 0, PIECE_BYTES, offset), readOther(offset)])
    if (!buffer.subarray(0, bytesRead).equals(other)) return false
    if (bytesRead === 0) return true
    offset += bytesRead
  }
}

function timeOf(ns: bigint): TimeSpec {
  const sec = ns >= 0n ? ns / 1_000_000_000n : -((999_999_999n - ns) / 1_000_000_000n)
  return { sec: Number(sec), nsec: Number(ns - sec * 1_000_000_000n) }
}
