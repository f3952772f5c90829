import t from 'tap'
import { createVfs } from '../../src/vfs/vfs.js'
import { MemoryChunks } from '../helpers/memory-chunks.js'
import { MemoryVolume } from '../helpers/memory-meta.js'
import { vfsSuite, type VfsPair } from './vfs-suite.js'

function makePair(coherent: boolean, inlineBytes = 0): Promise<VfsPair> {
  const volume = new MemoryVolume({ settings: { inlineBytes } })
  const chunks = new MemoryChunks()
  const metas = [volume.open(), volume.open()] as const
  const [a, b] = [createVfs({ meta: metas[0], chunks }), createVfs({ meta: metas[1], chunks })]
  if (!coherent) for (const meta of metas) meta.setCoherent(false)
  return Promise.resolve({
    a,
    b,
    settle: async () => {
      for (const meta of metas) await meta.delivered()
    },
    close: async () => {
      await a.shutdown()
      await b.shutdown()
      for (const meta of metas) await meta.shutdown()
    },
  })
}

t.test('the VFS over coherent stores in memory', (st) => vfsSuite(st, () => makePair(true)))
t.test('the VFS over stores that keep small files', (st) => vfsSuite(st, () => makePair(true, 4096)))
t.test('the VFS over stores that keep small files and never tell what changed', (st) =>
  vfsSuite(st, () => makePair(false, 4096)),
)
t.test('the VFS over stores that never tell what changed', (st) => vfsSuite(st, () => makePair(false)))
