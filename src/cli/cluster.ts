/** What the commands about nodes have in common: finding a node, and watching the cluster until it is whole. */
import { RingfsError } from '../base/errors.js'
import type { ClusterView, Member, RedisStore, VolumeSettings } from '../cluster/contract.js'
import { copiedSince, healProgress, type HealProgress } from '../cluster/progress.js'
import { connectRedis } from '../cluster/redis.js'
import { fetchView } from '../cluster/watcher.js'
import { loadVolume } from '../meta/format.js'
import { stopSignal } from '../main/stop-signal.js'
import type { VolumeSelector } from './context.js'
import { Steps } from './steps.js'
import { logOf, print, type CommonOptions, type Surroundings } from './surroundings.js'
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

/** What is watched for. */
export interface Goal {
  /** Beside that everything is whole. */
  readonly isMet: (view: ClusterView) => boolean
  /** What it waits for that does not come by itself, in words. Throws when that has taken too long. */
  readonly waitsFor?: (view: ClusterView) => string | undefined
}

/**
 * Tells how far it is until the goal is reached, or until Ctrl-C, which ends the watching and nothing else. Answers whether that is so.
 * Errors: those of the goal.
 */
export async function watchHealing(
  surroundings: Surroundings,
  { view }: Cluster,
  options: ClusterOptions,
  { isMet, waitsFor }: Goal = { isMet: () => true },
): Promise<boolean> {
  const stopping = new AbortController()
  void stopSignal().stopped.then(() => stopping.abort())
  const steps = new Steps(surroundings, options.json)
  const startMs = performance.now()
  const first = await view()
  try {
    for (let seen = first; ; seen = await view()) {
      const whole = healProgress(seen)
      const isWhole = whole.isDone && isMet(seen) && performance.now() - startMs > BEGIN_MS
      const leftMs = isWhole ? 0 : whole.isDone ? null : whole.leftMs
      const progress = { ...whole, ...copiedSince(first, seen), isDone: isWhole, leftMs }
      const lacking = isWhole ? undefined : waitsFor?.(seen)
      if (options.json === true) print(surroundings, `${JSON.stringify(progress)}\n`)
      else steps.line(lacking === undefined ? progressText(progress) : `waits: ${lacking}`)
      if (isWhole || stopping.signal.aborted) return isWhole
      await new Promise((resolve) => setTimeout(resolve, POLL_MS))
    }
  } finally {
    steps.end()
  }
}

/** `when`: since when it was copied. */
export function progressText(progress: HealProgress, when = ''): string {
  const { walked, waiting, copied, copiedBytes, bytesPerS, leftMs, away } = progress
  const looked = `${Math.floor(walked * 100)} % looked through`
  const rate = `${humanBytes(bytesPerS)}/s`
  const moved = `${copied} chunks (${humanBytes(copiedBytes)}) copied${when}, ${waiting} waiting, ${rate}`
  const left = leftMs === null ? '' : `, ${humanMs(leftMs)} left`
  const down = away.length === 0 ? '' : `; down: ${away.join(', ')}`
  return `${looked}; ${moved}${left}${down}`
}
