/**
 * One change of a file at a time: whoever has made FILE.lock. In it stands its process, so that the next one can tell that it
 * was killed. Where that is not certain (another machine, boot or container), a person has to remove the lock.
 *
 * Invariant: a lock that somebody holds is not taken away. It is judged and removed by one at a time, who has made FILE.lock.left:
 * what that one finds to be left by a process that has ended nobody else changes or removes meanwhile.
 */
import { closeSync, fstatSync, openSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { RingfsError, codeOf } from '../base/errors.js'
import { systemProcesses } from '../base/processes.js'
import { readSmallFile } from '../base/small-file.js'
import { processSchema } from './runfiles.js'

/** How long another one's change is waited for. */
const WAIT_MS = 5_000
const RETRY_MS = 20

/**
 * `isOurs`: false if a person has removed the lock meanwhile, and perhaps somebody else has one.
 * Errors: RingfsError USAGE when somebody else has it.
 */
export function whileLocked(file: string, work: (isOurs: () => boolean) => void): void {
  const lock = `${file}.lock`
  const fd = acquire(lock)
  const isOurs = (): boolean => isSame(fd, lock)
  try {
    work(isOurs)
  } finally {
    if (isOurs()) rmSync(lock, { force: true })
    closeSync(fd)
  }
}

function acquire(lock: string): number {
  const untilMs = performance.now() + WAIT_MS
  for (;;) {
    const fd = tryToMake(lock)
    if (fd !== null) return fd
    removeLeft(lock)
    if (performance.now() > untilMs) {
      throw new RingfsError(
        'USAGE',
        `another ringfs key changes the keys, or was killed while it did: if none runs, remove ${there(lock)}`,
      )
    }
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, RETRY_MS)
  }
}

/** What is in the way. */
function there(lock: string): string {
  const left = leftOf(lock)
  return statSync(left, { throwIfNoEntry: false }) === undefined ? lock : `${left} and ${lock}`
}

function leftOf(lock: string): string {
  return `${lock}.left`
}

/** null: somebody has it. */
function tryToMake(lock: string): number | null {
  const fd = openNew(lock)
  if (fd === null) return null
  try {
    writeFileSync(fd, JSON.stringify(systemProcesses.self()))
    return fd
  } catch (error) {
    rmSync(lock, { force: true })
    closeSync(fd)
    throw error
  }
}

/** null: it exists. */
function openNew(path: string): number | null {
  try {
    return openSync(path, 'wx', 0o600)
  } catch (error) {
    if (codeOf(error) === 'EEXIST') return null
    throw error
  }
}

function removeLeft(lock: string): void {
  if (!isLeft(lock)) return
  const right = leftOf(lock)
  const fd = openNew(right)
  if (fd === null) return
  try {
    if (isLeft(lock)) rmSync(lock, { force: true })
  } finally {
    rmSync(right, { force: true })
    closeSync(fd)
  }
}

/** For certain. */
function isLeft(lock: string): boolean {
  try {
    return systemProcesses.hasEnded(processSchema.parse(JSON.parse(readSmallFile(lock))))
  } catch {
    return false
  }
}

/** The open one keeps its inode: no other file can have it. */
function isSame(fd: number, path: string): boolean {
  const own = fstatSync(fd)
  const there = statSync(path, { throwIfNoEntry: false })
  return there?.ino === own.ino && there.dev === own.dev
}
