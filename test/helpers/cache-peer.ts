/** A kernel driver without a kernel: requests as bytes, answers as bytes, and notifications that a test ends by hand. */
import type { Clock } from '../../src/base/clock.js'
import { silentLog } from '../../src/base/log.js'
import type { NotifierThreads, StartThreads } from '../../src/fuse/kernel/notifier.js'
import { OPCODES } from '../../src/fuse/kernel/opcodes.js'
import { FuseServer } from '../../src/fuse/kernel/server.js'
import type { VfsContract } from '../../src/vfs/contract.js'

const IN_HEADER_BYTES = 40
const OUT_HEADER_BYTES = 16
const ENTRY_ATTR_AT = 40
/** FOPEN_DIRECT_IO, FOPEN_KEEP_CACHE. */
const PAGE_FLAGS = 3

/** What a notification says, in words: `attr 5`, `data 5`, `entry 1/name`, `epoch`. */
export function say(bytes: Buffer): string {
  const code = bytes.readInt32LE(4)
  const ino = bytes.length > OUT_HEADER_BYTES ? Number(bytes.readBigUInt64LE(16)) : 0
  if (code === 2) return `${bytes.readBigInt64LE(24) < 0n ? 'attr' : 'data'} ${ino}`
  if (code === 3) return `entry ${ino}/${bytes.subarray(32, -1).toString()}`
  return code === 8 ? 'epoch' : `code ${code}`
}

interface Written {
  readonly text: string
  readonly done: (errno: number) => void
}

/** The threads of all lanes: they write nothing until they are told. */
export class FakeThreads {
  /** Given to threads and not done. */
  readonly writing: Written[] = []
  /** All that was given to them since the last look. */
  #seen: string[] = []
  /** Every write succeeds at once. */
  isQuick = true
  isClosed = false

  readonly start: StartThreads = (_threads, onDone) => {
    const send = (id: number, bytes: Buffer): void => {
      const text = say(bytes)
      this.#seen.push(text)
      const done = (errno: number): void => {
        onDone(id, errno)
      }
      if (this.isQuick) queueMicrotask(() => done(0))
      else this.writing.push({ text, done })
    }
    const threads: NotifierThreads = { send, close: () => (this.isClosed = true) }
    return threads
  }

  /** What was written since the last call. */
  take(): string[] {
    return this.#seen.splice(0)
  }

  /** The oldest write with this text ends. */
  end(text: string, errno = 0): void {
    const at = this.writing.findIndex((one) => one.text === text)
    const [one] = at < 0 ? [] : this.writing.splice(at, 1)
    if (one === undefined) throw new Error(`${text} is not being written`)
    one.done(errno)
  }
}

export interface EntryReply {
  readonly ino: number
  readonly entryMs: number
  readonly attrMs: number
  readonly sizeBytes: number
}

export interface Reply {
  readonly error: number
  readonly body: Buffer
}

export class CachePeer {
  readonly threads = new FakeThreads()
  readonly server: FuseServer
  readonly #answers = new Map<number, Reply>()
  /** How many answers came. */
  answered = 0
  #unique = 10

  constructor(vfs: VfsContract, clock: Clock, kernelMinor = 45, pagesMax = 1_000) {
    this.server = new FuseServer({
      vfs,
      clock,
      log: silentLog,
      pagesMax,
      startThreads: this.threads.start,
      onRefused: () => undefined,
      send: (parts) => {
        const bytes = Buffer.concat(parts)
        const unique = Number(bytes.readBigUInt64LE(8))
        this.answered++
        this.#answers.set(unique, { error: bytes.readInt32LE(4), body: bytes.subarray(OUT_HEADER_BYTES) })
      },
    })
    const init = Buffer.alloc(64)
    init.writeUInt32LE(7, 0)
    init.writeUInt32LE(kernelMinor, 4)
    init.writeUInt32LE(0xffffffff, 12)
    init.writeUInt32LE(0xffffffff, 16)
    void this.server.handle(request(26, 0, 1, 0, init))
  }

  /** `pid`: the thread that asks. */
  async ask(name: string, node: number, body: Buffer = Buffer.alloc(0), pid = 7): Promise<Reply> {
    const unique = this.#unique++
    const code = OPCODES.find((one) => one.name === name)?.code ?? 0
    await this.server.handle(request(code, node, unique, pid, body))
    const reply = this.#answers.get(unique)
    if (reply === undefined) throw new Error(`${name} was not answered`)
    return reply
  }

  async lookup(parent: number, name: string, pid = 7): Promise<EntryReply & { readonly error: number }> {
    const { error, body } = await this.ask('lookup', parent, Buffer.from(`${name}\0`), pid)
    const entry = error === 0 ? readEntry(body) : { ino: 0, entryMs: 0, attrMs: 0, sizeBytes: 0 }
    return { error, ...entry }
  }

  async getattr(
    ino: number,
    pid = 7,
  ): Promise<{ readonly attrMs: number; readonly mode: number; readonly error: number }> {
    const { error, body } = await this.ask('getattr', ino, Buffer.alloc(16), pid)
    if (error !== 0) return { error, attrMs: 0, mode: 0 }
    return { error, attrMs: readMs(body, 0, 8), mode: body.readUInt32LE(16 + 60) & 0o7777 }
  }

  /** `flags`: of the answer, those that say what becomes of the page cache. */
  async open(ino: number, flags = 0, pid = 7): Promise<{ readonly error: number; readonly flags: number }> {
    const body = Buffer.alloc(8)
    body.writeUInt32LE(flags, 0)
    const reply = await this.ask('open', ino, body, pid)
    return { error: reply.error, flags: reply.error === 0 ? reply.body.readUInt32LE(8) & PAGE_FLAGS : 0 }
  }
}

export function readEntry(body: Buffer, at = 0): EntryReply {
  return {
    ino: Number(body.readBigUInt64LE(at)),
    entryMs: readMs(body, at + 16, at + 32),
    attrMs: readMs(body, at + 24, at + 36),
    sizeBytes: Number(body.readBigUInt64LE(at + ENTRY_ATTR_AT + 8)),
  }
}

function readMs(body: Buffer, secondsAt: number, nanosecondsAt: number): number {
  return Number(body.readBigUInt64LE(secondsAt)) * 1000 + body.readUInt32LE(nanosecondsAt) / 1e6
}

function request(opcode: number, node: number, unique: number, pid: number, body: Buffer): Buffer {
  const out = Buffer.alloc(IN_HEADER_BYTES + body.length)
  out.writeUInt32LE(out.length, 0)
  out.writeUInt32LE(opcode, 4)
  out.writeBigUInt64LE(BigInt(unique), 8)
  out.writeBigUInt64LE(BigInt(node), 16)
  out.writeUInt32LE(pid, 32)
  out.set(body, IN_HEADER_BYTES)
  return out
}
