/** Whether a data folder is still the one that it was, and can be written. Synchronous: it runs in a worker. */
import { codeOf } from '../../base/errors.js'
import { closeSync, fdatasyncSync, openSync, unlinkSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { PosixError } from '../../base/errno.js'
import { readIdentity } from './identity.js'
import { ChunkPaths } from './paths.js'

export interface ProbeTask {
  readonly folder: string
  /** Volume uuid. */
  readonly volume: string
  /** Id of the disk. */
  readonly disk: string
  /** Waits until it is on disk: a dead disk takes what goes into the page cache without a word. */
  readonly sync: boolean
  /** Over shared memory: not 0 from when it has begun. Waiting for a thread is no delay of the disk. */
  readonly begun: Int32Array
}

/** What `begun` is made of. */
export function notBegun(): Int32Array {
  return new Int32Array(new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT))
}

const PROBE_BYTES = 4096
/** It is full, or this process is short of something: neither is a failure of the disk. */
const HARMLESS = new Set(['ENOSPC', 'EDQUOT', 'EMFILE', 'ENFILE', 'ENOMEM'])

/** Errors: why the disk cannot be used. */
export function probeDisk(task: ProbeTask): void {
  Atomics.store(task.begun, 0, 1)
  const identity = harmless(() => readIdentity(task.folder, task.volume))
  if (identity === 'unknown') return
  if (identity === undefined) throw new PosixError('ENOENT', `${task.folder} has gone`)
  if (identity.disk !== task.disk) throw new PosixError('ENODEV', `another disk is at ${task.folder}`)
  harmless(() => tryWriting(task))
}

function tryWriting({ folder, sync }: ProbeTask): void {
  const file = join(new ChunkPaths(folder).temporary, 'probe')
  const fd = openSync(file, 'w', 0o600)
  try {
    writeSync(fd, Buffer.alloc(PROBE_BYTES))
    if (sync) fdatasyncSync(fd)
  } finally {
    closeSync(fd)
    unlinkSync(file)
  }
}

function harmless<T>(work: () => T): T | 'unknown' {
  try {
    return work()
  } catch (error) {
    if (HARMLESS.has(codeOf(error))) return 'unknown'
    throw error
  }
}
