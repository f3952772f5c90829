/**
 * One mount of fuse-native: the table of its operations. The package calls `_op_<name>(signal, …)`; each is replaced here,
 * because its own versions lose results (fgetattr asks by path, no links show as one link, a value longer than the
 * caller's buffer is read beyond its end) and leave requests unanswered when a handler throws.
 *
 * Every request is answered exactly once: #answer calls `signal` in one place, after the work, whatever happened. Fewer, and a
 * process waits for ever; more, and a thread of the library reads memory that is gone. The package's own time limit would
 * answer a second time, so it is off.
 *
 * Not offered, so that the kernel does it or says ENOSYS itself:
 * - create: it comes without the flags of open. Without it the kernel calls mknod and open, which has them (O_APPEND).
 * - access: default_permissions. opendir, releasedir: readdir has no descriptor. locks: the kernel's own, for this mount.
 */
import Fuse from 'fuse-native'
import type { TimeSpec } from '../../base/clock.js'
import { errnoOf, PosixError } from '../../base/errno.js'
import { messageOf, RingfsError } from '../../base/errors.js'
import type { Log } from '../../base/log.js'
import { Metrics } from '../../base/metrics.js'
import { decodeLossy } from './names.js'
import type { PathOps } from './ops.js'
import { timeFromMs, utimensTimes } from './record.js'
import { entryStatArray, NO_STAT, NO_STATFS, statArray, statfsArray } from './stat.js'
import { joinNames, refuseXattr, xattrResult } from './xattr.js'

type Signal = Fuse.Signal
type Reply = readonly [result: number, ...values: unknown[]]

const OPERATIONS = [
  ...['statfs', 'getattr', 'fgetattr', 'chmod', 'chown', 'utimens', 'truncate', 'ftruncate'],
  ...['readlink', 'readdir', 'fsyncdir', 'mknod', 'mkdir', 'symlink', 'link', 'unlink', 'rmdir', 'rename'],
  ...['open', 'read', 'write', 'flush', 'fsync', 'release', 'getxattr', 'listxattr', 'setxattr', 'removexattr'],
]
const OPCODE_UTIMENS = 12
const START_TIMEOUT_MS = 30_000
const DONE: Reply = [0]
const NO_LISTING: readonly unknown[] = [[], []]

// The package's own unmount runs a shell; by the time it is called here the kernel's part is over (see close).
Fuse.unmount = (_mountpoint, done) => done(null)

export class Session extends Fuse {
  readonly #ops: PathOps
  readonly #log: Log
  readonly #metrics: Metrics
  readonly #options: string
  /** Both times of the utimens that is being taken in. */
  #times: readonly [TimeSpec, TimeSpec] | undefined

  constructor(mountpoint: string, options: string, ops: PathOps, log: Log, metrics = new Metrics()) {
    super(mountpoint, Object.fromEntries(OPERATIONS.map((name) => [name, true])), { timeout: false })
    this.#ops = ops
    this.#log = log
    this.#metrics = metrics
    this.#options = options
    this.#takeTimes()
  }

  /** Resolves when the kernel has said hello. Errors: RingfsError MOUNT_FAILED; then there may be a mount without a server. */
  start(): Promise<void> {
    return new Promise((resolve, reject) => {
      const late = new Error(`no request came within ${START_TIMEOUT_MS} ms`)
      const timer = setTimeout(() => reject(mountFailed(late)), START_TIMEOUT_MS)
      this.mount((error) => {
        clearTimeout(timer)
        if (error) reject(mountFailed(error))
        else resolve()
      })
    })
  }

  /** Frees what keeps the event loop alive, after the unmount. Not `close` or `_close`: the package has methods of these names. */
  stop(): Promise<void> {
    return new Promise((resolve) => this._close(() => resolve()))
  }

  protected override _fuseOptions(): string {
    return this.#options
  }

  _op_statfs(signal: Signal): void {
    this.#answer('statfs', signal, [NO_STATFS], async () => [0, statfsArray(await this.#ops.statfs())])
  }

  _op_getattr(signal: Signal, path: string): void {
    this.#answer('getattr', signal, [NO_STAT], async () => [0, statArray(await this.#ops.getattr(path))])
  }

  _op_fgetattr(signal: Signal, path: string, fd: number): void {
    this.#answer('fgetattr', signal, [NO_STAT], async () => [0, statArray(await this.#ops.fgetattr(path, fd))])
  }

  _op_chmod(signal: Signal, path: string, mode: number): void {
    this.#do('chmod', signal, () => this.#ops.chmod(path, mode))
  }

  _op_chown(signal: Signal, path: string, uid: number, gid: number): void {
    this.#do('chown', signal, () => this.#ops.chown(path, uid, gid))
  }

  _op_utimens(signal: Signal, path: string, atimeLow: number, atimeHigh: number): void {
    const both = timeFromMs(uint64(atimeLow, atimeHigh))
    const [atime, mtime] = this.#times ?? [both, both]
    this.#do('utimens', signal, () => this.#ops.utimens(path, atime, mtime))
  }

  _op_truncate(signal: Signal, path: string, low: number, high: number): void {
    this.#do('truncate', signal, () => this.#ops.truncate(path, uint64(low, high)))
  }

  _op_ftruncate(signal: Signal, _path: string, fd: number, low: number, high: number): void {
    this.#do('ftruncate', signal, () => this.#ops.ftruncate(fd, uint64(low, high)))
  }

  _op_readlink(signal: Signal, path: string): void {
    this.#answer('readlink', signal, [''], async () => [0, await this.#ops.readlink(path)])
  }

  _op_readdir(signal: Signal, path: string): void {
    this.#answer('readdir', signal, NO_LISTING, async () => {
      const entries = await this.#ops.readdir(path)
      const names = entries.map(({ name }) => decodeLossy(name))
      return [0, names, entries.map(({ ino, dtype }) => entryStatArray(ino, dtype))]
    })
  }

  _op_fsyncdir(signal: Signal, path: string): void {
    this.#do('fsyncdir', signal, () => this.#ops.fsyncdir(path))
  }

  _op_mknod(signal: Signal, path: string, mode: number, rdev: number): void {
    this.#do('mknod', signal, () => this.#ops.mknod(path, mode, rdev))
  }

  _op_mkdir(signal: Signal, path: string, mode: number): void {
    this.#do('mkdir', signal, () => this.#ops.mkdir(path, mode))
  }

  _op_symlink(signal: Signal, target: string, path: string): void {
    this.#do('symlink', signal, () => this.#ops.symlink(target, path))
  }

  _op_link(signal: Signal, source: string, path: string): void {
    this.#do('link', signal, () => this.#ops.link(source, path))
  }

  _op_unlink(signal: Signal, path: string): void {
    this.#do('unlink', signal, () => this.#ops.unlink(path))
  }

  _op_rmdir(signal: Signal, path: string): void {
    this.#do('rmdir', signal, () => this.#ops.rmdir(path))
  }

  _op_rename(signal: Signal, source: string, target: string): void {
    this.#do('rename', signal, () => this.#ops.rename(source, target))
  }

  _op_open(signal: Signal, path: string, flags: number): void {
    this.#answer('open', signal, [0], async () => [0, await this.#ops.open(path, flags)])
  }

  /** The C side detaches the memory from `buffer.buffer`, so that must come along with every answer. */
  _op_read(signal: Signal, _path: string, fd: number, buffer: Buffer, length: number, low: number, high: number): void {
    this.#answer('read', signal, [0, buffer.buffer], async () => {
      const data = await this.#ops.read(fd, uint64(low, high), length)
      return [data.copy(buffer), 0, buffer.buffer]
    })
  }

  _op_write(signal: Signal, _path: string, fd: number, data: Buffer, _length: number, low: number, high: number): void {
    this.#answer('write', signal, [0, data.buffer], async () => {
      return [await this.#ops.write(fd, uint64(low, high), data), 0, data.buffer]
    })
  }

  _op_flush(signal: Signal, _path: string, fd: number): void {
    this.#do('flush', signal, () => this.#ops.flush(fd))
  }

  _op_fsync(signal: Signal, _path: string, dataOnly: number, fd: number): void {
    this.#do('fsync', signal, () => this.#ops.fsync(fd, dataOnly !== 0))
  }

  _op_release(signal: Signal, _path: string, fd: number): void {
    this.#do('release', signal, () => this.#ops.release(fd))
  }

  _op_getxattr(signal: Signal, path: string, name: string, buffer: Buffer): void {
    this.#answer('getxattr', signal, [buffer.buffer], async () => {
      refuseXattr(name, 'get')
      return [xattrResult(await this.#ops.getxattr(path, name), buffer), buffer.buffer]
    })
  }

  _op_listxattr(signal: Signal, path: string, buffer: Buffer): void {
    this.#answer('listxattr', signal, [buffer.buffer], async () => {
      return [xattrResult(joinNames(await this.#ops.listxattr(path)), buffer), buffer.buffer]
    })
  }

  _op_setxattr(signal: Signal, path: string, name: string, value: Buffer, _position: number, flags: number): void {
    this.#answer('setxattr', signal, [value.buffer], async () => {
      refuseXattr(name, 'set')
      await this.#ops.setxattr(path, name, value, flags)
      return [0, value.buffer]
    })
  }

  _op_removexattr(signal: Signal, path: string, name: string): void {
    this.#do('removexattr', signal, async () => {
      refuseXattr(name, 'set')
      await this.#ops.removexattr(path, name)
    })
  }

  #do(name: string, signal: Signal, work: () => Promise<void>): void {
    this.#answer(name, signal, [], async () => {
      await work()
      return DONE
    })
  }

  /** `onFailure`: what must come after the errno for this operation. */
  #answer(name: string, signal: Signal, onFailure: readonly unknown[], work: () => Promise<Reply>): void {
    const timer = this.#metrics.timer('fuse', name)
    const startMs = performance.now()
    const failed = (error: unknown): Reply => {
      timer.errors++
      if (!(error instanceof PosixError))
        this.#log.error({ operation: name, error: messageOf(error) }, 'request failed')
      return [-errnoOf(error), ...onFailure]
    }
    void work()
      .catch(failed)
      .then((reply) => {
        timer.record(performance.now() - startMs)
        signal(...reply)
      })
  }

  /** fuse-native.c gives the access time twice; the other one is read from its record of the request. */
  #takeTimes(): void {
    const original = this._handlers[OPCODE_UTIMENS]
    this._handlers[OPCODE_UTIMENS] = (record, opcode, ...values) => {
      this.#times = utimensTimes(record, opcode)
      original?.(record, opcode, ...values)
    }
  }
}

function uint64(low: number, high: number): number {
  return low + high * 2 ** 32
}

function mountFailed(error: Error): RingfsError {
  const hint = 'see the line above; it needs /dev/fuse (modprobe fuse), and root or fusermount (package fuse3)'
  return new RingfsError('MOUNT_FAILED', `mounting with fuse-native failed (${error.message}): ${hint}`, {
    cause: error,
  })
}
