/** Records written into several logs at once, on disk when it is done. On the calling thread. */
import { fdatasyncSync, writeSync } from 'node:fs'
import { getSystemErrorName } from 'node:util'
import { durableAddon, type DurableAddon } from '../../base/addon.js'
import { PosixError } from '../../base/errno.js'

/** `head`, `body` and `tail`, one behind the other. */
export interface LogWrite {
  readonly fd: number
  readonly position: number
  readonly head: Buffer
  readonly body: Buffer
  /** What nobody reads: the rest of a page (restOfPage() in journal-format.ts). */
  readonly tail: Buffer
}

/** What is wrong with each, or null: it is on disk. Writes into one file are neighbours. Never throws. */
export type WriteLogs = (writes: readonly LogWrite[]) => readonly (Error | null)[]

/** What the addon takes at once. */
const WRITES_MAX = 64

/** The best there is. */
export function logWriter(): WriteLogs {
  const addon = durableAddon()
  return addon === null ? writeLogsOneByOne : writerWith(addon)
}

/** The disk has all of the writes before the first flush is waited for. */
function writerWith(addon: Pick<DurableAddon, 'writeDurably'>): WriteLogs {
  const fds = new Int32Array(WRITES_MAX)
  const positions = new Float64Array(WRITES_MAX)
  const results = new Int32Array(WRITES_MAX)
  return (writes) => {
    const count = writes.length
    if (count > WRITES_MAX) return writeLogsOneByOne(writes)
    const parts: Buffer[] = []
    for (const [index, { fd, position, head, body, tail }] of writes.entries()) {
      fds[index] = fd
      positions[index] = position
      parts.push(head, body, tail)
    }
    addon.writeDurably(fds.subarray(0, count), positions, parts, results)
    return writes.map((one, index) => failureOf(one, results[index] ?? 0))
  }
}

function failureOf({ fd, position }: LogWrite, errno: number): Error | null {
  if (errno === 0) return null
  return new PosixError('EIO', `a log (descriptor ${fd}, at ${position}): ${getSystemErrorName(-errno)}`)
}

/** As the native one, but each file is waited for before the next one is flushed. */
export const writeLogsOneByOne: WriteLogs = (writes) => {
  const failed = new Map<number, Error>()
  const attempt = (fd: number, work: () => void): void => {
    if (failed.has(fd)) return
    try {
      work()
    } catch (error) {
      failed.set(fd, error instanceof Error ? error : new PosixError('EIO', String(error)))
    }
  }
  for (const { fd, position, head, body, tail } of writes) {
    attempt(fd, () => writeWhole(fd, position, Buffer.concat([head, body, tail])))
  }
  for (const fd of new Set(writes.map((write) => write.fd))) attempt(fd, () => fdatasyncSync(fd))
  return writes.map(({ fd }) => failed.get(fd) ?? null)
}

function writeWhole(fd: number, position: number, bytes: Buffer): void {
  for (let done = 0; done < bytes.length;) {
    const more = writeSync(fd, bytes, done, bytes.length - done, position + done)
    if (more === 0) throw new PosixError('EIO', 'a short write into a log')
    done += more
  }
}
