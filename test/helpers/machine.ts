/** A machine with ringfs installed as a part of the system, and a volume on it. */
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Test } from 'tap'
import type { RunFile } from '../../src/main/runfiles.js'
import { Ringfs, kill } from './ringfs.js'
import { System } from './system.js'

export interface Machine {
  readonly ringfs: Ringfs
  readonly system: System
  /** Of the `up`. */
  readonly data: string
  /** Where it is mounted. */
  readonly a: string
  /** Another folder for a mount. */
  readonly b: string
}

/** `ringfs up` runs on it. `options`: of that. */
export async function newMachine(t: Test, ...options: readonly string[]): Promise<Machine> {
  const ringfs = await Ringfs.in(t)
  const system = await System.of(t, ringfs)
  await system.okRingfs('install-mount-helper')
  const [a, b] = [await system.folder('a'), await system.folder('b')]
  const data = join(ringfs.folder, 'data')
  await system.okRingfs('up', a, '--data', data, '--detach', ...options)
  return { ringfs, system, data, a, b }
}

/** Its volume as a META_URL without the password, which is in a file. */
export async function source(ringfs: Ringfs): Promise<{ url: string; passwordFile: string; password: string }> {
  const metaUrl = ringfs.runFile()?.metaUrl ?? ''
  const password = /:([^:@/]+)@/.exec(metaUrl)?.[1] ?? ''
  const passwordFile = join(ringfs.folder, 'password')
  await writeFile(passwordFile, `${password}\n`, { mode: 0o600 })
  return { url: metaUrl.replace(`:${password}@`, ''), passwordFile, password }
}

export function runFileOf(ringfs: Ringfs, mountpoint: string): RunFile {
  const found = ringfs.runFiles().find((run) => run.mountpoint === mountpoint)
  if (found === undefined) throw new Error(`no run file of ${mountpoint}`)
  return found
}

/** Its Redis answers nothing until SIGCONT. Answers its pid. */
export function stopRedis(t: Test, ringfs: Ringfs): number {
  const redis = ringfs.processes().find((pid) => ringfs.nameOf(pid) === 'redis-server')
  if (redis === undefined) throw new Error('no Redis')
  kill(redis, 'SIGSTOP')
  t.teardown(() => kill(redis, 'SIGCONT'))
  return redis
}
