/** Whether processes started here may have a lower nice value: of another process, so that this one stays as it is. */
import { spawnSync } from 'node:child_process'

export function mayLowerNice(): boolean {
  const script = `require('node:os').setPriority(0, -3)`
  return spawnSync(process.execPath, ['-e', script], { stdio: 'ignore', env: {} }).status === 0
}
