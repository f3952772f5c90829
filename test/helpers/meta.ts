/** Fresh volumes on a real Redis for tests of the metadata, and small words for them. */
import type { Test } from 'tap'
import { ChangedHandsError } from '../../src/base/errno.js'
import { silentLog } from '../../src/base/log.js'
import type { RedisStore, VolumeSettings } from '../../src/cluster/contract.js'
import { openMeta } from '../../src/meta/engine.js'
import type { MetaOptions } from '../../src/meta/options.js'
import type { Attr, Extent, MetaEvent, MetaStore, NewInode } from '../../src/meta/contract.js'
import { formatVolume } from '../../src/meta/format.js'
import { CuttableRedis } from './cuttable-redis.js'
import { checkVolume } from './meta-check.js'
import type { TestRedis } from './redis.js'
import { connectPatiently } from './redis.js'
import { PATIENCE_MS, until } from './deadline.js'

export { until } from './deadline.js'
export { outcomeOf as outcome } from './errno.js'

export const ROOT = 1
export const PARTITIONS = 8

export type ClientOptions = Partial<MetaOptions>
/** Puts a faulty store between a client and Redis. */
export type WrapStore = (store: RedisStore) => RedisStore

export interface MetaVolume {
  readonly settings: VolumeSettings
  /** A client with a session and connections of its own. */
  client(options?: ClientOptions): Promise<MetaStore>
  /** The client hears nothing and reaches nothing any more, as a machine that lost power. */
  cut(client: MetaStore): void
  /** It is back, and does not know that it was away. */
  mend(client: MetaStore): void
  /** Redis itself, past every fault that is injected. */
  readonly redis: RedisStore
  /** Ends all clients. */
  close(): Promise<void>
}

export type OpenVolume = (partitions?: number, metaReplicas?: number) => Promise<MetaVolume>

let volumes = 0

/** Volumes on `redis`; each client's store goes through `wrap`. All are closed when `t` ends. */
export function volumesOn(t: Pick<Test, 'teardown'>, redis: TestRedis, wrap: WrapStore = (store) => store): OpenVolume {
  let shared: Promise<RedisStore> | undefined
  const connect = (): Promise<RedisStore> => connectPatiently(redis.url('any'))
  t.teardown(async () => (await shared)?.close())
  return async (partitions = PARTITIONS, metaReplicas = 0) => {
    const plain = await (shared ??= connect())
    const settings = await formatVolume(plain, `v${process.pid}-${++volumes}`, { partitions, metaReplicas })
    const clients = new Map<MetaStore, CuttableRedis>()
    const close = async (): Promise<void> => {
      const all = [...clients]
      clients.clear()
      await Promise.all(all.map(([client, store]) => endClient(client, store)))
    }
    t.teardown(close)
    return {
      settings,
      redis: plain,
      close,
      async client(options = {}) {
        // One number at a time: directories go through all partitions in turn, and their numbers are known.
        const store = new CuttableRedis(wrap(await connect()))
        const client = await openMeta(store, settings, {
          ...{ log: silentLog, numbersAhead: 1, operationDeadlineMs: PATIENCE_MS },
          ...options,
        })
        clients.set(client, store)
        return client
      },
      cut: (client) => clients.get(client)?.cut(),
      mend: (client) => clients.get(client)?.mend(),
    }
  }
}

async function endClient(client: MetaStore, store: CuttableRedis): Promise<void> {
  // One that was cut off is dead: it must not clean up after itself.
  if (!store.isCut) await client.shutdown()
  await store.close()
}

/** A test with a fresh volume. Whatever it did, the volume must be whole afterwards, seen by a new client. */
export function claim(
  t: Test,
  open: OpenVolume,
  name: string,
  body: (t: Test, volume: MetaVolume) => Promise<void>,
  timeoutMs = 300_000,
): void {
  void t.test(name, { timeout: timeoutMs }, async (t) => {
    const volume = await open()
    await body(t, volume)
    await volume.close()
    const problems = await checkVolume(volume)
    t.strictSame(problems, [], 'the volume is whole afterwards')
    await volume.close()
  })
}

export const bytes = (text: string): Buffer => Buffer.from(text)

export function newFile(change: Partial<NewInode> = {}): NewInode {
  return { type: 'file', mode: 0o644, uid: 1000, gid: 1000, ...change }
}

export async function touch(meta: MetaStore, parent: number, name: string | Buffer, inode = newFile()): Promise<Attr> {
  const reply = await meta.create(parent, Buffer.from(name), inode, { exclusive: true, open: false })
  return reply.attr
}

/** With its inode, which comes behind the answer: others use its number here without having looked up its name (births.ts). */
export async function makeDir(meta: MetaStore, parent: number, name: string, mode = 0o755): Promise<Attr> {
  const { ino } = await meta.mkdir(parent, bytes(name), mode, 1000, 1000)
  return meta.getattr(ino)
}

/** A directory in the given partition (or in any but it, with `not`), whatever the store's spreading does. */
export async function makeDirIn(
  meta: MetaStore,
  parent: number,
  name: string,
  where: { readonly partition: number } | { readonly not: number },
): Promise<Attr> {
  for (let attempt = 0; attempt < 400; attempt++) {
    const attr = await makeDir(meta, parent, name)
    const home = attr.ino % meta.settings.partitions
    if ('partition' in where ? home === where.partition : home !== where.not) return attr
    await meta.rmdir(parent, bytes(name))
  }
  throw new Error('no directory came to lie in the wanted partition')
}

/** Whether it was not done because what it rests on is not so any more. */
export async function isRefusedUnseen(work: Promise<unknown>): Promise<boolean> {
  return await work.then(
    () => false,
    (error: unknown) => error instanceof ChangedHandsError,
  )
}

/** All names, page by page, as latin1. */
export async function names(meta: MetaStore, ino: number, page = 100): Promise<string[]> {
  const found: string[] = []
  for (let cursor = null; ;) {
    const reply = await meta.readdir(ino, cursor, page, false)
    found.push(...reply.entries.map((entry) => entry.name.toString('latin1')))
    const last = reply.entries.at(-1)
    if (reply.end) return found
    if (last === undefined) throw new Error('a page that is not the last has entries')
    cursor = last.cursor
  }
}

export function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms))
}

/** Before that a client may miss what others are told. */
export async function coherent(...clients: readonly MetaStore[]): Promise<void> {
  await until('all are coherent', () => clients.every((client) => client.coherent))
}

/** Collects what a client is told, from now on. */
export function listen(meta: MetaStore): MetaEvent[] {
  const events: MetaEvent[] = []
  meta.onEvent((event) => events.push(event))
  return events
}

/** An extent of a chunk whose root hash tells its id, so that mixed up parts are seen. */
export function extentOf(chunkId: number, fileOffset: number, lengthBytes: number, chunkOffset = 0): Extent {
  const root = Buffer.alloc(32, chunkId % 251)
  root.writeDoubleLE(chunkId, 0)
  return { fileOffset, lengthBytes, chunkOffset, chunk: { id: chunkId, lengthBytes: chunkOffset + lengthBytes, root } }
}

const SOME_TIME = { sec: 1_700_000_000, nsec: 123_456_789 }

/** Commits one chunk of data at an offset. */
export async function writeAt(meta: MetaStore, ino: number, fileOffset: number, lengthBytes: number): Promise<Extent> {
  const extent = extentOf(await meta.chunkId(), fileOffset, lengthBytes)
  await meta.commit(ino, { extents: [extent], mode: 'at', allocatedDeltaBytes: lengthBytes, mtime: SOME_TIME })
  return extent
}
