/** What one process does at a time, it does with a lease: a key with a random value that runs out. */
import { randomUUID } from 'node:crypto'
import { systemClock } from '../base/clock.js'
import { momentOf, passedMs } from '../base/time-passed.js'
import { RingfsError } from '../base/errors.js'
import type { RedisStore } from '../cluster/contract.js'
import { SCRIPTS } from './scripts.js'

const LEASE_MS = 30_000
/** Then it runs out by itself. */
const DROP_MS = 5_000

/** undefined: another one has it. `check` throws ALREADY_RUNNING when it was lost meanwhile: to be asked before anything is changed. */
export async function withLease<T>(
  store: RedisStore,
  key: string,
  work: (check: () => void) => Promise<T>,
): Promise<T | undefined> {
  const token = randomUUID()
  let leased = momentOf(systemClock)
  if ((await store.run(SCRIPTS.leaseBegin, [key], [token, LEASE_MS])) !== 1) return undefined
  const renew = async (): Promise<void> => {
    const asked = momentOf(systemClock)
    if ((await store.run(SCRIPTS.leaseRenew, [key], [token, LEASE_MS])) === 1) leased = asked
  }
  const timer = setInterval(() => void renew().catch(() => undefined), LEASE_MS / 4)
  timer.unref()
  try {
    return await work(() => {
      if (passedMs(systemClock, leased) < LEASE_MS) return
      throw new RingfsError(
        'ALREADY_RUNNING',
        'Redis did not answer for so long that another one may be at it: try again',
      )
    })
  } finally {
    clearInterval(timer)
    // What was done is done, and what failed says why, also if Redis does not answer any more.
    await store.run(SCRIPTS.leaseDrop, [key], [token], { deadlineMs: DROP_MS }).catch(() => undefined)
  }
}
