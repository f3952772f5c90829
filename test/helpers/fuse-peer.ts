/** The kernel's side of the protocol for tests: requests as bytes, each answered once. */
import { silentLog } from '../../src/base/log.js'
import { Metrics } from '../../src/base/metrics.js'
import { OPCODES } from '../../src/fuse/kernel/opcodes.js'
import { FuseServer } from '../../src/fuse/kernel/server.js'
import type { VfsContract } from '../../src/vfs/contract.js'

const IN_HEADER = 40
const OUT_HEADER = 16

export interface PeerAnswer {
  /** 0 or a negative errno. */
  readonly error: number
  readonly body: Buffer
}

export interface PeerCaller {
  readonly uid: number
  readonly gid: number
  /** Default 1. */
  readonly pid?: number
}

/** 32-bit words, as most of the structs of requests are. */
export function words(...values: readonly number[]): Buffer {
  const out = Buffer.alloc(values.length * 4)
  for (const [at, value] of values.entries()) out.writeUInt32LE(value >>> 0, at * 4)
  return out
}

export function cString(text: string): Buffer {
  return Buffer.from(`${text}\0`, 'latin1')
}

export class FusePeer {
  readonly #server: FuseServer
  readonly #answers: Buffer[] = []
  readonly metrics = new Metrics()
  #unique = 0

  constructor(vfs: VfsContract) {
    this.#server = new FuseServer({
      vfs,
      log: silentLog,
      metrics: this.metrics,
      send: (parts) => this.#answers.push(Buffer.concat(parts)),
      onRefused: () => undefined,
    })
  }

  /** `offered`: the first word of flags. Answers the flags that were taken. */
  async init(offered = 0xffffffff): Promise<number> {
    const { body } = await this.ask('init', 0, [words(7, 38, 131072, offered), Buffer.alloc(48)])
    return body.readUInt32LE(12)
  }

  async ask(
    name: string,
    node: number,
    parts: readonly Buffer[],
    { uid, gid, pid = 1 }: PeerCaller = { uid: 0, gid: 0 },
  ): Promise<PeerAnswer> {
    const opcode = OPCODES.find((one) => one.name === name)?.code ?? 0
    const body = Buffer.concat(parts)
    const header = words(IN_HEADER + body.length, opcode, ++this.#unique, 0, node, 0, uid, gid, pid, 0)
    const request = Buffer.concat([header, body])
    const done = this.#server.handle(request, true)
    // Where it was read, the next one is.
    request.fill(0xff)
    await done
    const [answer] = this.#answers.splice(0)
    if (answer?.readUInt32LE(8) !== this.#unique) throw new Error(`no answer to ${name}`)
    return { error: answer.readInt32LE(4), body: answer.subarray(OUT_HEADER) }
  }
}
