/**
 * What is restored stays: it is on as many replicas as the volume's settings say, and on this machine's disk where Redis is its own.
 *
 * A replica that takes its master's place may lack the end of what that had acknowledged, and so may a server that is started again.
 * Either begins a history of its own (master_replid of INFO).
 *
 * Invariant: a server whose history is the same before the first record and after the replicas were waited for has had each record, and
 * they have it. If one has another, nobody knows, and the restore is not done.
 */
import { RingfsError } from '../../base/errors.js'
import type { RedisStore, VolumeSettings } from '../../cluster/contract.js'
import { UncountedError } from '../../cluster/redis-errors.js'
import type { VolumeKeys } from '../keys.js'
import { SCRIPTS } from '../scripts.js'

const REPLICAS_MS = 30_000
const AT_ONCE = 64

type Settings = Pick<VolumeSettings, 'name' | 'metaReplicas'>

export class Lasting {
  readonly #store: RedisStore
  readonly #all: readonly string[]
  readonly #wide: string
  readonly #name: string
  readonly metaReplicas: number
  readonly #histories: readonly string[]

  private constructor(store: RedisStore, keys: VolumeKeys, settings: Settings, histories: readonly string[]) {
    this.#store = store
    this.#all = allOf(keys)
    this.#wide = keys.wide('settings')
    this.#name = settings.name
    this.metaReplicas = settings.metaReplicas
    this.#histories = histories
  }

  /** Before anything is written. */
  static async begin(store: RedisStore, keys: VolumeKeys, settings: Settings): Promise<Lasting> {
    return new Lasting(store, keys, settings, await historiesOf(store, allOf(keys)))
  }

  /** Whose claim it is: a server that forgot it would take the same file for another's remains. Errors: NO_QUORUM. */
  async claimed(): Promise<void> {
    await this.#replicated([this.#wide], 'know of it: do the same again when they are there')
  }

  /** All records. Errors: NO_QUORUM, METADATA_NOT_SYNCED. */
  async written(): Promise<void> {
    await this.#store.syncLocal()
    await this.#replicated(this.#all, 'have what was done: do the same again when they are there')
    const histories = await historiesOf(this.#store, this.#all)
    if (histories.every((history, at) => history === this.#histories[at])) return
    throw new RingfsError(
      'NO_QUORUM',
      `a Redis master was replaced, or started again, meanwhile, and may lack some of what was done to ${this.#name}: do the same again`,
    )
  }

  /** `end`, which writes the settings, or takes the mark away; also where their server is replaced by one that does not know it. Errors: NO_QUORUM, METADATA_NOT_SYNCED. */
  async ended(end: () => Promise<void>): Promise<void> {
    for (let isSame = false; !isSame;) {
      const before = await historiesOf(this.#store, [this.#wide])
      await end()
      await this.#replicated([this.#wide], 'know that it is done: if it is not soon, do the same again')
      isSame = String(await historiesOf(this.#store, [this.#wide])) === String(before)
    }
    await this.#store.syncLocal()
  }

  async #replicated(keys: readonly string[], what: string): Promise<void> {
    const wanted = this.metaReplicas
    if (wanted === 0) return
    const count = await this.#count(keys, wanted)
    if (count >= wanted) return
    throw new RingfsError('NO_QUORUM', `only ${count} of ${wanted} replicas of a Redis master ${what}`)
  }

  async #count(keys: readonly string[], wanted: number): Promise<number> {
    try {
      return await this.#store.waitReplicas(keys, wanted, REPLICAS_MS)
    } catch (error) {
      // A server, or we, stood still: another may be in its place, with less. What that has must not be counted.
      if (!(error instanceof UncountedError)) throw error
      const message = 'a Redis master may have been replaced before its replicas had everything: do the same again'
      throw new RingfsError('NO_QUORUM', message, { cause: error })
    }
  }
}

function allOf(keys: VolumeKeys): readonly string[] {
  return [...keys.everywhere, keys.wide('settings')]
}

async function historiesOf(store: RedisStore, keys: readonly string[]): Promise<readonly string[]> {
  const found: string[] = []
  for (let at = 0; at < keys.length; at += AT_ONCE) {
    const some = keys.slice(at, at + AT_ONCE)
    found.push(...(await Promise.all(some.map(async (key) => String(await store.run(SCRIPTS.history, [key], []))))))
  }
  return found
}
