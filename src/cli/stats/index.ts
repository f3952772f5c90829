/** `ringfs stats`: what a mount does, as it does it. */
import { Command } from 'commander'
import { systemClock } from '../../base/clock.js'
import { RingfsError, hasCode, messageOf } from '../../base/errors.js'
import { resolveMounted } from '../../fuse/mountpoint.js'
import { FS_TYPE, mountOn } from '../../fuse/mounts.js'
import { readRunFiles, type RunFile } from '../../main/runfiles.js'
import { stopSignal } from '../../main/stop-signal.js'
import { RpcChannel } from '../../rpc/channel.js'
import { STATS_READ, type StatsReply } from '../../rpc/messages-stats.js'
import { positive } from '../arguments.js'
import { print, type Surroundings } from '../surroundings.js'
import { figuresBetween } from './figures.js'
import { statsText } from './view.js'

interface Options {
  /** Seconds. */
  readonly interval: number
  readonly once?: boolean
  readonly json?: boolean
}

const DEADLINE_MS = 5_000
const CLEAR_SCREEN = '\x1b[H\x1b[J'

const EXAMPLES = `
The first figures are those since the mount began, the following ones of each interval. Times are medians and 99th
percentiles, right to an eighth. With --json one line an interval, with the same figures and more.

Examples:
  $ ringfs stats /mnt/home
  $ ringfs stats /mnt/home --once
  $ ringfs stats /mnt/home --json --interval 10 >> stats.jsonl`

export function statsCommand(surroundings: Surroundings): Command {
  return new Command('stats')
    .summary('what a mount does: requests, caches, round trips, buffers')
    .description('Shows what a mount is doing, until Ctrl-C.')
    .argument('<mountpoint>')
    .option('-i, --interval <seconds>', 'between two looks', positive, 2)
    .option('--once', 'only the figures since the mount began')
    .option('--json', 'as JSON, one line an interval')
    .addHelpText('after', EXAMPLES)
    .action((path: string, options: Options) => watch(surroundings, path, options))
}

async function watch(surroundings: Surroundings, path: string, options: Options): Promise<void> {
  const run = await findMount(surroundings, path)
  const channel = new RpcChannel(`unix:${run.socket}`)
  const { stopped } = stopSignal()
  const over = stopped.then(() => true)
  try {
    for (let before: StatsReply | null = null; ;) {
      const now = await read(channel, run)
      show(surroundings, run, before, now, options)
      before = now
      if (options.once === true) return
      if (await Promise.race([over, systemClock.sleep(options.interval * 1000).then(() => false)])) return
    }
  } finally {
    await channel.close()
  }
}

/** Errors: RingfsError NOT_RUNNING. */
async function findMount(surroundings: Surroundings, path: string): Promise<RunFile> {
  const mountpoint = await resolveMounted(path)
  if ((await mountOn(mountpoint))?.fsType !== FS_TYPE) {
    throw new RingfsError('NOT_RUNNING', `no ringfs is mounted on ${path}: ringfs status shows the mounts of a volume`)
  }
  const run = readRunFiles(surroundings.environment.runFolder).findLast((one) => one.mountpoint === mountpoint)
  if (run !== undefined) return run
  throw new RingfsError('NOT_RUNNING', `${path} is served by no process of yours: it was killed, or is another user's`)
}

/** Errors: RingfsError DEADLINE, NOT_RUNNING, METHOD_UNKNOWN. */
async function read(channel: RpcChannel, { mountpoint, pid }: RunFile): Promise<StatsReply> {
  try {
    return (await channel.call(STATS_READ, {}, [], { deadlineMs: DEADLINE_MS })).reply
  } catch (error) {
    const who = `process ${pid}, which serves ${mountpoint},`
    if (hasCode(error, 'DEADLINE')) {
      throw new RingfsError('DEADLINE', `${who} does not answer within ${DEADLINE_MS / 1000} s`, { cause: error })
    }
    if (hasCode(error, 'METHOD_UNKNOWN')) {
      throw new RingfsError('METHOD_UNKNOWN', `${who} is an older ringfs without figures: mount it again`)
    }
    throw new RingfsError('NOT_RUNNING', `${who} has ended or cannot be reached (${messageOf(error)})`, {
      cause: error,
    })
  }
}

function show(
  surroundings: Surroundings,
  run: RunFile,
  before: StatsReply | null,
  now: StatsReply,
  { json, once }: Options,
): void {
  const figures = figuresBetween(before, now)
  const { mountpoint, volume, driver } = run
  if (json === true) {
    const line = { time: new Date().toISOString(), mountpoint, volume, driver, ...figures }
    print(surroundings, `${JSON.stringify(line)}\n`)
    return
  }
  const isLive = once !== true && surroundings.stdout.isTTY
  print(surroundings, `${isLive ? CLEAR_SCREEN : ''}${statsText(run, figures)}${isLive ? '' : '\n'}`)
}
