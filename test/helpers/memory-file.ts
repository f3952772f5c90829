/** Bytes of one file in memory, in pages, so that a file may be far longer than what was written to it. */
const PAGE_BYTES = 64 * 1024

export class MemoryFile {
  readonly #pages = new Map<number, Buffer>()
  #sizeBytes = 0

  get sizeBytes(): number {
    return this.#sizeBytes
  }

  get allocatedBytes(): number {
    return this.#pages.size * PAGE_BYTES
  }

  read(offset: number, lengthBytes: number): Buffer {
    const out = Buffer.alloc(Math.max(0, Math.min(lengthBytes, this.#sizeBytes - offset)))
    this.#eachPage(offset, out.length, (page, within, at, length) => {
      this.#pages.get(page)?.copy(out, at, within, within + length)
    })
    return out
  }

  write(offset: number, data: Uint8Array): void {
    const source = Buffer.from(data.buffer, data.byteOffset, data.byteLength)
    this.#eachPage(offset, data.length, (page, within, at, length) => {
      const target = this.#pages.get(page) ?? Buffer.alloc(PAGE_BYTES)
      this.#pages.set(page, target)
      source.copy(target, within, at, at + length)
    })
    this.#sizeBytes = Math.max(this.#sizeBytes, offset + data.length)
  }

  /** What is cut off reads as zeros when the file grows again. */
  truncate(sizeBytes: number): void {
    const last = Math.floor(sizeBytes / PAGE_BYTES)
    for (const page of this.#pages.keys()) {
      if (page > last) this.#pages.delete(page)
    }
    this.#pages.get(last)?.fill(0, sizeBytes - last * PAGE_BYTES)
    this.#sizeBytes = sizeBytes
  }

  /** What lies in the range reads as zeros; whole pages of it take no room. */
  zero(offset: number, lengthBytes: number): void {
    for (const page of this.#pagesIn(offset, offset + lengthBytes)) {
      const start = Math.max(0, offset - page * PAGE_BYTES)
      const end = Math.min(PAGE_BYTES, offset + lengthBytes - page * PAGE_BYTES)
      if (end - start === PAGE_BYTES) this.#pages.delete(page)
      else this.#pages.get(page)?.fill(0, start, end)
    }
  }

  /** The first byte of data in [offset, size), in pages. */
  dataFrom(offset: number): number | undefined {
    const [page] = this.#pagesIn(offset, this.#sizeBytes)
    return page === undefined ? undefined : Math.max(offset, page * PAGE_BYTES)
  }

  holeFrom(offset: number): number {
    let page = Math.floor(offset / PAGE_BYTES)
    if (!this.#pages.has(page)) return offset
    while (this.#pages.has(page)) page++
    return Math.min(page * PAGE_BYTES, this.#sizeBytes)
  }

  /** Pages that are there and touch [start, end), ascending. */
  #pagesIn(start: number, end: number): number[] {
    return [...this.#pages.keys()]
      .filter((page) => (page + 1) * PAGE_BYTES > start && page * PAGE_BYTES < end)
      .sort((a, b) => a - b)
  }

  #eachPage(
    offset: number,
    lengthBytes: number,
    visit: (page: number, within: number, at: number, length: number) => void,
  ): void {
    for (let at = 0; at < lengthBytes;) {
      const page = Math.floor((offset + at) / PAGE_BYTES)
      const within = offset + at - page * PAGE_BYTES
      const length = Math.min(PAGE_BYTES - within, lengthBytes - at)
      visit(page, within, at, length)
      at += length
    }
  }
}
