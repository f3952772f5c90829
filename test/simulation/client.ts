/** A client in the simulation: the real chunk client, with a workload that knows what was acknowledged. */
import { silentLog } from '../../src/base/log.js'
import { messageOf } from '../../src/base/errors.js'
import { ChunkClientImpl } from '../../src/chunk/client/client.js'
import type { ChunkRef } from '../../src/chunk/contract.js'
import { WorkerPool } from '../../src/chunk/pool.js'
import { SharedBuffers } from '../../src/chunk/shared-buffer.js'
import { ReplicationQueue } from '../../src/cluster/queue.js'
import { watchView } from '../../src/cluster/watcher.js'
import { peerOf } from './peers.js'
import { SimulatedLink } from './redis-link.js'
import { SimulatedClock, SimulatedProcess } from './scheduler.js'
import { QUEUE_TIMES, UUID, VOLUME, WRITE_QUORUM, type World } from './world.js'

const VIEW_MS = 3_000
const RESTART_MS = 1_000
/** A large chunk is passed on by its first owner, a small one goes to all at once. */
const LARGE_BYTES = 70_000
const LARGE_SHARE = 0.1
/** A call that takes longer than its own deadline, and that of telling the queue, hangs. */
const HANG_MS = 60_000

/** Threads are not started for so little, and nothing is lent. */
const pool = new WorkerPool()
const buffers = new SharedBuffers()
const filling = Buffer.alloc(LARGE_BYTES)

export function bytesOf(id: number, isLarge: boolean): readonly Buffer[] {
  const head = Buffer.alloc(16)
  head.writeDoubleLE(id, 0)
  return isLarge ? [head, filling] : [head]
}

export class SimulatedClient {
  readonly #world: World
  readonly #machine: string
  #process: SimulatedProcess | null = null
  #client: ChunkClientImpl | null = null
  /** The chunks that it writes. */
  readonly #writing = new Set<number>()
  isStopped = false
  /** In the middle of a call. */
  isBusy = false

  constructor(world: World, machine: string) {
    this.#world = world
    this.#machine = machine
  }

  start(): void {
    const process = new SimulatedProcess(this.#world.scheduler)
    this.#process = process
    this.#run(process).catch(() => {
      this.kill()
      this.#world.scheduler.later(RESTART_MS, () => this.start())
    })
  }

  kill(): void {
    this.#process?.kill()
    this.#process = null
    this.#client = null
    this.isBusy = false
    for (const id of this.#writing) this.#wrote(id)
  }

  /** It is acknowledged, or will never be. */
  #wrote(id: number): void {
    this.#writing.delete(id)
    this.#world.checker.writing.delete(id)
  }

  async #run(process: SimulatedProcess): Promise<void> {
    const { scheduler, network, redis, random, replicas } = this.#world
    const machine = this.#machine
    const log = silentLog
    const clock = new SimulatedClock(scheduler, process)
    const store = new SimulatedLink({ scheduler, process, network, redis, machine, random })
    const watcher = await watchView(store, { volume: VOLUME, log, clock, intervalMs: VIEW_MS })
    watcher.onChange((view) => this.#world.checker.sees(view))
    const queue = new ReplicationQueue(store, { volume: VOLUME, log, clock, random, ...QUEUE_TIMES })
    const client = new ChunkClientImpl({
      ...{ volume: UUID, replicas, writeQuorum: WRITE_QUORUM, placement: watcher, pool, buffers, clock, log },
      node: peerOf(this.#world, { machine, process, watcher, local: () => undefined }),
      enqueue: (id, tasks) => queue.enqueue(id, tasks),
    })
    this.#client = client
    for (;;) {
      await clock.sleep(random() * this.#world.paceMs)
      if (this.isStopped) return
      this.isBusy = true
      await this.#act(client)
      this.isBusy = false
    }
  }

  async #act(client: ChunkClientImpl): Promise<void> {
    const { random, checker, scheduler } = this.#world
    const dice = random()
    const startMs = scheduler.nowMs
    if (dice < 0.6) await this.write(client)
    else if (dice < 0.95) await this.#read(client)
    else await this.#remove(client)
    checker.ended('a call of a client', scheduler.nowMs - startMs, HANG_MS)
  }

  /** Some chunks, before anything happens. */
  async fill(count: number): Promise<void> {
    for (let done = 0; done < count && this.#client !== null; done++) await this.write(this.#client)
  }

  async write(client: ChunkClientImpl): Promise<void> {
    const { checker, random } = this.#world
    const id = checker.nextId()
    this.#writing.add(id)
    checker.writing.add(id)
    const extents = [{ fileOffset: 0, chunkOffset: 0, lengthBytes: 16 }]
    const data = bytesOf(id, random() < LARGE_SHARE)
    try {
      const ref = await client.write(id, data, { ino: 1, order: id, extents }, { durability: 'quorum', sync: true })
      checker.acknowledged(ref)
      this.#wrote(id)
    } catch {
      this.#wrote(id)
      // Whoever gives up an id removes it.
      await client.remove([id]).catch(() => undefined)
    }
  }

  async #read(client: ChunkClientImpl): Promise<void> {
    const { checker, random } = this.#world
    const ref = checker.pick(random)
    if (ref !== undefined) await readOne(client, ref, this.#world)
  }

  async #remove(client: ChunkClientImpl): Promise<void> {
    const { checker, random } = this.#world
    const ref = checker.pick(random)
    if (ref === undefined) return
    checker.forgets(ref.id)
    await client.remove([ref.id]).catch(() => undefined)
  }
}

async function readOne(client: ChunkClientImpl, ref: ChunkRef, { checker }: World): Promise<void> {
  try {
    const bytes = await client.read(ref, 0, 16)
    if (bytes.readDoubleLE(0) !== ref.id) checker.fault(`chunk ${ref.id}: wrong bytes were read`)
    checker.reads++
  } catch (error) {
    // Others hold it, and cannot be reached now; that it is lost is said by the checker.
    checker.failedReads++
    if (/CHUNK_MISSING/.test(messageOf(error))) checker.fault(messageOf(error))
  }
}
