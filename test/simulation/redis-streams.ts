/**
 * The scripts of the replication queues (src/cluster/scripts/queue-*.lua) over a stream in memory: the same arguments, the same
 * answers, the same state afterwards. test/cluster/simulated-redis plays both side by side.
 */
import { RingfsError } from '../../src/base/errors.js'
import type { RedisArg, RedisValue } from '../../src/cluster/contract.js'

interface Pending {
  consumer: string
  deliveredMs: number
  deliveries: number
}

export class Stream {
  /** In the order of their ids. */
  readonly entries = new Map<string, string>()
  /** Of the group; null: it was not made yet. In the order of ids, which are handed out in that order. */
  pending: Map<string, Pending> | null = null
  readonly consumers = new Map<string, { seenMs: number }>()
  lastMs = 0
  lastNumber = 0
  delivered: readonly [number, number] = [0, 0]
}

/** XAUTOCLAIM looks at so many entries for each that it may claim, and the script calls it so often. */
const LOOKED_AT = 10
const CLAIM_ROUNDS = 10
/** Pending entries that one script looks at. */
const PAGE = 500

export class Streams {
  readonly streams = new Map<string, Stream>()

  #of(key: string): Stream {
    let stream = this.streams.get(key)
    if (stream === undefined) this.streams.set(key, (stream = new Stream()))
    return stream
  }

  length(key: string): number {
    return this.streams.get(key)?.entries.size ?? 0
  }

  add(key: string, args: readonly RedisArg[], nowMs: number): number {
    const stream = this.#of(key)
    for (const task of args) {
      if (nowMs > stream.lastMs) {
        stream.lastMs = nowMs
        stream.lastNumber = 0
      } else stream.lastNumber++
      stream.entries.set(`${stream.lastMs}-${stream.lastNumber}`, String(task))
    }
    return args.length
  }

  take(key: string, [consumer, count, takeover, newFirst, ...inWork]: readonly RedisArg[], nowMs: number): RedisValue {
    const stream = this.#of(key)
    const pending = (stream.pending ??= new Map<string, Pending>())
    const name = String(consumer)
    for (const id of inWork) this.#keep(stream, name, String(id), nowMs)
    const most = Number(count)
    const taken: string[] = []
    const old = (): void => claim(stream, pending, name, most, Number(takeover), nowMs, taken)
    const fresh = (): void => read(stream, pending, name, most, nowMs, taken)
    for (const take of String(newFirst) === '1' ? [fresh, old] : [old, fresh]) if (taken.length < most) take()
    return taken.map((id) => [Buffer.from(id), Buffer.from(stream.entries.get(id) ?? '')])
  }

  /** XCLAIM … 0 id IDLE 0 JUSTID */
  #keep(stream: Stream, consumer: string, id: string, nowMs: number): void {
    stream.consumers.set(consumer, { seenMs: nowMs })
    const one = stream.pending?.get(id)
    if (one !== undefined) Object.assign(one, { consumer, deliveredMs: nowMs })
  }

  done(key: string, args: readonly RedisArg[]): number {
    const stream = this.streams.get(key)
    let deleted = 0
    for (const id of args.map(String)) {
      stream?.pending?.delete(id)
      if (stream?.entries.delete(id) === true) deleted++
    }
    return deleted
  }

  retry(key: string, [consumer, entry, takeover, first, jitter]: readonly RedisArg[], nowMs: number): number {
    const stream = this.streams.get(key)
    if (stream?.pending === null || stream === undefined) throw new RingfsError('INTERNAL', 'NOGROUP No such key')
    const one = stream.pending.get(String(entry))
    if (one === undefined) return 0
    const deliveries = Math.min(one.deliveries, 32)
    const most = Number(takeover)
    const whole = Math.min(most, Number(first) * 2 ** (deliveries - 1))
    const pauseMs = Math.floor(whole * (0.5 + Number(jitter) / 2))
    const name = String(consumer)
    stream.consumers.set(name, { seenMs: nowMs })
    Object.assign(one, { consumer: name, deliveredMs: nowMs - (most - pauseMs) })
    return pauseMs
  }

  mark(key: string): RedisValue {
    const stream = this.streams.get(key)
    if (stream === undefined) return [Buffer.from('0-0'), Buffer.from('0-0')]
    const newest = `${stream.lastMs}-${stream.lastNumber}`
    const handedOut = stream.pending === null ? '0-0' : stream.delivered.join('-')
    return [Buffer.from(newest), Buffer.from(handedOut)]
  }

  inherit(key: string, [consumer, takeover, from]: readonly RedisArg[], nowMs: number): RedisValue {
    const stream = this.streams.get(key)
    if (stream === undefined) return [0, Buffer.from('')]
    const { page, next } = pageOf((stream.pending ??= new Map<string, Pending>()), from)
    const name = String(consumer)
    const others = page.filter((one) => one.consumer !== name)
    for (const one of others) Object.assign(one, { consumer: name, deliveredMs: nowMs - Number(takeover) })
    if (others.length > 0) stream.consumers.set(name, { seenMs: nowMs })
    return [others.length, next]
  }

  prune(key: string, [idle]: readonly RedisArg[], nowMs: number): number {
    const stream = this.streams.get(key)
    if (stream === undefined) return 0
    const pending = (stream.pending ??= new Map<string, Pending>())
    const busy = new Set([...pending.values()].map(({ consumer }) => consumer))
    let pruned = 0
    for (const [name, { seenMs }] of stream.consumers) {
      if (busy.has(name) || nowMs - seenMs <= Number(idle)) continue
      stream.consumers.delete(name)
      pruned++
    }
    return pruned
  }

  steady(key: string, [last, from]: readonly RedisArg[], nowMs: number): RedisValue {
    const pending = nowMs >= Number(last) ? null : this.streams.get(key)?.pending
    const { page, next } = pageOf(pending ?? new Map<string, Pending>(), from)
    const ahead = page.filter(({ deliveredMs }) => deliveredMs >= nowMs)
    for (const one of ahead) one.deliveredMs = nowMs
    return [nowMs, ahead.length, next]
  }

  unlink(key: string): number {
    return this.streams.delete(key) ? 1 : 0
  }
}

/** XPENDING from an entry on; and where to go on. */
function pageOf(
  pending: ReadonlyMap<string, Pending>,
  from: RedisArg | undefined,
): { readonly page: readonly Pending[]; readonly next: Buffer } {
  const all = [...pending]
  const at = String(from) === '-' ? 0 : all.findIndex(([id]) => `(${id}` === String(from)) + 1
  const page = all.slice(at, at + PAGE)
  return {
    page: page.map(([, one]) => one),
    next: Buffer.from(page.length === PAGE ? `(${page.at(-1)?.[0] ?? ''}` : ''),
  }
}

/** XAUTOCLAIM, again and again until its cursor ends or there are enough. */
function claim(
  stream: Stream,
  pending: Map<string, Pending>,
  consumer: string,
  most: number,
  takeoverMs: number,
  nowMs: number,
  taken: string[],
): void {
  stream.consumers.set(consumer, { seenMs: nowMs })
  const all = [...pending]
  let at = 0
  for (let round = 0; round < CLAIM_ROUNDS && at < all.length && taken.length < most; round++) {
    const wanted = most - taken.length
    let claimed = 0
    for (let looked = 0; looked < wanted * LOOKED_AT && at < all.length && claimed < wanted; looked++) {
      const [id, one] = all[at++] ?? ['', undefined]
      if (one === undefined || nowMs - one.deliveredMs < takeoverMs) continue
      Object.assign(one, { consumer, deliveredMs: nowMs, deliveries: one.deliveries + 1 })
      taken.push(id)
      claimed++
    }
  }
}

/** XREADGROUP … '>' */
function read(
  stream: Stream,
  pending: Map<string, Pending>,
  consumer: string,
  most: number,
  nowMs: number,
  taken: string[],
): void {
  stream.consumers.set(consumer, { seenMs: nowMs })
  const [lastMs, lastNumber] = stream.delivered
  if (lastMs === stream.lastMs && lastNumber === stream.lastNumber) return
  for (const id of stream.entries.keys()) {
    if (taken.length >= most) return
    const [ms = 0, number = 0] = id.split('-').map(Number)
    if (ms < lastMs || (ms === lastMs && number <= lastNumber)) continue
    stream.delivered = [ms, number]
    pending.set(id, { consumer, deliveredMs: nowMs, deliveries: 1 })
    taken.push(id)
  }
}
