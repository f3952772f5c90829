/**
 * `ringfs restore`: a backup becomes a volume again, on a Redis that has none of this name.
 *
 * Invariants:
 * - Nothing is written before the whole file was read and its checksum was right. It is opened once: what gets its name meanwhile is another.
 * - The settings come last: until then there is no volume that anybody could use, nor make with `format`. A restore that was
 *   interrupted is begun anew with the same file (the mark `{v}:m:restore` has its checksum), and writes the same again, but for counters.
 * - One at a time, and nothing is written late (claim.ts).
 * - Numbers that were given out after the backup are not given out again: counters of sessions, inodes, chunk blocks and tokens
 *   begin far above, and each restore of a backup somewhere else. A chunk's id is for ever, and nodes have chunks from after the backup.
 * - What was written after the backup has no metadata, and is somebody's data: nobody frees chunks that no file names until a rebuild has
 *   looked at everything ({v}:m:rebuild). This mark comes before the settings.
 * - It is done when as many replicas as the volume's settings say have all of it, and no server was replaced meanwhile (lasting.ts): a failover
 *   takes nothing away, right afterwards or on the way.
 * - Sessions of the backup are dead ones: the first client cleans up after them.
 */
import { createHash } from 'node:crypto'
import { open, type FileHandle } from 'node:fs/promises'
import { Readable } from 'node:stream'
import { createGunzip } from 'node:zlib'
import { RingfsError } from '../../base/errors.js'
import { FORMAT_VERSION, type RedisArg, type RedisStore } from '../../cluster/contract.js'
import { parseSettings } from '../format.js'
import { VolumeKeys, wideKey } from '../keys.js'
import { isCounter, numberAfter, type Counter } from '../numbers.js'
import { redisMs } from '../rebuild-due.js'
import { FENCE } from '../remains.js'
import { Claim, refuseVolume, withRestoreLease, type Waiting } from './claim.js'
import {
  PREAMBLE_BYTES,
  RecordReader,
  WIDE,
  checkPreamble,
  decodeHead,
  portionsOf,
  type BackupHead,
  type BackupRecord,
} from './format.js'
import { Lasting } from './lasting.js'

const ARGS_MAX = 1000
const IN_FLIGHT = 64
const PIECE_BYTES = 1 << 18

export interface RestoreResult {
  readonly head: BackupHead
  readonly records: number
}

interface Backup {
  readonly head: BackupHead
  readonly records: number
  /** As they are written. */
  readonly settings: Buffer
}

/** What a backup is of, once all of it was read. Errors: RingfsError USAGE, VOLUME_NEWER, VOLUME_CORRUPT, ENOENT, …. */
async function checkBackup(file: FileHandle): Promise<Backup> {
  let head: BackupHead | undefined
  let settings: Buffer | undefined
  let records = 0
  for await (const record of recordsOf(file)) {
    head ??= decodeHead(record)
    if (isSettings(record)) settings = record.items[0]
    records++
  }
  if (head === undefined) throw new RingfsError('VOLUME_CORRUPT', 'the backup is empty: use another one')
  if (head.formatVersion > FORMAT_VERSION) {
    throw new RingfsError(
      'VOLUME_NEWER',
      `a backup of a volume of format ${head.formatVersion}; this ringfs knows ${FORMAT_VERSION}`,
    )
  }
  if (settings === undefined) throw new RingfsError('VOLUME_CORRUPT', 'the backup has no settings: use another one')
  return { head, records, settings }
}

function isSettings({ partition, key }: BackupRecord): boolean {
  return partition === WIDE && key === ':m:settings'
}

/** Errors: those of checkBackup, of Redis; VOLUME_EXISTS, USAGE, ALREADY_RUNNING, NO_QUORUM, METADATA_NOT_SYNCED. */
export async function restoreVolume(
  store: RedisStore,
  volume: string,
  file: string,
  onProgress: (done: number, records: number) => void,
  waiting: Waiting = {},
): Promise<RestoreResult> {
  const handle = await open(file, 'r')
  try {
    return await restoreFrom(store, volume, handle, onProgress, waiting)
  } finally {
    await handle.close()
  }
}

async function restoreFrom(
  store: RedisStore,
  volume: string,
  file: FileHandle,
  onProgress: (done: number, records: number) => void,
  waiting: Waiting,
): Promise<RestoreResult> {
  const { head, records, settings } = await checkBackup(file)
  if (head.volume !== volume) {
    throw new RingfsError('USAGE', `this is a backup of volume ${head.volume}, not of ${volume}: give that name`)
  }
  await refuseVolume(store, volume)
  const checksum = await checksumOf(file)
  const work = async (): Promise<void> => {
    const keys = new VolumeKeys(volume, head.partitions)
    const lasting = await Lasting.begin(store, keys, parseSettings(String(settings), volume))
    const claim = await Claim.take(store, keys, volume, checksum, lasting)
    await writeAll(claim, volume, file, (done) => onProgress(done, records))
    await writeFirstNumbers(claim, keys)
    await claim.write(WIDE, keys.wide('rebuild'), 'HSETNX', ['begun', await redisMs(store, keys)])
    await claim.close()
    await lasting.written()
    await lasting.ended(() => claim.end(settings))
  }
  await withRestoreLease(store, volume, work, waiting)
  return { head, records }
}

/** All but the settings. */
async function writeAll(
  claim: Claim,
  volume: string,
  file: FileHandle,
  onProgress: (done: number) => void,
): Promise<void> {
  const writer = new Writer(claim, volume)
  let done = 0
  for await (const record of recordsOf(file)) {
    const isMore = record.kind !== 'head' && record.kind !== 'end' && !isSettings(record)
    if (isMore) await writer.write(record)
    onProgress(++done)
  }
  await writer.settled()
}

/** What had no number at the time of the backup may have had some later. */
async function writeFirstNumbers(claim: Claim, keys: VolumeKeys): Promise<void> {
  const write = (partition: number, key: string, counter: Counter): Promise<void> =>
    claim.write(partition, key, 'HSETNX', [counter, numberAfter(counter, 0)])
  for (const counter of ['session', 'chunkBlock', 'token'] as const) await write(WIDE, keys.wide('n'), counter)
  for (let p = 0; p < keys.partitions; p += IN_FLIGHT) {
    const some = Array.from({ length: Math.min(IN_FLIGHT, keys.partitions - p) }, (_, at) => p + at)
    await Promise.all(some.map((one) => write(one, keys.partition(one).counters, 'n')))
  }
}

async function checksumOf(file: FileHandle): Promise<string> {
  const hash = createHash('sha256')
  for await (const bytes of bytesOf(file, 0)) hash.update(bytes)
  return hash.digest('hex')
}

async function* recordsOf(file: FileHandle): AsyncGenerator<BackupRecord> {
  await checkStart(file)
  const gunzip = createGunzip()
  const input = Readable.from(bytesOf(file, PREAMBLE_BYTES))
  input.on('error', (error) => gunzip.destroy(error))
  const reader = new RecordReader()
  try {
    for await (const bytes of input.pipe(gunzip)) if (Buffer.isBuffer(bytes)) yield* reader.push(bytes)
  } catch (error) {
    if (error instanceof RingfsError) throw error
    throw new RingfsError('VOLUME_CORRUPT', 'the backup is damaged (it cannot be unpacked): use another one', {
      cause: error,
    })
  } finally {
    gunzip.destroy()
    await closed(input)
  }
  reader.finish()
}

/** Not by a stream of the file's own, which would close it. */
async function* bytesOf(file: FileHandle, from: number): AsyncGenerator<Buffer> {
  for (let at = from; ;) {
    const { buffer, bytesRead } = await file.read(Buffer.allocUnsafe(PIECE_BYTES), 0, PIECE_BYTES, at)
    if (bytesRead === 0) return
    yield buffer.subarray(0, bytesRead)
    at += bytesRead
  }
}

/** It reads no more. */
async function closed(input: Readable): Promise<void> {
  input.destroy()
  if (!input.closed) await new Promise<void>((resolve) => input.once('close', resolve))
}

async function checkStart(file: FileHandle): Promise<void> {
  const start = Buffer.alloc(PREAMBLE_BYTES)
  const { bytesRead } = await file.read(start, 0, PREAMBLE_BYTES, 0)
  checkPreamble(start.subarray(0, bytesRead))
}

/** Writes records, some at once; what is written twice is the same afterwards. */
class Writer {
  readonly #claim: Claim
  readonly #volume: string
  /** How long they are by now. */
  readonly #lists = new Map<string, number>()
  readonly #running = new Set<Promise<unknown>>()
  #failure: Error | undefined

  constructor(claim: Claim, volume: string) {
    this.#claim = claim
    this.#volume = volume
  }

  async write(record: BackupRecord): Promise<void> {
    const { kind, partition, key: end, items } = record
    const key = partition === WIDE ? `{${this.#volume}}${end}` : `{${this.#volume}.${partition}}${end}`
    if (end === ':m:s' || end === ':m:dead') return await this.#dead(items)
    // What their owners wrote after the backup is nobody's garbage: rebuild looks for it.
    if (end === ':m:blocks') return
    if (kind === 'list') await this.#list(partition, key, items)
    else if (kind === 'string') await this.#send(partition, key, 'SET', items)
    else if (kind === 'zset') await this.#send(partition, key, 'ZADD', swapped(items))
    else await this.#send(partition, key, 'HSET', end === ':c' || end === ':m:n' ? jumped(items) : items)
  }

  /** In order. */
  async #list(partition: number, key: string, items: readonly Buffer[]): Promise<void> {
    let length = this.#lists.get(key) ?? 0
    for (const some of portionsOf(items, 1, ARGS_MAX)) {
      await this.#claim.write(partition, key, length, some)
      length += some.length
    }
    this.#lists.set(key, length)
  }

  async #dead(items: readonly Buffer[]): Promise<void> {
    const sessions = items.filter((_, at) => at % 2 === 0)
    const args = sessions.flatMap((session): RedisArg[] => [0, session])
    await this.#send(WIDE, wideKey(this.#volume, 'dead'), 'ZADD', args)
  }

  async #send(partition: number, key: string, command: string, args: readonly RedisArg[]): Promise<void> {
    for (const some of portionsOf(args, command === 'SET' ? 1 : 2, ARGS_MAX)) {
      while (this.#running.size >= IN_FLIGHT) await Promise.race(this.#running)
      const call: Promise<unknown> = this.#claim
        .write(partition, key, command, some)
        .catch((error: unknown) => {
          this.#failure ??= error instanceof Error ? error : new Error(String(error))
        })
        .finally(() => this.#running.delete(call))
      this.#running.add(call)
    }
    if (this.#failure !== undefined) throw this.#failure
  }

  async settled(): Promise<void> {
    await Promise.all(this.#running)
    if (this.#failure !== undefined) throw this.#failure
  }
}

/** ZADD has the score first. */
function swapped(items: readonly Buffer[]): Buffer[] {
  return items.flatMap((item, at) => (at % 2 === 0 ? [] : [item, items[at - 1] ?? item]))
}

/** A volume that was itself restored has a fence, which is not this restore's. */
function jumped(items: readonly Buffer[]): RedisArg[] {
  const counted: RedisArg[] = []
  for (let at = 0; at + 1 < items.length; at += 2) {
    const [field, value] = [String(items[at]), items[at + 1] ?? '']
    if (field === FENCE) continue
    counted.push(field, isCounter(field) ? numberAfter(field, Number(String(value))) : value)
  }
  return counted
}
