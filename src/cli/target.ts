/**
 * Which volume a command is about, in this order: the META_URL given (--meta, or as an argument), --data DIR of an `up`,
 * RINGFS_META, and else the one that runs on this machine.
 */
import { RingfsError } from '../base/errors.js'
import { findPrivateRedis } from '../cluster/private-redis.js'
import { parseMetaUrl, type MetaUrl } from '../cluster/url.js'
import { findDataFolders, readUpRecord } from '../main/data-folder.js'
import { readRunFiles, type RunFile } from '../main/runfiles.js'
import type { VolumeSelector } from './context.js'
import type { Surroundings } from './surroundings.js'

/** Errors: RingfsError USAGE. */
export function urlOf(surroundings: Surroundings, text: string): MetaUrl {
  const url = parseMetaUrl(text)
  const { metaPassword } = surroundings.environment
  const hasPassword = url.password !== undefined || url.passwordFile !== undefined
  return hasPassword || metaPassword === undefined ? url : { ...url, password: metaPassword }
}

/** Errors: RingfsError USAGE, NOT_RUNNING. */
export async function findTarget(surroundings: Surroundings, selector: VolumeSelector): Promise<MetaUrl> {
  const { runFolder, metaUrl } = surroundings.environment
  const { meta, data } = selector
  if (meta !== undefined) return urlOf(surroundings, meta)
  if (data !== undefined) return ofData(data, readRunFiles(runFolder))
  if (metaUrl !== undefined) return urlOf(surroundings, metaUrl)
  return theRunning(readRunFiles(runFolder))
}

/** As findTarget; a META_URL given as an argument goes before the options. */
export function findTargetOr(
  surroundings: Surroundings,
  text: string | undefined,
  options: VolumeSelector,
): Promise<MetaUrl> {
  return findTarget(surroundings, text === undefined ? options : { meta: text })
}

async function ofData(data: string, running: readonly RunFile[]): Promise<MetaUrl> {
  const folders = findDataFolders(data)
  if (folders === undefined) throw new RingfsError('NOT_RUNNING', `${data} is not a data folder of ringfs up`)
  const run = running.find((one) => one.dataDir === folders.root)
  if (run !== undefined) return parseMetaUrl(run.metaUrl)
  const redis = await findPrivateRedis(folders.redis)
  const volume = readUpRecord(folders.root)?.volume
  if (redis !== undefined && volume !== undefined) return redis.url(volume)
  throw new RingfsError('NOT_RUNNING', `no ringfs up runs in ${folders.root}: start it with ringfs up --data ${data}`)
}

function theRunning(running: readonly RunFile[]): MetaUrl {
  const [first] = running
  if (first === undefined) {
    throw new RingfsError('NOT_RUNNING', 'no ringfs runs here: start one with ringfs up, or give a META_URL')
  }
  // A mount of the same volume is as good.
  const volumes = new Set(running.map((one) => `${one.volume} ${parseMetaUrl(one.metaUrl).hosts[0]?.port ?? ''}`))
  if (volumes.size === 1) return parseMetaUrl(first.metaUrl)
  const names = running.map((one) => one.dataDir ?? one.mountpoint).join(', ')
  throw new RingfsError('USAGE', `several volumes are open here (${names}): give a META_URL or --data DIR`)
}
