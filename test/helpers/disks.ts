/** Nodes with several disks, and disks that really fail. */
import { execFileSync, spawnSync } from 'node:child_process'
import { mkdirSync, statfsSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { systemClock } from '../../src/base/clock.js'
import { silentLog } from '../../src/base/log.js'
import { NodeDisks, type NodeDisksOptions } from '../../src/chunk/node/disks.js'
import { openNodeFolders } from '../../src/chunk/node/node-folders.js'
import type { WorkerPool } from '../../src/chunk/pool.js'
import { SharedBuffers } from '../../src/chunk/shared-buffer.js'
import { VOLUME, temporaryFolder, type Teardown } from './chunks.js'

const SPARE_BYTES = 64 * 1024

/** Mounting needs it. */
export const isRoot = process.platform === 'linux' && process.getuid?.() === 0

export async function openDisks(
  t: Teardown,
  pool: WorkerPool,
  folders: readonly string[],
  { forget = [], ...options }: Partial<NodeDisksOptions> & { readonly forget?: readonly string[] } = {},
): Promise<NodeDisks> {
  const opened = await openNodeFolders(folders, VOLUME, { forget })
  t.teardown(() => opened.close())
  const { disks, missing, dropped } = opened
  const forgotten = dropped.map(({ disk }) => disk)
  const parts = { volume: VOLUME, pool, buffers: new SharedBuffers(), clock: systemClock, log: silentLog }
  const node = await NodeDisks.open({ ...parts, disks, missing, forgotten, ...options })
  t.teardown(() => node.close())
  return node
}

/** Paths of folders that are not there yet. */
export function newFolders(t: Teardown, count: number): readonly string[] {
  const root = temporaryFolder(t)
  return Array.from({ length: count }, (_, index) => join(root, `disk-${index}`))
}

/** A file system in memory of that length, mounted on a folder. */
export function tmpfs(t: Teardown, lengthBytes: number, folder = temporaryFolder(t)): string {
  execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${lengthBytes}`, 'ringfs-test', folder])
  t.teardown(() => unmount(folder))
  return folder
}

/** Also while it is in use: who has files open keeps them. */
export function unmount(folder: string): void {
  try {
    execFileSync('umount', ['-l', folder], { stdio: 'ignore' })
  } catch {
    // It was not mounted any more.
  }
}

/** A tmpfs that can be made full and have room again. */
export class SmallDisk {
  readonly folder: string
  readonly #lengthBytes: number

  constructor(t: Teardown, lengthBytes: number) {
    this.folder = tmpfs(t, lengthBytes)
    this.#lengthBytes = lengthBytes
  }

  /** It is as long as what is on it; whoever is writing just now may make that a little more. */
  fill(): void {
    for (let spareBytes = 0; ; spareBytes += SPARE_BYTES) {
      const { bsize, blocks, bfree } = statfsSync(this.folder)
      try {
        return this.#resize(Math.max(bsize, (blocks - bfree) * bsize) + spareBytes)
      } catch (error) {
        if (spareBytes > 100 * SPARE_BYTES) throw error
      }
    }
  }

  clear(): void {
    this.#resize(this.#lengthBytes)
  }

  #resize(lengthBytes: number): void {
    execFileSync('mount', ['-o', `remount,size=${lengthBytes}`, this.folder], { stdio: 'ignore' })
  }
}

export interface MortalDisk {
  readonly folder: string
  die(): void
}

/** A disk on which every write waits while it is frozen (fsfreeze(8)); null where there are no loop devices. */
export function freezableDisk(
  t: Teardown,
  lengthBytes: number,
): { readonly folder: string; freeze(): void; thaw(): void } | null {
  try {
    const folder = loopDisk(t, join(tmpfs(t, 2 * lengthBytes), 'image'), lengthBytes)
    const thaw = (): void => {
      spawnSync('fsfreeze', ['-u', folder], { stdio: 'ignore' })
    }
    t.teardown(thaw)
    return { folder, thaw, freeze: () => void execFileSync('fsfreeze', ['-f', folder]) }
  } catch {
    return null
  }
}

/** An ext4 in that file, mounted. */
function loopDisk(t: Teardown, image: string, lengthBytes: number): string {
  const folder = join(temporaryFolder(t), 'mnt')
  mkdirSync(folder)
  writeFileSync(image, '')
  truncateSync(image, lengthBytes)
  execFileSync('mkfs.ext4', ['-q', '-E', 'lazy_itable_init=0,lazy_journal_init=0', image])
  execFileSync('mount', ['-o', 'loop,errors=remount-ro', image, folder], { stdio: 'ignore' })
  t.teardown(() => unmount(folder))
  return folder
}

/** A disk of which every read and write fails when it has died; where there are no loop devices, it vanishes instead. */
export function dyingDisk(t: Teardown, lengthBytes: number): MortalDisk {
  try {
    return new DyingDisk(t, lengthBytes)
  } catch {
    const folder = tmpfs(t, lengthBytes)
    return { folder, die: () => unmount(folder) }
  }
}

/**
 * An ext4 on a loop device whose bytes lie in a file on a tmpfs. It dies when the file loses its bytes and the tmpfs has no room for
 * others: then every read and write that reaches the device is EIO.
 */
class DyingDisk implements MortalDisk {
  readonly folder: string
  readonly #outer: string
  readonly #image: string

  constructor(t: Teardown, lengthBytes: number) {
    this.#outer = tmpfs(t, 2 * lengthBytes)
    this.#image = join(this.#outer, 'image')
    this.folder = loopDisk(t, this.#image, lengthBytes)
  }

  die(): void {
    truncateSync(this.#image, 0)
    for (let tries = 0; ; tries++) {
      try {
        execFileSync('mount', ['-o', 'remount,size=4096', this.#outer], { stdio: 'ignore' })
        return
      } catch (error) {
        // What the loop device was just writing has taken a page again.
        if (tries > 100) throw error
        truncateSync(this.#image, 0)
      }
    }
  }
}
