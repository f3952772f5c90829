/** Volumes: making one, reading its settings, listing its sessions. */
import { randomUUID } from 'node:crypto'
import * as z from 'zod'
import { systemClock, type Clock } from '../base/clock.js'
import { RingfsError } from '../base/errors.js'
import {
  CHUNK_MAX_BYTES,
  FILE_MAX_BYTES,
  INLINE_BUDGET_DEFAULT_BYTES,
  INLINE_DEFAULT_BYTES,
  INLINE_MAX_BYTES,
  PARTITIONS_DEFAULT,
  PARTITIONS_MAX,
  REPLICAS_MAX,
  ROOT_INO,
  SMALL_CHUNK_BYTES,
  WINDOW_BYTES,
} from '../base/limits.js'
import { FORMAT_VERSION, META_SYNCS, type MetaSync, type RedisStore, type VolumeSettings } from '../cluster/contract.js'
import { UncountedError } from '../cluster/redis-errors.js'
import { VolumeKeys, wideKey } from './keys.js'
import { noteNoBackup } from './last-backup.js'
import { remainsOf } from './remains.js'
import { SCRIPTS } from './scripts.js'

const AT_ONCE = 64
const REPLICAS_MS = 1_000
/** So often in a row nobody stands still for a second. */
const REPLICAS_TRIES = 10

const Settings = z
  .object({
    name: z.string().regex(/^[A-Za-z0-9_.-]{1,64}$/),
    uuid: z.uuid(),
    formatVersion: z.int().min(1),
    partitions: z.int().min(1).max(PARTITIONS_MAX),
    chunkBytes: z.int().min(SMALL_CHUNK_BYTES).max(CHUNK_MAX_BYTES),
    replicas: z.int().min(1).max(REPLICAS_MAX),
    writeQuorum: z.int().min(1),
    createdMs: z.int(),
    metaReplicas: z.int().min(0).max(REPLICAS_MAX),
    // A volume from before there was this setting stays as it was.
    metaSync: z.enum(META_SYNCS).default('fsync'),
    // Volumes of format 1 have none.
    inlineBytes: z.int().min(0).max(INLINE_MAX_BYTES).default(0),
    inlineBudgetBytes: z.int().min(0).max(FILE_MAX_BYTES).default(0),
  })
  .refine((one) => one.writeQuorum <= one.replicas, 'the write quorum is at most the number of replicas')
  .refine((one) => WINDOW_BYTES % one.chunkBytes === 0, 'the chunk size divides 64 MiB')

export interface FormatOptions {
  readonly partitions?: number
  readonly chunkBytes?: number
  readonly replicas?: number
  /** Default: the majority of the replicas. */
  readonly writeQuorum?: number
  readonly metaReplicas?: number
  readonly metaSync?: MetaSync
  readonly inlineBytes?: number
  readonly inlineBudgetBytes?: number
  readonly clock?: Clock
}

/** Errors: USAGE (a setting out of range), VOLUME_EXISTS, also over remains of one. A format cut short is completed by the next one or by the first mount. */
export async function formatVolume(redis: RedisStore, name: string, options: FormatOptions): Promise<VolumeSettings> {
  const replicas = options.replicas ?? 1
  const settings = checkSettings({
    name,
    uuid: randomUUID(),
    formatVersion: FORMAT_VERSION,
    partitions: options.partitions ?? PARTITIONS_DEFAULT,
    chunkBytes: options.chunkBytes ?? CHUNK_MAX_BYTES,
    replicas,
    writeQuorum: options.writeQuorum ?? Math.floor(replicas / 2) + 1,
    createdMs: Date.now(),
    metaReplicas: options.metaReplicas ?? 0,
    metaSync: options.metaSync ?? 'always',
    inlineBytes: options.inlineBytes ?? INLINE_DEFAULT_BYTES,
    inlineBudgetBytes: options.inlineBudgetBytes ?? INLINE_BUDGET_DEFAULT_BYTES,
  })
  await refuseRemains(redis, settings)
  await writeSettings(redis, settings, options.clock ?? systemClock)
  await noteNoBackup(redis, new VolumeKeys(name, settings.partitions))
  return settings
}

/** A format writes nothing before the settings: what is there without them is not its own. Errors: VOLUME_EXISTS. */
async function refuseRemains(redis: RedisStore, { name, partitions }: VolumeSettings): Promise<void> {
  const { isMore, isOpen } = await remainsOf(redis, new VolumeKeys(name, partitions))
  if (!isMore && !isOpen) return
  // A volume, or a restore: writeSettings says so.
  for (const key of ['settings', 'restore']) if ((await redis.call('EXISTS', wideKey(name, key))) !== 0) return
  const advice = isOpen
    ? 'take away what the interrupted restore has left with ringfs restore --abandon'
    : 'use an empty one, or restore a backup there, or rebuild'
  throw new RingfsError(
    'VOLUME_EXISTS',
    `there are remains of a volume ${name} on this Redis: ${advice}, or choose another name`,
  )
}

/**
 * How many replicas, up to `most`, answer of each master that a volume of this name lies on. So `format` asks for one where nothing is said.
 * Errors: REDIS_UNREACHABLE; also as UncountedError, when nothing is known.
 */
export async function replicasThere(
  redis: Pick<RedisStore, 'waitReplicas'>,
  name: string,
  { most = 1, partitions = PARTITIONS_DEFAULT } = {},
): Promise<number> {
  const keys = new VolumeKeys(name, partitions)
  const all = [...keys.everywhere, keys.wide('settings')]
  for (let left = REPLICAS_TRIES; ; left--) {
    try {
      return Math.min(most, await redis.waitReplicas(all, most, REPLICAS_MS))
    } catch (error) {
      // A server, or we, stood still: nothing is known.
      if (!(error instanceof UncountedError) || left === 1) throw error
    }
  }
}

/** Errors: VOLUME_EXISTS, also while a restore is not done. */
export async function writeSettings(redis: RedisStore, settings: VolumeSettings, clock: Clock): Promise<void> {
  const { name } = settings
  const keys = [wideKey(name, 'settings'), wideKey(name, 'restore')]
  const reply = await redis.run(SCRIPTS.format, keys, [JSON.stringify(settings)])
  if (reply === 0) throw notRestored(name)
  // The same text: our own write, whose reply was lost on the way.
  if (reply !== 1 && String(reply) !== JSON.stringify(settings)) {
    throw new RingfsError('VOLUME_EXISTS', `volume ${name} exists already: choose another name or mount it`)
  }
  await ensureRoot(redis, settings, clock)
}

/** Errors: VOLUME_EXISTS. */
export async function refuseWhileRestored(redis: RedisStore, name: string): Promise<void> {
  if ((await redis.call('EXISTS', wideKey(name, 'restore'))) !== 0) throw notRestored(name)
}

function notRestored(name: string): RingfsError {
  return new RingfsError(
    'VOLUME_EXISTS',
    `a restore of volume ${name} is under way, or was interrupted: let it end, or give ringfs restore the same file again, or --abandon; a new volume needs another name until then`,
  )
}

/** Errors: USAGE. */
export function checkSettings(value: unknown): VolumeSettings {
  const result = Settings.safeParse(value)
  if (result.success) return result.data
  const [issue] = result.error.issues
  const where = ['bad setting', ...(issue?.path ?? [])].join(' ')
  throw new RingfsError('USAGE', `${where}: ${issue?.message ?? 'unknown'}`)
}

/** Errors: VOLUME_MISSING, VOLUME_NEWER, VOLUME_CORRUPT. */
export async function loadVolume(redis: RedisStore, name: string): Promise<VolumeSettings> {
  const text = await redis.call('GET', wideKey(name, 'settings'))
  if (text === null) {
    throw new RingfsError('VOLUME_MISSING', `there is no volume ${name} on this Redis: make it with ringfs format`)
  }
  return parseSettings(String(text), name)
}

/** Of volume `name`, as Redis or a backup has them. Errors: VOLUME_NEWER, VOLUME_CORRUPT. */
export function parseSettings(text: string, name: string): VolumeSettings {
  const value: unknown = parseJson(text, name)
  const version = z.object({ formatVersion: z.int() }).safeParse(value)
  if (version.success && version.data.formatVersion > FORMAT_VERSION) {
    throw new RingfsError(
      'VOLUME_NEWER',
      `volume ${name} has format ${version.data.formatVersion}, this ringfs knows ${FORMAT_VERSION}: install a newer one`,
    )
  }
  const settings = Settings.safeParse(value)
  if (settings.success) return settings.data
  throw new RingfsError('VOLUME_CORRUPT', `the settings of volume ${name} on Redis cannot be read: restore a backup`)
}

function parseJson(text: string, name: string): unknown {
  try {
    return JSON.parse(text)
  } catch (error) {
    throw new RingfsError('VOLUME_CORRUPT', `the settings of volume ${name} on Redis are no JSON: restore a backup`, {
      cause: error,
    })
  }
}

/** The root directory, made if it is not there. */
export async function ensureRoot(redis: RedisStore, settings: VolumeSettings, clock: Clock): Promise<void> {
  const keys = new VolumeKeys(settings.name, settings.partitions)
  if ((await redis.call('HEXISTS', keys.of(ROOT_INO).inodes, ROOT_INO)) === 1) return
  await beginHistories(redis, keys, settings)
  const { inodes, locks, counters, channel, open, garbage, zombies, replies } = pick(keys)
  const now = clock.now()
  await redis.run(
    SCRIPTS.root,
    [inodes, locks, counters, replies, channel, open, garbage, zombies],
    [0, 0, 0, '', now.sec, now.nsec, ROOT_INO, 0o755, process.getuid?.() ?? 0, process.getgid?.() ?? 0],
  )
}

/**
 * Before the first number is given: each counter knows in which history it begins. One that learned it with its first number would
 * skip as far on a replica that took over without knowing of that: and give the same number again.
 */
async function beginHistories(redis: RedisStore, keys: VolumeKeys, settings: VolumeSettings): Promise<void> {
  const counters = Array.from({ length: keys.partitions }, (_, p) => keys.partition(p).counters)
  const all = [...counters, keys.wide('n')]
  for (let at = 0; at < all.length; at += AT_ONCE) {
    await Promise.all(all.slice(at, at + AT_ONCE).map((key) => redis.run(SCRIPTS.beginHistory, [key], [])))
  }
  // Replicas that are away, or of which nothing is known, do not keep a volume from being made.
  if (settings.metaReplicas > 0) await redis.waitReplicas(all, settings.metaReplicas, REPLICAS_MS).catch(() => 0)
}

function pick(
  keys: VolumeKeys,
): Record<'inodes' | 'locks' | 'counters' | 'channel' | 'open' | 'garbage' | 'zombies' | 'replies', string> {
  const home = keys.of(ROOT_INO)
  return {
    inodes: home.inodes,
    locks: home.locks,
    counters: home.counters,
    channel: home.channel,
    open: home.open,
    garbage: home.garbage,
    zombies: home.zombies,
    replies: home.replies(0),
  }
}

export interface SessionInfo {
  readonly id: number
  readonly host: string
  readonly pid: number
  readonly sinceMs: number
}

const Who = z.object({ host: z.string(), pid: z.int(), since: z.number() })

/** The clients of a volume that have a session now. */
export async function listSessions(redis: RedisStore, volume: string): Promise<readonly SessionInfo[]> {
  const flat = await redis.call('HGETALL', wideKey(volume, 'h'))
  if (!Array.isArray(flat)) return []
  const sessions: SessionInfo[] = []
  for (let at = 0; at + 1 < flat.length; at += 2) {
    const who = Who.safeParse(parseJson(String(flat[at + 1]), volume))
    if (!who.success) continue
    sessions.push({ id: Number(String(flat[at])), host: who.data.host, pid: who.data.pid, sinceMs: who.data.since })
  }
  return sessions.sort((a, b) => a.id - b.id)
}
