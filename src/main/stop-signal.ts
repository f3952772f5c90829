/** Ctrl-C and its like. */
import { createInterface } from 'node:readline'

/** A signal this soon after the first is the same wish, told twice: npm passes on what the terminal has sent already. */
const SAME_WISH_MS = 1_500
const IMPATIENT_EXIT_CODE = 130
/** Everything that an orderly end waits for has a deadline of its own; but there may be many of them. */
export const END_LIMIT_MS = 120_000
const LATE_EXIT_CODE = 1

export interface StopSignal {
  /** Resolves at the first SIGINT, SIGTERM or SIGHUP. */
  readonly stopped: Promise<void>
  /** Whether that was: the end is limited. */
  readonly wasTold: () => boolean
}

export type Haste = 'impatient' | 'late'

/**
 * `onHaste`: called just before the process ends at once, because a second signal came, or the orderly end that the first
 * one asked for is not done after two minutes (Redis or the nodes are away).
 */
export function stopSignal(onHaste: (why: Haste) => void = () => undefined): StopSignal {
  let firstMs: number | undefined
  const stopped = new Promise<void>((resolve) => {
    const onSignal = (): void => {
      const nowMs = performance.now()
      if (firstMs === undefined) limitEnd(onHaste)
      firstMs ??= nowMs
      resolve()
      if (nowMs - firstMs <= SAME_WISH_MS) return
      onHaste('impatient')
      process.exit(IMPATIENT_EXIT_CODE)
    }
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, onSignal)
  })
  return { stopped, wasTold: () => firstMs !== undefined }
}

function limitEnd(onHaste: (why: Haste) => void): void {
  const end = (): void => {
    onHaste('late')
    process.exit(LATE_EXIT_CODE)
  }
  setTimeout(end, END_LIMIT_MS).unref()
}

export interface StarterInput {
  /** What this process is told and others must not see in its arguments or environment; '' for nothing. */
  readonly firstLine: Promise<string>
  /** Resolves when standard input ends: the process that started this one is gone, or wants it to stop. */
  readonly ended: Promise<void>
}

/** The standard input of a process that another one of ours has started. */
export function starterInput(): StarterInput {
  const lines = createInterface({ input: process.stdin })
  process.stdin.on('error', () => lines.close())
  const ended = new Promise<void>((resolve) => lines.once('close', resolve))
  const line = new Promise<string>((resolve) => lines.once('line', resolve))
  return { firstLine: Promise.race([line, ended.then(() => '')]), ended }
}
