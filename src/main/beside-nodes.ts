/**
 * The nodes of an `up` are on this machine, with folders of this user: chunks are read, and small ones written, without them.
 *
 * Not where a node has several disks. Such a node goes on without one that hangs: that one keeps its own threads, and the node gives it
 * up. Whoever reads or writes beside it would hang with the disk, and the whole mount with him.
 */
import { systemClock } from '../base/clock.js'
import { ChunkFiles } from '../chunk/node/chunk-files.js'
import { seedOf, weightOf } from '../chunk/node/disk-choice.js'
import { readIdentity } from '../chunk/node/identity.js'
import { NearbyJournal } from '../chunk/node/nearby-journal.js'
import type { Peers } from './peers.js'
import type { Volume } from './volume.js'

export interface BesideParts extends Pick<Volume, 'pool' | 'buffers' | 'log'> {
  readonly settings: Pick<Volume['settings'], 'uuid'>
  readonly peers: Pick<Peers, 'get' | 'setNearby'>
}

/** `nodes`: the data folders of each. What an earlier `up` left beside them has files when it resolves, if its node answers. */
export async function startBeside(
  parts: BesideParts,
  nodes: readonly (readonly string[])[],
): Promise<{ readonly close: () => void }> {
  const journals = nodes.flatMap((folders) => journalsOf(parts, folders))
  await Promise.all(
    journals.map(async ({ journal, isUsed }) => {
      await journal.start()
      if (!isUsed) journal.close()
    }),
  )
  return {
    close: () => {
      for (const { journal } of journals) journal.close()
    },
  }
}

interface Beside {
  readonly journal: NearbyJournal
  readonly isUsed: boolean
}

function journalsOf({ pool, buffers, settings, peers, log }: BesideParts, folders: readonly string[]): Beside[] {
  const volume = settings.uuid
  const shared = { volume, pool, buffers, clock: systemClock, log }
  const found = folders.flatMap((folder) => identityIn(folder, volume) ?? [])
  const id = found[0]?.node
  if (id === undefined) return []
  const isUsed = folders.length === 1
  const disks = found.map(({ folder, disk }) => {
    const journal = new NearbyJournal({ ...shared, folder, disk, node: () => peers.get(id) })
    const files = new ChunkFiles({ ...shared, folder })
    return { seed: seedOf(disk), weight: weightOf(folder), files, journal }
  })
  if (isUsed) peers.setNearby({ id, volume, disks })
  return disks.map(({ journal }) => ({ journal, isUsed }))
}

/** undefined: it is not there, or cannot be read. */
function identityIn(folder: string, volume: string): { folder: string; node: string; disk: string } | undefined {
  try {
    const { node, disk } = readIdentity(folder, volume) ?? {}
    return node === undefined || disk === undefined ? undefined : { folder, node, disk }
  } catch {
    return undefined
  }
}
