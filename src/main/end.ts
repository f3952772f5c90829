/** The end of the process, with its exit code, whatever its threads do. */
import { stuckThreads } from '../chunk/pool.js'
import { loadAddon } from '../fuse/kernel/addon.js'

/** Everything is closed by now. process.exit() would wait for threads that a disk does not let go; without the addon the exit code is lost. */
export async function endProcess(): Promise<never> {
  if (stuckThreads() === 0) process.exit()
  try {
    return loadAddon().exit(Number(process.exitCode ?? 0))
  } catch {
    process.kill(process.pid, 'SIGKILL')
    throw new Error('a process ends by SIGKILL')
  }
}
