/** What chaos is made of: a Redis Cluster of three masters and three replicas, chunk nodes and mounts, each a process, nodes and mounts on hosts of their own. */
import { randomBytes } from 'node:crypto'
import { createWriteStream, mkdirSync } from 'node:fs'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { silentLog } from '../../src/base/log.js'
import { setMembershipTimes } from '../../src/cluster/membership.js'
import { formatMetaUrl, type MetaUrl } from '../../src/cluster/url.js'
import { watchKeyFile } from '../../src/main/key-file.js'
import { openVolume, type Volume } from '../../src/main/volume.js'
import { formatVolume } from '../../src/meta/format.js'
import { ShiftedClock } from '../helpers/clock-shift.js'
import { type TestRedis, connectPatiently, startRedis } from '../helpers/redis.js'
import { runIn, sh, type Ran } from '../helpers/ringfs.js'
import { Wire, type WireHost } from '../helpers/wire.js'
import { type Cleanup, Daemon, PROGRAM, TortureMount } from '../torture/stack.js'

const VOLUME = 'chaos'
const PARTITIONS = 12
/** Small, so that most files have chunks. */
const INLINE_BYTES = 4096
const NODE_PORT = 7400
const DISK = '1g'
const FILL_TRIES = 20
/** More at each try: who writes meanwhile is overtaken. */
const SPARE_BYTES = 64 * 1024
/** A scrub, or a deep check, of everything. */
const COMMAND_MS = 300_000
/** As the units of systemd have it. */
const RESTARTED = { attempts: 5 } as const
/** In which a run can wait. */
const TIMES = { suspectMs: 2_000, downMs: 4_000, outMs: 8_000 }
const SESSION_TTL_S = '20'

export interface StageOptions {
  /** Empty: logs and everything local are in there. */
  readonly folder: string
  readonly seed: number
  readonly nodes: number
  readonly mounts: number
}

/** Errnos with which a call may end when more is done to the cluster than it bears; whatever it did is not known then. */
const EXCUSED = ['EIO', 'ETIMEDOUT', 'ENOSPC', 'ESTALE']

/** A mount on a host. Calls may fail in rounds that say so. */
export class ChaosMount extends TortureMount {
  readonly host: WireHost
  readonly clock: ShiftedClock
  /** Whether a call may fail now. */
  isExcused = false
  /** Calls that failed, and were excused. */
  excused = 0

  constructor(
    mountpoint: string,
    url: string,
    host: WireHost,
    clock: ShiftedClock,
    env: NodeJS.ProcessEnv,
    log: string,
  ) {
    const options = ['--session-ttl', SESSION_TTL_S, '--log-level', 'info']
    super(
      mountpoint,
      url,
      { ...env, ...clock.env },
      { ...RESTARTED, within: host.words, options, onOutput: logTo(log) },
    )
    this.host = host
    this.clock = clock
  }

  excuses(errno: string): boolean {
    if (!this.isExcused || !EXCUSED.includes(errno)) return false
    this.excused++
    return true
  }
}

/** A place for a node: a host, a disk, a clock. Which node is there changes when one is lost. */
export class NodePlace {
  readonly index: number
  readonly host: WireHost
  readonly clock: ShiftedClock
  /** A file system of its own, so that it can be full. */
  readonly disk: string
  readonly #daemon: Daemon
  /** Of the node that was started last. */
  id = ''
  /** How often it was lost. */
  #generation = 0

  constructor(index: number, host: WireHost, clock: ShiftedClock, folder: string, env: NodeJS.ProcessEnv) {
    this.index = index
    this.host = host
    this.clock = clock
    this.disk = join(folder, `disk-${index}`)
    const log = logTo(join(folder, 'logs', `node-${index}.log`))
    const surroundings = { ...RESTARTED, within: host.words, onOutput: log }
    this.#daemon = new Daemon(['node', '--log-level', 'info'], { ...env, ...clock.env }, surroundings)
  }

  get data(): string {
    return join(this.disk, `data-${this.#generation}`)
  }

  async prepare(cleanup: Cleanup): Promise<void> {
    await mkdir(this.disk)
    await sh('mount', '-t', 'tmpfs', '-o', `size=${DISK}`, 'chaos', this.disk)
    cleanup.teardown(() => sh('umount', '-l', this.disk))
    cleanup.teardown(() => this.#daemon.end())
  }

  async start(): Promise<void> {
    const listen = `${this.host.address}:${NODE_PORT}`
    await this.#daemon.start(/node \S+ listens/, ['--data', this.data, '--listen', listen])
    // Only the end of its output is kept, and the end is this just now.
    this.id = [...this.#daemon.output.matchAll(/node (\S+) listens/g)].at(-1)?.[1] ?? ''
  }

  kill(): Promise<void> {
    return this.#daemon.kill()
  }

  signal(signal: NodeJS.Signals): void {
    this.#daemon.signal(signal)
  }

  /** The disk is as small as what is on it, or as large as it was. */
  async fill(isFull: boolean): Promise<void> {
    for (let left = FILL_TRIES, spareBytes = 0; ; left--, spareBytes += SPARE_BYTES) {
      const used = isFull ? `${(await this.#usedBytes()) + spareBytes}` : DISK
      const { code, stderr } = await runIn('/', 'mount', ['-o', `remount,size=${used}`, this.disk])
      if (code === 0) return
      // More was written meanwhile, and it cannot be smaller than that.
      if (left === 0) throw new Error(`the disk of node ${this.index}: ${stderr}`)
    }
  }

  async #usedBytes(): Promise<number> {
    const [, used = ''] = (await sh('df', '-B1', '--output=used', this.disk)).trim().split('\n')
    return Number(used)
  }

  /** What it had is gone for ever; the next start is that of a new node. */
  async lose(): Promise<void> {
    await this.kill()
    await sh('rm', '-rf', this.data)
    this.#generation++
  }
}

export class Stage {
  readonly folder: string
  readonly redis: TestRedis
  readonly wire: Wire
  readonly nodes: readonly NodePlace[]
  readonly mounts: readonly ChaosMount[]
  /** As this process sees it. */
  readonly volume: Volume
  readonly #env: NodeJS.ProcessEnv

  private constructor(
    parts: Pick<Stage, 'folder' | 'redis' | 'wire' | 'nodes' | 'mounts' | 'volume'>,
    env: NodeJS.ProcessEnv,
  ) {
    this.folder = parts.folder
    this.redis = parts.redis
    this.wire = parts.wire
    this.nodes = parts.nodes
    this.mounts = parts.mounts
    this.volume = parts.volume
    this.#env = env
  }

  /** Everything runs, and is mounted. */
  static async set(options: StageOptions, cleanup: Cleanup): Promise<Stage> {
    const { folder } = options
    await mkdir(join(folder, 'logs'))
    const wire = await Wire.of(cleanup, options.nodes + options.mounts, options.seed)
    const redis = await redisOn(wire, cleanup)
    const url = urlOf(redis, wire)
    const keyFile = join(folder, 'key')
    await writeFile(keyFile, `${randomBytes(32).toString('hex')}\n`, { mode: 0o600 })
    await format(url)
    await mkdir(join(folder, 'run'), { mode: 0o700 })
    const meta = { RINGFS_META: formatMetaUrl(url), RINGFS_KEY_FILE: keyFile }
    const env = { PATH: process.env['PATH'] ?? '', HOME: folder, ...meta, XDG_RUNTIME_DIR: join(folder, 'run') }
    const nodes = await nodesOn(wire, options, env, cleanup)
    const mounts = await mountsOn(wire, options, env, cleanup)
    const volume = await openVolume(url, { log: silentLog, key: watchKeyFile(keyFile, silentLog) })
    cleanup.teardown(() => volume.close())
    return new Stage({ folder, redis, wire, nodes, mounts, volume }, env)
  }

  ringfs(...words: readonly string[]): Promise<Ran> {
    return runIn(this.folder, process.execPath, [PROGRAM, ...words], this.#env, COMMAND_MS)
  }
}

async function redisOn(wire: Wire, cleanup: Cleanup): Promise<TestRedis> {
  const config = [`bind 127.0.0.1 ${wire.address}`, `cluster-announce-ip ${wire.address}`]
  return startRedis(cleanup, { masters: 3, replicas: 1, config })
}

function urlOf(redis: TestRedis, wire: Wire): MetaUrl {
  const local = redis.url(VOLUME)
  return { ...local, hosts: local.hosts.map((host) => ({ ...host, host: wire.address })) }
}

async function format(url: MetaUrl): Promise<void> {
  const store = await connectPatiently(url)
  const quorum = { replicas: 3, writeQuorum: 2, metaReplicas: 1 }
  await formatVolume(store, VOLUME, { partitions: PARTITIONS, inlineBytes: INLINE_BYTES, ...quorum })
  await setMembershipTimes(store, VOLUME, TIMES)
  await store.close()
}

async function nodesOn(
  wire: Wire,
  { folder, nodes }: StageOptions,
  env: NodeJS.ProcessEnv,
  cleanup: Cleanup,
): Promise<readonly NodePlace[]> {
  const library = await ShiftedClock.library()
  const places: NodePlace[] = []
  for (let index = 0; index < nodes; index++) {
    const clock = await ShiftedClock.in(folder, `node-${index}`, library)
    const place = new NodePlace(index, await wire.addHost(), clock, folder, env)
    await place.prepare(cleanup)
    places.push(place)
  }
  await Promise.all(places.map((place) => place.start()))
  return places
}

async function mountsOn(
  wire: Wire,
  { folder, mounts }: StageOptions,
  env: NodeJS.ProcessEnv,
  cleanup: Cleanup,
): Promise<readonly ChaosMount[]> {
  const library = await ShiftedClock.library()
  const made: ChaosMount[] = []
  for (let index = 0; index < mounts; index++) {
    const [mountpoint, log] = [join(folder, `mnt${index}`), join(folder, 'logs', `mount-${index}.log`)]
    await mkdir(mountpoint)
    const clock = await ShiftedClock.in(folder, `mount-${index}`, library)
    const url = env['RINGFS_META'] ?? ''
    const mount = new ChaosMount(mountpoint, url, await wire.addHost(), clock, env, log)
    cleanup.teardown(() => mount.takeAway())
    made.push(mount)
  }
  await Promise.all(made.map((mount) => mount.start('kernel')))
  return made
}

function logTo(file: string): (data: Buffer) => void {
  mkdirSync(join(file, '..'), { recursive: true })
  const stream = createWriteStream(file, { flags: 'a' })
  return (data) => void stream.write(data)
}
