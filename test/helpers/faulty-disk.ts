/** Processes whose disk cannot read some places, or not list some folders, or that are killed before a certain change of a folder: c/faulty-disk.c. */
import { renameSync, writeFileSync } from 'node:fs'
import { constants } from 'node:os'
import { join } from 'node:path'
import { compiled } from './compiled.js'

export interface UnreadablePlace {
  readonly file: string
  readonly from: number
  readonly to: number
}

export class FaultyDisk {
  readonly #library: string
  readonly #places: string
  readonly #folders: string

  private constructor(folder: string, library: string) {
    this.#library = library
    this.#places = join(folder, 'unreadable')
    this.#folders = join(folder, 'unlisted')
  }

  /** Reads everything, until it is told otherwise. `folder`: for what it needs. */
  static async make(folder: string): Promise<FaultyDisk> {
    return new FaultyDisk(folder, await compiled('faulty-disk.c', '-shared', '-fPIC'))
  }

  /** From the next start of a process on. */
  cannotRead(places: readonly UnreadablePlace[]): void {
    writeFileSync(this.#places, places.map(({ from, to, file }) => `${from} ${to} ${file}\n`).join(''))
  }

  /** From now on, also by processes that have it already: these, and no others. Default of `errno`: EIO. */
  cannotList(folders: readonly string[], errno: number = constants.errno.EIO): void {
    writeFileSync(`${this.#folders}.new`, folders.map((folder) => `${errno} ${folder}\n`).join(''))
    renameSync(`${this.#folders}.new`, this.#folders)
  }

  /** Of a process that has this disk. */
  get env(): NodeJS.ProcessEnv {
    return { LD_PRELOAD: this.#library, FAULTY_PLACES: this.#places, FAULTY_FOLDERS: this.#folders }
  }

  /** Of one that is killed before its change number `at` in the folder, from 1 on. */
  killedAt(folder: string, at: number): NodeJS.ProcessEnv {
    return { ...this.env, FAULTY_FOLDER: folder, FAULTY_KILL_AT: String(at) }
  }
}
