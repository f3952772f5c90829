/** What a Redis that is none has in common with every other: no subscriptions, no replicas, no files, nothing to make ready or to close. */
import { RingfsError } from '../../src/base/errors.js'
import type { RedisStore, Subscription } from '../../src/cluster/contract.js'

export abstract class BareRedis implements Omit<RedisStore, 'isLone' | 'run' | 'call'> {
  subscribe(): Promise<Subscription> {
    return Promise.reject(new RingfsError('INTERNAL', 'this Redis has no subscriptions'))
  }

  waitReplicas(): Promise<number> {
    return Promise.resolve(0)
  }

  serverOf(): string {
    return ''
  }

  syncLocal(): Promise<boolean> {
    return Promise.resolve(false)
  }

  prepare(): Promise<void> {
    return Promise.resolve()
  }

  masters(): ReturnType<RedisStore['masters']> {
    return Promise.resolve([])
  }

  close(): Promise<void> {
    return Promise.resolve()
  }
}
