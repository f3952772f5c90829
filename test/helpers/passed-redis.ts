/** A RedisStore that passes all on to another one: for those that are different in a part of it. */
import type { RedisArg, RedisStore, RedisValue, RunOptions, Script } from '../../src/cluster/contract.js'

export class PassedRedis implements RedisStore {
  protected readonly inner: RedisStore

  constructor(inner: RedisStore) {
    this.inner = inner
  }

  run(script: Script, keys: readonly string[], args: readonly RedisArg[], options?: RunOptions): Promise<RedisValue> {
    return this.inner.run(script, keys, args, options)
  }

  call(command: string, key: string, ...args: readonly RedisArg[]): Promise<RedisValue> {
    return this.inner.call(command, key, ...args)
  }

  subscribe(...args: Parameters<RedisStore['subscribe']>): ReturnType<RedisStore['subscribe']> {
    return this.inner.subscribe(...args)
  }

  waitReplicas(keys: readonly string[], replicas: number, timeoutMs: number): Promise<number> {
    return this.inner.waitReplicas(keys, replicas, timeoutMs)
  }

  serverOf(key: string): string {
    return this.inner.serverOf(key)
  }

  get isLone(): boolean {
    return this.inner.isLone
  }

  syncLocal(): Promise<boolean> {
    return this.inner.syncLocal()
  }

  prepare(scripts: readonly Script[]): Promise<void> {
    return this.inner.prepare(scripts)
  }

  masters(): ReturnType<RedisStore['masters']> {
    return this.inner.masters()
  }

  close(): Promise<void> {
    return this.inner.close()
  }
}
