/** What a thread may do beyond its user's rights: capabilities(7), /proc/PID/status. The protocol does not tell. */
import { readFile } from 'node:fs/promises'

/** linux/capability.h */
export const CAP_CHOWN = 0
export const CAP_DAC_OVERRIDE = 1
export const CAP_FOWNER = 3
export const CAP_FSETID = 4

/** Whose it is what is to be changed. A group counts for some capabilities only. */
export interface Owned {
  readonly uid: number
  readonly gid?: number
}

/**
 * Whether the thread has it over what these own. Who makes a user namespace has all capabilities there, over what its maps name
 * (user_namespaces(7)). One that cannot be seen, in a foreign pid namespace or behind hidepid, counts as having it: the kernel has judged before us.
 */
export async function hasCapability(pid: number, capability: number, { uid, gid }: Owned): Promise<boolean> {
  let status: string
  try {
    status = await readFile(`/proc/${pid}/status`, 'latin1')
  } catch {
    return true
  }
  if (!isCapable(status, capability) || !(await covers(pid, 'uid_map', uid))) return false
  return gid === undefined || (await covers(pid, 'gid_map', gid))
}

/** Ids of other namespaces than ours are told as ours; of our own, as those of its parent: then it is the same map, and all ids that we see are in it. */
async function covers(pid: number, file: 'uid_map' | 'gid_map', id: number): Promise<boolean> {
  const [map, own] = await Promise.all([mapOf(`/proc/${pid}/${file}`), mapOf(`/proc/self/${file}`)])
  return map === own || isMapped(map, id)
}

/** A kernel without user namespaces has none. */
async function mapOf(path: string): Promise<string> {
  return await readFile(path, 'latin1').catch(() => '')
}

/** Lines of: first id inside, first id outside, how many. */
export function isMapped(map: string, id: number): boolean {
  return map.split('\n').some((line) => {
    const [, first = NaN, count = NaN] = line.trim().split(/\s+/).map(Number)
    return id >= first && id < first + count
  })
}

export function isCapable(status: string, capability: number): boolean {
  const hex = /^CapEff:\s*([0-9a-f]+)$/m.exec(status)?.[1]
  return hex === undefined || ((BigInt(`0x${hex}`) >> BigInt(capability)) & 1n) === 1n
}
