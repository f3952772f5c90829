/** A node's folders without its node: for looking at its chunks while no process serves it. */
import { systemClock } from '../base/clock.js'
import { RingfsError, hasCode } from '../base/errors.js'
import type { ChunkNodeApi } from '../chunk/contract.js'
import { NodeDisks } from '../chunk/node/disks.js'
import { readIdentity } from '../chunk/node/identity.js'
import { openNodeFolders } from '../chunk/node/node-folders.js'
import { ChunkService } from '../chunk/node/service.js'
import { VERSION } from './version.js'
import type { Volume } from './volume.js'

export interface OfflineNode {
  readonly id: string
  /** null: a process serves the folders. */
  readonly api: ChunkNodeApi | null
  /** Its disks that were not given, or cannot be read, or not listed all, in words; undefined: none. */
  readonly lacking?: string | undefined
  close(): Promise<void>
}

type Parts = Pick<Volume, 'settings' | 'pool' | 'buffers' | 'log'>

/** The folders by the node that they are of, each a disk of it. Errors: those of readIdentity, USAGE for one that is nobody's. */
export function foldersByNode(folders: readonly string[], volume: string): ReadonlyMap<string, readonly string[]> {
  const nodes = new Map<string, string[]>()
  for (const folder of folders) {
    const id = readIdentity(folder, volume)?.node
    if (id === undefined) throw new RingfsError('USAGE', `${folder} is not the data folder of a node`)
    nodes.set(id, [...(nodes.get(id) ?? []), folder])
  }
  return nodes
}

/** `folders`: of that node. Errors: those of openNodeFolders. */
export async function openOfflineNode(
  { settings, pool, buffers, log }: Parts,
  id: string,
  folders: readonly string[],
): Promise<OfflineNode> {
  const volume = settings.uuid
  try {
    const data = await openNodeFolders(folders, volume, { isOffline: true })
    const { disks, missing } = data
    const disk = await NodeDisks.open({ disks, missing, volume, pool, buffers, clock: systemClock, log })
    const alone = (): never => {
      throw new RingfsError('NODE_UNREACHABLE', 'a node that is not started has no peers')
    }
    const api = new ChunkService({
      ...{ nodeId: id, volume, version: VERSION, disk, clock: systemClock, log },
      ...{
        peer: alone,
        order: () => [],
        isSuspect: () => true,
        enqueue: () => Promise.reject(new Error('not started')),
      },
    })
    const close = async (): Promise<void> => {
      await disk.close()
      await data.close()
    }
    return { id, api, lacking: lackingOf(disk), close }
  } catch (error) {
    if (!hasCode(error, 'ALREADY_RUNNING')) throw error
    return { id, api: null, close: () => Promise.resolve() }
  }
}

function lackingOf(disks: NodeDisks): string | undefined {
  const bad = disks.states().flatMap(({ folder, state, why, unlistedWhy }) => {
    const what = state === 'up' ? unlistedWhy : why
    return state === 'up' && what === '' ? [] : [`${folder}: ${what}`]
  })
  return bad.length === 0 ? undefined : bad.join(', ')
}
