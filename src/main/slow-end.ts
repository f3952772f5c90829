/** An end that takes long: what it waits for is told, so that nobody wonders, or ends at once what only waits for a Redis that comes back. */
import { systemClock, type Clock } from '../base/clock.js'
import type { ClusterView, Member } from '../cluster/contract.js'
import { formatHost } from '../cluster/url.js'
import type { Volume } from './volume.js'

/** What a usual end takes at most. */
const PATIENCE_MS = 3_000
const LOOK_EVERY_MS = 5_000
const REDIS_ANSWERS_MS = 2_000

export interface SlowEndDeps {
  readonly volume: Pick<Volume, 'url'> & { readonly watcher: Pick<Volume['watcher'], 'refresh'> }
  /** Called with each reason that is new. */
  readonly tell: (why: string) => void
  readonly clock?: Clock
}

export class SlowEnd {
  readonly #deps: SlowEndDeps
  readonly #clock: Clock
  #isOver = false
  #told = ''

  constructor(deps: SlowEndDeps) {
    this.#deps = deps
    this.#clock = deps.clock ?? systemClock
  }

  /** The end begins. */
  begin(): void {
    void this.#watch()
  }

  /** Nothing is waited for any more, or nobody could tell for what. */
  over(): void {
    this.#isOver = true
  }

  async #watch(): Promise<void> {
    for (let pauseMs = PATIENCE_MS; ; pauseMs = LOOK_EVERY_MS) {
      await this.#clock.sleep(pauseMs)
      if (this.#isOver) return
      this.#found(await this.#look())
    }
  }

  #found(why: string): void {
    if (this.#isOver || why === this.#told) return
    this.#told = why
    this.#deps.tell(why)
  }

  async #look(): Promise<string> {
    const { volume } = this.#deps
    const answer = volume.watcher.refresh().catch(() => undefined)
    const late = this.#clock.sleep(REDIS_ANSWERS_MS).then(() => undefined)
    const view = await Promise.race([answer, late])
    return view === undefined
      ? `Redis at ${volume.url.hosts.map(formatHost).join(', ')} does not answer`
      : nodesAway(view)
  }
}

function nodesAway({ members }: ClusterView): string {
  const counted = members.filter(({ state }) => state !== 'gone')
  const away = counted.filter(isAway).map(({ id }) => id)
  if (away.length === 0) return 'what is buffered is being written'
  return `${away.length} of ${counted.length} nodes do not answer (${away.join(', ')})`
}

function isAway({ state }: Member): boolean {
  return state === 'suspect' || state === 'down'
}
