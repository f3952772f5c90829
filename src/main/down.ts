/** `ringfs down`: stops an `up`, and cleans up what one that crashed has left behind. */
import { systemClock } from '../base/clock.js'
import { PosixError } from '../base/errno.js'
import { RingfsError, messageOf } from '../base/errors.js'
import type { Log } from '../base/log.js'
import { takeOffIfDead } from '../fuse/mountpoint.js'
import { findDataFolders, readUpRecord } from './data-folder.js'
import { isRunning, readRunFiles, takeWord, type RunFile } from './runfiles.js'
import { END_LIMIT_MS } from './stop-signal.js'

export interface DownOptions {
  /** Real or not; null: the only `up` that runs here. */
  readonly dataDir: string | null
  readonly runFolder: string
  readonly log: Log
}

const POLL_MS = 50
/** It writes what is buffered and stops Redis first, and ends itself when that takes too long. */
const STOP_WAIT_MS = END_LIMIT_MS + 30_000

/** Answers what was done, in a line. Errors: RingfsError NOT_RUNNING, USAGE, INTERNAL; EIO when it is stopped, and not everything was written. */
export async function runDown(options: DownOptions): Promise<string> {
  const ups = readRunFiles(options.runFolder).filter((run) => run.dataDir !== null)
  const root = options.dataDir === null ? undefined : findDataFolders(options.dataDir)?.root
  if (options.dataDir !== null && root === undefined) {
    throw new RingfsError('NOT_RUNNING', `${options.dataDir} is not a data folder of ringfs up`)
  }
  const chosen = root === undefined ? ups : ups.filter((run) => run.dataDir === root)
  if (chosen.length > 1) {
    const folders = chosen.map((run) => run.dataDir).join(', ')
    throw new RingfsError('USAGE', `several run here: name one with --data (${folders})`)
  }
  const [running] = chosen
  if (running !== undefined) return stopRunning(running, options)
  if (root !== undefined && (await cleanUp(root, options.log))) return `what was left running in ${root} is stopped`
  throw new RingfsError('NOT_RUNNING', root === undefined ? 'no ringfs up runs here' : `no ringfs up runs in ${root}`)
}

async function stopRunning(running: RunFile, { runFolder, log }: DownOptions): Promise<string> {
  const { mountpoint, dataDir } = running
  process.kill(running.pid, 'SIGTERM')
  await untilEnded(running)
  const word = takeWord(runFolder, running)
  if (word === undefined) return `${mountpoint} is unmounted; the data stay in ${dataDir ?? ''}`
  // One that was cut short has left what it stood on.
  const cleaned = dataDir === null ? undefined : cleanUp(dataDir, log)
  await cleaned?.catch((error: unknown) => log.error({ err: messageOf(error) }, 'not everything was cleaned up'))
  throw new PosixError('EIO', `${mountpoint} is unmounted, but not everything may be written: ${word}`)
}

/** Errors: RingfsError INTERNAL when it does not end. */
export async function untilEnded(running: Pick<RunFile, 'pid' | 'startedAt'>): Promise<void> {
  const deadlineMs = systemClock.monotonicMs() + STOP_WAIT_MS
  while (isRunning(running)) {
    if (systemClock.monotonicMs() > deadlineMs) {
      throw new RingfsError('INTERNAL', `process ${running.pid} still stops after ${STOP_WAIT_MS / 1000} s`)
    }
    await systemClock.sleep(POLL_MS)
  }
}

/** Of an `up` that was killed: its Redis and its dead mount. */
async function cleanUp(root: string, log: Log): Promise<boolean> {
  const { stopLeftPrivateRedis } = await import('../cluster/private-redis.js')
  const stopped = await stopLeftPrivateRedis({ folder: `${root}/redis`, log })
  return (await unmountDead(root, log)) || stopped
}

async function unmountDead(root: string, log: Log): Promise<boolean> {
  const mountpoint = readUpRecord(root)?.mountpoint
  return mountpoint !== undefined && (await takeOffIfDead(mountpoint, log))
}
