/**
 * How readily the scheduler gives a core to this process, or to one that it started: its nice value, -20 (most readily) to 19.
 *
 * On Linux that is a property of each thread, inherited by the threads and processes which it starts (setpriority(2)). And where
 * the kernel groups processes by session (autogroup: sched(7)), nice values only count within a session; between sessions it is
 * the nice value of the group that counts.
 *
 * Nothing here fails: whoever may not have a lower value goes on with the one he has. Elsewhere than on Linux nothing is done.
 */
import { readFileSync, readdirSync, writeFileSync } from 'node:fs'
import { getPriority, setPriority } from 'node:os'

/** Of a process whose requests programs wait for; see docs/decisions/2026-11-21-priority.md. */
const SERVING_NICE = -10
/** What a process has unless somebody wanted something else. */
const USUAL_NICE = 0
const THIS_THREAD = 0

export interface Scheduling {
  /** Programs wait for nothing else of it than it does for them: its session as a whole, too, if it leads one. */
  readonly group: boolean
}

/**
 * Gives this process the nice value `wanted`; undefined: SERVING_NICE, unless it was started with another than the usual one: then
 * whoever started it has chosen. Answers what its other processes are to be given: undefined for nothing.
 */
export function serveReadily(wanted: number | undefined, how: Scheduling): number | undefined {
  if (wanted === undefined && niceOf(THIS_THREAD) !== USUAL_NICE) return undefined
  const nice = wanted ?? SERVING_NICE
  setNice(process.pid, nice, how)
  return nice
}

/** All threads that the process has; later ones inherit it. */
export function setNice(pid: number, nice: number, { group }: Scheduling): void {
  if (process.platform !== 'linux') return
  for (const thread of threadsOf(pid)) trySet(thread, nice)
  if (group && leadsSession(pid)) quietly(() => writeFileSync(`/proc/${pid}/autogroup`, String(nice)))
}

/** The children of a process's first thread are given the usual value: what it forks is work of its own. */
export function calmChildren(pid: number): void {
  const children = quietly(() => readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8')) ?? ''
  for (const child of children.split(' ').filter((word) => word !== '')) {
    if (niceOf(Number(child)) < USUAL_NICE) setNice(Number(child), USUAL_NICE, { group: false })
  }
}

/** Runs something on this thread that need not be done before the work of others, or starts a program that is not to inherit more. */
export function atUsualPriority<T>(work: () => T): T {
  const nice = niceOf(THIS_THREAD)
  if (nice >= USUAL_NICE || !trySet(THIS_THREAD, USUAL_NICE)) return work()
  try {
    return work()
  } finally {
    trySet(THIS_THREAD, nice)
  }
}

function niceOf(thread: number): number {
  if (process.platform !== 'linux') return USUAL_NICE
  return quietly(() => getPriority(thread)) ?? USUAL_NICE
}

/** setpriority(2) with PRIO_PROCESS means a thread, on Linux; 0 the calling one. EACCES and EPERM: no right; ESRCH: it has ended. */
function trySet(thread: number, nice: number): boolean {
  return (
    quietly(() => {
      setPriority(thread, nice)
      return true
    }) ?? false
  )
}

function threadsOf(pid: number): readonly number[] {
  return (quietly(() => readdirSync(`/proc/${pid}/task`)) ?? []).map(Number)
}

/** proc_pid_stat(5): behind the name, which may hold anything, come state, parent, process group, session. */
function leadsSession(pid: number): boolean {
  const stat = quietly(() => readFileSync(`/proc/${pid}/stat`, 'utf8')) ?? ''
  const [, , , session] = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  return Number(session) === pid
}

function quietly<T>(attempt: () => T): T | undefined {
  try {
    return attempt()
  } catch {
    return undefined
  }
}
