/**
 * Everything of the metadata of one moment (freeze.ts), as records.
 *
 * What is in it: a state in which the volume would be if, at that moment, every client had lost its power. Not in it: the replies
 * that make changes exactly-once (nobody will ask for them any more), membership and queues (nodes register again by
 * themselves), leases.
 */
import type { RedisStore, RedisValue } from '../../cluster/contract.js'
import { arrayOf, textOf } from '../../cluster/reply.js'
import type { PartitionKeys, VolumeKeys } from '../keys.js'
import { decodeInode } from '../records.js'
import { WIDE, portionsOf, type BackupRecord } from './format.js'

/** Takes a record; resolves when there is room for the next. */
export type Sink = (record: BackupRecord) => Promise<void>

const HASH_PAGE = 500
const NAMES_PAGE = 2000
const LIST_PAGE = 500
const PARTITIONS_AT_ONCE = 8
/** Of one partition. */
const KEYS_AT_ONCE = 64
/**
 * The freeze itself, delegations, and who counts: all are over before anybody restores them. The moment of the last backup: what is restored is
 * named by one, so that none is noted says that it may have been made just now.
 */
const SKIPPED_LOCKS: ReadonlySet<string> = new Set(['F', 'D', 'B', 'C'])

export interface DumpFigures {
  inodes: number
  names: number
}

/** Errors: those of Redis and of the sink. */
export async function dumpVolume(
  store: RedisStore,
  keys: VolumeKeys,
  sink: Sink,
  progress: (partitionsDone: number) => void,
): Promise<DumpFigures> {
  const figures = { inodes: 0, names: 0 }
  await dumpWide(store, keys, sink)
  let next = 0
  let done = 0
  const lane = async (): Promise<void> => {
    while (next < keys.partitions) {
      await new PartitionDump(store, keys.partition(next), next++, sink, figures).run()
      progress(++done)
    }
  }
  await Promise.all(Array.from({ length: PARTITIONS_AT_ONCE }, lane))
  return figures
}

async function dumpWide(store: RedisStore, keys: VolumeKeys, sink: Sink): Promise<void> {
  const settings = await store.call('GET', keys.wide('settings'))
  await sink({ kind: 'string', partition: WIDE, key: ':m:settings', items: buffers([settings]) })
  for (const name of ['n', 'h'] as const) {
    const items = buffers(await store.call('HGETALL', keys.wide(name)))
    await sink({ kind: 'hash', partition: WIDE, key: `:m:${name}`, items })
  }
  for (const name of ['s', 'dead'] as const) {
    const items = buffers(await store.call('ZRANGE', keys.wide(name), 0, -1, 'WITHSCORES'))
    await sink({ kind: 'zset', partition: WIDE, key: `:m:${name}`, items })
  }
}

class PartitionDump {
  readonly #store: RedisStore
  readonly #keys: PartitionKeys
  readonly #partition: number
  readonly #sink: Sink
  readonly #figures: DumpFigures

  constructor(store: RedisStore, keys: PartitionKeys, partition: number, sink: Sink, figures: DumpFigures) {
    this.#store = store
    this.#keys = keys
    this.#partition = partition
    this.#sink = sink
    this.#figures = figures
  }

  async run(): Promise<void> {
    const { counters, acls, reserved, open, holders, locks, fileLocks, decisions, zombies, garbage } = this.#keys
    await this.#hash(counters)
    await this.#list(garbage)
    for (const key of [acls, reserved, open, holders, locks, fileLocks, decisions]) await this.#hash(key)
    await this.#hash(zombies, (fields) => this.#eachKey(fields, (ino) => this.#dumpZombie(Number(ino))))
    await this.#hash(this.#keys.inodes, (fields) => this.#inodes(fields))
  }

  /** `also`: what hangs on the fields of a page. */
  async #hash(key: string, also?: (fields: readonly Buffer[]) => Promise<void>): Promise<void> {
    let cursor = '0'
    do {
      const [next, page] = pageOf(await this.#store.call('HSCAN', key, cursor, 'COUNT', HASH_PAGE))
      const items = key === this.#keys.locks ? lasting(page) : page
      if (items.length > 0) await this.#put('hash', key, items)
      if (also !== undefined) await also(items)
      cursor = next
    } while (cursor !== '0')
  }

  async #list(key: string): Promise<void> {
    for (let from = 0; ; from += LIST_PAGE) {
      const items = buffers(await this.#store.call('LRANGE', key, from, from + LIST_PAGE - 1))
      if (items.length > 0) await this.#put('list', key, items)
      if (items.length < LIST_PAGE) return
    }
  }

  async #inodes(fields: readonly Buffer[]): Promise<void> {
    const records: [number, Buffer][] = []
    for (let at = 0; at + 1 < fields.length; at += 2) {
      const [field, record] = [String(fields[at]), fields[at + 1]]
      if (record !== undefined && !field.startsWith('b')) records.push([Number(field), record])
    }
    this.#figures.inodes += records.length
    await inLanes(records, async ([ino, record]) => {
      const { attr, hasWindows } = decodeInode(ino, record)
      if (attr.type === 'directory') await this.#names(ino)
      if (hasWindows) await this.#windows(ino)
      if (attr.hasXattrs) await this.#hash(this.#keys.xattrs(ino))
    })
  }

  async #names(ino: number): Promise<void> {
    const key = this.#keys.names(ino)
    for (let from = 0; ; from += NAMES_PAGE) {
      const items = buffers(await this.#store.call('ZRANGE', key, from, from + NAMES_PAGE - 1, 'WITHSCORES'))
      if (items.length > 0) await this.#put('zset', key, items)
      this.#figures.names += items.length / 2
      if (items.length < 2 * NAMES_PAGE) return
    }
  }

  async #windows(ino: number): Promise<void> {
    const key = this.#keys.windows(ino)
    const items = buffers(await this.#store.call('ZRANGE', key, 0, -1, 'WITHSCORES'))
    if (items.length > 0) await this.#put('zset', key, items)
    for (let at = 0; at < items.length; at += 2) {
      const extents = this.#keys.extents(ino, Number(String(items[at])))
      const blob = await this.#store.call('GET', extents)
      if (Buffer.isBuffer(blob)) await this.#put('string', extents, [blob])
    }
  }

  async #dumpZombie(ino: number): Promise<void> {
    await this.#windows(ino)
    await this.#hash(this.#keys.xattrs(ino))
  }

  #eachKey(fields: readonly Buffer[], work: (field: string) => Promise<void>): Promise<void> {
    const names = fields.flatMap((field, at) => (at % 2 === 0 ? [String(field)] : []))
    return inLanes(names, work)
  }

  /** Claims of the janitor are as long as the extents of a window: a page of them is too much for a record. */
  async #put(kind: BackupRecord['kind'], key: string, items: readonly Buffer[]): Promise<void> {
    const record = { kind, partition: this.#partition, key: key.slice(key.indexOf('}') + 1) }
    const together = kind === 'hash' || kind === 'zset' ? 2 : 1
    for (const some of portionsOf(items, together)) await this.#sink({ ...record, items: some })
  }
}

async function inLanes<T>(items: readonly T[], work: (item: T) => Promise<void>): Promise<void> {
  for (let at = 0; at < items.length; at += KEYS_AT_ONCE) {
    await Promise.all(items.slice(at, at + KEYS_AT_ONCE).map(work))
  }
}

function lasting(items: readonly Buffer[]): Buffer[] {
  return items.filter((_, at) => !SKIPPED_LOCKS.has(String(items[at - (at % 2)])))
}

function pageOf(reply: RedisValue): [string, Buffer[]] {
  const [cursor = null, items = null] = arrayOf(reply, 'HSCAN')
  return [textOf(cursor, 'HSCAN'), buffers(items)]
}

function buffers(reply: RedisValue): Buffer[] {
  return Array.isArray(reply) ? reply.filter((item) => Buffer.isBuffer(item)) : []
}
