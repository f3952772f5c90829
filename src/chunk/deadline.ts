/** Waiting no longer than allowed, without leaving timers behind. */
import { RingfsError } from '../base/errors.js'

/**
 * Runs `work` with a signal that is aborted when the time is over, when `outer` is aborted, or when the work has ended.
 * Errors: what the work throws; RingfsError DEADLINE, CANCELLED. The work may still be running then: it must be safe to
 * leave it behind.
 */
export async function withDeadline<T>(
  deadlineMs: number,
  work: (signal: AbortSignal) => Promise<T>,
  what: string,
  outer?: AbortSignal,
): Promise<T> {
  const controller = new AbortController()
  let stop: (reason: RingfsError) => void = () => undefined
  const stopped = new Promise<never>((_, reject) => {
    stop = (reason) => {
      reject(reason)
      controller.abort(reason)
    }
  })
  stopped.catch(() => undefined)
  const cancel = (): void => stop(new RingfsError('CANCELLED', `${what}: cancelled`))
  const expire = (): void => stop(new RingfsError('DEADLINE', `${what}: no answer in ${Math.round(deadlineMs)} ms`))
  const timer = setTimeout(expire, Math.max(0, deadlineMs))
  if (outer?.aborted === true) cancel()
  outer?.addEventListener('abort', cancel, { once: true })
  try {
    return await Promise.race([work(controller.signal), stopped])
  } finally {
    clearTimeout(timer)
    outer?.removeEventListener('abort', cancel)
    controller.abort(new RingfsError('CANCELLED', `${what}: ended`))
  }
}

/** As withDeadline, for work that answers something lent: what comes too late is given back. */
export async function lentWithDeadline<T extends { readonly release: () => void }>(
  deadlineMs: number,
  work: (signal: AbortSignal) => Promise<T>,
  what: string,
  outer?: AbortSignal,
): Promise<T> {
  let late: Promise<T> | undefined
  const begin = (signal: AbortSignal): Promise<T> => (late = work(signal))
  try {
    return await withDeadline(deadlineMs, begin, what, outer)
  } catch (error) {
    late?.then(
      ({ release }) => release(),
      () => undefined,
    )
    throw error
  }
}

/** Resolves when `done` settles or the time is over, whatever comes first; never rejects. */
export async function settledWithin(done: Promise<unknown>, ms: number): Promise<void> {
  let timer: NodeJS.Timeout | undefined
  const over = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, ms)
  })
  const quiet = done.then(
    () => undefined,
    () => undefined,
  )
  await Promise.race([quiet, over])
  clearTimeout(timer)
}

/** Opens once; waiting for it costs no timer. */
export class Gate {
  open: () => void = () => undefined
  readonly opened = new Promise<void>((resolve) => {
    this.open = resolve
  })
}
