/** The file descriptors that the library gives back with each request on an open file. */
import { PosixError } from '../../base/errno.js'

export interface OpenFile {
  /** Of the VFS. */
  readonly handle: number
  readonly ino: number
}

/** fuse-native.c keeps a descriptor as a signed 32-bit number, and takes 0 for none. */
const FD_MAX = 2 ** 31 - 1

export class Handles {
  readonly #files = new Map<number, OpenFile>()
  readonly #opens = new Map<number, number>()
  #lastFd = 0

  add(file: OpenFile): number {
    do {
      this.#lastFd = (this.#lastFd % FD_MAX) + 1
    } while (this.#files.has(this.#lastFd))
    this.#files.set(this.#lastFd, file)
    this.#opens.set(file.ino, (this.#opens.get(file.ino) ?? 0) + 1)
    return this.#lastFd
  }

  /** Errors: PosixError EBADF. */
  get(fd: number): OpenFile {
    const file = this.#files.get(fd)
    if (file === undefined) throw new PosixError('EBADF')
    return file
  }

  /** Errors: PosixError EBADF. */
  remove(fd: number): OpenFile {
    const file = this.get(fd)
    this.#files.delete(fd)
    const opens = (this.#opens.get(file.ino) ?? 0) - 1
    if (opens > 0) this.#opens.set(file.ino, opens)
    else this.#opens.delete(file.ino)
    return file
  }

  isOpen(ino: number): boolean {
    return this.#opens.has(ino)
  }

  fds(): readonly number[] {
    return [...this.#files.keys()]
  }
}
