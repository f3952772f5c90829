/** What a Redis must be before a filesystem is trusted to it, asked of every master. */
import { RingfsError } from '../base/errors.js'
import type { Log } from '../base/log.js'
import { LinkLostError } from './redis-errors.js'
import type { Topology } from './redis-topology.js'
import { textOf } from './reply.js'
import { SLOTS } from './slot.js'

/** Sharded pub/sub, and the rule that a script's error keeps its code, came with 7.0. */
const VERSION_MIN = 7

/**
 * Errors: REDIS_NOT_CLUSTER, REDIS_UNSAFE, REDIS_AUTH for good; LinkLostError or an error reply as LOADING for what may
 * be well a moment later. Answers what the masters say of themselves.
 */
export async function checkServers(
  topology: Topology,
  requirePersistence: boolean,
  log: Log,
): Promise<readonly ServerInfo[]> {
  await topology.refresh()
  const missing = topology.unowned()
  if (missing > 0) {
    throw new LinkLostError(`${missing} of ${SLOTS} hash slots have no master; see \`redis-cli --cluster fix\``)
  }
  return await Promise.all(
    topology.masters().map((master) => checkServer(topology, master.address, requirePersistence, log)),
  )
}

/** INFO of a master; empty where it is forbidden. */
export type ServerInfo = ReadonlyMap<string, string>

async function checkServer(topology: Topology, address: string, isStrict: boolean, log: Log): Promise<ServerInfo> {
  const link = await topology.connect(address)
  let info: Map<string, string>
  try {
    info = parseInfo(textOf(await link.send('INFO', []), 'INFO'))
  } catch (error) {
    if (error instanceof LinkLostError) throw error
    log.warn({ address, err: error }, 'Redis forbids INFO: its safety was not checked')
    return new Map()
  }
  const moment = transientOf(info)
  if (moment !== undefined) throw new LinkLostError(`Redis at ${address} ${moment}`)
  const fault = faultOf(info, isStrict)
  if (fault !== undefined) throw new RingfsError('REDIS_UNSAFE', `Redis at ${address} ${fault}`)
  return info
}

/** `field:value` lines; INFO is used rather than CONFIG GET, which managed servers forbid. */
export function parseInfo(text: string): Map<string, string> {
  const fields = new Map<string, string>()
  for (const line of text.split('\r\n')) {
    const colon = line.indexOf(':')
    if (colon > 0) fields.set(line.slice(0, colon), line.slice(colon + 1))
  }
  return fields
}

/**
 * What passes by itself. A master that was started again is a replica as soon as it hears that it was replaced, and has its append-only
 * file switched off while it loads what its own master sends: nothing of that is a fault of how it is set up.
 */
export function transientOf(info: ReadonlyMap<string, string>): string | undefined {
  if (info.get('role') === 'slave') return 'is not a master any more'
  if (info.get('loading') === '1') return 'still loads its data'
  return undefined
}

export function faultOf(info: ReadonlyMap<string, string>, isStrict: boolean): string | undefined {
  const version = info.get('redis_version') ?? ''
  if (Number.parseInt(version, 10) < VERSION_MIN) return `is version ${version}: ringfs needs ${VERSION_MIN}.0 or newer`
  if (!isStrict) return undefined
  if (info.get('aof_enabled') === '0') {
    return 'keeps no append-only file and would forget the filesystem when it restarts: set `appendonly yes`'
  }
  const policy = info.get('maxmemory_policy') ?? 'noeviction'
  if (policy !== 'noeviction') {
    return `drops keys when its memory is full (maxmemory-policy ${policy}): set \`maxmemory-policy noeviction\``
  }
  return undefined
}
