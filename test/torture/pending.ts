/** Which files of a worker have bytes that are not promised: unsynced.ts says what those may be after a crash. */
import type { Reply, Words } from './agent.js'
import { Unsynced } from './unsynced.js'

interface Slot {
  readonly ino: string
  /** Of the oracle's agent. */
  readonly fd: string
  /** Opened with O_SYNC or O_DSYNC. */
  readonly sync: boolean
}

const PATTERN_WRITES = ['pwrite', 'write', 'pwritev', 'mwrite']
const CHANGES = [...PATTERN_WRITES, 'copy', 'fallocate', 'ftruncate']

/** What it changes is promised when it returns. O_SYNC is about write(2): a store through a mapping waits for msync(2). */
function isPromised(words: Words, slot: Slot): boolean {
  return words[0] === 'mwrite' ? words[5] === 'sync' : slot.sync
}

/** No byte of it was written, and Linux syncs nothing then: behind the end of a file there is nothing to copy. */
function hasDoneNothing([name = '']: Words, { text }: Reply): boolean {
  return (name === 'copy' || PATTERN_WRITES.includes(name)) && text === 'OK 0'
}

export class Pending {
  /** By the oracle's inode numbers. */
  readonly files = new Map<string, Unsynced>()
  /** No crash can come otherwise. */
  enabled = false
  readonly #slots = new Map<string, Slot>()
  readonly #folder: string
  #pid = 0

  /** `folder`: for copies. */
  constructor(folder: string) {
    this.#folder = folder
  }

  /** The oracle's agent is another one: nothing is open. */
  attach(pid: number): void {
    this.#pid = pid
    this.#slots.clear()
  }

  /** It changes contents through a descriptor, so that it may be done in part. */
  changes(words: Words): boolean {
    return CHANGES.includes(words[0] ?? '')
  }

  /** Before the oracle does what changes contents. `underWay`: the mount was killed during it. */
  async before(words: Words, underWay = false): Promise<void> {
    const slot = this.#target(words)
    if (!this.enabled || slot === undefined || !this.changes(words)) return
    if (!underWay && (isPromised(words, slot) || words[0] === 'ftruncate')) return
    if (this.files.has(slot.ino)) return
    this.files.set(slot.ino, await Unsynced.of(this.#pathOf(slot), this.#folder))
  }

  /** After the oracle has done it, and the mount, unless it was killed during it. */
  async after(words: Words, reply: Reply, underWay = false): Promise<void> {
    const [name = '', first = ''] = words
    if (name === 'open' || name === 'close') this.#closed(first)
    if (!reply.isOk) return
    if (name === 'open') this.#opened(first, words[3] ?? '', reply.own)
    const slot = this.#target(words)
    if (name === 'sync' && slot !== undefined) this.#promised(slot.ino)
    if (slot !== undefined && this.changes(words) && !hasDoneNothing(words, reply))
      await this.#changed(words, reply, slot, underWay)
    if (name === 'truncate') this.#cut(reply.own[0] ?? '', Number(words[2]))
  }

  /** A truncation by path was under way, of a file that was being written. */
  cutUnderWay(ino: string, sizeBytes: number): void {
    const unsynced = this.files.get(ino)
    unsynced?.cut(sizeBytes)
    if (unsynced !== undefined) unsynced.uncertain = true
  }

  /** What was not promised is known now. */
  async clear(): Promise<void> {
    const all = [...this.files.values()]
    this.files.clear()
    await Promise.all(all.map((unsynced) => unsynced.forget()))
  }

  #target(words: Words): Slot | undefined {
    return this.#slots.get((words[0] === 'copy' ? words[3] : words[1]) ?? '')
  }

  #pathOf({ fd }: Slot): string {
    return `/proc/${this.#pid}/fd/${fd}`
  }

  #opened(name: string, flags: string, [ino = '', fd = '', type = '']: readonly string[]): void {
    if (type !== 'file') return
    this.#slots.set(name, { ino, fd, sync: flags.includes('sync') })
    if (flags.includes('trunc')) this.#cut(ino, 0)
  }

  /** close(2) of any descriptor flushes the file. */
  #closed(name: string): void {
    const slot = this.#slots.get(name)
    this.#slots.delete(name)
    if (slot !== undefined) this.#promised(slot.ino)
  }

  #promised(ino: string): void {
    const unsynced = this.files.get(ino)
    this.files.delete(ino)
    void unsynced?.forget()
  }

  /** A truncation goes to the store behind what was written before. What a mapping changed is still in the page cache. */
  #cut(ino: string, sizeBytes: number): void {
    const unsynced = this.files.get(ino)
    if (unsynced?.mapped === true) unsynced.cut(sizeBytes)
    else this.#promised(ino)
  }

  async #changed(words: Words, reply: Reply, slot: Slot, underWay: boolean): Promise<void> {
    const [name = ''] = words
    const unsynced = this.files.get(slot.ino)
    if (unsynced !== undefined && underWay) unsynced.uncertain = true
    // Both write out the pages of their own range: what a mapping changed elsewhere stays in the page cache.
    const isSynced = isPromised(words, slot) && unsynced?.mapped !== true
    if (!underWay && isSynced) this.#promised(slot.ino)
    else if (name === 'ftruncate' && !underWay) this.#cut(slot.ino, Number(words[2]))
    else if (unsynced !== undefined) await this.#note(words, reply, slot, unsynced)
  }

  async #note(words: Words, { text, own }: Reply, slot: Slot, unsynced: Unsynced): Promise<void> {
    const numbers = words.map(Number)
    const [name = ''] = words
    if (name === 'ftruncate') unsynced.cut(numbers[2] ?? 0)
    else if (name === 'fallocate') unsynced.zeroed((numbers[3] ?? 0) + (numbers[4] ?? 0))
    else if (name === 'copy') {
      unsynced.zeroed((numbers[4] ?? 0) + (numbers[5] ?? 0))
      await unsynced.copied(this.#pathOf(slot), this.#folder)
    } else if (name === 'mwrite') {
      unsynced.mapped = true
      unsynced.wrote({ offset: numbers[2] ?? 0, lengthBytes: numbers[3] ?? 0, seed: numbers[4] ?? 0 })
    } else {
      const lengthBytes = Number(text.split(' ')[1])
      const seed = numbers[name === 'pwrite' ? 4 : 3] ?? 0
      unsynced.wrote({ offset: Number(own[0]) - lengthBytes, lengthBytes, seed })
    }
  }
}
