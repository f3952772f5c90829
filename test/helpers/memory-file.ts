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
