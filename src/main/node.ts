/** A chunk node: its data folder, its store, its listener, its place in the membership, and its replication queue. */
import { join as joinPath, resolve } from 'node:path'
import { systemClock } from '../base/clock.js'
import { RingfsError, messageOf } from '../base/errors.js'
import { systemProcesses } from '../base/processes.js'
import { knowFirstHistories } from '../check/histories.js'
import { Healer } from '../chunk/node/healer.js'
import { NodeDisks, type EmptyOptions } from '../chunk/node/disks.js'
import { tellEpochs } from '../chunk/node/known-epoch.js'
import { openNodeFolders, type NodeFolders } from '../chunk/node/node-folders.js'
import { Pace } from '../chunk/node/pace.js'
import { serveChunkNode } from '../chunk/node/server.js'
import { ChunkService } from '../chunk/node/service.js'
import { WorkerPool } from '../chunk/pool.js'
import { wallMs } from '../cluster/clock-offset.js'
import { register, type RegisterOptions, type Registration } from '../cluster/membership.js'
import { Sight } from '../cluster/sight.js'
import type { ClusterWatcher } from '../cluster/watcher.js'
import { VolumeKeys } from '../meta/keys.js'
import type { RpcServer } from '../rpc/server.js'
import { Closer } from './closer.js'
import { DiskWatch } from './disk-watch.js'
import { VERSION } from './version.js'
import { writeVolumeFile } from './volume-file.js'
import type { Volume } from './volume.js'

export interface NodeOptions {
  /** Its data folders, one a disk. */
  readonly folders: readonly string[]
  /** Folders, or ids, of disks that it is to give up; those in use, and unknown ones, are left alone. */
  readonly forget?: readonly string[]
  /** Of its data folders, those whose disks are to be emptied. */
  readonly empty?: readonly string[]
  readonly zone: string
  readonly weight: number
  /** Begins to listen, when everything is ready to answer, and answers the address that peers dial. */
  readonly listen: (server: RpcServer) => Promise<string>
  readonly server: RpcServer
}

export interface RunningNode {
  readonly id: string
  readonly address: string
  /** Resolves, with the reason, when the node must not go on: its identity is used by another process, or no disk works any more. */
  readonly lost: Promise<RingfsError>
  /** Says goodbye, answers what is asked already, lets go of the data folder. */
  stop(): Promise<void>
}

/** Errors: those of openNodeFolders, of `listen` and of register. */
export async function startNode(volume: Volume, options: NodeOptions): Promise<RunningNode> {
  const closer = new Closer()
  const startMs = wallMs(systemClock)
  return closer.orClose(async () => {
    const data = await openNodeFolders(options.folders, volume.settings.uuid, { forget: options.forget ?? [] })
    closer.add(() => data.close())
    // Ends after the goodbye and before the folder is let go: two processes never answer for one folder.
    closer.add(() => options.server.close())
    await keepSettings(volume, data)
    await knowFirstHistories(volume.redis, new VolumeKeys(volume.settings.name, volume.settings.partitions))
    const watch = new DiskWatch(volume)
    const service = await openService(volume, data, { watch, leaving: disksToEmpty(data, options.empty ?? []) })
    closer.add(() => service.disks.close())
    // Nobody writes beside a node of several disks.
    const [first] = data.disks
    if (first !== undefined && data.disks.length + data.missing.length === 1)
      closer.add(tellEpochs(first.folder, volume))
    serveChunkNode(service.api, options.server)
    volume.peers.setLocal(data.nodeId, service.api)
    const address = await options.listen(options.server)
    const sight = watchPeers(volume, data.nodeId)
    closer.add(() => sight.close())
    const healer = await makeHealer(volume, data.nodeId, service)
    const { registration, lost } = await join(volume, { ...options, id: data.nodeId, address }, service.disks, () => ({
      unreachable: sight.unreachable(),
      heal: healer.report(),
      disks: service.disks.states(),
    }))
    closer.add(() => registration.leave())
    const boot = systemProcesses.self()?.boot
    const isAfterRestart = boot !== undefined && service.disks.isAfterRestart(boot)
    watch.start(service.disks, data.dropped.length > 0 || isAfterRestart)
    closer.add(() => watch.stop())
    const queue = consumeQueue(volume, data.nodeId, registration.incarnation, service.api)
    closer.add(queue.stop)
    const healing = inBackground((signal) => healer.run(signal))
    closer.add(healing.stop)
    const emptying = inBackground((signal) => service.disks.empty(emptyOptions(volume, service), signal))
    closer.add(emptying.stop)
    if (boot !== undefined) {
      const onBad = (id: number): Promise<void> => service.api.reportBad(volume.settings.uuid, id)
      const look = inBackground((signal) => service.disks.lookAfterRestart({ boot, startMs, onBad }, signal))
      closer.add(look.stop)
    }
    closer.add(() => service.api.scrubber.stop())
    service.api.scrubber.start()
    // First of all: what waits for a disk that hangs holds nothing up.
    closer.add(() => service.disks.letGo())
    // So that this very process knows of its own node before it writes.
    await volume.watcher.refresh()
    return { id: data.nodeId, address, lost: Promise.race([lost, watch.lost]), stop: () => closer.close() }
  })
}

/** On every disk that takes them: one of them is enough, and one that is full or read-only is no reason not to start. */
async function keepSettings({ settings, log }: Volume, { disks }: NodeFolders): Promise<void> {
  for (const { folder } of disks) {
    try {
      await writeVolumeFile(folder, settings)
    } catch (error) {
      log.warn({ folder, err: messageOf(error) }, 'the settings of the volume are not kept on this disk')
    }
  }
}

interface Service {
  readonly api: ChunkService
  readonly disks: NodeDisks
  readonly pace: Pace
}

/** Errors: USAGE. */
function disksToEmpty({ disks, missing }: NodeFolders, empty: readonly string[]): readonly string[] {
  // One that is missing is no reason not to start.
  const all = [...disks, ...missing]
  const leaving = empty.map((path) => {
    const one = all.find(({ folder, disk }) => folder === resolve(path) || disk === path)
    if (one !== undefined) return one.disk
    throw new RingfsError('USAGE', `${path} cannot be emptied: it is none of the node's disks (--data)`)
  })
  if (all.some(({ disk }) => !leaving.includes(disk))) return leaving
  throw new RingfsError('USAGE', 'no disk would be left: to empty all of them, drain the node')
}

interface ServiceParts {
  readonly watch: DiskWatch
  /** Ids of disks that are to be emptied. */
  readonly leaving: readonly string[]
}

async function openService(volume: Volume, folders: NodeFolders, { watch, leaving }: ServiceParts): Promise<Service> {
  const { settings, pool, buffers, log, watcher, peers, queue } = volume
  const { nodeId } = folders
  for (const { folder, disk } of folders.dropped) log.warn({ folder, disk }, 'a disk was given up')
  const parts = { volume: settings.uuid, pool, buffers, clock: systemClock, log }
  const disks = await NodeDisks.open({
    ...parts,
    disks: folders.disks,
    missing: folders.missing,
    forgotten: folders.dropped.map(({ disk }) => disk),
    newPool: () => new WorkerPool(),
    leaving,
    onFailed: () => watch.failed(),
    onUnlisted: () => watch.unlisted(),
  })
  const stateOf = (id: string): string | undefined => watcher.current().view.members.find((one) => one.id === id)?.state
  const pace = new Pace(systemClock, () => watcher.current().view.settings?.healBytesPerS ?? 0)
  const refresh = (): void => {
    watcher.refresh().catch((error: unknown) => log.warn({ err: messageOf(error) }, 'membership not refreshed'))
  }
  const api = new ChunkService({
    nodeId,
    volume: settings.uuid,
    version: VERSION,
    disk: disks,
    peer: (id) => peers.get(id),
    order: (chunkId) => everyNode(watcher, chunkId),
    epochs: { current: () => watcher.current().view.epoch, onNewer: refresh },
    pace,
    isOwner: (chunkId, epoch) => {
      const { view, ring } = watcher.current()
      return view.epoch < epoch || ring.owners(chunkId, settings.replicas).includes(nodeId)
    },
    isSuspect: (id) => stateOf(id) !== 'up',
    isGone: (id) => stateOf(id) === 'gone',
    enqueue: (id, tasks) => queue.enqueue(id, tasks),
    clock: systemClock,
    log,
    scrubPeriodMs: () => watcher.current().view.settings?.scrubMs,
    scrubFile: () => disks.live.map(({ folder }) => joinPath(folder, 'scrub.json'))[0],
    disks: () => disks.live.map(({ disk }) => disk),
  })
  return { api, disks, pace }
}

function emptyOptions({ settings }: Volume, { api, pace }: Service): EmptyOptions {
  return { pace, onBad: (id) => api.reportBad(settings.uuid, id) }
}

async function makeHealer(volume: Volume, nodeId: string, { api, disks, pace }: Service): Promise<Healer> {
  const { settings, watcher, peers, queue, log } = volume
  return new Healer({
    nodeId,
    volume: settings.uuid,
    replicas: settings.replicas,
    disk: disks,
    peer: (id) => peers.get(id),
    current: () => watcher.current(),
    enqueue: (id, tasks) => queue.enqueue(id, tasks),
    queueLength: (id) => queue.length(id),
    caughtUp: await queue.mark(nodeId),
    removals: () => queue.removals(nodeId),
    pace,
    copied: () => api.repairer.copied,
    clock: systemClock,
    log,
  })
}

/** The ring's order, then members outside it: a node that is leaving, or has just come, may hold the only copy. */
function everyNode(watcher: ClusterWatcher, chunkId: number): readonly string[] {
  const { ring, view } = watcher.current()
  const others = view.members.filter(({ state }) => state !== 'gone').map(({ id }) => id)
  return [...new Set([...ring.preference(chunkId), ...others])]
}

function watchPeers({ watcher, peers, log }: Volume, nodeId: string): Sight {
  const sight = new Sight({
    nodeId,
    view: () => watcher.current().view,
    ask: (id, deadlineMs) => peers.get(id).info({ deadlineMs }),
    clock: systemClock,
    log,
  })
  sight.start()
  return sight
}

async function join(
  volume: Volume,
  node: { readonly id: string; readonly address: string; readonly zone: string; readonly weight: number },
  disks: NodeDisks,
  report: RegisterOptions['report'] & object,
): Promise<{ registration: Registration; lost: Promise<RingfsError> }> {
  let onLost: (error: RingfsError) => void = () => undefined
  const lost = new Promise<RingfsError>((resolve) => (onLost = resolve))
  const { id, address, zone, weight } = node
  const registration = await register(volume.redis, {
    volume: volume.settings.name,
    identity: { id, address, zone, weight, pid: process.pid },
    space: () => ({ ...disks.space(), chunks: disks.chunks }),
    report,
    isStuck: () => disks.isStuck,
    log: volume.log,
    onLost,
  })
  return { registration, lost }
}

function consumeQueue(
  volume: Volume,
  nodeId: string,
  consumer: string,
  api: ChunkService,
): { stop: () => Promise<void> } {
  return inBackground((signal) =>
    volume.queue
      .consume(nodeId, consumer, (task) => api.repairer.handle(task), { signal, inherits: true })
      .catch((error: unknown) => volume.log.error({ err: messageOf(error) }, 'replication queue is not worked on')),
  )
}

function inBackground(work: (signal: AbortSignal) => Promise<void>): { stop: () => Promise<void> } {
  const stopping = new AbortController()
  const done = work(stopping.signal)
  return {
    stop: async () => {
      stopping.abort()
      await done
    },
  }
}
