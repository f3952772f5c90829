/** `ringfs backup`: a volume's metadata of one moment in one file. */
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { createWriteStream } from 'node:fs'
import { open, rm } from 'node:fs/promises'
import { dirname } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { createGzip, constants } from 'node:zlib'
import type { Clock } from '../../base/clock.js'
import { RingfsError } from '../../base/errors.js'
import type { RedisStore, VolumeSettings } from '../../cluster/contract.js'
import { whileFrozen } from '../freeze.js'
import { VolumeKeys } from '../keys.js'
import { keepMoments } from '../last-backup.js'
import { dumpVolume, type DumpFigures, type Sink } from './dump.js'
import { RecordWriter, encodeHead, encodePreamble } from './format.js'
import { place } from './place.js'

export interface BackupOptions {
  /** Of the program. */
  readonly version: string
  readonly clock: Clock
  /** A file that has the name is replaced. Default: no. */
  readonly replaces?: boolean
  /** Changes wait at most so long. */
  readonly maxPauseMs: number
  readonly onProgress: (partitionsDone: number, partitions: number) => void
  /** Aborted: changes go on at once, and no file is left. */
  readonly signal?: AbortSignal
}

export interface BackupResult {
  readonly inodes: number
  readonly names: number
  readonly bytes: number
  /** How long changes had to wait. */
  readonly pausedMs: number
}

/**
 * The file comes into being whole: under a temporary name first, on disk before it gets its own.
 * Errors: those of whileFrozen, of Redis and of the disk, CANCELLED, USAGE (a file of that name came meanwhile); then there is no file, unless
 * it is the folder that cannot be synced: then it is whole, and may not be there after a power loss.
 */
export async function backupVolume(
  store: RedisStore,
  settings: VolumeSettings,
  file: string,
  options: BackupOptions,
): Promise<BackupResult> {
  // Not the process id: several containers, or machines, may have the same.
  const temporary = `${file}.${randomBytes(4).toString('hex')}.new`
  try {
    const result = await writeBackup(store, settings, temporary, options)
    await place(temporary, file, options.replaces === true)
    await syncPath(dirname(file))
    return result
  } catch (error) {
    await rm(temporary, { force: true })
    throw error
  }
}

async function writeBackup(
  store: RedisStore,
  settings: VolumeSettings,
  path: string,
  options: BackupOptions,
): Promise<BackupResult> {
  const { clock, version, maxPauseMs, onProgress, signal } = options
  const keys = new VolumeKeys(settings.name, settings.partitions)
  const out = createWriteStream(path, { flags: 'wx', mode: 0o600 })
  await once(out, 'open')
  out.write(encodePreamble())
  // Quick: changes wait meanwhile.
  const gzip = createGzip({ level: constants.Z_BEST_SPEED })
  const written = pipeline(gzip, out)
  // It is awaited below; a failure before that must not end the process.
  written.catch(() => undefined)
  const writer = new RecordWriter()
  // Many write at once: one waits for room for all.
  let room: Promise<unknown> | undefined
  const sink: Sink = async (record) => {
    if (signal?.aborted === true) throw new RingfsError('CANCELLED', 'stopped: there is no backup')
    // The disk has failed: what it said.
    if (gzip.destroyed) await written
    else if (!gzip.write(writer.encode(record))) {
      room ??= Promise.race([once(gzip, 'drain'), written]).finally(() => (room = undefined))
      await room
    }
  }
  try {
    const { name: volume, uuid, formatVersion, partitions, metaReplicas } = settings
    await sink(encodeHead({ volume, uuid, formatVersion, partitions, takenMs: Date.now(), version }))
    const startMs = clock.monotonicMs()
    const all = Array.from({ length: partitions }, (_, p) => p)
    const dump = async (): Promise<DumpFigures> => {
      const kept = keepMoments(store, keys, metaReplicas)
      const figures = await dumpVolume(store, keys, sink, (done) => onProgress(done, partitions))
      await kept
      return figures
    }
    const figures = await whileFrozen(store, keys, all, maxPauseMs, dump)
    const pausedMs = clock.monotonicMs() - startMs
    gzip.end(writer.end())
    await written
    await syncPath(path)
    return { ...figures, bytes: out.bytesWritten, pausedMs: Math.round(pausedMs) }
  } finally {
    gzip.destroy()
    out.destroy()
  }
}

async function syncPath(path: string): Promise<void> {
  const handle = await open(path, 'r')
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
}
