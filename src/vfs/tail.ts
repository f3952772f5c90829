/**
 * What this mount has changed since the last durable sync, and what was lost of that and nobody was told: of files and directories, open
 * or not.
 *
 * As Linux has it (lib/errseq.c): a loss is told once, to who syncs the inode next, also if he opened it after the loss was found. Who
 * has it open when that is found is told by his own handle (handles.ts, directory.ts), each of them; here is the rest.
 *
 * Invariants:
 * - An inode is in the list from before a change of it is sent until a sync has ended well that began after its answer.
 * - What does not fit is not forgotten: then every inode that a loss may concern counts as changed, and each is told once.
 */
import { PosixError } from '../base/errno.js'
import { Lru } from './lru.js'

/** Inodes; about 8 MiB. */
const INODES_MAX = 65_536

type Of = (ino: number) => boolean

/** Everybody may be concerned but those who were told. */
interface Sweeping {
  readonly of: Of
  /** Its place among the changes. */
  readonly number: number
  /** One that is forgotten here is told twice. */
  readonly told: Lru<number, true>
}

export class Tail {
  readonly #max: number
  /**
   * Inode -> number of its last change. In no order: to put an entry last it would have to be deleted, and a Map that has many others keeps
   * the places of the deleted ones, in the chain that whoever sets the same key next has to follow: 65 us for each change of a directory.
   */
  readonly #changed = new Map<number, number>()
  /** Inode -> changes under way. */
  readonly #changing = new Map<number, number>()
  /** Not told yet. */
  readonly #owed = new Map<number, PosixError>()
  #sweeping: Sweeping[] = []
  #count = 0
  /** The last change that is not in the list any more, though no sync has seen it. */
  #overflow = 0
  /** Losses that syncfs(2) has not told of. */
  #hasLoss = false
  /** Called when the list is half full, until a sync empties it. */
  onFull: () => void = () => undefined

  constructor(max = INODES_MAX) {
    this.#max = max
  }

  /** A change of the inode is about to be sent. */
  begin(ino: number): void {
    this.#changing.set(ino, (this.#changing.get(ino) ?? 0) + 1)
  }

  /** It has ended, whether it was made or not. */
  end(ino: number): void {
    const left = (this.#changing.get(ino) ?? 1) - 1
    if (left === 0) this.#changing.delete(ino)
    else this.#changing.set(ino, left)
    this.changed(ino)
  }

  /** It was changed along with another. */
  changed(ino: number): void {
    this.#changed.set(ino, ++this.#count)
    if (this.#changed.size > this.#max / 2) this.onFull()
    if (this.#changed.size <= this.#max) return
    // Whichever: it counts as changed until a sync has seen it.
    const [[first, number] = [ino, this.#count]] = this.#changed
    this.#changed.delete(first)
    this.#overflow = Math.max(this.#overflow, number)
  }

  /** For a sync that begins now: given to `synced` when it has ended well. */
  mark(): number {
    return this.#count
  }

  synced(mark: number): void {
    if (this.#overflow <= mark) this.#overflow = 0
    // All of them: but for what was changed meanwhile they go, so that each is looked at about once.
    for (const [ino, number] of this.#changed) if (number <= mark) this.#changed.delete(ino)
  }

  /** A server does not have the last changes of these. Answers which of them are concerned; who is told elsewhere is to be `told`. */
  lost(of: Of, failure: PosixError): Of {
    const concerned = new Set([...this.#changed.keys(), ...this.#changing.keys()].filter(of))
    const isAll = this.#overflow > 0
    if (concerned.size > 0 || isAll) this.#hasLoss = true
    for (const ino of concerned) this.#changed.delete(ino)
    if (isAll) this.#sweep(of)
    else for (const ino of concerned) this.owe(ino, failure)
    return (ino) => of(ino) && (isAll || concerned.has(ino))
  }

  /** Something was lost of the inode of which nobody can be told now. */
  owe(ino: number, failure: PosixError): void {
    this.#owed.set(ino, failure)
    if (this.#owed.size <= this.#max) return
    this.#owed.clear()
    this.#sweep(() => true)
  }

  #sweep(of: Of): void {
    this.#sweeping.push({ of, number: ++this.#count, told: new Lru(this.#max) })
  }

  /** It was made by a change that began at `mark`: what was lost before is not its. */
  made(ino: number, mark: number): void {
    this.changed(ino)
    for (const { of, number, told } of this.#sweeping) if (number <= mark && of(ino)) told.set(ino, true)
  }

  /** Somebody who has it open tells of the loss. */
  told(ino: number): void {
    this.#owed.delete(ino)
    for (const { of, told } of this.#sweeping) if (of(ino)) told.set(ino, true)
  }

  /** At the end of a sync of everything: throws EIO after a loss, once, whatever is told of the inodes. */
  reportAny(): void {
    if (!this.#hasLoss) return
    this.#hasLoss = false
    throw new PosixError('EIO', 'a Redis server has lost changes')
  }

  /** At the very end, when nobody can sync or close any more: throws if there is something that nobody was told. */
  reportLeft(): void {
    const [first] = this.#owed.values()
    const count = this.#owed.size
    if (first !== undefined) {
      const what = count === 1 ? 'a file or folder' : `${count} files and folders`
      throw new PosixError(first.code, `what was changed of ${what} was lost, and nobody was told`, { cause: first })
    }
    if (this.#sweeping.length > 0) throw new PosixError('EIO', 'a Redis server has lost changes')
  }

  /** At the end of a sync of the inode: throws what nobody was told, once. */
  report(ino: number): void {
    const owed = this.#owed.get(ino)
    const isSwept = this.#sweeping.some(({ of, told }) => of(ino) && !told.has(ino))
    this.told(ino)
    if (owed !== undefined) throw new PosixError(owed.code, 'what was changed before was lost', { cause: owed })
    if (isSwept) throw new PosixError('EIO', 'a Redis server has lost changes, of this inode perhaps')
  }
}
