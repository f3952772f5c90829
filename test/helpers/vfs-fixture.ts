/** One volume in memory with as many VFSes on it as asked for, and small words for tests of them. */
import type { Test } from 'tap'
import { setImmediate as turn } from 'node:timers/promises'
import { ROOT_INO } from '../../src/base/limits.js'
import { createVfs, type Housekeeping, type VfsLimits, type VfsOptions } from '../../src/vfs/vfs.js'
import type { VfsContract } from '../../src/vfs/contract.js'
import { MemoryChunks } from './memory-chunks.js'
import { MemoryVolume, type MemoryMeta } from './memory-meta.js'
import type { MemoryVolumeOptions } from './memory-state.js'
import type { Clock } from '../../src/base/clock.js'
import { FastClock } from './vfs-clock.js'

export const CALLER = { uid: 0, gid: 0, pid: 1 }
export const O_RDWR = 2
export const O_CREAT = 0o100
export const O_APPEND = 0o2000

export interface Mounted {
  readonly vfs: VfsContract & Housekeeping
  readonly meta: MemoryMeta
}

export interface Fixture extends Mounted {
  readonly volume: MemoryVolume
  readonly chunks: MemoryChunks
  /** Another client of the volume. */
  readonly another: (options?: MountedOptions) => Mounted
}

/** How a VFS is mounted. */
export type MountedOptions = Pick<
  VfsOptions,
  'readOnly' | 'limits' | 'mayTidyUp' | 'durableChanges' | 'atime' | 'nodiratime' | 'log' | 'random'
>

export interface FixtureOptions extends MemoryVolumeOptions {
  readonly limits?: Partial<VfsLimits>
  /** Of the clients; `clock` is that of the store. */
  readonly vfsClock?: Clock
}

export function fixture(t: Pick<Test, 'teardown'>, options: FixtureOptions = {}): Fixture {
  const volume = new MemoryVolume(options)
  const chunks = new MemoryChunks()
  const another = (mounted: MountedOptions = {}): Mounted => {
    const meta = volume.open()
    const clock = options.vfsClock ?? new FastClock()
    const vfs = createVfs({ meta, chunks, clock, limits: options.limits ?? {}, ...mounted })
    t.teardown(async () => {
      chunks.before = () => undefined
      meta.before = () => undefined
      await vfs.shutdown().catch(() => undefined)
    })
    return { vfs, meta }
  }
  return { volume, chunks, another, ...another() }
}

export async function make(vfs: VfsContract, name: string, flags = O_RDWR): Promise<{ ino: number; handle: number }> {
  const { attr, handle } = await vfs.create(CALLER, ROOT_INO, Buffer.from(name), 0o644, flags | O_CREAT)
  return { ino: attr.ino, handle }
}

/** The errno of a call that fails, 'ok' of one that does not. */
export async function codeOf(call: Promise<unknown>): Promise<string> {
  try {
    await call
    return 'ok'
  } catch (error) {
    return error instanceof Error && 'code' in error ? String(error.code) : String(error)
  }
}

/** A gate that calls can be held at. */
export class Gate {
  #open = (): void => undefined
  readonly passed: Promise<void> = new Promise((resolve) => (this.#open = resolve))

  open(): void {
    this.#open()
  }
}

/** Lets everything that is ready run. */
export async function settle(): Promise<void> {
  for (let i = 0; i < 50; i++) await turn()
}
