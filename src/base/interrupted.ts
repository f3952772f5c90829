/** Waiting that its caller may end. */
import type { CancelSignal } from './cancel.js'
import { PosixError } from './errno.js'

/** As `work`, or EINTR as soon as `signal` is aborted: then the work goes on for nobody. */
export function orInterrupted<T>(work: Promise<T>, signal: CancelSignal | undefined): Promise<T> {
  if (signal === undefined) return work
  return new Promise<T>((resolve, reject) => {
    const onAbort = (): void => reject(new PosixError('EINTR'))
    signal.addEventListener('abort', onAbort)
    // What it came to is told below, once.
    void work.then(resolve, reject).finally(() => signal.removeEventListener('abort', onAbort))
    if (signal.aborted) onAbort()
  })
}
