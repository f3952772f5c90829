/**
 * Extent maps of windows, as of a version of the file's data.
 *
 * Invariants: a kept window is what the store has at `version` or later, until an event says otherwise; our own commit is
 * added to it only if its reply shows that it was the only change since `version`. With `complete` every window that is
 * not kept is known to be empty (a new or emptied file).
 */
import type { Attr, BodyPiece, Extent, ExtentWindow, MetaStore } from '../meta/contract.js'
import { CROWDED_CLOSED, CROWDED_IN_USE, ExtentMap } from './extent-map.js'
import type { Freshness } from './freshness.js'
import { Lru } from './lru.js'
import { MIB, WINDOW_BYTES } from '../base/limits.js'

/** Of small files that came along with their inodes. */
const BODY_BYTES_MAX = 32 * MIB
/** How much is left of one that was full: else it would be counted anew again and again. */
const LEFT = 0.75

interface FileExtents {
  version: number
  complete: boolean
  readonly windows: Map<number, ExtentMap>
}

interface Fetch {
  readonly mark: number
  readonly found: Promise<WindowAt>
}

/** A window as it was in a version of the data. */
export interface WindowAt {
  readonly map: ExtentMap
  readonly version: number
}

export class ExtentCache {
  readonly #meta: MetaStore
  readonly #fresh: Freshness
  readonly #files: Lru<number, FileExtents>
  readonly #maxPieces: number
  #pieces = 0
  #bodyBytes = 0
  readonly #fetches = new Map<string, Fetch>()

  readonly #onCrowded: (ino: number, window: number) => void

  /** `onCrowded`: most extents of the window are dead. */
  constructor(
    meta: MetaStore,
    fresh: Freshness,
    maxFiles: number,
    maxPieces: number,
    onCrowded: (ino: number, window: number) => void,
  ) {
    this.#onCrowded = onCrowded
    this.#meta = meta
    this.#fresh = fresh
    this.#files = new Lru(maxFiles)
    this.#maxPieces = maxPieces
  }

  /** The attributes tell the current version: what is kept of another one goes. `mark`: when they were asked for. */
  atVersion(attr: Attr, mark: number): void {
    if (this.#files.get(attr.ino)?.version === attr.dataVersion) return
    this.#files.delete(attr.ino)
    if (!this.#fresh.inodeIsFresh(attr.ino, mark)) return
    this.#files.set(attr.ino, { version: attr.dataVersion, complete: attr.sizeBytes === 0, windows: new Map() })
  }

  /** Keeps a window that came with attributes of the same moment. */
  put(attr: Attr, window: ExtentWindow, mark: number): void {
    const file = this.#files.get(attr.ino)
    if (file?.version !== attr.dataVersion) return
    this.#keep(attr.ino, window.window, new ExtentMap(window.extents, window.body, window.generation), mark)
  }

  /** Known without asking, or undefined. */
  peek(ino: number, window: number): ExtentMap | undefined {
    const file = this.#fresh.hears(ino) ? this.#files.get(ino) : undefined
    if (file === undefined) return undefined
    const map = file.windows.get(window)
    return map ?? (file.complete ? new ExtentMap() : undefined)
  }

  /** The data version of which a window is known without asking. */
  versionOf(ino: number, window: number): number | undefined {
    return this.peek(ino, window) === undefined ? undefined : this.#files.get(ino)?.version
  }

  async get(ino: number, window: number): Promise<ExtentMap> {
    return (await this.at(ino, window)).map
  }

  /** The same, and of which version it is: by then the file may have one that is newer than its attributes. */
  async at(ino: number, window: number): Promise<WindowAt> {
    const known = this.peek(ino, window)
    if (known !== undefined) return { map: known, version: this.#files.get(ino)?.version ?? 0 }
    const key = `${ino}/${window}`
    const running = this.#fetches.get(key)
    if (running !== undefined && this.#fresh.inodeIsFresh(ino, running.mark)) return running.found
    const fetch: Fetch = { mark: this.#fresh.mark(), found: this.#fetch(ino, window) }
    this.#fetches.set(key, fetch)
    try {
      return await fetch.found
    } finally {
      if (this.#fetches.get(key) === fetch) this.#fetches.delete(key)
    }
  }

  /** Asks the store whatever is kept. */
  async refetch(ino: number, window: number): Promise<WindowAt> {
    this.drop(ino)
    return await this.#fetch(ino, window)
  }

  /** Our commit of extents of these windows is done; `current`: nothing else is known to have happened meanwhile. */
  committed(attr: Attr, extents: readonly Extent[], current: boolean): void {
    const file = this.#at(attr.ino, attr.dataVersion - 1, attr.dataVersion, current)
    if (file === undefined) return
    for (const extent of extents) this.#add(file, extent)
    this.#checkCrowded(attr.ino, file, extents)
    this.#bound()
  }

  /** The same for bytes that the store keeps itself: a file that it takes them of has no extents. */
  committedInline(attr: Attr, pieces: readonly BodyPiece[], current: boolean): void {
    const file = this.#at(attr.ino, attr.dataVersion - 1, attr.dataVersion, current)
    if (file === undefined) return
    const map = file.windows.get(0) ?? (file.complete ? new ExtentMap() : undefined)
    if (map === undefined) return
    const before = map.bodyBytes
    map.addBody(pieces)
    file.windows.set(0, map)
    this.#pieces += pieces.length
    this.#bodyBytes += map.bodyBytes - before
    this.#bound()
  }

  /**
   * Our packing took the place of what the window was at data version `from`; as committed(). Only where nothing came between the two versions
   * may `extents` lie over the map.
   */
  packed(ino: number, extents: readonly Extent[], from: number, version: number, current: boolean): void {
    const file = this.#at(ino, from, version, current)
    if (file === undefined) return
    const [first] = extents
    const map = first && file.windows.get(Math.floor(first.fileOffset / WINDOW_BYTES))
    if (map === undefined) return
    const before = map.pieces
    map.add(extents)
    map.wasCompacted(version)
    this.#pieces += map.pieces - before
  }

  /** Of version `from` before, and of the next from now on. undefined: it is not known, or something else came between. */
  #at(ino: number, from: number, version: number, current: boolean): FileExtents | undefined {
    const file = this.#files.get(ino)
    if (file === undefined) return undefined
    if (!current || file.version !== from || from + 1 !== version) {
      this.drop(ino)
      return undefined
    }
    file.version = version
    return file
  }

  drop(ino: number): void {
    this.#files.delete(ino)
  }

  clear(): void {
    this.#files.clear()
    this.#pieces = 0
    this.#bodyBytes = 0
  }

  /** What they held is counted until the next recount, as of what is dropped. */
  clearOf(isMeant: (ino: number) => boolean): void {
    this.#files.deleteAll(isMeant)
  }

  #add(file: FileExtents, extent: Extent): void {
    const window = Math.floor(extent.fileOffset / WINDOW_BYTES)
    let map = file.windows.get(window)
    if (map === undefined && file.complete) file.windows.set(window, (map = new ExtentMap()))
    const before = map?.pieces ?? 0
    map?.add([extent])
    this.#pieces += (map?.pieces ?? 0) - before
  }

  /** The file was closed here: windows that were mostly written over are told of. */
  closed(ino: number): void {
    const file = this.#fresh.hears(ino) ? this.#files.get(ino) : undefined
    for (const [window, map] of file?.windows ?? []) if (map.takeCrowded(CROWDED_CLOSED)) this.#onCrowded(ino, window)
  }

  #checkCrowded(ino: number, file: FileExtents, extents: readonly Extent[]): void {
    const [first] = extents
    if (first === undefined) return
    const window = Math.floor(first.fileOffset / WINDOW_BYTES)
    if (file.windows.get(window)?.takeCrowded(CROWDED_IN_USE) === true) this.#onCrowded(ino, window)
  }

  async #fetch(ino: number, window: number): Promise<WindowAt> {
    const mark = this.#fresh.mark()
    const reply = await this.#meta.extents(ino, window)
    const map = new ExtentMap(reply.extents, reply.body, reply.generation)
    if (map.takeCrowded(CROWDED_IN_USE)) this.#onCrowded(ino, window)
    // One of a later version would be taken for one of the version that is known.
    if (this.#files.get(ino)?.version === reply.dataVersion) this.#keep(ino, window, map, mark)
    return { map, version: reply.dataVersion }
  }

  #keep(ino: number, window: number, map: ExtentMap, mark: number): void {
    const file = this.#files.get(ino)
    if (file === undefined || !this.#fresh.inodeIsFresh(ino, mark)) return
    file.windows.set(window, map)
    this.#pieces += map.pieces
    this.#bodyBytes += map.bodyBytes
    this.#bound()
  }

  /**
   * The counts only grow: what was dropped, or written over, is still in them. So they are made anew before they count. Then the files go that
   * were used longest ago.
   */
  #bound(): void {
    if (!this.#isAbove(1)) return
    this.#recount()
    while (this.#isAbove(LEFT)) {
      const file = this.#files.takeOldest()
      if (file === undefined) return
      for (const map of file.windows.values()) {
        this.#pieces -= map.pieces
        this.#bodyBytes -= map.bodyBytes
      }
    }
  }

  #isAbove(share: number): boolean {
    return this.#pieces > share * this.#maxPieces || this.#bodyBytes > share * BODY_BYTES_MAX
  }

  #recount(): void {
    this.#pieces = 0
    this.#bodyBytes = 0
    for (const [, { windows }] of this.#files) {
      for (const map of windows.values()) {
        map.recountBody()
        this.#pieces += map.pieces
        this.#bodyBytes += map.bodyBytes
      }
    }
  }
}
