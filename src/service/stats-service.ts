/** StatsService: the figures of this process, for `ringfs stats`. */
import type { Clock } from '../base/clock.js'
import type { Metrics } from '../base/metrics.js'
import { STATS_READ, type ProcessFigures, type StatsReply } from '../rpc/messages-stats.js'
import type { RpcServer } from '../rpc/server.js'
import { LoopLag } from './loop-lag.js'

export interface StatsServiceOptions {
  readonly clock: Clock
  readonly version: string
}

export class StatsService {
  readonly #metrics: Metrics
  readonly #version: string
  readonly #lag: LoopLag

  constructor(metrics: Metrics, { clock, version }: StatsServiceOptions) {
    this.#metrics = metrics
    this.#version = version
    this.#lag = new LoopLag(clock, metrics.timer('loop', 'lag'))
  }

  register(server: RpcServer): void {
    server.handle(STATS_READ, () => {
      this.#lag.watch()
      return Promise.resolve({ reply: this.#read() })
    })
  }

  #read(): StatsReply {
    const uptimeMs = Math.round(process.uptime() * 1000)
    return { pid: process.pid, version: this.#version, uptimeMs, ...this.#metrics.snapshot(), process: ofProcess() }
  }
}

function ofProcess(): ProcessFigures {
  const { rss, heapUsed, external } = process.memoryUsage()
  const { user, system } = process.cpuUsage()
  const { active } = performance.eventLoopUtilization()
  return {
    rssBytes: rss,
    heapBytes: heapUsed,
    externalBytes: external,
    cpuUs: user + system,
    loopBusyUs: Math.round(active * 1000),
  }
}
