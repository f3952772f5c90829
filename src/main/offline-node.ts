/** A node's folder without its node: for looking at its chunks while no process serves it. */
import { systemClock } from '../base/clock.js'
import { RingfsError, hasCode } from '../base/errors.js'
import type { ChunkNodeApi } from '../chunk/contract.js'
import { openDataFolder, readIdentity } from '../chunk/node/identity.js'
import { ChunkService } from '../chunk/node/service.js'
import { ChunkStore } from '../chunk/node/store.js'
import { VERSION } from './version.js'
import type { Volume } from './volume.js'

export interface OfflineNode {
  readonly id: string
  /** null: a process serves the folder. */
  readonly api: ChunkNodeApi | null
  close(): Promise<void>
}

type Parts = Pick<Volume, 'settings' | 'pool' | 'buffers' | 'log'>

/** Errors: those of openDataFolder, USAGE when it is nobody's. */
export async function openOfflineNode({ settings, pool, buffers, log }: Parts, folder: string): Promise<OfflineNode> {
  const volume = settings.uuid
  const id = readIdentity(folder, volume)
  if (id === undefined) throw new RingfsError('USAGE', `${folder} is not the data folder of a node`)
  try {
    const data = await openDataFolder(folder, volume)
    const store = await ChunkStore.open({ folder: data.folder, volume, pool, buffers, clock: systemClock, log })
    const alone = (): never => {
      throw new RingfsError('NODE_UNREACHABLE', 'a node that is not started has no peers')
    }
    const api = new ChunkService({
      ...{ nodeId: id, volume, version: VERSION, disk: store, clock: systemClock, log },
      ...{
        peer: alone,
        order: () => [],
        isSuspect: () => true,
        enqueue: () => Promise.reject(new Error('not started')),
      },
    })
    return { id, api, close: () => data.close() }
  } catch (error) {
    if (!hasCode(error, 'ALREADY_RUNNING')) throw error
    return { id, api: null, close: () => Promise.resolve() }
  }
}
