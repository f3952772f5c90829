/** A RedisStore that notes which scripts ran and what they answered, and in which a test holds up, repeats or loses some. */
import { RingfsError } from '../../src/base/errors.js'
import type { RedisStore, RedisValue } from '../../src/cluster/contract.js'
import { bound } from './bound-redis.js'

export interface Ran {
  readonly script: string
  /** The first two values of its reply. */
  readonly answer: readonly RedisValue[]
}

export class ScriptSpy {
  readonly ran: Ran[] = []
  /** Runs in place of each request of a script with this name; `send` sends it. */
  readonly instead = new Map<string, (send: () => Promise<RedisValue>) => Promise<RedisValue>>()

  wrap(store: RedisStore): RedisStore {
    const run: RedisStore['run'] = async (script, keys, args, options) => {
      const send = async (): Promise<RedisValue> => {
        const reply = await store.run(script, keys, args, options)
        this.ran.push({ script: script.name, answer: Array.isArray(reply) ? reply.slice(0, 2) : [reply] })
        return reply
      }
      return (this.instead.get(script.name) ?? ((all) => all()))(send)
    }
    return { ...bound(store), run }
  }

  /** Answers of this script since the last call. */
  take(script: string): (readonly RedisValue[])[] {
    const found = this.ran.filter((one) => one.script === script).map(({ answer }) => answer)
    this.ran.length = 0
    return found
  }

  /** The next request of this script fails as if Redis could not be reached; what it answers sends it all the same. */
  lose(script: string): () => Promise<unknown> {
    let late: (() => Promise<unknown>) | undefined
    this.instead.set(script, (send) => {
      late = send
      this.instead.delete(script)
      return Promise.reject(new RingfsError('REDIS_UNREACHABLE', 'lost by the test'))
    })
    return async () => late?.()
  }
}
