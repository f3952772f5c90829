/** One open directory. Offsets are telldir positions that stay valid for the handle, while others add and remove names: positions.ts. */
import type { Attr, DirEntry, MetaStore, ReaddirReply } from '../meta/contract.js'
import type { VfsDirEntry } from './contract.js'
import { dtypeOf } from './flags.js'
import { AFTER_DOT, AFTER_DOTDOT, Positions } from './positions.js'

interface Page {
  /** Offset that asked for it. */
  readonly from: bigint
  readonly entries: readonly { readonly entry: DirEntry; readonly offset: bigint }[]
  readonly end: boolean
  readonly plus: boolean
  /** In which call of `read` it was fetched. */
  readonly readIn: number
}

/** From the first page on, without a gap. */
interface Listing {
  readonly mark: number
  names: number
}

export interface DirectoryDeps {
  readonly meta: MetaStore
  readonly batch: number
  /** Names, and attributes that came along, may be kept. */
  readonly onEntries: (parent: number, entries: readonly DirEntry[], mark: number) => void
  readonly mark: () => number
  readonly attr: (ino: number) => Promise<Attr>
  /** With what this process has not committed yet. */
  readonly overlay: (attr: Attr) => Attr | undefined
  /** What is known of an inode now, without asking. */
  readonly known: (ino: number) => Attr | undefined
  /** Has what can be known of these without attributes known. */
  readonly learn: (entries: readonly DirEntry[]) => Promise<void>
  /** A listing begins; it came to its end, and all names were handed to onEntries. See complete.ts. */
  readonly begin: () => number
  readonly listed: (ino: number, mark: number) => void
  /** Names of the largest directory that may be known as a whole. */
  readonly completeMax: number
}

export class DirectoryStream {
  readonly ino: number
  readonly #deps: DirectoryDeps
  #page: Page | null = null
  #listing: Listing | null = null
  #reads = 0
  /** The first page, fetched when the directory was opened. */
  #ahead: Promise<void> | null = null
  readonly #positions = new Positions()

  constructor(ino: number, deps: DirectoryDeps) {
    this.ino = ino
    this.#deps = deps
  }

  /** It is about to be read: the first page is fetched meanwhile. */
  prefetch(): void {
    this.#ahead = this.#fetch(AFTER_DOTDOT, true, 0).then(
      () => undefined,
      () => undefined,
    )
  }

  async read(offset: bigint, limit: number, plus: boolean): Promise<VfsDirEntry[]> {
    const entries: VfsDirEntry[] = []
    const read = ++this.#reads
    let at = offset
    if (at < AFTER_DOTDOT) entries.push(...(await this.#dots(at, plus)).slice(0, limit))
    at = entries.at(-1)?.offset ?? at
    while (entries.length < limit && at >= AFTER_DOTDOT) {
      const page = await this.#pageAfter(at, plus, read)
      const index = page.from === at ? 0 : page.entries.findIndex((entry) => entry.offset === at) + 1
      const next = page.entries.slice(index, index + limit - entries.length)
      if (plus) await this.#deps.learn(next.map(({ entry }) => entry))
      for (const { entry, offset: position } of next) {
        entries.push(this.#toVfs(entry, position, page.readIn === read))
        at = position
      }
      if (page.end && page.entries.at(-1)?.offset === at) break
      if (page.entries.length === 0) break
    }
    return entries
  }

  async #dots(offset: bigint, plus: boolean): Promise<VfsDirEntry[]> {
    const self = await this.#deps.attr(this.ino)
    const dots: VfsDirEntry[] = []
    const add = (name: string, ino: number, position: bigint, attr: Attr | undefined): void => {
      dots.push({ name: Buffer.from(name), ino, dtype: dtypeOf('directory'), offset: position, ...(attr && { attr }) })
    }
    if (offset < AFTER_DOT) {
      // A stream that begins anew must see what is there now; when it was opened is soon enough for the first time.
      if (this.#ahead === null) this.#page = null
      else await this.#ahead
      this.#ahead = null
      add('.', this.ino, AFTER_DOT, plus ? self : undefined)
    }
    add('..', self.parent === 0 ? this.ino : self.parent, AFTER_DOTDOT, undefined)
    return dots
  }

  /** The attributes of a page that was fetched for an earlier read may have changed since, and a kernel would take them for new. */
  #toVfs(entry: DirEntry, offset: bigint, isNew: boolean): VfsDirEntry {
    const fetched = isNew ? entry.attr : undefined
    const attr = fetched === undefined ? this.#deps.known(entry.ino) : this.#deps.overlay(fetched)
    return { name: entry.name, ino: entry.ino, dtype: dtypeOf(entry.type), offset, ...(attr && { attr }) }
  }

  /** The page that goes on after `offset`: the one at hand, or the next from the store. */
  async #pageAfter(offset: bigint, plus: boolean, read: number): Promise<Page> {
    const page = this.#page
    if (page !== null && (page.plus || !plus)) {
      const isLast = page.entries.at(-1)?.offset === offset
      if (page.from === offset && !isLast) return page
      if (isLast ? page.end : page.entries.some((entry) => entry.offset === offset)) return page
    }
    return await this.#fetch(offset, plus, read)
  }

  async #fetch(offset: bigint, plus: boolean, read: number): Promise<Page> {
    const listing = this.#listingAt(offset)
    const mark = this.#deps.mark()
    const reply = await this.#deps.meta.readdir(this.ino, this.#positions.cursorAt(offset), this.#deps.batch, plus)
    if (plus || listing !== null) this.#deps.onEntries(this.ino, reply.entries, mark)
    this.#list(listing, reply)
    const entries = reply.entries.map((entry) => ({
      entry,
      offset: this.#positions.offsetOf(entry.cursor.score, entry.name),
    }))
    this.#page = { from: offset, entries, end: reply.end, plus, readIn: read }
    return this.#page
  }

  /** The listing that a page from `offset` on belongs to. */
  #listingAt(offset: bigint): Listing | null {
    if (offset === AFTER_DOTDOT) this.#listing = { mark: this.#deps.begin(), names: 0 }
    else if (this.#page?.entries.at(-1)?.offset !== offset) this.#listing = null
    return this.#listing
  }

  #list(listing: Listing | null, { entries, end }: ReaddirReply): void {
    // Another read of this handle began anew.
    if (listing === null || listing !== this.#listing) return
    listing.names += entries.length
    if (listing.names > this.#deps.completeMax) this.#listing = null
    else if (end) this.#deps.listed(this.ino, listing.mark)
  }
}
