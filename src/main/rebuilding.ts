/**
 * What `ringfs rebuild` stands on: the volume, its nodes that run, folders of nodes that do not, and the private Redis of an `up`
 * that does not run.
 *
 *   metadata there --------------------------------------------------------------> rebuild
 *   none there: settings from the nodes' folders --> chunks looked at --> numbers raised --> settings written --> rebuild
 */
import { systemClock } from '../base/clock.js'
import { RingfsError, hasCode } from '../base/errors.js'
import type { Log } from '../base/log.js'
import { disksLacking, holdersOf } from '../check/nodes.js'
import { isHeldBack } from '../check/orphans.js'
import { makeAnew } from '../check/rebuild/anew.js'
import { rebuild, type RebuildParts, type RebuildResult } from '../check/rebuild/rebuild.js'
import { lockFolder } from '../base/folder-lock.js'
import type { VolumeSettings } from '../cluster/contract.js'
import { startPrivateRedis } from '../cluster/private-redis.js'
import { connectRedis } from '../cluster/redis.js'
import type { MetaUrl } from '../cluster/url.js'
import { openMeta } from '../meta/engine.js'
import { loadVolume } from '../meta/format.js'
import { VolumeKeys } from '../meta/keys.js'
import type { KeyRing } from '../rpc/key-ring.js'
import { Closer } from './closer.js'
import { UP_LOCK, type DataFolders } from './data-folder.js'
import { checkKey } from './key-check.js'
import { foldersByNode, openOfflineNode, type OfflineNode } from './offline-node.js'
import { readVolumeFile } from './volume-file.js'
import { openVolume, type Volume } from './volume.js'

const POLL_MS = 200
/** Nodes that run come back by themselves, with a heartbeat each second. */
const SETTLE_MS = 4_000

export interface RebuildingOptions {
  readonly url: MetaUrl
  /** Data folders of nodes on this machine. */
  readonly nodeFolders: readonly string[]
  readonly log: Log
  readonly key?: KeyRing | undefined
  /** Nothing is done unless a failover, a restore or an incomplete rebuild asks for one. */
  readonly ifDue: boolean
  readonly dryRun: boolean
  readonly deep: boolean
  readonly minAgeMs: number
  /** So many nodes are waited for. */
  readonly nodes?: number
  readonly waitMs: number
  readonly signal: AbortSignal
  readonly onProgress: (what: string, done: number, all: number) => void
}

export interface Rebuilt extends RebuildResult {
  readonly settings: VolumeSettings
  /** There was no volume of this name on this Redis. */
  readonly isAnew: boolean
}

/** Starts the Redis of an `up` that does not run; until it is closed no `up` can be started there. */
export async function startRedisOf(
  folders: DataFolders,
  volume: string,
  log: Log,
): Promise<{ readonly url: MetaUrl; close(): Promise<void> }> {
  const closer = new Closer()
  return await closer.orClose(async () => {
    const lock = await lockFolder(folders.root, UP_LOCK, `ringfs down --data ${folders.root}`)
    closer.add(() => lock.release())
    const redis = await startPrivateRedis({ folder: folders.redis, log })
    closer.add(() => redis.stop())
    return { url: redis.url(volume), close: () => closer.close() }
  })
}

/** undefined: none is due. Errors: those of openVolume, of openOfflineNode; USAGE, NODE_UNREACHABLE, KEY_REQUIRED. */
export async function runRebuild(options: RebuildingOptions): Promise<Rebuilt | undefined> {
  const closer = new Closer()
  const result = await closer.orClose(async () => {
    const { settings, isAnew } = await settingsOf(options)
    const made = isAnew ? { ...settings, createdMs: Date.now() } : settings
    const volume = await openVolume(options.url, { log: options.log, key: options.key, settings: made })
    closer.add(() => volume.close())
    if (options.ifDue && !isAnew && !(await isDue(volume))) return undefined
    const local = await openFolders(volume, options, closer)
    await waitForNodes(volume, local, options)
    await checkKey(volume.watcher.current().view.members, options.key)
    const parts = partsOf(volume, local, options)
    if (isAnew && !options.dryRun) await makeAnew(parts, systemClock)
    const meta = options.dryRun ? null : await openMeta(volume.redis, made, { log: options.log })
    if (meta !== null) closer.add(() => meta.shutdown())
    return { ...(await rebuild({ ...parts, meta, isPatient: options.ifDue && !isAnew })), settings: made, isAnew }
  })
  await closer.close()
  return result
}

function isDue({ redis, settings }: Volume): Promise<boolean> {
  return isHeldBack(redis, new VolumeKeys(settings.name, settings.partitions))
}

async function settingsOf(options: RebuildingOptions): Promise<{ settings: VolumeSettings; isAnew: boolean }> {
  const { url, log, nodeFolders } = options
  const redis = await connectRedis(url, { log })
  try {
    return { settings: await loadVolume(redis, url.volume), isAnew: false }
  } catch (error) {
    if (!hasCode(error, 'VOLUME_MISSING')) throw error
    return { settings: await rememberedBy(nodeFolders, url.volume), isAnew: true }
  } finally {
    await redis.close()
  }
}

async function rememberedBy(folders: readonly string[], name: string): Promise<VolumeSettings> {
  const all = await Promise.all(folders.map(readVolumeFile))
  const [first, ...rest] = all.filter((one) => one !== null)
  if (first === undefined) {
    throw new RingfsError(
      'USAGE',
      `there is no volume ${name} on this Redis; to make it anew give --data DIR, the folder of one of its nodes (or of its ringfs up)`,
    )
  }
  const other = rest.find(({ uuid }) => uuid !== first.uuid)
  if (other !== undefined) throw new RingfsError('USAGE', 'these folders are of different volumes: give those of one')
  if (first.name === name) return first
  throw new RingfsError('USAGE', `these are the nodes of volume ${first.name}, not of ${name}: give that name`)
}

async function openFolders(volume: Volume, options: RebuildingOptions, closer: Closer): Promise<OfflineNode[]> {
  const nodes: OfflineNode[] = []
  for (const [id, folders] of foldersByNode(options.nodeFolders, volume.settings.uuid)) {
    const node = await openOfflineNode(volume, id, folders)
    closer.add(() => node.close())
    nodes.push(node)
  }
  return nodes
}

/** Those that were asked for, those whose folders are in use, and whoever else comes back by itself. */
async function waitForNodes(volume: Volume, local: readonly OfflineNode[], options: RebuildingOptions): Promise<void> {
  const { nodes: wanted = 0, waitMs, signal, onProgress } = options
  const { watcher } = volume
  const startMs = performance.now()
  for (;;) {
    await watcher.refresh()
    const up = watcher.current().view.members.filter(({ state }) => state === 'up' || state === 'draining')
    const there = new Set([...up.map(({ id }) => id), ...local.filter(({ api }) => api !== null).map(({ id }) => id)])
    const isAllThere = there.size >= wanted && local.every(({ id }) => there.has(id))
    const waitedMs = performance.now() - startMs
    if (signal.aborted || (isAllThere && there.size > 0 && (wanted > 0 || waitedMs > SETTLE_MS))) return
    if (waitedMs > waitMs) {
      throw new RingfsError(
        'NODE_UNREACHABLE',
        `${there.size} nodes are there: start the others, or give --data of all`,
      )
    }
    onProgress('nodes', there.size, wanted)
    await systemClock.sleep(POLL_MS)
  }
}

function partsOf(
  volume: Volume,
  local: readonly OfflineNode[],
  options: RebuildingOptions,
): Omit<RebuildParts, 'meta'> {
  const { redis, settings, watcher, peers, queue } = volume
  const { deep, minAgeMs, signal, onProgress } = options
  const here = new Map(local.flatMap(({ id, api }) => (api === null ? [] : [[id, api] as const])))
  const lackingHere = new Map(local.map(({ id, lacking }) => [id, lacking]))
  const view = (): ReturnType<typeof watcher.current>['view'] => watcher.current().view
  return {
    ...{ store: redis, settings, volume: settings.uuid, deep, minAgeMs, signal, onProgress, view },
    holders: () => [...new Set([...here.keys(), ...holdersOf(view())])],
    node: (id) => here.get(id) ?? peers.get(id),
    lacking: (id) => (here.has(id) ? lackingHere.get(id) : disksLacking(view(), id)),
    removals: (id) => queue.removals(id),
  }
}
