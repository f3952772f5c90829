/**
 * Shared memory that begins on a page, so that a disk can be read into it and written from it without the page cache
 * (O_DIRECT). A SharedArrayBuffer begins 16 bytes behind whatever malloc gives; the memory of WebAssembly begins on a page by
 * specification of every engine that guards it.
 */
import { KIB } from './limits.js'

const WASM_PAGE_BYTES = 64 * KIB

/** Of the JavaScript API; TypeScript has it only beside the DOM. */
declare const WebAssembly: {
  readonly Memory: new (descriptor: { initial: number; maximum: number; shared: true }) => { readonly buffer: unknown }
}

/** `sizeBytes` is a multiple of 64 KiB. Where address space is short the memory begins anywhere. */
export function pageAlignedMemory(sizeBytes: number): SharedArrayBuffer {
  const pages = sizeBytes / WASM_PAGE_BYTES
  try {
    const { buffer } = new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true })
    if (buffer instanceof SharedArrayBuffer) return buffer
  } catch {
    // Each takes some GiB of address space, which a limit (ulimit -v) may not leave.
  }
  return new SharedArrayBuffer(sizeBytes)
}
