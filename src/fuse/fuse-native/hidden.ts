/**
 * Files that were removed while open on this mount.
 *
 * The library (libfuse 2.9, fuse.c hide_node) cannot serve a file without a path, so it does not remove an open file but
 * renames it to `.fuse_hidden…` and removes that when the last handle is closed. Its option hard_remove, instead, makes
 * every call on such a file fail. In ringfs nobody may see those names: a rename to one is done as an unlink (the VFS keeps the
 * inode while it is open), and the name becomes an alias of the inode, known here only.
 *
 * A rename over an open file comes as two calls: hide the target, rename the source. Were the first an unlink at once, the
 * name would be missing in between, for other clients and after a crash. And when the call is made, it cannot be told
 * from a plain unlink. So the unlink waits for a moment:
 *
 *     hide(X) -> pending --- rename(…, X) arrives ------------> claimed: the rename alone replaces X
 *                   |------- anything proves the call is over -> unlink(X)
 *                   '------- GRACE_MS pass -------------------> unlink(X)
 *
 * Proof that it was a plain unlink and is over: a call on the alias (the library keeps the node locked until its call is
 * over), or one that changes or lists the directory (the kernel keeps that locked). A lookup of X, and the attributes of another
 * link to it or of the directory, prove nothing: who asks for those, or sets them, waits. So on this mount nobody sees the
 * directory or the file as it was before an unlink that was answered, and no times that were set later are overwritten.
 * The caller of unlink is answered up to GRACE_MS before other clients see it, and not told if it fails (it is logged).
 */
import { basename, dirname } from 'node:path/posix'

/** Far above what the library needs from one call to the next, far below what a user notices. */
const GRACE_MS = 10
const HIDDEN_NAME = /^\.fuse_hidden[0-9a-f]{16,}$/

interface Alias {
  readonly ino: number
  /** The directory it was in: it cannot be removed while this is here, see holds(). */
  readonly parent: number
  readonly pending: Pending
}

export interface Pending {
  readonly path: string
  readonly ino: number
  readonly parent: number
  readonly settled: Promise<void>
  settle(work: () => Promise<void>): Promise<void>
  unlink(): Promise<void>
}

const NONE: readonly Pending[] = []

export class Hidden {
  readonly #aliases = new Map<string, Alias>()
  readonly #pending = new Map<string, Pending>()

  /** What waits at this moment, for waitFor. */
  get waiting(): readonly Pending[] {
    return this.#pending.size === 0 ? NONE : [...this.#pending.values()]
  }

  /** Whether a rename is the library's way of hiding, if the file is open. */
  isHiding(source: string, target: string): boolean {
    return HIDDEN_NAME.test(basename(target)) && dirname(source) === dirname(target)
  }

  /** `unlink` removes the name; it is called once, or not at all. */
  hide(source: string, target: string, ino: number, parent: number, unlink: () => Promise<void>): void {
    const pending = this.#newPending(source, ino, parent, unlink)
    this.#pending.set(source, pending)
    this.#aliases.set(basename(target), { ino, parent, pending })
  }

  /** The inode behind an alias. */
  async resolve(path: string): Promise<number | undefined> {
    const alias = this.#aliases.get(basename(path))
    await alias?.pending.unlink()
    return alias?.ino
  }

  /** The library removes the hidden file: its last handle is closed. */
  async drop(path: string): Promise<boolean> {
    const alias = this.#aliases.get(basename(path))
    this.#aliases.delete(basename(path))
    await alias?.pending.unlink()
    return alias !== undefined
  }

  /** Before a lookup of the path. */
  async wait(path: string): Promise<void> {
    await this.#pending.get(path)?.settled
  }

  /**
   * Before attributes are told or set of an inode that has another name, or of a directory that loses one: unlink changes
   * both. Answers whether there was something to wait for. What was read before is not valid then: who reads first passes what
   * was waiting before that, because it may be over by now.
   */
  async waitFor(ino: number, waiting = this.waiting): Promise<boolean> {
    const concerned = waiting.filter((entry) => entry.ino === ino || entry.parent === ino)
    await Promise.all(concerned.map(({ settled }) => settled))
    return concerned.length > 0
  }

  /** Before a directory is listed or a name in it changes. */
  async settleIn(directory: string): Promise<void> {
    await this.#settleThose((path) => dirname(path) === directory)
  }

  /** Before a directory is removed, or moved with what is below it. */
  async settleBelow(directory: string): Promise<void> {
    await this.#settleThose((path) => path.startsWith(`${directory}/`))
  }

  /** Does a rename to the path, in place of an unlink that waits there. Answers false if there is none. */
  async claim(path: string, rename: () => Promise<void>): Promise<boolean> {
    const pending = this.#pending.get(path)
    if (pending === undefined) return false
    let claimed = false
    await pending.settle(() => {
      claimed = true
      return rename()
    })
    return claimed
  }

  /**
   * Whether a removed file that is still open was in the directory. Such a directory must stay: without it the library has
   * no path for the file and calls fuse-native.c with a null pointer when it is closed.
   */
  holds(directory: number): boolean {
    return [...this.#aliases.values()].some(({ parent }) => parent === directory)
  }

  get empty(): boolean {
    return this.#aliases.size === 0
  }

  /** All that waits is done. */
  async settleAll(): Promise<void> {
    await this.#settleThose(() => true)
  }

  async #settleThose(which: (path: string) => boolean): Promise<void> {
    const pending = [...this.#pending.values()].filter(({ path }) => which(path))
    await Promise.all(pending.map((entry) => entry.unlink()))
  }

  #newPending(path: string, ino: number, parent: number, unlink: () => Promise<void>): Pending {
    let started = false
    let finish = () => {}
    const settled = new Promise<void>((resolve) => (finish = resolve))
    const settle = async (todo: () => Promise<void>): Promise<void> => {
      if (started) return settled
      started = true
      clearTimeout(timer)
      try {
        await todo()
      } finally {
        if (this.#pending.get(path) === pending) this.#pending.delete(path)
        finish()
      }
    }
    const timer = setTimeout(() => void settle(unlink), GRACE_MS)
    const pending: Pending = { path, ino, parent, settled, settle, unlink: () => settle(unlink) }
    return pending
  }
}
