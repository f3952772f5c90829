/**
 * Who a process is, so that another one on the same machine can say for certain that it has ended.
 *
 * A pid says little alone: it is used again, and it means another process in another pid namespace. So a process is named by
 * the boot of the machine (a random number that the kernel takes at each boot), the pid namespace in which the pid counts, the
 * pid, and when it began. The time at which a process began is shown shifted in another time namespace (time_namespaces(7)),
 * so that one belongs to it, too. Whoever reads any of these differently is a stranger, of whom nothing is certain.
 */
import { codeOf } from './errors.js'
import { readFileSync, readlinkSync } from 'node:fs'

export interface ProcessId {
  /** /proc/sys/kernel/random/boot_id: proc_sys_kernel(5). */
  readonly boot: string
  /** As `pid:[4026531836]`: namespaces(7). */
  readonly pidns: string
  /** As `time:[4026531834]`; empty on kernels that know none. */
  readonly timens: string
  readonly pid: number
  /** Clock ticks from the boot to the beginning of the process. */
  readonly start: string
}

/** What a test can bend. */
export interface Processes {
  /** This process; null where it cannot be said for certain. */
  self(): ProcessId | null
  /**
   * True only if it is certain: no code of that process runs any more. One that is stopped, or of which nothing is
   * certain (another machine, another namespace, nothing to be read), has not ended.
   */
  hasEnded(other: ProcessId): boolean
}

/** PID_MAX_LIMIT of the kernel (linux/threads.h). */
export const PID_MAX = 4_194_304

let known: ProcessId | null = null

export const systemProcesses: Processes = { self, hasEnded }

/** Neither its pid nor its namespaces change while it runs. */
function self(): ProcessId | null {
  known ??= identify()
  return known
}

function identify(): ProcessId | null {
  try {
    // /proc of another pid namespace shows us under another number, or not at all: it tells of other processes than kill(2).
    if (readlinkSync('/proc/self') !== String(process.pid)) return null
    const start = startOf(process.pid)
    const boot = readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim()
    if (start === null || boot === '') return null
    return { boot, pidns: readlinkSync('/proc/self/ns/pid'), timens: timeNamespace(), pid: process.pid, start }
  } catch {
    return null
  }
}

/** Since Linux 5.6. */
function timeNamespace(): string {
  try {
    return readlinkSync('/proc/self/ns/time')
  } catch {
    return ''
  }
}

export function areNeighbours(a: ProcessId, b: ProcessId): boolean {
  return a.boot === b.boot && a.pidns === b.pidns && a.timens === b.timens
}

function hasEnded(other: ProcessId): boolean {
  const own = self()
  if (own === null || !areNeighbours(own, other)) return false
  if (!isThere(other.pid)) return true
  const state = readState(other.pid)
  // Unreadable (hidepid of proc(5)), or it ended just now: not certain.
  return state !== undefined && (state.isZombie || state.start !== other.start)
}

/** Whether a process has this pid, which may be a zombie or another process than the one that was meant. */
export function isThere(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    // EPERM: it is there and belongs to someone else. Anything but "no such process" says nothing.
    return codeOf(error) !== 'ESRCH'
  }
}

/**
 * When a process began; null for one that has ended and whose parent has not taken notice yet (a zombie): it can be sent
 * signals and does nothing.
 */
export function startOf(pid: number): string | null {
  const state = readState(pid)
  return state === undefined || state.isZombie ? null : state.start
}

/**
 * Fields 3, 20 and 22 of proc_pid_stat(5); the second field may hold blanks and parentheses. The state is that of the first
 * thread alone: while others go on, or still end, the process has its files open.
 */
function readState(pid: number): { isZombie: boolean; start: string } | undefined {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, 'utf8')
    const fields = text.slice(text.lastIndexOf(')') + 2).split(' ')
    const [state] = fields
    const threads = Number(fields[17])
    const start = fields[19]
    return start === undefined ? undefined : { isZombie: (state === 'Z' || state === 'X') && threads <= 1, start }
  } catch {
    return undefined
  }
}
