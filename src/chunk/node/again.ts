/** What a disk does not take now, and may take later: it has no room, say. */
import type { Clock } from '../../base/clock.js'

const FIRST_MS = 2_000
const LAST_MS = 30_000

/** Until `attempt` answers true: at once, after 2 s, after 4 s more, and so on, at last every half minute. */
export async function againUntil(clock: Pick<Clock, 'sleep'>, attempt: () => Promise<boolean>): Promise<void> {
  for (let pauseMs = FIRST_MS; !(await attempt()); pauseMs = Math.min(2 * pauseMs, LAST_MS)) await clock.sleep(pauseMs)
}
