/** Random file system operations, applied to a folder through system calls. */
import fc from 'fast-check'
import type { Stats } from 'node:fs'
import * as fs from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { within } from './deadline.js'
import { FALLOC, FLAGS, type FileCalls } from './file-calls.js'
import { errnoName } from './fs-ops.js'

const OPERATION_TIMEOUT_MS = 90_000
const SLOTS = 2
const EBUSY_TRIES = 20

/** Few names, so that operations meet: files and folders, two levels. */
const NAMES = ['a', 'b', 'd', 'd/a', 'd/b', 'd/e', 'd/e/a', 'ü']
const OPEN_FLAGS = ['r', 'r+', 'w', 'w+', 'wx', 'a', 'a+', 'ax'] as const

const path = fc.constantFrom(...NAMES)
const slot = fc.nat(SLOTS - 1)
const offset = fc.oneof(fc.nat(20), fc.nat(300_000))
const length = fc.oneof(fc.nat(20), fc.nat(150_000))
const fill = fc.integer({ min: 1, max: 255 })
const mode = fc.constantFrom(0o644, 0o600, 0o755, 0o777, 0o4755, 0o2755, 0o1777)
const id = fc.constantFrom(0, 1, 1000, 65534)
/** Milliseconds are all that fuse-native has. */
const timeMs = fc.integer({ min: 0, max: 4_000_000_000_000 })

export const operation = fc.oneof(
  { weight: 4, arbitrary: fc.record({ op: fc.constant('write'), path, length, fill }) },
  { weight: 3, arbitrary: fc.record({ op: fc.constant('append'), path, length, fill }) },
  { weight: 3, arbitrary: fc.record({ op: fc.constant('truncate'), path, length: offset }) },
  { weight: 3, arbitrary: fc.record({ op: fc.constant('read'), path }) },
  { weight: 3, arbitrary: fc.record({ op: fc.constant('mkdir'), path, mode }) },
  { weight: 2, arbitrary: fc.record({ op: fc.constant('rmdir'), path }) },
  { weight: 3, arbitrary: fc.record({ op: fc.constant('unlink'), path }) },
  { weight: 4, arbitrary: fc.record({ op: fc.constant('rename'), path, to: path }) },
  { weight: 2, arbitrary: fc.record({ op: fc.constant('link'), path, to: path }) },
  { weight: 2, arbitrary: fc.record({ op: fc.constant('symlink'), path, to: path }) },
  { weight: 1, arbitrary: fc.record({ op: fc.constant('readlink'), path }) },
  { weight: 2, arbitrary: fc.record({ op: fc.constant('chmod'), path, mode }) },
  { weight: 1, arbitrary: fc.record({ op: fc.constant('lchown'), path, uid: id, gid: id }) },
  { weight: 1, arbitrary: fc.record({ op: fc.constant('utimes'), path, atimeMs: timeMs, mtimeMs: timeMs }) },
  { weight: 3, arbitrary: fc.record({ op: fc.constant('stat'), path }) },
  { weight: 2, arbitrary: fc.record({ op: fc.constant('readdir'), path }) },
  { weight: 4, arbitrary: fc.record({ op: fc.constant('open'), path, slot, flags: fc.constantFrom(...OPEN_FLAGS) }) },
  { weight: 2, arbitrary: fc.record({ op: fc.constant('close'), slot }) },
  { weight: 4, arbitrary: fc.record({ op: fc.constant('pwrite'), slot, offset, length, fill }) },
  { weight: 3, arbitrary: fc.record({ op: fc.constant('pread'), slot, offset, length }) },
  { weight: 2, arbitrary: fc.record({ op: fc.constant('ftruncate'), slot, length: offset }) },
  { weight: 2, arbitrary: fc.record({ op: fc.constant('fstat'), slot }) },
  { weight: 1, arbitrary: fc.record({ op: fc.constant('fchmod'), slot, mode }) },
  { weight: 1, arbitrary: fc.record({ op: fc.constant('fsync'), slot }) },
)

/** Parts of files: only where the driver has them. */
export const rangeOperation = fc.oneof(
  { weight: 6, arbitrary: operation },
  {
    weight: 1,
    arbitrary: fc.record({
      op: fc.constant('fallocate'),
      path,
      mode: fc.constantFrom(0, FALLOC.keepSize, FALLOC.punch),
      offset,
      length,
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({ op: fc.constant('copy'), path, to: path, offset, toOffset: offset, length: offset }),
  },
)

export type Operation = typeof rangeOperation extends fc.Arbitrary<infer O> ? O : never

/** What every run begins with, so that there is something to work on. */
export const PRELUDE: readonly Operation[] = [
  { op: 'mkdir', path: 'd', mode: 0o755 },
  { op: 'mkdir', path: 'd/e', mode: 0o755 },
  { op: 'write', path: 'a', length: 100_000, fill: 1 },
  { op: 'write', path: 'd/a', length: 10, fill: 2 },
  { op: 'symlink', path: 'd/e/a', to: '../a' },
  { op: 'open', path: 'a', slot: 0, flags: 'r+' },
  { op: 'open', path: 'd/b', slot: 1, flags: 'w+' },
]

/** One side of the comparison. */
export class Side {
  readonly #root: string
  readonly #slots = new Map<number, fs.FileHandle>()

  readonly #calls: FileCalls | undefined

  /** `calls`: makes the operations on parts of files. */
  constructor(root: string, calls?: FileCalls) {
    this.#root = root
    this.#calls = calls
  }

  /** What the operation answered, or its errno, in a form that can be compared. */
  async apply(operation: Operation): Promise<unknown> {
    try {
      return await within(OPERATION_TIMEOUT_MS, this.#apply(operation), JSON.stringify(operation))
    } catch (error) {
      return errnoName(error)
    }
  }

  async closeAll(): Promise<void> {
    for (const file of this.#slots.values()) await file.close()
    this.#slots.clear()
  }

  async #isFolder(path: string): Promise<boolean> {
    return fs.lstat(this.#at(path)).then(
      (stat) => stat.isDirectory(),
      () => false,
    )
  }

  #at(path: string): string {
    return join(this.#root, path)
  }

  async #apply(operation: Operation): Promise<unknown> {
    switch (operation.op) {
      case 'open':
        await this.#close(operation.slot)
        this.#slots.set(operation.slot, await fs.open(this.#at(operation.path), operation.flags))
        return 'ok'
      case 'close':
        return this.#close(operation.slot)
      case 'pwrite':
      case 'pread':
      case 'ftruncate':
      case 'fstat':
      case 'fchmod':
      case 'fsync': {
        const file = this.#slots.get(operation.slot)
        return file === undefined ? 'nothing open' : onHandle(file, operation)
      }
      case 'fallocate': {
        const { path, mode, offset, length } = operation
        return this.#ranged(path, path, 'fallocate', 0, mode, offset, length)
      }
      case 'copy': {
        const { path, to, offset, toOffset, length } = operation
        return this.#ranged(path, to, 'copy', 0, offset, 1, toOffset, length)
      }
      case 'rmdir':
      case 'rename':
        // Documented for fuse-native: a folder cannot go while a removed file of it is open.
        if (await this.#isFolder(operation.op === 'rmdir' ? operation.path : operation.to)) await this.closeAll()
        return withoutBusy(() => this.#onPath(operation))
      default:
        return this.#onPath(operation)
    }
  }

  /** Opens both as 0 and 1 for the call. */
  async #ranged(path: string, to: string, ...call: readonly (string | number)[]): Promise<unknown> {
    const calls = this.#calls
    if (calls === undefined) throw new Error('nobody is there to make the call')
    const opened = [
      await calls.call('open', 0, this.#at(path), FLAGS.rdwr),
      await calls.call('open', 1, this.#at(to), FLAGS.rdwr),
    ]
    const outcome = opened.every((one) => one === 0) ? await calls.call(...call) : opened
    for (const [at, one] of opened.entries()) if (one === 0) await calls.call('close', at)
    return outcome
  }

  async #close(slot: number): Promise<string> {
    await this.#slots.get(slot)?.close()
    this.#slots.delete(slot)
    return 'ok'
  }

  async #onPath(operation: Operation & { path: string }): Promise<unknown> {
    const path = this.#at(operation.path)
    switch (operation.op) {
      case 'write':
        return fs.writeFile(path, Buffer.alloc(operation.length, operation.fill))
      case 'append':
        return fs.appendFile(path, Buffer.alloc(operation.length, operation.fill))
      case 'truncate':
        return fs.truncate(path, operation.length)
      case 'read':
        return summary(await fs.readFile(path))
      case 'mkdir':
        return fs.mkdir(path, operation.mode)
      case 'rmdir':
        return fs.rmdir(path)
      case 'unlink':
        return fs.unlink(path)
      case 'rename':
        return fs.rename(path, this.#at(operation.to))
      case 'link':
        return fs.link(path, this.#at(operation.to))
      case 'symlink':
        return fs.symlink(operation.to, path)
      case 'readlink':
        return fs.readlink(path)
      case 'chmod':
        return fs.chmod(path, operation.mode)
      case 'lchown':
        return fs.lchown(path, operation.uid, operation.gid)
      case 'utimes':
        return this.#utimes(path, operation.atimeMs, operation.mtimeMs)
      case 'stat':
        return describe(await fs.lstat(path))
      case 'readdir':
        return (await fs.readdir(path)).sort()
      default:
        throw new Error(`no path in ${operation.op}`)
    }
  }

  async #utimes(path: string, atimeMs: number, mtimeMs: number): Promise<unknown> {
    await fs.lutimes(path, atimeMs / 1000, mtimeMs / 1000)
    const stat = await fs.lstat(path)
    return [Math.abs(stat.atimeMs - atimeMs) <= 1, Math.abs(stat.mtimeMs - mtimeMs) <= 1]
  }
}

async function onHandle(file: fs.FileHandle, operation: Operation): Promise<unknown> {
  switch (operation.op) {
    case 'pwrite':
      return (await file.write(Buffer.alloc(operation.length, operation.fill), 0, operation.length, operation.offset))
        .bytesWritten
    case 'pread': {
      const { buffer, bytesRead } = await file.read(
        Buffer.alloc(operation.length),
        0,
        operation.length,
        operation.offset,
      )
      return summary(buffer.subarray(0, bytesRead))
    }
    case 'ftruncate':
      return file.truncate(operation.length)
    case 'fstat':
      return describe(await file.stat())
    case 'fchmod':
      return file.chmod(operation.mode)
    case 'fsync':
      return file.sync()
    default:
      throw new Error(`no handle in ${operation.op}`)
  }
}

/** The kernel tells of the last close after close(2) has returned: until then a folder may still be held. */
async function withoutBusy(work: () => Promise<unknown>): Promise<unknown> {
  for (let left = EBUSY_TRIES; ; left--) {
    try {
      return await work()
    } catch (error) {
      if (left === 0 || errnoName(error) !== 'EBUSY') throw error
      await sleep(20)
    }
  }
}

function describe(stat: Stats): string {
  const size = stat.isDirectory() ? '' : `size=${stat.size} `
  return `${(stat.mode & 0o177777).toString(8)} ${stat.uid}:${stat.gid} ${size}links=${stat.nlink}`
}

/** Runs of equal bytes, because that is what was written. */
function summary(data: Buffer): string {
  const runs: string[] = []
  for (let at = 0; at < data.length;) {
    let end = at + 1
    while (end < data.length && data[end] === data[at]) end++
    runs.push(`${end - at}x${data[at]}`)
    at = end
  }
  return runs.join(' ')
}
