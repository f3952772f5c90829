/** What happened between two looks at the figures of a mount. */
import { percentileMs, type NamedValue, type TimerFigures } from '../../base/metrics.js'
import type { StatsReply } from '../../rpc/messages-stats.js'

/** How often something was done meanwhile, how quickly, and how often it failed. */
export interface Rate {
  readonly count: number
  readonly perSecond: number
  /** null: it was not done. */
  readonly p50Ms: number | null
  readonly p99Ms: number | null
  readonly errors: number
}

export interface NodeFigures {
  readonly put: Rate
  readonly get: Rate
  readonly sync: Rate
  readonly sentBytes: number
  readonly receivedBytes: number
}

export interface CacheFigures {
  readonly hits: number
  readonly misses: number
  /** 0 to 1; null: it was not asked. */
  readonly hitShare: number | null
}

export interface Figures {
  readonly pid: number
  readonly version: string
  readonly uptimeMs: number
  /** How long these figures took to come about. */
  readonly intervalMs: number
  /** FUSE requests by operation. */
  readonly requests: Readonly<Record<string, Rate>>
  readonly caches: Readonly<Record<string, CacheFigures>>
  /** Notifications to the kernel by kind, and how long each took from when it was due until the kernel had it. */
  readonly invalidations: Readonly<Record<string, Rate>>
  /** Changes by others that this mount was told of. */
  readonly eventsReceived: number
  /** Shares of the metadata of which changes are told. */
  readonly partitionsHeard: number
  /** Redis round trips by script or command. */
  readonly redis: Readonly<Record<string, Rate>>
  readonly redisRetries: number
  readonly nodes: Readonly<Record<string, NodeFigures>>
  readonly chunks: {
    readonly hedges: number
    readonly retries: number
    readonly failures: number
    readonly bad: number
  }
  /** Long chunks made of short ones, and their bytes. */
  readonly packed: { readonly chunks: number; readonly bytes: number }
  /** Small files that were moved from Redis to the nodes, and their bytes. */
  readonly moved: { readonly files: number; readonly bytes: number }
  /** Bytes of small files in Redis, of the whole volume, and how many there may be. */
  readonly inline: { readonly usedBytes: number; readonly budgetBytes: number }
  /** Levels, in bytes. */
  readonly buffers: Readonly<Record<string, number>>
  readonly openHandles: number
  readonly process: {
    readonly rssBytes: number
    readonly heapBytes: number
    readonly externalBytes: number
    /** Of one core. */
    readonly cpuShare: number
    readonly loopBusyShare: number
    /** Of the time in which idle processors were kept from going to sleep (mount option stay-awake). */
    readonly awakeShare: number
    readonly loopLag: Rate
  }
}

/** `before` null: since the process began. */
export function figuresBetween(before: StatsReply | null, now: StatsReply): Figures {
  return new Difference(before, now).figures()
}

class Difference {
  readonly #before: StatsReply | null
  readonly #now: StatsReply
  readonly #intervalMs: number

  constructor(before: StatsReply | null, now: StatsReply) {
    this.#before = before
    this.#now = now
    this.#intervalMs = Math.max(1, now.uptimeMs - (before?.uptimeMs ?? 0))
  }

  figures(): Figures {
    const { pid, version, uptimeMs, gauges } = this.#now
    const levels = new Map(gauges.map(({ name, value }) => [name, value]))
    return {
      pid,
      version,
      uptimeMs,
      intervalMs: this.#intervalMs,
      requests: this.#group('fuse'),
      caches: this.#caches(),
      invalidations: this.#group('kernel'),
      eventsReceived: this.#count('events.received'),
      partitionsHeard: levels.get('events.partitions') ?? 0,
      redis: this.#group('redis'),
      redisRetries: this.#count('redis.retries'),
      nodes: this.#nodes(),
      chunks: {
        hedges: this.#count('chunk.hedges'),
        retries: this.#count('chunk.retries'),
        failures: this.#count('chunk.failures'),
        bad: this.#count('chunk.bad'),
      },
      packed: { chunks: this.#count('packing.chunks'), bytes: this.#count('packing.bytes') },
      moved: { files: this.#count('moving.files'), bytes: this.#count('moving.bytes') },
      inline: {
        usedBytes: levels.get('inline.usedBytes') ?? 0,
        budgetBytes: levels.get('inline.budgetBytes') ?? 0,
      },
      buffers: withPrefix(levels, 'buffers.'),
      openHandles: levels.get('handles.open') ?? 0,
      process: this.#process(),
    }
  }

  #process(): Figures['process'] {
    const { rssBytes, heapBytes, externalBytes, cpuUs, loopBusyUs } = this.#now.process
    const before = this.#before?.process
    const share = (us: number, earlierUs = 0): number => round((us - earlierUs) / 1000 / this.#intervalMs, 4)
    return {
      rssBytes,
      heapBytes,
      externalBytes,
      cpuShare: share(cpuUs, before?.cpuUs),
      loopBusyShare: share(loopBusyUs, before?.loopBusyUs),
      awakeShare: round(this.#count('awake.ms') / this.#intervalMs, 4),
      loopLag: this.#rate('loop', 'lag'),
    }
  }

  #caches(): Figures['caches'] {
    const names = this.#now.counters.flatMap(({ name }) => /^cache\.(.*)\.hits$/.exec(name)?.[1] ?? [])
    return Object.fromEntries(
      names.map((name) => {
        const [hits, misses] = [this.#count(`cache.${name}.hits`), this.#count(`cache.${name}.misses`)]
        return [name, { hits, misses, hitShare: hits + misses === 0 ? null : round(hits / (hits + misses), 4) }]
      }),
    )
  }

  #nodes(): Figures['nodes'] {
    const ids = this.#now.counters.flatMap(({ name }) => /^chunk\.sent\.(.*)$/.exec(name)?.[1] ?? [])
    return Object.fromEntries(
      ids.map((id) => {
        const [put, get, sync] = [
          this.#rate('chunk.put', id),
          this.#rate('chunk.get', id),
          this.#rate('chunk.sync', id),
        ]
        const [sentBytes, receivedBytes] = [this.#count(`chunk.sent.${id}`), this.#count(`chunk.received.${id}`)]
        return [id, { put, get, sync, sentBytes, receivedBytes }]
      }),
    )
  }

  /** What was done meanwhile; most often first. */
  #group(group: string): Readonly<Record<string, Rate>> {
    const labels = this.#now.timers.filter((timer) => timer.group === group).map(({ label }) => label)
    const rates = labels.map((label) => [label, this.#rate(group, label)] as const)
    const done = rates.filter(([, { count, errors }]) => count + errors > 0)
    return Object.fromEntries(done.sort(([, a], [, b]) => b.count - a.count))
  }

  #rate(group: string, label: string): Rate {
    const [now, before] = [find(this.#now.timers, group, label), find(this.#before?.timers ?? [], group, label)]
    const count = (now?.count ?? 0) - (before?.count ?? 0)
    const buckets = (now?.buckets ?? []).map((value, at) => value - (before?.buckets[at] ?? 0))
    return {
      count,
      perSecond: round((count * 1000) / this.#intervalMs, 1),
      p50Ms: percentileMs(buckets, 0.5) ?? null,
      p99Ms: percentileMs(buckets, 0.99) ?? null,
      errors: (now?.errors ?? 0) - (before?.errors ?? 0),
    }
  }

  #count(name: string): number {
    return valueOf(this.#now.counters, name) - valueOf(this.#before?.counters ?? [], name)
  }
}

function find(timers: readonly TimerFigures[], group: string, label: string): TimerFigures | undefined {
  return timers.find((timer) => timer.group === group && timer.label === label)
}

function valueOf(values: readonly NamedValue[], name: string): number {
  return values.find((one) => one.name === name)?.value ?? 0
}

function withPrefix(values: ReadonlyMap<string, number>, prefix: string): Readonly<Record<string, number>> {
  const found = [...values].filter(([name]) => name.startsWith(prefix))
  return Object.fromEntries(found.map(([name, value]) => [name.slice(prefix.length), value]))
}

function round(value: number, digits: number): number {
  return Number(value.toFixed(digits))
}
