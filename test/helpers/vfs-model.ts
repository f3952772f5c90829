/** Random operations on several handles of one file, seen by two clients, against a Buffer. */
import fc from 'fast-check'
import { setImmediate as turn } from 'node:timers/promises'
import { PosixError } from '../../src/base/errno.js'
import { ROOT_INO, WINDOW_BYTES } from '../../src/base/limits.js'
import type { VfsContract } from '../../src/vfs/contract.js'

const CALLER = { uid: 0, gid: 0, pid: 1 }
const O_RDWR = 2
const O_CREAT = 0o100
const O_APPEND = 0o2000
/** A play takes place around a window border, if nothing else is said; what lies before is a hole. */
export const BORDER = WINDOW_BYTES - 24_000
const SPAN = 48_000

const FALLOCATE = { punch: 3, zero: 16, allocate: 0 } as const
const SEEK_DATA = 3
const SEEK_HOLE = 4

export type Op =
  | { readonly op: 'write' | 'read'; readonly handle: number; readonly offset: number; readonly length: number }
  | { readonly op: 'append'; readonly length: number }
  | { readonly op: 'truncate'; readonly size: number }
  | { readonly op: 'flush' | 'fsync' | 'reopen'; readonly handle: number }
  | {
      readonly op: 'punch' | 'zero' | 'allocate'
      readonly handle: number
      readonly offset: number
      readonly length: number
    }
  | { readonly op: 'copy'; readonly from: number; readonly to: number; readonly length: number }
  | { readonly op: 'data' | 'hole'; readonly handle: number; readonly offset: number }
  | { readonly op: 'stat' | 'idle' | 'other' | 'lose' }

const handle = fc.nat(1)
const offset = fc.nat(SPAN - 9_000)
const length = fc.oneof(
  { weight: 3, arbitrary: fc.integer({ min: 1, max: 300 }) },
  { weight: 1, arbitrary: fc.integer({ min: 1, max: 9_000 }) },
)

export const anyOp: fc.Arbitrary<Op> = fc.oneof(
  { weight: 8, arbitrary: fc.record({ op: fc.constant('write' as const), handle, offset, length }) },
  {
    weight: 4,
    arbitrary: fc.record({ op: fc.constant('append' as const), length: fc.integer({ min: 1, max: 3_000 }) }),
  },
  { weight: 4, arbitrary: fc.record({ op: fc.constant('read' as const), handle, offset, length }) },
  {
    weight: 3,
    arbitrary: fc.record({
      op: fc.constantFrom('punch' as const, 'zero' as const, 'allocate' as const),
      handle,
      offset,
      length,
    }),
  },
  { weight: 3, arbitrary: fc.record({ op: fc.constant('copy' as const), from: offset, to: offset, length }) },
  { weight: 2, arbitrary: fc.record({ op: fc.constantFrom('data' as const, 'hole' as const), handle, offset }) },
  { weight: 2, arbitrary: fc.record({ op: fc.constant('truncate' as const), size: fc.nat(SPAN - 9_000) }) },
  {
    weight: 2,
    arbitrary: fc.record({ op: fc.constantFrom('flush' as const, 'fsync' as const, 'reopen' as const), handle }),
  },
  {
    weight: 3,
    arbitrary: fc.record({ op: fc.constantFrom('stat' as const, 'idle' as const, 'other' as const, 'lose' as const) }),
  },
)

function codeOf(error: unknown): string {
  if (error instanceof PosixError) return error.code
  throw error
}

export class Play {
  readonly #model = Buffer.alloc(SPAN + 40_000)
  #size = 0
  #fill = 0
  #handles: number[] = []
  #appender = 0
  readonly #vfs: VfsContract
  readonly #other: VfsContract
  readonly #lose: () => void
  #ino = 0
  readonly #base: number

  /** `lose`: coherence is lost, or back. `base`: where in the file it takes place. */
  constructor(vfs: VfsContract, other: VfsContract, lose: () => void, base = BORDER) {
    this.#base = base
    this.#vfs = vfs
    this.#other = other
    this.#lose = lose
  }

  async start(): Promise<void> {
    const first = await this.#vfs.create(CALLER, ROOT_INO, Buffer.from('f'), 0o644, O_RDWR | O_CREAT)
    this.#ino = first.attr.ino
    this.#handles = [first.handle, await this.#open(O_RDWR)]
    this.#appender = await this.#open(O_RDWR | O_APPEND)
    await this.#vfs.setattr(CALLER, this.#ino, { sizeBytes: this.#base })
  }

  async #open(flags: number): Promise<number> {
    return (await this.#vfs.open(CALLER, this.#ino, flags)).handle
  }

  #handle(index: number): number {
    return this.#handles[index] ?? 0
  }

  #data(bytes: number): Buffer {
    return Buffer.alloc(bytes, (this.#fill = (this.#fill % 250) + 1))
  }

  async run(op: Op): Promise<void> {
    switch (op.op) {
      case 'write': {
        const data = this.#data(op.length)
        await this.#vfs.write(this.#handle(op.handle), this.#base + op.offset, data)
        this.#put(op.offset, data)
        data.fill(0xff)
        return
      }
      case 'append': {
        const data = this.#data(op.length)
        if (this.#size + data.length > this.#model.length) return
        await this.#vfs.write(this.#appender, 0, data)
        this.#put(this.#size, data)
        return
      }
      case 'truncate':
        await this.#vfs.setattr(CALLER, this.#ino, { sizeBytes: this.#base + op.size })
        this.#model.fill(0, op.size)
        this.#size = op.size
        return
      case 'punch':
      case 'zero':
      case 'allocate':
        return await this.#fallocate(op.op, this.#handle(op.handle), op.offset, op.length)
      case 'copy':
        return await this.#copy(op.from, op.to, op.length)
      case 'data':
      case 'hole':
        return await this.#seek(op.op, this.#handle(op.handle), op.offset)
      case 'read':
        return await this.#check(this.#vfs, this.#handle(op.handle), op.offset, op.length)
      case 'flush':
        return await this.#vfs.flush(this.#handle(op.handle))
      case 'fsync':
        return await this.#vfs.fsync(this.#handle(op.handle), true)
      case 'reopen':
        await this.#vfs.release(this.#handle(op.handle))
        this.#handles[op.handle] = await this.#open(O_RDWR)
        return
      case 'stat':
        return await this.#stat()
      case 'idle':
        for (let i = 0; i < 20; i++) await turn()
        return
      case 'lose':
        return this.#lose()
      case 'other':
        return await this.#checkElsewhere()
    }
  }

  async #fallocate(kind: keyof typeof FALLOCATE, handle: number, offset: number, length: number): Promise<void> {
    await this.#vfs.fallocate(handle, FALLOCATE[kind], this.#base + offset, length)
    if (kind !== 'allocate') this.#model.fill(0, offset, offset + length)
    if (kind !== 'punch') this.#size = Math.max(this.#size, offset + length)
  }

  async #copy(from: number, to: number, length: number): Promise<void> {
    const [source, target] = [this.#handle(0), this.#handle(1)]
    const expected = Math.max(0, Math.min(length, this.#size - from))
    const overlaps = from < to + length && to < from + length
    const outcome = await this.#vfs.copyRange(source, this.#base + from, target, this.#base + to, length).catch(codeOf)
    if (outcome !== (overlaps ? 'EINVAL' : expected)) throw new Error(`copied ${outcome}, not ${expected}`)
    if (!overlaps && expected > 0) this.#put(to, Buffer.from(this.#model.subarray(from, from + expected)))
  }

  /** Where a hole ends or begins is the store's to say, but all that it takes for a hole must be zeros. */
  async #seek(kind: 'data' | 'hole', handle: number, offset: number): Promise<void> {
    const found = await this.#vfs
      .seek(handle, this.#base + offset, kind === 'data' ? SEEK_DATA : SEEK_HOLE)
      .catch(codeOf)
    const end = typeof found === 'number' ? found - this.#base : this.#size
    if (typeof found !== 'number') {
      const isRight = found === 'ENXIO' && (kind === 'data' || offset >= this.#size)
      if (!isRight) throw new Error(`${kind} from ${offset} of ${this.#size}: ${found}`)
    } else if (end < offset || end > this.#size) throw new Error(`${kind} from ${offset} of ${this.#size} is at ${end}`)
    const hole =
      kind === 'data' ? this.#model.subarray(offset, end) : this.#model.subarray(end, Math.min(end + 1, this.#size))
    if (hole.some((byte) => byte !== 0))
      throw new Error(`${kind} from ${offset} is at ${end}: there are bytes in the hole`)
  }

  #put(at: number, data: Buffer): void {
    data.copy(this.#model, at)
    this.#size = Math.max(this.#size, at + data.length)
  }

  async #stat(): Promise<void> {
    const attr = await this.#vfs.getattr(CALLER, this.#ino)
    if (attr.sizeBytes !== this.#base + this.#size)
      throw new Error(`size ${attr.sizeBytes - this.#base}, not ${this.#size}`)
  }

  async #check(vfs: VfsContract, handle: number, from: number, bytes: number): Promise<void> {
    const expected = this.#model.subarray(Math.min(from, this.#size), Math.min(from + bytes, this.#size))
    const read = await vfs.read(handle, this.#base + from, bytes)
    if (read.equals(expected)) return
    const at = read.findIndex((byte, i) => byte !== expected[i])
    throw new Error(
      `read of ${from}+${bytes}: ${read.length} bytes, not ${expected.length}; first difference at ${from + at}`,
    )
  }

  /** Another client sees everything after a flush here. */
  async #checkElsewhere(): Promise<void> {
    await this.#vfs.flush(this.#appender)
    const { handle, attr } = await this.#other.open(CALLER, this.#ino, 0)
    if (attr.sizeBytes !== this.#base + this.#size)
      throw new Error(`elsewhere size ${attr.sizeBytes - this.#base}, not ${this.#size}`)
    await this.#check(this.#other, handle, 0, SPAN + 40_000)
    await this.#other.release(handle)
  }

  async end(): Promise<void> {
    await this.#checkElsewhere()
    await this.#check(this.#vfs, this.#handle(0), 0, SPAN + 40_000)
    for (const open of [...this.#handles, this.#appender]) await this.#vfs.release(open)
  }
}
