/**
 * Reading a log around what the disk cannot read. Synchronous.
 *
 * A sector that cannot be read makes the whole read(2) fail with EIO, and often takes the disk seconds. So blocks are read one by one only
 * then, and behind a bad one at growing distances: from the next good one it goes back to where the bad ones end. (What is good between two
 * bad runs close together may be passed over, then; the log is kept as it is.)
 */
import { fstatSync } from 'node:fs'
import { codeOf } from '../../base/errors.js'
import { readInto } from './chunk-file.js'
import type { Span } from './journal-format.js'

/** A page: the least that the kernel reads. */
const BLOCK_BYTES = 4096
const STRIDE_MAX = 64

export interface LogBytes {
  /** Shorter than asked for at the end of the file. */
  readonly bytes: Buffer
  /** Of `bytes`: zeros stand there. */
  readonly unreadable: readonly Span[]
}

/** readInto(), but for tests. */
export type ReadInto = (fd: number, position: number, out: Uint8Array) => number

/** Errors: what the disk says, but that it cannot read something. */
export function readAround(fd: number, position: number, lengthBytes: number, read: ReadInto = readInto): LogBytes {
  const bytes = Buffer.alloc(lengthBytes)
  const got = unlessUnreadable(() => read(fd, position, bytes))
  if (got !== null) return { bytes: bytes.subarray(0, got), unreadable: [] }
  const there = bytes.subarray(0, Math.max(0, fstatSync(fd).size - position)).fill(0)
  const isGood = (from: number, to: number): boolean => {
    const block = there.subarray(from, to)
    if (unlessUnreadable(() => read(fd, position + from, block)) !== null) return true
    block.fill(0)
    return false
  }
  return { bytes: there, unreadable: readBlocks(there.length, position % BLOCK_BYTES, isGood) }
}

function unlessUnreadable(read: () => number): number | null {
  try {
    return read()
  } catch (error) {
    if (codeOf(error) === 'EIO') return null
    throw error
  }
}

/** `before`: where in its block the first byte lies. Answers what of `lengthBytes` cannot be read. */
function readBlocks(
  lengthBytes: number,
  before: number,
  isGood: (from: number, to: number) => boolean,
): readonly Span[] {
  const count = Math.ceil((before + lengthBytes) / BLOCK_BYTES)
  const spanOf = (block: number): Span => {
    const from = Math.max(0, block * BLOCK_BYTES - before)
    return { from, to: Math.min(lengthBytes, (block + 1) * BLOCK_BYTES - before) }
  }
  const good = new Set<number>()
  const attempt = (block: number): boolean => {
    const { from, to } = spanOf(block)
    if (isGood(from, to)) good.add(block)
    return good.has(block)
  }
  let bad = -1
  let stride = 1
  for (let at = 0; at < count;) {
    if (attempt(at)) {
      for (let back = at - 1; back > bad && !good.has(back) && attempt(back);) back--
      stride = 1
      at++
    } else {
      bad = at
      at = Math.max(at + 1, Math.min(at + stride, count - 1))
      stride = Math.min(2 * stride, STRIDE_MAX)
    }
  }
  return joined(
    Array.from({ length: count }, (_, block) => block)
      .filter((block) => !good.has(block))
      .map(spanOf),
  )
}

function joined(spans: readonly Span[]): readonly Span[] {
  const all: { from: number; to: number }[] = []
  for (const { from, to } of spans) {
    const last = all.at(-1)
    if (last?.to === from) last.to = to
    else all.push({ from, to })
  }
  return all
}
