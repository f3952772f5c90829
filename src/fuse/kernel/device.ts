/** /dev/fuse of one mount: reads requests into a few buffers, writes answers. */
import { closeSync, writevSync } from 'node:fs'
import { ERRNO } from '../../base/errno.js'
import type { Log } from '../../base/log.js'
import type { FuseAddon } from './addon.js'
import { MAX_WRITE_BYTES } from './init.js'
import type { StayAwake } from './stay-awake.js'

/** The kernel wants room for its headers beside the largest write. */
const BUFFER_BYTES = MAX_WRITE_BYTES + 64 * 1024
/** A request up to this length is copied if it is not answered at once, so that the buffer can be read into. */
const COPY_MAX_BYTES = 16 * 1024
const SPARE_BUFFERS = 8
/** Answers up to this length are one piece. */
const HEAD_BYTES = 4096
/** How long the descriptor is read again before the loop sleeps: DESIGN section 9. */
const SPIN_US = 50
/** The same while requests are under way: about what Redis takes for an answer. */
const AWAIT_US = 200

/** null, or settles when the bytes are no longer needed; those of a short request only in this turn, `isLent`. */
export type Handle = (bytes: Buffer, isLent: boolean) => Promise<void> | null

export class FuseDevice {
  readonly #fd: number
  readonly #log: Log
  readonly #awake: StayAwake | null
  readonly #spare: Buffer[] = []
  readonly #head = Buffer.allocUnsafeSlow(HEAD_BYTES)
  readonly #write: (length: number, body?: Buffer) => number
  readonly #underWay = new Uint32Array(1)
  #isOpen = true
  #end: () => void = () => undefined
  /** Settles when the kernel has let go of the mount, or we have. */
  readonly ended: Promise<void>

  /** `awake` is closed with the device. */
  constructor(addon: FuseAddon, fd: number, handle: Handle, log: Log, awake: StayAwake | null = null) {
    this.#fd = fd
    this.#log = log
    this.#awake = awake
    this.#write = addon.writer(fd, this.#head)
    this.ended = new Promise((resolve) => {
      let current = this.#buffer()
      const underWay = new Uint8Array(this.#underWay.buffer)
      const stop = addon.read(fd, current, SPIN_US, AWAIT_US, underWay, (length) => {
        if (length < 0) {
          resolve()
          return current
        }
        current = this.#take(current, length, handle)
        return current
      })
      this.#end = () => {
        stop()
        resolve()
      }
    })
  }

  /** So many requests wait for somebody else's answer. */
  underWay(count: number): void {
    this.#underWay[0] = count
    this.#awake?.underWay(count)
  }

  /** Answers the buffer to read into next. */
  #take(buffer: Buffer, length: number, handle: Handle): Buffer {
    this.#awake?.asked()
    const isLent = length <= COPY_MAX_BYTES
    const done = handle(buffer.subarray(0, length), isLent)
    if (isLent || done === null) return buffer
    void done.then(() => {
      if (this.#spare.length < SPARE_BUFFERS) this.#spare.push(buffer)
    })
    return this.#buffer()
  }

  #buffer(): Buffer {
    return this.#spare.pop() ?? Buffer.allocUnsafeSlow(BUFFER_BYTES)
  }

  /** One answer. What is short is joined to its head: the kernel maps each part by itself. */
  send(parts: readonly Buffer[]): void {
    if (!this.#isOpen) return
    this.#awake?.answered()
    let length = 0
    for (let i = 0; i < parts.length; i++) {
      const part = parts[i]
      if (part === undefined) continue
      if (length + part.length > HEAD_BYTES) {
        if (i === parts.length - 1) this.#written(this.#write(length, part))
        else this.#sendMany(parts)
        return
      }
      this.#head.set(part, length)
      length += part.length
    }
    this.#written(this.#write(length))
  }

  #sendMany(parts: readonly Buffer[]): void {
    try {
      writevSync(this.#fd, parts)
    } catch (error) {
      this.#written(error instanceof Error && 'errno' in error ? -Number(error.errno) : ERRNO.EIO)
    }
  }

  #written(errno: number): void {
    // ENOENT: nobody waits for it any more. ENODEV: unmounted.
    if (errno === 0 || errno === ERRNO.ENOENT || errno === ERRNO.ENODEV) return
    this.#log.error({ errno }, 'an answer could not be written')
  }

  /** Nothing is read any more: its number may be that of another file from now on. */
  close(): void {
    if (!this.#isOpen) return
    this.#isOpen = false
    this.#awake?.close()
    this.#end()
    closeSync(this.#fd)
  }
}
