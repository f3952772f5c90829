/** Whether a thread is being killed: proc(5), /proc/PID/status, and signal(7). */
import { readFile } from 'node:fs/promises'

/** Signals whose default is to be ignored, or to stop: CHLD, CONT, STOP, TSTP, TTIN, TTOU, URG, WINCH. */
const HARMLESS = [17, 18, 19, 20, 21, 22, 23, 28].reduce((bits, signal) => bits | bitOf(signal), 0n)

function bitOf(signal: number): bigint {
  return 1n << BigInt(signal - 1)
}

/**
 * A thread waiting in the kernel that has a deadly signal ends as soon as it is let go. (A deadly signal of the process
 * shows as SIGKILL in each of its threads.) A thread that cannot be seen, in a foreign pid namespace or behind hidepid,
 * counts as dying: better an EINTR too many than a process that nobody can kill.
 */
export async function isDying(pid: number): Promise<boolean> {
  try {
    return hasDeadlySignal(await readFile(`/proc/${pid}/status`, 'latin1'))
  } catch {
    return true
  }
}

export function hasDeadlySignal(status: string): boolean {
  const bits = (field: string): bigint => {
    const hex = new RegExp(`^${field}:\\s*([0-9a-f]+)$`, 'm').exec(status)?.[1]
    return hex === undefined ? 0n : BigInt(`0x${hex}`)
  }
  const pending = bits('SigPnd') | bits('ShdPnd')
  return (pending & ~bits('SigBlk') & ~bits('SigIgn') & ~bits('SigCgt') & ~HARMLESS) !== 0n
}
