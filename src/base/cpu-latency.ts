/**
 * How soon an idle processor is to be at work again, as the kernel lets a program ask for it: /dev/cpu_dma_latency
 * (Documentation/power/pm_qos_interface.rst). What is asked for holds for all processors, as long as the file is open: it ends with
 * the process, however that ends.
 */
import { closeSync, constants, openSync, readFileSync, writeSync } from 'node:fs'
import { cpus } from 'node:os'

const DEVICE = '/dev/cpu_dma_latency'
const IDLE_DRIVER = '/sys/devices/system/cpu/cpuidle/current_driver'
/** Microseconds: at once, by waiting in a loop; and whatever the kernel thinks best (PM_QOS_CPU_LATENCY_DEFAULT_VALUE). */
const AT_ONCE_US = 0
const ANY_US = 2_000_000_000

export interface CpuLatency {
  /** Idle processors wait in a loop, which ends at once when there is work. */
  hold(): void
  release(): void
  close(): void
}

/** null: without the right to (0600, root's), on another system, or in a container that has no such device. */
export function openCpuLatency(device = DEVICE): CpuLatency | null {
  let fd: number
  try {
    // Never made: a file of that name would grow with each call.
    fd = openSync(device, constants.O_WRONLY)
  } catch {
    return null
  }
  const ask = (us: number): void => {
    try {
      writeSync(fd, new Uint8Array(Int32Array.of(us).buffer))
    } catch {
      // Then it is as quick as it was.
    }
  }
  return { hold: () => ask(AT_ONCE_US), release: () => ask(ANY_US), close: () => closeSync(fd) }
}

/**
 * Whether a processor that has gone to sleep takes long to come back, and few would be kept from it: a small virtual machine (KVM, with the
 * idle driver of its guests), where that takes an exit to the host. On other machines sleep is light, or saves power that somebody pays.
 */
export function isSlowToWake(cpusMax: number, idleDriver = IDLE_DRIVER): boolean {
  // All of the machine, also those that this process may not use.
  if (cpus().length > cpusMax) return false
  try {
    return readFileSync(idleDriver, 'utf8').trim() === 'haltpoll'
  } catch {
    return false
  }
}
