/**
 * Real chunk nodes of a volume on a real Redis, with a workload that knows what was acknowledged. The nodes are the program as its
 * user has it: they can be killed, paused and started again.
 */
import { spawn, type ChildProcess } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { systemClock } from '../../src/base/clock.js'
import { messageOf } from '../../src/base/errors.js'
import { silentLog } from '../../src/base/log.js'
import { ChunkClientImpl } from '../../src/chunk/client/client.js'
import type { ChunkRef } from '../../src/chunk/contract.js'
import type { Member } from '../../src/cluster/contract.js'
import { setMembershipTimes } from '../../src/cluster/membership.js'
import { healProgress } from '../../src/cluster/progress.js'
import { formatMetaUrl } from '../../src/cluster/url.js'
import { watchKeyFile } from '../../src/main/key-file.js'
import { openVolume, type Volume } from '../../src/main/volume.js'
import { formatVolume } from '../../src/meta/format.js'
import { temporaryFolder, type Teardown } from './chunks.js'
import { PATIENCE_MS, within } from './deadline.js'
import type { Place, Places } from './network.js'
import { PROGRAM, eventually, runIn, type Ran } from './ringfs.js'
import { connectPatiently, startRedis, type TestRedis } from './redis.js'

const VOLUME = 'v'
const START_MS = 120_000

/** As short as a machine lets nodes live that has much else to do. */
export const MEMBERSHIP_TIMES = { suspectMs: 4_000, downMs: 8_000, outMs: 12_000 } as const

export class ClusterNode {
  readonly folder: string
  readonly #env: NodeJS.ProcessEnv
  /** Where it runs, and what it tells others of that. */
  readonly host: Place | undefined
  readonly #words: readonly string[]
  #child: ChildProcess | null = null
  id = ''

  constructor(folder: string, env: NodeJS.ProcessEnv, host?: Place, words: readonly string[] = []) {
    this.folder = folder
    this.#env = env
    this.host = host
    this.#words = words
  }

  async start(): Promise<void> {
    const listen = `${this.host?.address ?? '127.0.0.1'}:0`
    const node = [PROGRAM, 'node', '--data', this.folder, '--listen', listen, '--log-level', 'silent', ...this.#words]
    // ip-netns(8) becomes the program it is given: its pid is that of the node.
    const [program = '', ...words] = [...(this.host?.words ?? []), process.execPath, ...node]
    const child = spawn(program, words, { stdio: ['ignore', 'pipe', 'inherit'], env: this.#env })
    this.#child = child
    const lines = createInterface({ input: child.stdout })
    const [line] = (await within(START_MS, once(lines, 'line'), 'a node')) as [string]
    this.id = /^node (\S+) listens/.exec(line)?.[1] ?? ''
  }

  signal(signal: 'SIGSTOP' | 'SIGCONT' | 'SIGTERM'): void {
    this.#child?.kill(signal)
  }

  /** Its exit code, when it ends by itself. */
  async exited(): Promise<number | null> {
    const child = this.#child
    if (child !== null && child.exitCode === null) await within(START_MS, once(child, 'exit'), 'the end of a node')
    return child?.exitCode ?? null
  }

  async kill(): Promise<void> {
    const child = this.#child
    this.#child = null
    if (child === null || child.exitCode !== null) return
    const gone = once(child, 'exit')
    child.kill('SIGKILL')
    await gone
  }
}

interface Acknowledged {
  readonly ref: ChunkRef
  readonly digest: string
  /** On the disks of a write quorum, as after fsync. */
  readonly isSynced: boolean
}

function digestOf(bytes: Buffer): string {
  return createHash('sha256').update(bytes).digest('hex')
}

/** Some 30 writes a second: what is waited for costs more the more there is to heal and to check. */
const PACE_MS = 60

/** Writes and reads for as long as it is told; remembers what was acknowledged and compares what is read. */
class Workload {
  readonly acknowledged: Acknowledged[] = []
  readonly faults: string[] = []
  readonly #client: ChunkClientImpl
  #next = 1
  #isOver = false
  #done: Promise<unknown> = Promise.resolve()

  constructor(client: ChunkClientImpl) {
    this.#client = client
  }

  start(): void {
    this.#isOver = false
    this.#done = Promise.all([this.#writer(), this.#writer(), this.#reader()])
  }

  async stop(): Promise<void> {
    this.#isOver = true
    await this.#done
  }

  /** Resolves when so many more are acknowledged. */
  async goesOn(more: number): Promise<void> {
    const before = this.acknowledged.length
    await eventually(
      'the workload goes on',
      () => this.acknowledged.length,
      (count) => count > before + more,
    )
  }

  async #writer(): Promise<void> {
    while (!this.#isOver) {
      const id = this.#next++
      const bytes = randomBytes(1 + ((id * 104_729) % 200_000))
      const extents = [{ fileOffset: 0, chunkOffset: 0, lengthBytes: bytes.length }]
      try {
        const isSynced = id % 2 === 0
        const options = { durability: 'quorum', sync: isSynced } as const
        const ref = await this.#client.write(id, [bytes], { ino: 1, order: id, extents }, options)
        this.acknowledged.push({ ref, digest: digestOf(bytes), isSynced })
      } catch (error) {
        this.faults.push(`write of chunk ${id}: ${messageOf(error)}`)
      }
      await systemClock.sleep(PACE_MS)
    }
  }

  async #reader(): Promise<void> {
    while (!this.#isOver) {
      const one = this.acknowledged[Math.floor(Math.random() * this.acknowledged.length)]
      if (one !== undefined) await this.#check(one)
      await systemClock.sleep(PACE_MS)
    }
  }

  async #check({ ref, digest }: Acknowledged): Promise<void> {
    try {
      const bytes = await this.#client.read(ref, 0, ref.lengthBytes)
      if (digestOf(bytes) !== digest) this.faults.push(`chunk ${ref.id}: wrong bytes`)
    } catch (error) {
      this.faults.push(`read of chunk ${ref.id}: ${messageOf(error)}`)
    }
  }

  async checkAll(): Promise<void> {
    for (const one of this.acknowledged) await this.#check(one)
  }
}

export interface ClusterOptions {
  /** Default: all on this host. */
  readonly network?: Places
  /** What else the environment of node `index` has. */
  readonly env?: (index: number) => NodeJS.ProcessEnv
  /** Of Redis. Default 1. */
  readonly masters?: 1 | 3
  /** Of three replicas. Default 2. */
  readonly writeQuorum?: number
}

export interface TestCluster {
  readonly redis: TestRedis
  readonly nodes: readonly ClusterNode[]
  node(index: number): ClusterNode
  readonly volume: Volume
  readonly workload: Workload
  readonly client: ChunkClientImpl
  add(...words: readonly string[]): Promise<ClusterNode>
  /** With that data folder. */
  addIn(folder: string, ...words: readonly string[]): Promise<ClusterNode>
  member(node: ClusterNode): Promise<Member | undefined>
  /** Waits until the nodes that are there say that everything is on its owners. */
  whole(what: string): Promise<void>
  /** Of what was acknowledged to the workload, or of these, the copies that owners lack or whose bytes are wrong: looked at, not told. */
  holes(refs?: readonly ChunkRef[]): Promise<readonly string[]>
  ringfs(...words: readonly string[]): Promise<Ran>
}

/** Three replicas, and times in which a test can wait. Everything ends with the test. */
export async function startCluster(t: Teardown, count: number, options: ClusterOptions = {}): Promise<TestCluster> {
  const { network, env: further, masters = 1, writeQuorum = 2 } = options
  const folder = temporaryFolder(t)
  const address = network?.address ?? '127.0.0.1'
  const redis = await startRedis(t, {
    masters,
    // Redis does not start with one address twice.
    config: network === undefined ? [] : [`bind 127.0.0.1 ${address}`, `cluster-announce-ip ${address}`],
  })
  const local = redis.url(VOLUME)
  const url = { ...local, hosts: local.hosts.map((host) => ({ ...host, host: address })) }
  const store = await connectPatiently(url)
  const keyFile = join(folder, 'key')
  await writeFile(keyFile, `${randomBytes(32).toString('hex')}\n`, { mode: 0o600 })
  await formatVolume(store, VOLUME, { partitions: 8, replicas: 3, writeQuorum })
  await setMembershipTimes(store, VOLUME, MEMBERSHIP_TIMES)
  await store.close()
  const meta = { RINGFS_META: formatMetaUrl(url), RINGFS_KEY_FILE: keyFile }
  const env = { PATH: process.env['PATH'] ?? '', ...meta, XDG_RUNTIME_DIR: folder }
  const nodes: ClusterNode[] = []
  const place = async (own?: string, words: readonly string[] = []): Promise<ClusterNode> => {
    const its = { ...env, ...further?.(nodes.length) }
    const node = new ClusterNode(own ?? join(folder, `node-${nodes.length}`), its, await network?.addHost(), words)
    nodes.push(node)
    t.teardown(() => node.kill())
    return node
  }
  const start = async (own: string | undefined, words: readonly string[]): Promise<ClusterNode> => {
    const node = await place(own, words)
    await node.start()
    return node
  }
  for (let index = 0; index < count; index++) await place()
  await Promise.all(nodes.map((node) => node.start()))
  const volume = await openVolume(url, { log: silentLog, key: watchKeyFile(keyFile, silentLog) })
  t.teardown(() => volume.close())
  const client = clientOf(volume)
  const workload = new Workload(client)
  t.teardown(() => workload.stop())
  const look = () => volume.watcher.refresh()
  const whole = async (what: string): Promise<void> => {
    await eventually(
      what,
      async () => healProgress(await look()),
      ({ isDone }) => isDone,
      2 * PATIENCE_MS,
    )
  }
  return {
    redis,
    nodes,
    node: (index) => {
      const node = nodes[index]
      if (node === undefined) throw new Error(`no node ${index}`)
      return node
    },
    volume,
    workload,
    client,
    add: (...words) => start(undefined, words),
    addIn: (own, ...words) => start(own, words),
    member: async (node) => (await look()).members.find(({ id }) => id === node.id),
    whole,
    holes: (refs) =>
      holesOnceWhole(volume, refs ?? workload.acknowledged.map(({ ref }) => ref), () => whole('all is whole again')),
    ringfs: (...words) => runIn(folder, process.execPath, [PROGRAM, ...words], env),
  }
}

/** A node that was taken for dead meanwhile, and is back, has made it another ring: then all has to be whole once more. */
async function holesOnceWhole(
  volume: Volume,
  refs: readonly ChunkRef[],
  whole: () => Promise<void>,
): Promise<readonly string[]> {
  const deadline = performance.now() + PATIENCE_MS
  for (;;) {
    const before = await volume.watcher.refresh()
    const holes = await holesOf(volume, refs)
    if (holes.length === 0 || performance.now() > deadline) return holes
    const { epoch } = await volume.watcher.refresh()
    if (epoch === before.epoch && healProgress(before).isDone) return holes
    await whole()
  }
}

async function holesOf({ watcher, peers, settings }: Volume, refs: readonly ChunkRef[]): Promise<readonly string[]> {
  const { ring, view } = watcher.current()
  const all = refs.map(({ id }) => id)
  const holes: string[] = []
  for (const { id } of view.members.filter(({ state }) => state === 'up')) {
    const ids = all.filter((chunk) => ring.owners(chunk, settings.replicas).includes(id))
    const missing = await peers.get(id).lacks({ volume: settings.uuid, ids, verify: true }, { deadlineMs: 90_000 })
    holes.push(...missing.map((chunk) => `chunk ${chunk} on node ${id}`))
  }
  return holes
}

function clientOf({ settings, watcher, peers, pool, buffers, queue }: Volume): ChunkClientImpl {
  return new ChunkClientImpl({
    volume: settings.uuid,
    replicas: settings.replicas,
    writeQuorum: settings.writeQuorum,
    placement: watcher,
    node: (id) => peers.get(id),
    pool,
    buffers,
    enqueue: (id, tasks) => queue.enqueue(id, tasks),
    clock: systemClock,
    log: silentLog,
  })
}
