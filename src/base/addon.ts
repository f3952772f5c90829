/**
 * The native part, native/: built by scripts/setup/native.mjs, or a prebuilt one in native/prebuilds/. Here is what any process and thread may
 * use of it; the rest is the kernel driver's (src/fuse/kernel/addon.ts).
 */
import { fileURLToPath } from 'node:url'
import loadFrom from 'node-gyp-build'
import { PACKAGE_FOLDER } from './places.js'

const FOLDER = fileURLToPath(new URL('native', PACKAGE_FOLDER))

/** Errors: whatever keeps it from being loaded. */
export function loadNative(folder: string = FOLDER): unknown {
  return loadFrom(folder)
}

/** Several files brought to disk at once: native/durable.c. */
export interface DurableAddon {
  /**
   * Writes into files, on disk when it returns: write `i` is the parts `3 i` to `3 i + 2`, one behind the other, into `fds[i]` at
   * `positions[i]`. At most 64; those of one file are neighbours. `results[i]` is 0 or a positive errno.
   */
  writeDurably(fds: Int32Array, positions: Float64Array, parts: readonly Buffer[], results: Int32Array): void
  /**
   * syncfs(2), and fsync(2) of the descriptor `folder` with a new time: all that is in its file system is on disk if it answers 0, but for files with an errno
   * in `results`.
   * Else it answers a positive errno, and nothing is known.
   */
  flushTogether(fds: Int32Array, folder: number, results: Int32Array): number
}

/** SHA-256 of many leaves: native/leaves.c. */
export interface HashAddon {
  /**
   * SHA-256 of each `leafBytes` of `data`, the last of which may be fewer, 32 bytes each, at the start of `out`. false: this processor is not
   * quicker at several than at one, and nothing was done.
   */
  hashLeaves(data: Uint8Array, leafBytes: number, out: Uint8Array): boolean
}

/** The pages that memory lies in: native/memory.c. */
export interface MemoryAddon {
  /** The machine has the whole pages in it back: they are zeros, and there again when they are next used. */
  releasePages(memory: Buffer): void
  /** The machine has the whole pages back that malloc keeps free. Takes some milliseconds. */
  trimHeap(): void
}

let loaded: { readonly addon: unknown } | undefined

function addonHere(): unknown {
  loaded ??= { addon: loadQuietly() }
  return loaded.addon
}

function loadQuietly(): unknown {
  try {
    return loadNative()
  } catch {
    // Mounting says so where it matters.
    return null
  }
}

/** null: there is none. */
export function durableAddon(): DurableAddon | null {
  const addon = addonHere()
  return isDurable(addon) ? addon : null
}

/** null: there is none. */
export function memoryAddon(): MemoryAddon | null {
  const addon = addonHere()
  return isMemory(addon) ? addon : null
}

/** null: there is none. */
export function hashAddon(): HashAddon | null {
  const addon = addonHere()
  return isHash(addon) ? addon : null
}

function isHash(value: unknown): value is HashAddon {
  return hasAll(value, ['hashLeaves'])
}

function isDurable(value: unknown): value is DurableAddon {
  return hasAll(value, ['writeDurably', 'flushTogether'])
}

function isMemory(value: unknown): value is MemoryAddon {
  return hasAll(value, ['releasePages', 'trimHeap'])
}

/** One that was built from older sources has fewer. */
export function hasAll(value: unknown, names: readonly string[]): boolean {
  return typeof value === 'object' && value !== null && names.every((name) => name in value)
}
