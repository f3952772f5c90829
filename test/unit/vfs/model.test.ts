/**
 * Random operations against a Buffer, over chunk nodes that are slow and fail from a seed.
 *
 * Fault model: each upload waits a random number of turns, and fails with NO_QUORUM at random but never for good; events
 * and replies come in any order; coherence comes and goes, and the partition is not listened to at times. Then nothing that was written may be missing, come twice or
 * come back. fast-check prints the seed of a failure.
 */
import t from 'tap'
import fc from 'fast-check'
import { setImmediate as turn } from 'node:timers/promises'
import { RingfsError } from '../../../src/base/errors.js'
import { createVfs } from '../../../src/vfs/vfs.js'
import { within } from '../../helpers/deadline.js'
import { MemoryChunks } from '../../helpers/memory-chunks.js'
import { MemoryVolume } from '../../helpers/memory-meta.js'
import { propertyRun } from '../../helpers/property.js'
import { FastClock } from '../../helpers/vfs-clock.js'
import { randomFrom } from '../../helpers/random.js'
import { BORDER, Play, anyOp, type Op } from '../../helpers/vfs-model.js'

const CHUNK = 4096

/** Where the play takes place, and how much of a file the store keeps itself. */
interface Place {
  readonly base: number
  readonly inlineBytes: number
}

const PLACES: readonly Place[] = [
  { base: BORDER, inlineBytes: 0 },
  { base: 0, inlineBytes: 5_000 },
  { base: 0, inlineBytes: 100_000 },
]

async function play(ops: readonly Op[], seed: number, { base, inlineBytes }: Place): Promise<void> {
  const random = randomFrom(seed)
  const wait = async (): Promise<void> => {
    for (let i = Math.floor(random() * 6); i > 0; i--) await turn()
  }
  const volume = new MemoryVolume({ settings: { chunkBytes: CHUNK, inlineBytes } })
  const chunks = new MemoryChunks()
  chunks.before = async (call) => {
    await wait()
    if (call === 'write' && random() < 0.15) throw new RingfsError('NO_QUORUM', 'from the seed')
  }
  const limits = {
    dirtyBytes: 4 * CHUNK,
    dirtyInodeBytes: 3 * CHUNK,
    uploads: 3,
    uploadsPerInode: 2,
    uploadDeadlineMs: 1e9,
    cloneBytes: 1,
  }
  const metas = [volume.open(), volume.open()] as const
  metas[0].before = async (call) => {
    await wait()
    if (call === 'commitInline') metas[0].roomInline = random() < 0.8
  }
  metas[0].after = wait
  const clock = new FastClock()
  const vfs = createVfs({ meta: metas[0], chunks, clock, limits })
  const other = createVfs({ meta: metas[1], chunks, clock, limits })
  const all = Array.from({ length: volume.settings.partitions }, (_, p) => p)
  const lose = (): void => {
    if (random() < 0.5) metas[0].setCoherent(!metas[0].coherent)
    else metas[0].ignore(...all)
  }
  const game = new Play(vfs, other, lose, base)
  await game.start()
  for (const op of ops) await game.run(op)
  await game.end()
  await vfs.shutdown()
  await other.shutdown()
  const live = volume.liveChunks()
  for (const id of live) if (!chunks.stored.has(id)) throw new Error(`chunk ${id} is named and was removed`)
}

t.test('random operations read as a buffer does, over slow and failing nodes', async (st) => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(anyOp, { minLength: 5, maxLength: 60 }),
      fc.integer(),
      fc.constantFrom(...PLACES),
      (ops, seed, place) => within(60_000, play(ops, seed, place), 'one play'),
    ),
    { ...propertyRun(st, 300), includeErrorInReport: true },
  )
  st.pass('every play')
})
