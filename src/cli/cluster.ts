/** What the commands about nodes have in common: finding a node, and watching the cluster until it is whole. */
import { RingfsError } from '../base/errors.js'
import type { ClusterView, Member, RedisStore, VolumeSettings } from '../cluster/contract.js'
import { healProgress, type HealProgress } from '../cluster/progress.js'
import { connectRedis } from '../cluster/redis.js'
import { fetchView } from '../cluster/watcher.js'
import { loadVolume } from '../meta/format.js'
import { stopSignal } from '../main/stop-signal.js'
import type { VolumeSelector } from './context.js'
import { logOf, print, say, type CommonOptions, type Surroundings } from './surroundings.js'
import { findTarget } from './target.js'
import { humanBytes, humanMs } from './units.js'

export interface ClusterOptions extends CommonOptions, VolumeSelector {
  readonly json?: boolean
  readonly wait?: boolean
}

export interface Cluster {
  readonly redis: RedisStore
  /** The volume's name. */
  readonly volume: string
  readonly settings: VolumeSettings
  readonly view: () => Promise<ClusterView>
}

export async function withCluster<T>(
  surroundings: Surroundings,
  options: ClusterOptions,
  work: (cluster: Cluster) => Promise<T>,
): Promise<T> {
  const url = await findTarget(surroundings, options)
  const redis = await connectRedis(url, { log: logOf(surroundings, options, 'error') })
  try {
    const settings = await loadVolume(redis, url.volume)
    const { name: volume } = settings
    return await work({ redis, volume, settings, view: () => fetchView(redis, volume) })
  } finally {
    await redis.close()
  }
}

/** By its id or by how it begins. Errors: USAGE. */
export function findNode({ members }: ClusterView, text: string): Member {
  const fitting = members.filter(({ id }) => id.startsWith(text))
  const [found] = fitting
  if (text !== '' && found !== undefined && fitting.length === 1) return found
  const why =
    text === '' || fitting.length > 1 ? `the ids of ${fitting.length} nodes begin so` : 'there is no such node'
  throw new RingfsError('USAGE', `node ${text}: ${why}: see ringfs status`)
}

const POLL_MS = 1_000
/** Nodes notice a change of the ring with their next look: what they say before that is about the old one. */
const BEGIN_MS = 3_000

/**
 * Tells how far it is until everything is whole, and `isMet`, or until Ctrl-C, which ends the watching and nothing else. Answers whether
 * that is so.
 */
export async function watchHealing(
  surroundings: Surroundings,
  { view }: Cluster,
  options: ClusterOptions,
  isMet: (view: ClusterView) => boolean = () => true,
): Promise<boolean> {
  const stopping = new AbortController()
  void stopSignal().stopped.then(() => stopping.abort())
  const startMs = performance.now()
  for (;;) {
    const seen = await view()
    const progress = healProgress(seen)
    const isWhole = progress.isDone && isMet(seen) && performance.now() - startMs > BEGIN_MS
    if (options.json === true) print(surroundings, `${JSON.stringify({ ...progress, isDone: isWhole })}\n`)
    else say(surroundings, progressText(progress))
    if (isWhole || stopping.signal.aborted) return isWhole
    await new Promise((resolve) => setTimeout(resolve, POLL_MS))
  }
}

export function progressText(progress: HealProgress): string {
  const { walked, waiting, copied, copiedBytes, bytesPerS, leftMs, away } = progress
  const looked = `${Math.floor(walked * 100)} % looked through`
  const moved = `${copied} chunks (${humanBytes(copiedBytes)}) copied, ${waiting} waiting, ${humanBytes(bytesPerS)}/s`
  const left = leftMs === null ? '' : `, ${humanMs(leftMs)} left`
  const down = away.length === 0 ? '' : `; down: ${away.join(', ')}`
  return `${looked}; ${moved}${left}${down}`
}
