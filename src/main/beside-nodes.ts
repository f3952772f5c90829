/**
 * The nodes of an `up` are on this machine, with folders of this user: chunks are read, and written, without them (but for the names of long ones).
 *
 * Not where a node has several disks. Such a node goes on without one that hangs: that one keeps its own threads, and the node gives it
 * up. Whoever reads or writes beside it would hang with the disk, and the whole mount with him.
 */
import { statSync } from 'node:fs'
import { systemClock } from '../base/clock.js'
import { InlineGate, limitsOf } from '../base/inline-gate.js'
import { ChunkFiles } from '../chunk/node/chunk-files.js'
import { seedOf, weightOf } from '../chunk/node/disk-choice.js'
import { readIdentity } from '../chunk/node/identity.js'
import { NearbyJournal } from '../chunk/node/nearby-journal.js'
import { logWriter } from '../chunk/node/log-writes.js'
import { NearbyTogether } from '../chunk/node/nearby-together.js'
import { NearbyWriter } from '../chunk/node/nearby-writer.js'
import { SpaceGauge } from '../chunk/node/space.js'
import { WorkerPool } from '../chunk/pool.js'
import type { Peers } from './peers.js'
import type { Volume } from './volume.js'

export interface BesideParts extends Pick<Volume, 'pool' | 'buffers' | 'log'> {
  readonly settings: Pick<Volume['settings'], 'uuid'>
  readonly peers: Pick<Peers, 'get' | 'setNearby' | 'together'>
}

/** Of small chunks, before they are written to each node. */
const TOGETHER_MAX_BYTES = 128 * 1024

interface Shared {
  readonly writers: Writers
  readonly gate: InlineGate
  readonly together: NearbyTogether
}

/** `nodes`: the data folders of each. What an earlier `up` left beside them has files when it resolves, if its node answers. */
export async function startBeside(
  parts: BesideParts,
  nodes: readonly (readonly string[])[],
): Promise<{ readonly close: () => Promise<void> }> {
  const writers = new Writers(parts)
  const gate = new InlineGate(systemClock, TOGETHER_MAX_BYTES, limitsOf(Math.max(1, nodes.length)))
  const together = new NearbyTogether({ gate, write: logWriter() })
  const journals = nodes.flatMap((folders) => journalsOf(parts, folders, { writers, gate, together }))
  await Promise.all(
    journals.map(async ({ journal, isUsed }) => {
      await journal.start()
      if (!isUsed) journal.close()
    }),
  )
  parts.peers.together = together
  return {
    close: async () => {
      for (const { journal } of journals) journal.close()
      await writers.close()
    },
  }
}

/** Each has a thread of its own, so that a slow or hanging disk holds up no other. Folders on one disk share what is known of its room. */
class Writers {
  readonly #parts: BesideParts
  readonly #pools: WorkerPool[] = []
  readonly #gauges = new Map<number, SpaceGauge>()

  constructor(parts: BesideParts) {
    this.#parts = parts
  }

  forFolder(folder: string): NearbyWriter {
    const { buffers, log } = this.#parts
    const pool = new WorkerPool({ threads: 1 })
    this.#pools.push(pool)
    return new NearbyWriter({ folder, pool, buffers, gauge: this.#gaugeOf(folder, pool), log })
  }

  #gaugeOf(folder: string, pool: WorkerPool): SpaceGauge {
    const { dev } = statSync(folder)
    const gauge = this.#gauges.get(dev) ?? new SpaceGauge({ folder, pool, clock: systemClock, isInline: false })
    this.#gauges.set(dev, gauge)
    return gauge
  }

  async close(): Promise<void> {
    await Promise.all(this.#pools.map((pool) => pool.close()))
  }
}

interface Beside {
  readonly journal: NearbyJournal
  readonly isUsed: boolean
}

function journalsOf(
  { pool, buffers, settings, peers, log }: BesideParts,
  folders: readonly string[],
  { writers, gate, together }: Shared,
): Beside[] {
  const volume = settings.uuid
  const shared = { volume, pool, buffers, clock: systemClock, log }
  const found = folders.flatMap((folder) => identityIn(folder, volume) ?? [])
  const id = found[0]?.node
  if (id === undefined) return []
  const isUsed = folders.length === 1
  const disks = found.map(({ folder, disk }) => {
    const journal = new NearbyJournal({ ...shared, gate, folder, disk, node: () => peers.get(id) })
    const files = new ChunkFiles({ ...shared, folder })
    const place = { seed: seedOf(disk), weight: weightOf(folder), files, journal }
    return isUsed ? { ...place, writer: writers.forFolder(folder) } : place
  })
  if (isUsed) {
    const nearby = { id, volume, disks }
    peers.setNearby(nearby)
    together.add(nearby)
  }
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
