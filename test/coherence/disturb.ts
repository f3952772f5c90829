/** What goes wrong meanwhile: a mount's process that is stopped, subscriptions that are cut, a Redis that is killed and comes back. */
import type { TwoMounts } from './two-mounts.js'
import type { Random } from './rounds.js'

const PAUSE_MAX_MS = 1_500
/** Longer than a delegation lasts, now and then. */
const STOPPED_MAX_MS = 4_500
const DOWN_MS = 300

/** Until `isOver`. Leaves everything as it was. Answers how often what was done. */
export async function disturb({ redis, a, b }: TwoMounts, random: Random, isOver: () => boolean): Promise<object> {
  const done = { stopped: 0, cut: 0, killed: 0 }
  while (!isOver()) {
    await sleep(random() * PAUSE_MAX_MS)
    if (isOver()) break
    const what = random()
    if (what < 0.5) {
      done.stopped++
      const mount = random() < 0.7 ? b : a
      mount.signal('SIGSTOP')
      await sleep(random() ** 2 * STOPPED_MAX_MS)
      mount.signal('SIGCONT')
    } else if (what < 0.9) {
      done.cut++
      // It may have no connection left for us on a busy machine.
      await redis.command(0, 'CLIENT', 'KILL', 'TYPE', 'pubsub').catch(() => undefined)
    } else {
      done.killed++
      await redis.kill(0)
      await sleep(DOWN_MS)
      await redis.restart(0)
    }
  }
  return done
}

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms))
}
