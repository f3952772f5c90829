/**
 * A chunk node in the simulation: the real registration, watcher, sight, queue consumer, service, repairer and healer, put together as
 * src/main/node.ts does, on a simulated disk, network, Redis and clock. Its disk outlives its process, its identity both.
 */
import { silentLog } from '../../src/base/log.js'
import { Healer } from '../../src/chunk/node/healer.js'
import { Pace } from '../../src/chunk/node/pace.js'
import { ChunkService } from '../../src/chunk/node/service.js'
import { register } from '../../src/cluster/membership.js'
import { ReplicationQueue } from '../../src/cluster/queue.js'
import { encodeTask } from '../../src/cluster/queue-task.js'
import { Sight } from '../../src/cluster/sight.js'
import { watchView, type ClusterWatcher } from '../../src/cluster/watcher.js'
import { DiskState, SimulatedDisk } from './disk.js'
import { peerOf } from './peers.js'
import { SimulatedLink } from './redis-link.js'
import { SimulatedClock, SimulatedProcess } from './scheduler.js'
import { AUDIT_MS, HEAL_TIMES, QUEUE_TIMES, SCRUB_FOLDERS, SCRUB_MS, UUID, VOLUME, type World } from './world.js'

/** After its process ended by itself: as systemd does. */
const RESTART_MS = 2_000
const BEAT_MS = 1_000
const VIEW_MS = 3_000
const FIGURES_MS = 30_000

/** One start of its process. */
export interface Running {
  readonly process: SimulatedProcess
  readonly address: string
  api: ChunkService | undefined
  healer: Healer | undefined
  watcher: ClusterWatcher | undefined
}

export class SimulatedNode {
  readonly id: string
  readonly disk = new DiskState()
  readonly #world: World
  readonly #zone: string
  readonly #wrongMs: number
  #starts = 0
  /** Its machine has power. */
  isPowered = true
  /** Its disk will never be seen again. */
  isLost = false
  running: Running | null = null

  constructor(world: World, id: string, zone: string, wrongMs: number) {
    this.#world = world
    this.id = id
    this.#zone = zone
    this.#wrongMs = wrongMs
  }

  start(): void {
    if (this.isLost || this.running !== null) return
    this.isPowered = true
    this.#starts++
    const process = new SimulatedProcess(this.#world.scheduler)
    // Sometimes the same port again.
    const address = `${this.id}:${this.#starts >>> 1}`
    const running: Running = { process, address, api: undefined, healer: undefined, watcher: undefined }
    this.running = running
    this.#run(running).catch(() => this.#exit(running))
  }

  /** It ends by itself, and is started again. */
  #exit(running: Running): void {
    if (this.running !== running) return
    this.kill()
    this.#world.scheduler.later(RESTART_MS, () => {
      if (this.isPowered) this.start()
    })
  }

  /** SIGKILL: who waits for an answer learns it at once, and what was written is there. */
  kill(): void {
    this.running?.process.kill()
    this.running = null
    this.#world.peers.lost(this.id)
  }

  /** What was not synced may be gone, and nobody is told. */
  powerOff(): void {
    this.isPowered = false
    this.running?.process.kill()
    this.running = null
    for (const id of this.disk.forgetUnsynced(this.#world.random)) this.#world.checker.harm(id)
  }

  /** For ever, with all that was on its disk. */
  lose(): void {
    this.powerOff()
    this.isLost = true
    for (const id of this.disk.chunks.keys()) this.#world.checker.harm(id)
    this.disk.chunks.clear()
  }

  async #run(running: Running): Promise<void> {
    const { id } = this
    const world = this.#world
    const { scheduler, network, redis, random, replicas, checker } = world
    const { process } = running
    const clock = new SimulatedClock(scheduler, process, this.#wrongMs)
    const log = silentLog
    const store = new SimulatedLink({ scheduler, process, network, redis, machine: id, random })
    const watcher = await watchView(store, { volume: VOLUME, log, clock, intervalMs: VIEW_MS, figuresMs: FIGURES_MS })
    running.watcher = watcher
    checker.sees(watcher.current().view)
    watcher.onChange((view) => checker.sees(view))
    const queue = new ReplicationQueue(store, { volume: VOLUME, log, clock, random, ...QUEUE_TIMES })
    const disk = new SimulatedDisk({
      ...{ state: this.disk, clock, random },
      onRemoved: (chunk, why) => checker.removed(this, chunk, why),
      onStored: () => undefined,
    })
    const pace = new Pace(clock, () => watcher.current().view.settings?.healBytesPerS ?? 0)
    const peers = peerOf(world, { machine: id, process, watcher, local: () => running.api })
    const stateOf = (other: string): string | undefined =>
      watcher.current().view.members.find((one) => one.id === other)?.state
    const service = new ChunkService({
      ...{ nodeId: id, volume: UUID, version: 'simulated', disk, peer: peers, pace, clock, log },
      order: (chunk) => everyNode(watcher, chunk),
      epochs: {
        current: () => watcher.current().view.epoch,
        onNewer: () => void watcher.refresh().catch(() => undefined),
      },
      isOwner: (chunk, epoch) => {
        const { view, ring } = watcher.current()
        return view.epoch < epoch || ring.owners(chunk, replicas).includes(id)
      },
      isSuspect: (other) => stateOf(other) !== 'up',
      isGone: (other) => stateOf(other) === 'gone',
      enqueue: (other, tasks) => queue.enqueue(other, tasks),
      ...(world.isAudited ? { scrubPeriodMs: () => SCRUB_MS, scrubFolders: SCRUB_FOLDERS } : {}),
    })
    running.api = service
    if (world.isAudited) service.scrubber.start()
    const sight = new Sight({
      ...{ nodeId: id, clock, log, random },
      view: () => watcher.current().view,
      ask: async (other, deadlineMs) => (await peers(other).info({ deadlineMs })).id,
      intervalMs: world.sightMs,
    })
    sight.start()
    const healer = new Healer({
      ...{
        nodeId: id,
        volume: UUID,
        replicas,
        disk,
        peer: peers,
        pace,
        clock,
        log,
        random,
        times: { ...HEAL_TIMES, ...(world.isAudited ? { auditMs: AUDIT_MS } : {}) },
      },
      current: () => watcher.current(),
      enqueue: (other, tasks) => queue.enqueue(other, tasks),
      queueLength: (other) => queue.length(other),
      caughtUp: await queue.mark(id),
      copied: () => service.repairer.copied,
    })
    running.healer = healer
    const registration = await register(store, {
      ...{ volume: VOLUME, log, clock, beatIntervalMs: BEAT_MS },
      identity: { id, address: running.address, zone: this.#zone, weight: 1, pid: this.#starts },
      space: () => ({ ...disk.space(), chunks: disk.chunks }),
      report: () => ({ unreachable: sight.unreachable(), heal: healer.report(), disks: [] }),
      newIncarnation: () => `${id}.${this.#starts}`,
      onLost: () => this.#exit(running),
    })
    const { signal } = new AbortController()
    void queue.consume(
      id,
      registration.incarnation,
      async (task) => {
        await service.repairer.handle(task)
        checker.handled(id, encodeTask(task))
      },
      { signal, inherits: true },
    )
    void healer.run(signal)
    await watcher.refresh()
  }
}

/** As in src/main/node.ts. */
function everyNode(watcher: ClusterWatcher, chunkId: number): readonly string[] {
  const { ring, view } = watcher.current()
  const others = view.members.filter(({ state }) => state !== 'gone').map(({ id }) => id)
  return [...new Set([...ring.preference(chunkId), ...others])]
}
