/** Ctrl-C and its like. */

/** A signal this soon after the first is the same wish, told twice: npm passes on what the terminal has sent already. */
const SAME_WISH_MS = 1_500
const IMPATIENT_EXIT_CODE = 130

export interface StopSignal {
  /** Resolves at the first SIGINT, SIGTERM or SIGHUP. */
  readonly stopped: Promise<void>
}

/** `onImpatient`: called at a second Ctrl-C, just before the process ends at once. */
export function stopSignal(onImpatient: () => void = () => undefined): StopSignal {
  let firstMs: number | undefined
  const stopped = new Promise<void>((resolve) => {
    const onSignal = (): void => {
      const nowMs = performance.now()
      firstMs ??= nowMs
      resolve()
      if (nowMs - firstMs <= SAME_WISH_MS) return
      onImpatient()
      process.exit(IMPATIENT_EXIT_CODE)
    }
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, onSignal)
  })
  return { stopped }
}

/** Resolves when standard input ends: the process that started this one is gone, or wants it to stop. */
export function inputEnd(): Promise<void> {
  return new Promise((resolve) => {
    process.stdin.on('end', resolve)
    process.stdin.on('close', resolve)
    process.stdin.on('error', () => resolve())
    process.stdin.resume()
  })
}
