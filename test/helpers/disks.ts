/** Nodes with several disks, and disks that really fail. */
import { execFileSync } from 'node:child_process'
import { mkdirSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { systemClock } from '../../src/base/clock.js'
import { silentLog } from '../../src/base/log.js'
import { NodeDisks, type NodeDisksOptions } from '../../src/chunk/node/disks.js'
import { openNodeFolders } from '../../src/chunk/node/node-folders.js'
import type { WorkerPool } from '../../src/chunk/pool.js'
import { SharedBuffers } from '../../src/chunk/shared-buffer.js'
import { VOLUME, temporaryFolder, type Teardown } from './chunks.js'

/** Mounting needs it. */
export const isRoot = process.platform === 'linux' && process.getuid?.() === 0

export async function openDisks(
  t: Teardown,
  pool: WorkerPool,
  folders: readonly string[],
  options: Partial<NodeDisksOptions> = {},
): Promise<NodeDisks> {
  const opened = await openNodeFolders(folders, VOLUME)
  t.teardown(() => opened.close())
  const { disks, missing } = opened
  const parts = { volume: VOLUME, pool, buffers: new SharedBuffers(), clock: systemClock, log: silentLog }
  return await NodeDisks.open({ ...parts, disks, missing, ...options })
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

/**
 * An ext4 on a loop device whose bytes lie in a file on a tmpfs. It dies when the file loses its bytes and the tmpfs has no room for
 * others: then every read and write that reaches the device is EIO.
 */
export class DyingDisk {
  readonly folder: string
  readonly #outer: string
  readonly #image: string

  constructor(t: Teardown, lengthBytes: number) {
    this.#outer = tmpfs(t, 2 * lengthBytes)
    this.#image = join(this.#outer, 'image')
    this.folder = join(temporaryFolder(t), 'mnt')
    mkdirSync(this.folder)
    writeFileSync(this.#image, '')
    truncateSync(this.#image, lengthBytes)
    execFileSync('mkfs.ext4', ['-q', '-E', 'lazy_itable_init=0,lazy_journal_init=0', this.#image])
    execFileSync('mount', ['-o', 'loop,errors=remount-ro', this.#image, this.folder])
    t.teardown(() => unmount(this.folder))
  }

  die(): void {
    truncateSync(this.#image, 0)
    const filler = join(this.#outer, 'filler')
    try {
      writeFileSync(filler, Buffer.alloc(1 << 20))
      for (;;) writeFileSync(filler, Buffer.alloc(1 << 20), { flag: 'a' })
    } catch {
      // Full.
    }
  }

  /** Room again: what is left of it is not what it was. */
  clear(): void {
    rmSync(join(this.#outer, 'filler'), { force: true })
  }
}
