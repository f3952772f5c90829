/**
 * `ringfs up`: everything on this machine. Redis, nodes and mount are started in this order and stopped in the reverse one,
 * so that at every moment what runs has all that it stands on.
 *
 * A crash of this process leaves the private Redis running (it is adopted by the next `up`, or ended by `down`), no node
 * processes (supervisor.ts) and a dead mount (taken off by the next mount). The lock on the data folder, which the kernel
 * frees with the process, makes sure that only one `up` works in it.
 */
import { mkdirSync, readdirSync, statSync } from 'node:fs'
import { basename, dirname, resolve } from 'node:path'
import { RingfsError, hasCode, messageOf } from '../base/errors.js'
import type { Log } from '../base/log.js'
import { makeFolders } from '../base/make-folders.js'
import { serveReadily } from '../base/priority.js'
import type { RedisStore, VolumeSettings } from '../cluster/contract.js'
import { lockFolder } from '../base/folder-lock.js'
import { startPrivateRedis } from '../cluster/private-redis.js'
import { FIRST_ANSWER_MS, connectRedis } from '../cluster/redis.js'
import { formatMetaUrl, type MetaUrl } from '../cluster/url.js'
import { prepareMountpoint } from '../fuse/mountpoint.js'
import { formatVolume, loadVolume } from '../meta/format.js'
import { RpcServer } from '../rpc/server.js'
import { startBeside } from './beside-nodes.js'
import { Closer } from './closer.js'
import {
  UP_LOCK,
  openDataFolders,
  readUpRecord,
  writeUpRecord,
  type DataFolders,
  type UpRecord,
} from './data-folder.js'
import { PROGRAM } from './detach.js'
import { withoutSecrets } from './environment.js'
import { startMount, type ActiveMount, type MountSettings } from './mounting.js'
import { startNode, type RunningNode } from './node.js'
import { keepRedis } from './redis-keeper.js'
import { diskWarnings } from './shared-disks.js'
import { socketIn } from './sockets.js'
import { Supervisor } from './supervisor.js'
import { SlowEnd } from './slow-end.js'
import { openVolume, type Volume } from './volume.js'

export interface UpOptions extends MountSettings {
  readonly mountpoint: string
  readonly dataDir: string
  /** Further folders, on disks of their own, for chunks alone. Default: as at the last start. */
  readonly moreDirs: readonly string[]
  /** Of those of the last start, what is not used any more. */
  readonly forgetDirs: readonly string[]
  /** Give them up with all chunks of which they have all copies. */
  readonly force?: boolean
  /** Default: as at the first start, and 1 then. */
  readonly nodes?: number | undefined
  /** Of the volume; fixed at the first start. Default 1. */
  readonly replicas?: number | undefined
  /** Name of the volume; fixed at the first start. */
  readonly volume?: string | undefined
  readonly runFolder: string
  readonly log: Log
  readonly inherited: NodeJS.ProcessEnv
  readonly say: (text: string) => void
  /** The end takes long: why. */
  readonly onSlowEnd: (why: string) => void
}

export interface UpReady {
  readonly volume: string
  readonly mountpoint: string
  readonly dataDir: string
  readonly nodes: number
  readonly replicas: number
  /** Of its disks. */
  readonly warnings: readonly string[]
}

const VOLUME_DEFAULT = 'ringfs'

/** Runs until `stop` fires, the file system is unmounted, or something that it stands on is lost. */
export async function runUp(
  options: UpOptions,
  stop: Promise<void>,
  onReady: (ready: UpReady, mount: ActiveMount) => void,
): Promise<void> {
  const closer = new Closer()
  const failure = await closer.orClose(async () => {
    const { ready, mount, ended } = await start(options, closer)
    onReady(ready, mount)
    return Promise.race([stop.then(() => undefined), ended])
  })
  await closer.close()
  if (failure !== undefined) throw failure
}

async function start(
  options: UpOptions,
  closer: Closer,
): Promise<{ ready: UpReady; mount: ActiveMount; ended: Promise<RingfsError | undefined> }> {
  const { log, runFolder } = options
  const nice = serveReadily(options.options.nice, { group: true })
  const folders = openDataFolders(options.dataDir)
  const lock = await lockFolder(folders.root, UP_LOCK, `ringfs down --data ${folders.root}`)
  closer.add(() => lock.release())
  closer.add(() => folders.withdraw())
  const plan = planRecord(options, readUpRecord(folders.root))
  makeMountpoint(options.mountpoint)
  const mountpoint = await prepareMountpoint(options.mountpoint, log)
  const record = { ...plan, mountpoint }
  const redis = await startPrivateRedis({ folder: folders.redis, log, nice, onProgress: options.say })
  const keeper = keepRedis(redis, { folder: folders.redis, log, nice })
  closer.add(() => keeper.stop())
  if (redis.isAdopted) options.say('found the Redis of an earlier start that was cut short, and goes on with it')
  const url = redis.url(record.volume)
  const settings = await ensureVolume(url, folders, record, options)
  const { volume, node, slowEnd } = await startNodes(options, folders, url, record, closer)
  const mount: ActiveMount = await startMount(volume, {
    ...options,
    socket: socketIn(folders.root, 'files', runFolder),
    localNode: node?.id,
    dataDir: folders.root,
  })
  closer.add(() => mount.stop())
  closer.add(() => slowEnd.begin())
  return {
    ready: {
      volume: settings.name,
      mountpoint: mount.mountpoint,
      dataDir: folders.root,
      nodes: record.nodes,
      replicas: settings.replicas,
      warnings: warningsOf(folders, record, settings.replicas),
    },
    mount,
    ended: Promise.race([mount.ended.then(() => undefined), keeper.lost, ...(node === undefined ? [] : [node.lost])]),
  }
}

/** A folder that cannot be looked at is told by its nodes. */
function warningsOf({ root }: DataFolders, { more = [] }: UpRecord, replicas: number): readonly string[] {
  const folders = [root, ...more].flatMap((folder) => {
    try {
      return [{ folder, device: statSync(folder).dev }]
    } catch {
      return []
    }
  })
  return diskWarnings(folders, replicas)
}

/** Made if it is missing, with what is above it. A dead mount on it exists, although looking at it fails. */
function makeMountpoint(path: string): void {
  try {
    makeFolders(dirname(resolve(path)))
    if (!readdirSync(dirname(resolve(path))).includes(basename(resolve(path)))) mkdirSync(path)
  } catch (error) {
    throw new RingfsError('MOUNTPOINT_BAD', `mount point ${path} cannot be made: ${messageOf(error)}`)
  }
}

/** What this start works with. Errors: RingfsError USAGE when it contradicts the first one. */
function planRecord(options: UpOptions, old: UpRecord | undefined): UpRecord {
  const { nodes, replicas, volume } = options
  const further = furtherFolders(options, old)
  if (old === undefined) {
    const wanted = { format: 1, volume: volume ?? VOLUME_DEFAULT, nodes: nodes ?? 1, ...further }
    checkEnough(wanted.nodes, replicas ?? 1)
    return wanted
  }
  if (volume !== undefined && volume !== old.volume) {
    throw new RingfsError('USAGE', `this data folder holds the volume ${old.volume}: give another --data for ${volume}`)
  }
  if (nodes !== undefined && nodes < old.nodes) {
    throw new RingfsError('USAGE', `chunks lie on ${old.nodes} nodes here: start with --nodes ${old.nodes} or more`)
  }
  return { ...old, nodes: nodes ?? old.nodes, ...further }
}

/** A folder that is given up and given at once stays: what was on it before is given up (another disk is in its place). */
function furtherFolders(
  options: UpOptions,
  old: UpRecord | undefined,
): { readonly more: string[]; readonly forgotten: string[] } {
  const { dataDir } = options
  const before = old?.more ?? []
  const forget = options.forgetDirs.map((folder) => resolve(folder))
  const given = options.moreDirs.map((folder) => resolve(folder)).filter((folder) => folder !== resolve(dataDir))
  const isKnown = (folder: string): boolean => before.includes(folder) || old?.forgotten?.includes(folder) === true
  const unknown = forget.find((folder) => !isKnown(folder))
  if (unknown !== undefined) throw new RingfsError('USAGE', `${unknown} is not a further data folder of ${dataDir}`)
  checkForgotten(options)
  const kept = before.filter((folder) => !forget.includes(folder))
  const more = [...new Set([...kept, ...given])]
  const forgotten = new Set([...(old?.forgotten ?? []), ...forget])
  return { more, forgotten: [...forgotten].filter((folder) => !more.includes(folder)) }
}

/**
 * All nodes give it up at once, and each has chosen by itself what lies there: of two folders, one has all R copies of one chunk in 2^R.
 * So more replicas do not make up for it.
 */
function checkForgotten({ forgetDirs, force = false }: UpOptions): void {
  const [first] = forgetDirs
  if (first === undefined || force) return
  throw new RingfsError(
    'USAGE',
    `${first} is a disk of every node here: chunks of which all copies lie there would be missing. To replace that disk, copy the folder to another one while nothing runs, and mount that in its place; --force if what is there is lost anyway`,
  )
}

function checkEnough(nodes: number, replicas: number): void {
  if (replicas <= nodes) return
  throw new RingfsError('USAGE', `${replicas} replicas need as many nodes: add --nodes ${replicas}`)
}

/** Loads the volume, or makes it at the first start. */
async function ensureVolume(
  url: MetaUrl,
  folders: DataFolders,
  record: UpRecord,
  options: UpOptions,
): Promise<VolumeSettings> {
  // Of one that was formatted nothing is written before it is known to be right.
  if (record.uuid === undefined) writeUpRecord(folders.root, record)
  const redis = await connectRedis(url, { log: options.log, firstAnswerMs: FIRST_ANSWER_MS })
  try {
    const settings = await loadOrFormat(redis, record, options)
    const { replicas } = options
    if (replicas !== undefined && replicas !== settings.replicas) {
      throw new RingfsError(
        'USAGE',
        `volume ${settings.name} was made with --replicas ${settings.replicas}, which is fixed: leave --replicas out`,
      )
    }
    checkEnough(record.nodes, settings.replicas)
    writeUpRecord(folders.root, { ...record, uuid: settings.uuid })
    return settings
  } finally {
    await redis.close()
  }
}

async function loadOrFormat(redis: RedisStore, record: UpRecord, options: UpOptions): Promise<VolumeSettings> {
  try {
    return await loadVolume(redis, record.volume)
  } catch (error) {
    if (!hasCode(error, 'VOLUME_MISSING')) throw error
    if (record.uuid !== undefined) {
      throw new RingfsError(
        'VOLUME_CORRUPT',
        `the metadata of volume ${record.volume} is gone from ${options.dataDir}/redis: restore it from a backup, or what the chunks tell with ringfs rebuild --data ${options.dataDir}`,
      )
    }
    return formatVolume(redis, record.volume, { replicas: options.replicas ?? 1 })
  }
}

/** One node lives in this process and is called without a socket; more are processes of their own. */
async function startNodes(
  options: UpOptions,
  folders: DataFolders,
  url: MetaUrl,
  { nodes: count, more = [], forgotten = [] }: UpRecord,
  closer: Closer,
): Promise<{ volume: Volume; node: RunningNode | undefined; slowEnd: SlowEnd }> {
  const { log } = options
  const nodeFolders = Array.from({ length: count }, (_, index) => folders.node(index + 1, more))
  const gone = [...forgotten, ...options.forgetDirs.map((folder) => resolve(folder))]
  const forget = nodeFolders.map((_, index) => folders.node(index + 1, gone).slice(1))
  if (count > 1) {
    const supervisor = new Supervisor(nodePlans(options, nodeFolders, forget, url), log)
    await supervisor.start()
    closer.add(() => supervisor.stop())
  }
  const volume = await openVolume(url, { log, firstAnswerMs: FIRST_ANSWER_MS })
  closer.add(() => volume.close())
  const slowEnd = new SlowEnd({ volume, tell: options.onSlowEnd })
  closer.add(() => slowEnd.over())
  if (count > 1) {
    const beside = await startBeside(volume, nodeFolders)
    closer.add(() => beside.close())
    return { volume, node: undefined, slowEnd }
  }
  const node = await startNode(volume, {
    folders: folders.node(1, more),
    forget: forget[0] ?? [],
    zone: '',
    weight: 1,
    server: new RpcServer({ log, memory: volume.buffers }),
    listen: (server) => server.listen(`unix:${socketIn(folders.root, 'node', options.runFolder)}`),
  })
  closer.add(() => node.stop())
  return { volume, node, slowEnd }
}

/** The URL holds a password: it goes through the pipe by which the nodes also see that `up` has ended. */
function nodePlans(
  options: UpOptions,
  nodes: readonly (readonly string[])[],
  forget: readonly (readonly string[])[],
  url: MetaUrl,
): ConstructorParameters<typeof Supervisor>[0] {
  const env = withoutSecrets(options.inherited)
  const { nice } = options.options
  const input = formatMetaUrl(url)
  return nodes.map((folders, index) => ({
    name: `node ${index + 1}`,
    words: [
      ...[PROGRAM, 'node', '--supervised', '--listen', '127.0.0.1:0', '--log-level', options.log.level],
      ...(nice === undefined ? [] : ['--nice', String(nice)]),
      ...folders.flatMap((folder) => ['--data', folder]),
    ],
    once: (forget[index] ?? []).flatMap((folder) => ['--forget', folder, '--force']),
    env,
    input,
  }))
}
