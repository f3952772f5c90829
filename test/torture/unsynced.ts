/**
 * What a file may hold after its mount was killed.
 *
 * Names and attributes are in the store when their call returns: they must be exactly as before. Bytes may still be on their
 * way. For each file, since the last call that promises them (fsync, fdatasync, close(2) of any descriptor of it, a write
 * under O_SYNC; and a truncation, which goes to the store behind everything written before it):
 *
 * - each byte is what it was then, or what any write since put there, or 0 where the file was shorter then;
 * - the size is none smaller and none larger than those it had since.
 *
 * So of bytes that were promised every one must be there, and nothing may appear that nobody wrote. The oracle goes on with
 * what was found.
 */
import type { PathLike } from 'node:fs'
import { copyFile, mkdtemp, open, rm, stat, type FileHandle } from 'node:fs/promises'
import { join } from 'node:path'
import { patternByte } from './pattern.js'

const PIECE_BYTES = 1024 * 1024

interface Patch {
  readonly offset: number
  readonly lengthBytes: number
  readonly seed: number
}

/** One file's states since it was last promised. */
export class Unsynced {
  /** Copies of the file: at the promise, and after calls whose bytes are not a pattern. */
  readonly #copies: string[] = []
  readonly #patches: Patch[] = []
  #sizeMin: number
  #sizeMax: number
  /** Any byte may be 0. */
  #zeros = false
  /** Through a mapping: a truncation does not take these along. */
  mapped = false
  /** A call was under way: its side effects on the mode may or may not be there. */
  uncertain = false

  private constructor(sizeBytes: number) {
    this.#sizeMin = sizeBytes
    this.#sizeMax = sizeBytes
  }

  static async of(oracleFile: string, folder: string): Promise<Unsynced> {
    const unsynced = new Unsynced((await stat(oracleFile)).size)
    await unsynced.copied(oracleFile, folder)
    return unsynced
  }

  async copied(oracleFile: string, folder: string): Promise<void> {
    const copy = join(await mkdtemp(join(folder, 'copy-')), 'copy')
    await copyFile(oracleFile, copy)
    this.#copies.push(copy)
  }

  wrote(patch: Patch): void {
    this.#patches.push(patch)
    this.#sizeMax = Math.max(this.#sizeMax, patch.offset + patch.lengthBytes)
  }

  /** Zeros came, and it may have grown. */
  zeroed(endBytes: number): void {
    this.#sizeMax = Math.max(this.#sizeMax, endBytes)
    this.#zeros = true
  }

  /** A truncation gave it this size. */
  cut(sizeBytes: number): void {
    this.#sizeMin = Math.min(this.#sizeMin, sizeBytes)
    this.zeroed(sizeBytes)
  }

  /** What is wrong with the file, or undefined. `now`: the oracle's, another of the states. */
  async complaint(file: PathLike, now: PathLike): Promise<string | undefined> {
    const { size } = await stat(file)
    if (size < this.#sizeMin || size > this.#sizeMax) {
      return `its size is ${size}, it was ${this.#sizeMin} to ${this.#sizeMax} since it was last promised`
    }
    const handles = await Promise.all([file, now, ...this.#copies].map((path) => open(path)))
    try {
      for (let at = 0; at < size; at += PIECE_BYTES) {
        const wrong = await this.#wrongIn(handles, at)
        if (wrong !== undefined) return wrong
      }
      return undefined
    } finally {
      await Promise.all(handles.map((handle) => handle.close()))
    }
  }

  async forget(): Promise<void> {
    await Promise.all(this.#copies.map((copy) => rm(join(copy, '..'), { recursive: true, force: true })))
  }

  async #wrongIn(handles: readonly FileHandle[], at: number): Promise<string | undefined> {
    const [found = Buffer.alloc(0), ...states] = await Promise.all(handles.map((handle) => pieceOf(handle, at)))
    if (states.some((state) => state.subarray(0, found.length).equals(found))) return undefined
    for (const [index, byte] of found.entries()) {
      if (states.some((state) => (state[index] ?? 0) === byte)) continue
      if (this.#mayBe(at + index, byte)) continue
      const were = states.map((state) => state[index] ?? 'beyond its end').join(', ')
      return `byte ${at + index} is ${byte}, which nobody wrote there since it was last promised; it was ${were}`
    }
    return undefined
  }

  #mayBe(offset: number, byte: number): boolean {
    if (byte === 0) return this.#zeros
    return this.#patches.some((patch) => {
      const index = offset - patch.offset
      return index >= 0 && index < patch.lengthBytes && patternByte(patch.seed, index) === byte
    })
  }
}

async function pieceOf(handle: FileHandle, at: number): Promise<Buffer> {
  const { bytesRead, buffer } = await handle.read(Buffer.alloc(PIECE_BYTES), 0, PIECE_BYTES, at)
  return buffer.subarray(0, bytesRead)
}
