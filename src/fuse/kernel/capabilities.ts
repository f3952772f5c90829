/** What a thread may do beyond its user's rights: capabilities(7), /proc/PID/status. The protocol does not tell. */
import { readFile } from 'node:fs/promises'

/** linux/capability.h */
export const CAP_CHOWN = 0
export const CAP_FOWNER = 3

/** One that cannot be seen, in a foreign pid namespace or behind hidepid, counts as having it: the kernel has judged before us. */
export async function hasCapability(pid: number, capability: number): Promise<boolean> {
  try {
    return isCapable(await readFile(`/proc/${pid}/status`, 'latin1'), capability)
  } catch {
    return true
  }
}

export function isCapable(status: string, capability: number): boolean {
  const hex = /^CapEff:\s*([0-9a-f]+)$/m.exec(status)?.[1]
  return hex === undefined || ((BigInt(`0x${hex}`) >> BigInt(capability)) & 1n) === 1n
}
