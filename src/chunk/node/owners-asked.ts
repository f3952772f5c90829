/** Asking the other owners of chunks which of them they lack: by id, or, for ranges of the ring that are compared as a whole, by digests. */
import type { Clock } from '../../base/clock.js'
import type { CancelSignal } from '../../base/cancel.js'
import { hasCode, messageOf } from '../../base/errors.js'
import type { Log } from '../../base/log.js'
import type { CallOptions, ChunkNodeApi } from '../contract.js'
import { withDeadline } from '../deadline.js'
import { lackedOf, type Ranges } from './compare.js'

/** One question, also where all that is asked for is read and hashed, or a part of the ring's folders is read. */
const ASK_DEADLINE_MS = 20_000

export interface OwnersAskedOptions {
  /** Volume uuid. */
  readonly volume: string
  readonly peer: (nodeId: string) => ChunkNodeApi
  readonly clock: Clock
  readonly log: Log
}

/** One other node, and what it is asked. */
export interface Question {
  /** By id. */
  readonly ids: number[]
  /** All own chunks in `ranges`, which it owns as well. */
  readonly shared: number[]
  readonly ranges: Ranges
}

/** What each node lacks; without an entry: it did not answer. */
export type Answers = ReadonlyMap<string, ReadonlySet<number>>

export class OwnersAsked {
  readonly #options: OwnersAskedOptions

  constructor(options: OwnersAskedOptions) {
    this.#options = options
  }

  async askAll(questions: ReadonlyMap<string, Question>): Promise<Answers> {
    const answers = new Map<string, ReadonlySet<number>>()
    await Promise.all(
      [...questions].map(async ([node, question]) => {
        const missing = await this.#answerOf(node, () => this.#compare(node, question))
        if (missing !== null) answers.set(node, missing)
      }),
    )
    return answers
  }

  /** null: no answer. `verify`: only what is on its disk and matches its hashes is not lacking. */
  async ask(node: string, ids: readonly number[], verify: boolean): Promise<ReadonlySet<number> | null> {
    return await this.#answerOf(node, () => this.#lacks(node, ids, verify))
  }

  async #answerOf(node: string, ask: () => Promise<readonly number[]>): Promise<ReadonlySet<number> | null> {
    try {
      return new Set(await ask())
    } catch (error) {
      this.#options.log.debug({ node, err: messageOf(error) }, 'owner not asked')
      return null
    }
  }

  async #compare(node: string, { ids, shared, ranges }: Question): Promise<readonly number[]> {
    const listed = ids.length === 0 ? [] : await this.#lacks(node, ids, false)
    return [...listed, ...(await this.#compareShared(node, shared, ranges))]
  }

  async #compareShared(node: string, shared: readonly number[], ranges: Ranges): Promise<readonly number[]> {
    const { volume } = this.#options
    const lacks = (ids: readonly number[]): Promise<readonly number[]> => this.#lacks(node, ids, false)
    const digest = (groups: readonly Ranges[]) =>
      this.#call(node, 'comparing with', (api, options) => api.digest({ volume, groups }, options))
    try {
      return await lackedOf(shared, ranges, { digest, lacks })
    } catch (error) {
      // It is of a version that has no digests.
      if (hasCode(error, 'METHOD_UNKNOWN')) return await lacks(shared)
      throw error
    }
  }

  #lacks(node: string, ids: readonly number[], verify: boolean): Promise<readonly number[]> {
    const { volume } = this.#options
    return this.#call(node, 'asking what it lacks', (api, options) => api.lacks({ volume, ids, verify }, options))
  }

  async #call<T>(
    node: string,
    what: string,
    call: (api: ChunkNodeApi, options: CallOptions) => Promise<T>,
  ): Promise<T> {
    const { peer, clock } = this.#options
    const work = (signal: CancelSignal): Promise<T> => call(peer(node), { deadlineMs: ASK_DEADLINE_MS, signal })
    return await withDeadline(ASK_DEADLINE_MS, work, `${what}: node ${node}`, undefined, clock)
  }
}
