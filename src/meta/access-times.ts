/** Access times of many inodes: those of one partition go in one script. */
import type { AccessTime } from './contract.js'
import type { Core } from './core.js'
import { SCRIPTS } from './scripts.js'

/** Bounds how long one script runs. */
const BATCH_MAX = 128

/** What cannot be told in one partition does not keep the others; the first failure is thrown. */
export async function touch(core: Core, updates: readonly AccessTime[]): Promise<void> {
  const byPartition = new Map<number, AccessTime[]>()
  for (const update of updates) {
    const p = core.keys.home(update.ino)
    const list = byPartition.get(p)
    if (list === undefined) byPartition.set(p, [update])
    else list.push(update)
  }
  const sends: Promise<unknown>[] = []
  for (const [p, list] of byPartition) {
    for (let at = 0; at < list.length; at += BATCH_MAX) {
      const args = list.slice(at, at + BATCH_MAX).flatMap(argsOf)
      sends.push(core.change(SCRIPTS.touch, p, [], args))
    }
  }
  const results = await Promise.allSettled(sends)
  const failed = results.find((result) => result.status === 'rejected')
  if (failed !== undefined) throw failed.reason
}

function argsOf({ ino, replaces, atime }: AccessTime): number[] {
  return [ino, replaces.sec, replaces.nsec, atime.sec, atime.nsec]
}
