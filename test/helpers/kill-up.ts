/** kill -9 of `ringfs up`: its mount and its nodes end, its Redis stays, and a dead mount. */
import { eventually, kill, type Ringfs } from './ringfs.js'

export async function killUp(ringfs: Ringfs): Promise<void> {
  const pid = ringfs.runFile()?.pid ?? 0
  kill(pid)
  await eventually(
    'the process has ended',
    () => ringfs.processes(),
    (pids) => !pids.includes(pid),
  )
}
