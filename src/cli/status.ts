import { Command } from 'commander'
import { isRebuildDue } from '../check/orphans.js'
import type { ClusterView, Member, RedisStore, VolumeSettings } from '../cluster/contract.js'
import { connectRedis } from '../cluster/redis.js'
import { healProgress } from '../cluster/progress.js'
import { sightProblems } from '../cluster/sight.js'
import { formatHost, parseMetaUrl, type MetaUrl } from '../cluster/url.js'
import { fetchView, ringMembers } from '../cluster/watcher.js'
import { FS_TYPE, mountOn } from '../fuse/mounts.js'
import { readRunFiles } from '../main/runfiles.js'
import { listSessions, loadVolume, type SessionInfo } from '../meta/format.js'
import { VolumeKeys } from '../meta/keys.js'
import { readCounters } from '../meta/scan.js'
import { progressText } from './cluster.js'
import type { VolumeSelector } from './context.js'
import { withVolume } from './files/session.js'
import { diskProblems, diskTable } from './status-disks.js'
import { logOf, print, type CommonOptions, type Surroundings } from './surroundings.js'
import { findTargetOr } from './target.js'
import { counted, humanBytes, humanMs, table } from './units.js'

interface Options extends CommonOptions, VolumeSelector {
  readonly json?: boolean
  /** Nodes that are gone for good, too. */
  readonly all?: boolean
}

const EXAMPLES = `
Examples:
  $ ringfs status
  $ ringfs status --all
  $ ringfs status --json redis://10.0.0.1:6379/home`

/** So long at most. */
const COUNT_MS = 2_000

interface Status {
  readonly settings: VolumeSettings
  readonly masters: Awaited<ReturnType<RedisStore['masters']>>
  readonly view: ClusterView
  readonly sessions: readonly SessionInfo[]
  /** Or not complete. */
  readonly isRebuildDue: boolean
  /** Bytes of small files in Redis; null: a part of it does not answer. */
  readonly inlineBytes: number | null
  /** On this machine, of this user. */
  readonly mounts: readonly LocalMount[]
}

interface LocalMount {
  readonly mountpoint: string
  readonly pid: number
  readonly driver: string
  readonly readOnly: boolean
  /** false: unmounted lazily, and still served to those who use it. */
  readonly isMounted: boolean
}

export function statusCommand(surroundings: Surroundings): Command {
  const command = new Command('status')
    .summary('nodes, queues, sessions and mounts of a volume')
    .description(
      'Shows the nodes of a volume, their replication queues, the clients that have it open, and its mounts here.',
    )
    .argument('[meta-url]')
    .option('--json', 'as JSON')
    .option('--all', 'nodes that are gone for good, too')
    .addHelpText('after', EXAMPLES)
  return withVolume(command).action(async (url: string | undefined, _options: Options, self: Command) => {
    const options = self.optsWithGlobals<Options>()
    const status = await fetchStatus(surroundings, options, url)
    print(surroundings, options.json === true ? asJson(status) : asText(status, options.all === true))
  })
}

async function fetchStatus(surroundings: Surroundings, options: Options, text: string | undefined): Promise<Status> {
  const url = await findTargetOr(surroundings, text, options)
  const redis = await connectRedis(url, { log: logOf(surroundings, options, 'error') })
  try {
    const settings = await loadVolume(redis, url.volume)
    const keys = new VolumeKeys(settings.name, settings.partitions)
    const [masters, view, sessions, isDue, inlineBytes, mounts] = await Promise.all([
      redis.masters(),
      fetchView(redis, settings.name),
      listSessions(redis, settings.name),
      isRebuildDue(redis, keys),
      inlineBytesOf(redis, keys),
      localMounts(surroundings.environment.runFolder, url),
    ])
    return { settings, masters, view, sessions, isRebuildDue: isDue, inlineBytes, mounts }
  } finally {
    await redis.close()
  }
}

/** A part that is away holds up nothing else that there is to say. */
async function inlineBytesOf(redis: RedisStore, keys: VolumeKeys): Promise<number | null> {
  const partitions = Array.from({ length: keys.partitions }, (_, p) => readCounters(redis, keys, p))
  const sum = Promise.all(partitions).then(
    (counters) => counters.reduce((bytes, { inline }) => bytes + inline, 0),
    () => null,
  )
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<null>((resolve) => (timer = setTimeout(() => resolve(null), COUNT_MS)))
  try {
    return await Promise.race([sum, late])
  } finally {
    clearTimeout(timer)
  }
}

/** The same Redis may go by several names: a host and port in common are enough. */
async function localMounts(runFolder: string, url: MetaUrl): Promise<readonly LocalMount[]> {
  const known = new Set(url.hosts.map(formatHost))
  const ours = readRunFiles(runFolder).filter((run) => {
    const { volume, hosts } = parseMetaUrl(run.metaUrl)
    return volume === url.volume && hosts.some((host) => known.has(formatHost(host)))
  })
  return Promise.all(
    ours.map(async ({ mountpoint, pid, driver, readOnly }) => {
      const isMounted = (await mountOn(mountpoint))?.fsType === FS_TYPE
      return { mountpoint, pid, driver, readOnly, isMounted }
    }),
  )
}

function asJson(status: Status): string {
  const { settings, masters, view, sessions, mounts, inlineBytes } = status
  const { epoch, members: nodes, settings: cluster } = view
  const problems = problemsOf(status)
  const healing = healProgress(view)
  const value = {
    volume: settings,
    redis: masters,
    epoch,
    cluster,
    problems,
    healing,
    inlineBytes,
    nodes,
    sessions,
    mounts,
  }
  return `${JSON.stringify(value, null, 2)}\n`
}

function asText(status: Status, withGone: boolean): string {
  const { settings, masters, view, sessions, mounts, inlineBytes } = status
  const { name, uuid, partitions, chunkBytes, replicas, writeQuorum } = settings
  const kind = `${counted(replicas, 'replica')}, write quorum ${writeQuorum}, ${partitions} partitions, chunks of ${humanBytes(chunkBytes)}`
  const head = [
    `volume ${name} (${uuid}): ${kind}`,
    `redis  ${masters.map((master) => master.address).join(', ')}`,
    `epoch  ${view.epoch}`,
    `chunks ${healText(view)}`,
    `small  ${inlineBytes === null ? '?' : humanBytes(inlineBytes)} of ${humanBytes(settings.inlineBudgetBytes)} in Redis`,
  ]
  const problems = problemsOf(status).map((problem) => `! ${problem}\n`)
  return `${head.join('\n')}\n\n${nodeTable(view, withGone)}${diskTable(view)}${problems.join('')}\n${sessionTable(sessions)}\n${mountTable(mounts)}`
}

function healText(view: ClusterView): string {
  const progress = healProgress(view)
  if (view.members.every(({ state }) => state === 'gone')) return 'no nodes'
  const { away, short } = progress
  const lacking = away.length === 0 ? '' : `, as far as is known without ${away.join(', ')}`
  const unlisted = short.length === 0 ? '' : `, as far as ${short.join(', ')} can list them`
  return progress.isDone
    ? `on all their owners${lacking}${unlisted}`
    : progressText(progress, " since the nodes' starts")
}

/** A clock that is further off is named: logs of the machine cannot be compared with others'. */
const CLOCK_OFF_MS = 1_000

const REBUILD_DUE =
  'chunks that no file names are kept until ringfs rebuild has looked at everything: the metadata were restored, or lost their end, or a rebuild is not complete'

/** Fewer nodes than copies: there is nowhere for the rest. */
function placeProblems(view: ClusterView, { replicas, writeQuorum }: VolumeSettings): readonly string[] {
  const placed = ringMembers(view).length
  if (placed >= replicas || view.members.every(({ state }) => state === 'gone')) return []
  const nodes = placed === 1 ? '1 node has' : `${placed} nodes have`
  const writes = placed < writeQuorum ? `, and a write needs ${writeQuorum}` : ''
  return [
    `${nodes} a place on the ring: each chunk has ${placed} of its ${replicas} copies at most${writes}: add nodes`,
  ]
}

function problemsOf({ view, settings, isRebuildDue: isDue }: Status): readonly string[] {
  const clocks = view.members.flatMap(({ id, report }) => {
    const offMs = report?.clockOffsetMs ?? 0
    if (Math.abs(offMs) < CLOCK_OFF_MS) return []
    const where = offMs > 0 ? 'ahead of' : 'behind'
    return [`the clock of node ${id} is ${humanMs(Math.abs(offMs))} ${where} that of Redis`]
  })
  const told = [...placeProblems(view, settings), ...sightProblems(view), ...diskProblems(view)]
  return [...told, ...clocks, ...(isDue ? [REBUILD_DUE] : [])]
}

/** What membership thinks, and whether the node has lost its place on the ring meanwhile. */
function stateText({ state, isOut }: Member): string {
  return isOut === true ? `${state}, out` : state
}

function clockText({ report }: Member): string {
  if (report === undefined) return '-'
  const { clockOffsetMs } = report
  return `${clockOffsetMs < 0 ? '-' : '+'}${humanMs(Math.abs(clockOffsetMs))}`
}

function goneText(count: number): string {
  return count === 1
    ? '1 node is gone for good: --all shows it\n'
    : `${count} nodes are gone for good: --all shows them\n`
}

function nodeTable({ members }: ClusterView, withGone: boolean): string {
  const shown = withGone ? members : members.filter(({ state }) => state !== 'gone')
  const count = members.length - shown.length
  const hidden = count === 0 ? '' : goneText(count)
  if (shown.length === 0) return `no nodes\n${hidden}`
  const columns = ['NODE', 'PID', 'ADDRESS', 'STATE', 'SEEN', 'CLOCK', 'ZONE', 'FREE', 'OF', 'CHUNKS', 'QUEUE']
  const rows = shown.map((one) => [
    ...[
      one.id,
      one.pid,
      one.address,
      stateText(one),
      `${humanMs(one.silentMs)} ago`,
      clockText(one),
      one.zone === '' ? '-' : one.zone,
    ],
    ...[humanBytes(one.freeBytes), humanBytes(one.totalBytes), one.chunks, one.queueLength],
  ])
  return `${table(columns, rows)}${hidden}`
}

function sessionTable(sessions: readonly SessionInfo[]): string {
  if (sessions.length === 0) return 'no sessions\n'
  const rows = sessions.map((one) => [one.id, one.host, one.pid, new Date(one.sinceMs).toISOString()])
  return table(['SESSION', 'HOST', 'PID', 'SINCE'], rows)
}

function mountTable(mounts: readonly LocalMount[]): string {
  if (mounts.length === 0) return 'no mounts on this machine\n'
  const rows = mounts.map(({ mountpoint, pid, driver, readOnly, isMounted }) => {
    return [isMounted ? mountpoint : `${mountpoint} (unmounted, in use)`, pid, driver, readOnly ? 'ro' : 'rw']
  })
  return table(['MOUNTED HERE', 'PID', 'DRIVER', 'ACCESS'], rows)
}
