/**
 * What a test may mount:
 * - `memory`: the model of a VFS, MemoryVfs;
 * - `vfs`: the real VFS on metadata and chunks in memory;
 * - `redis://…/VOLUME`: the real VFS on the real metadata, which are formatted if they are new, and chunks in memory.
 */
import { systemClock } from '../../src/base/clock.js'
import { hasCode } from '../../src/base/errors.js'
import type { Log } from '../../src/base/log.js'
import { parseMetaUrl } from '../../src/cluster/url.js'
import { openMeta } from '../../src/meta/engine.js'
import type { DelegationFigures } from '../../src/meta/contract.js'
import type { DelegationOptions } from '../../src/meta/holdings.js'
import { formatVolume, loadVolume } from '../../src/meta/format.js'
import type { VfsContract } from '../../src/vfs/contract.js'
import { createVfs } from '../../src/vfs/vfs.js'
import { FolderChunks } from './folder-chunks.js'
import { MemoryChunks } from './memory-chunks.js'
import { MemoryVolume } from './memory-meta.js'
import { MemoryVfs } from './memory-vfs.js'
import { connectPatiently } from './redis.js'

export interface Backend {
  readonly vfs: VfsContract
  readonly figures?: () => DelegationFigures
  /** Answers what was left over, in words. */
  close(): Promise<string>
}

export interface RedisBackendOptions {
  readonly sessionTtlMs?: number
  readonly listenMs?: number
  /** Chunks in this folder, for several mounts of one volume; default: in memory. */
  readonly chunksFolder?: string
  readonly delegations?: DelegationOptions
}

export async function openBackend(name: string, log: Log, options: RedisBackendOptions = {}): Promise<Backend> {
  if (name === 'memory') return openModel()
  if (name === 'vfs') return openVfs(log)
  return openRedis(name, log, options)
}

function openModel(): Backend {
  const vfs = new MemoryVfs()
  return { vfs, close: async () => `${vfs.openHandles} open handles` }
}

function openVfs(log: Log): Backend {
  const volume = new MemoryVolume({ clock: systemClock })
  const meta = volume.open()
  const vfs = createVfs({ meta, chunks: new MemoryChunks(), log })
  const close = async () => {
    await vfs.shutdown()
    await meta.shutdown()
    const opens = [...volume.inodes.values()].reduce((sum, inode) => sum + inode.opens, 0)
    return `${opens} open handles`
  }
  return { vfs, close }
}

async function openRedis(url: string, log: Log, options: RedisBackendOptions): Promise<Backend> {
  const { chunksFolder, ...metaOptions } = options
  const metaUrl = parseMetaUrl(url)
  const store = await connectPatiently(metaUrl, { log })
  const load = () => loadVolume(store, metaUrl.volume)
  const settings = await load().catch(async (error: unknown) => {
    if (!hasCode(error, 'VOLUME_MISSING')) throw error
    await formatVolume(store, metaUrl.volume, { partitions: 8 })
    return load()
  })
  const meta = await openMeta(store, settings, { log, ...metaOptions })
  const chunks = chunksFolder === undefined ? new MemoryChunks() : new FolderChunks(chunksFolder)
  const vfs = createVfs({ meta, chunks, log })
  const close = async () => {
    await vfs.shutdown()
    await meta.shutdown()
    await store.close()
    return 'everything closed'
  }
  return { vfs, close, figures: () => meta.delegationFigures }
}
