/** Whether a process is of a group, its supplementary ones included: proc(5), /proc/PID/status. The protocol tells only the first. */
import { readFile } from 'node:fs/promises'
import type { Caller } from '../../vfs/contract.js'

/** A process that cannot be seen, in a foreign pid namespace or behind hidepid, counts as being of its first group only. */
export async function isInGroup({ gid, pid }: Caller, group: number): Promise<boolean> {
  if (gid === group) return true
  try {
    return hasGroup(await readFile(`/proc/${pid}/status`, 'latin1'), group)
  } catch {
    return false
  }
}

function hasGroup(status: string, group: number): boolean {
  const groups = /^Groups:[\t ]*([0-9 ]*)$/m.exec(status)?.[1] ?? ''
  return groups.split(' ').includes(String(group))
}
