/** Wall clocks of processes that are wrong, and may be set while they run: c/clock-shift.c. */
import { open, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { compiled } from './compiled.js'

export class ShiftedClock {
  readonly #file: string
  readonly #library: string

  private constructor(file: string, library: string) {
    this.#file = file
    this.#library = library
  }

  /** What a clock in the folder is called. */
  static async in(folder: string, name: string, library: string): Promise<ShiftedClock> {
    const clock = new ShiftedClock(join(folder, `clock-${name}`), library)
    await writeFile(clock.#file, eightBytes(0))
    return clock
  }

  static library(): Promise<string> {
    return compiled('clock-shift.c', '-shared', '-fPIC')
  }

  /** Of a process whose clock it is. */
  get env(): NodeJS.ProcessEnv {
    return { LD_PRELOAD: this.#library, CLOCK_SHIFT_FILE: this.#file }
  }

  /** In place: it is mapped by whoever has it. */
  async set(seconds: number): Promise<void> {
    const handle = await open(this.#file, 'r+')
    try {
      await handle.write(eightBytes(seconds), 0, 8, 0)
    } finally {
      await handle.close()
    }
  }
}

function eightBytes(seconds: number): Buffer {
  const bytes = Buffer.alloc(8)
  bytes.writeBigInt64LE(BigInt(seconds))
  return bytes
}
