/** Two mounts of one volume in processes of their own, on a Redis of their own, with the chunks in a folder. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Test } from 'tap'
import { mountTest, type MountProcess, type TestMount } from '../helpers/mount.js'
import { startRedis, type TestRedis } from '../helpers/redis.js'

export interface TwoMounts {
  readonly redis: TestRedis
  readonly a: MountProcess
  readonly b: MountProcess
}

/** `ofB`: what is different for the second. */
export async function twoMounts(
  t: Pick<Test, 'teardown'>,
  options: Pick<TestMount, 'sessionTtlMs' | 'listenMs' | 'eager'> = {},
  ofB: Pick<TestMount, 'delayMs'> = {},
): Promise<TwoMounts> {
  const redis = await startRedis(t)
  const chunksFolder = await mkdtemp(join(tmpdir(), 'ringfs-coherence-'))
  t.teardown(() => rm(chunksFolder, { recursive: true, force: true, maxRetries: 50, retryDelay: 100 }))
  const each = { driver: 'kernel', backend: redis.urlText('two'), chunksFolder, ...options } as const
  const a = await mountTest(t, each)
  const b = await mountTest(t, { ...each, ...ofB })
  return { redis, a, b }
}
