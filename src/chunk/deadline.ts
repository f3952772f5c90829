/** Waiting no longer than allowed, without leaving timers behind. */
import { Cancellation, type CancelSignal } from '../base/cancel.js'
import { systemClock, type Clock, type Timer } from '../base/clock.js'
import { RingfsError, messageOf } from '../base/errors.js'

type Timers = Pick<Clock, 'after'>

/**
 * Runs `work` with a signal that is aborted when the time is over or `outer` is aborted.
 * Errors: what the work throws; RingfsError DEADLINE, CANCELLED. The work may still be running then: it must be safe to
 * leave it behind.
 */
export function withDeadline<T>(
  deadlineMs: number,
  work: (signal: CancelSignal) => Promise<T>,
  what: string,
  outer?: CancelSignal,
  clock: Timers = systemClock,
): Promise<T> {
  return new Promise((resolve, reject) => {
    const cancellation = new Cancellation()
    const end = (): void => {
      timer.close()
      outer?.removeEventListener('abort', cancel)
    }
    const giveUp = (reason: RingfsError): void => {
      end()
      reject(reason)
      cancellation.cancel()
    }
    const cancel = (): void => giveUp(new RingfsError('CANCELLED', `${what}: cancelled`))
    const expire = (): void => giveUp(new RingfsError('DEADLINE', `${what}: no answer in ${Math.round(deadlineMs)} ms`))
    const timer = clock.after(Math.max(0, deadlineMs), expire)
    if (outer?.aborted === true) cancel()
    else outer?.addEventListener('abort', cancel, { once: true })
    begun(work, cancellation).then(
      (value) => {
        end()
        resolve(value)
      },
      (error: unknown) => {
        end()
        reject(error instanceof Error ? error : new Error(messageOf(error)))
      },
    )
  })
}

/** What it throws before it answers a promise is a failure like any other. */
async function begun<T>(work: (signal: CancelSignal) => Promise<T>, signal: CancelSignal): Promise<T> {
  return await work(signal)
}

/** As withDeadline, for work that answers something lent: what comes too late is given back. */
export async function lentWithDeadline<T extends { readonly release: () => void }>(
  deadlineMs: number,
  work: (signal: CancelSignal) => Promise<T>,
  what: string,
  outer?: CancelSignal,
  clock: Timers = systemClock,
): Promise<T> {
  let late: Promise<T> | undefined
  const begin = (signal: CancelSignal): Promise<T> => (late = work(signal))
  try {
    return await withDeadline(deadlineMs, begin, what, outer, clock)
  } catch (error) {
    late?.then(
      ({ release }) => release(),
      () => undefined,
    )
    throw error
  }
}

/** Resolves when `done` settles or the time is over, whatever comes first; never rejects. */
export async function settledWithin(done: Promise<unknown>, ms: number, clock: Timers = systemClock): Promise<void> {
  let timer: Timer | undefined
  const over = new Promise<void>((resolve) => {
    timer = clock.after(ms, resolve)
  })
  const quiet = done.then(
    () => undefined,
    () => undefined,
  )
  await Promise.race([quiet, over])
  timer?.close()
}

/** Opens once; waiting for it costs no timer. */
export class Gate {
  open: () => void = () => undefined
  readonly opened = new Promise<void>((resolve) => {
    this.open = resolve
  })
}
