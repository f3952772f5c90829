/**
 * Keys of the cluster's own state. All carry the hash tag `{<volume>}` and so lie in one slot (src/meta/keys.ts has the
 * other keys of that tag, `{v}:m:…`).
 *
 *   {v}:c:members    hash    node id -> JSON: address, zone, weight, pid, incarnation, state, left, out. All are strings.
 *                            Changes only together with the epoch.
 *   {v}:c:beats      hash    node id -> "<ms of Redis time> <total bytes> <free bytes> <chunks>": the last heartbeat
 *   {v}:c:reports    hash    node id -> JSON: what the node says of itself (report.ts)
 *   {v}:c:options    hash    epoch; suspectMs, downMs, outMs, healBytesPerS, surplusMs, scrubMs (absent: the defaults of scripts/lib.lua, view.lua);
 *                            walks: how often a rebalance was asked for; changed: when the epoch was raised (ms); rings: when the ring changed
 *                            (ms, but always more than before); tick: when a view was last fetched, resumed: when that began again after a gap (ms)
 *   {v}:c:q:<id>     stream  replication queue of the node; one field "t" an entry (queue-task.ts); group "r"
 */
export class ClusterKeys {
  readonly members: string
  readonly beats: string
  readonly options: string
  readonly reports: string
  readonly #tag: string

  constructor(volume: string) {
    this.#tag = `{${volume}}:c`
    this.members = `${this.#tag}:members`
    this.beats = `${this.#tag}:beats`
    this.options = `${this.#tag}:options`
    this.reports = `${this.#tag}:reports`
  }

  /** What the scripts of membership get as KEYS[1] to KEYS[4]. */
  get membership(): readonly [string, string, string, string] {
    return [this.members, this.beats, this.options, this.reports]
  }

  queue(nodeId: string): string {
    return `${this.#tag}:q:${nodeId}`
  }
}
