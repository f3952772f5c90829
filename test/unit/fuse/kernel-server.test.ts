/** The protocol without a kernel: bytes in, bytes out. */
import { setImmediate as turn } from 'node:timers/promises'
import fc from 'fast-check'
import t from 'tap'
import { silentLog } from '../../../src/base/log.js'
import { OPCODES } from '../../../src/fuse/kernel/opcodes.js'
import { FuseServer } from '../../../src/fuse/kernel/server.js'
import { FusePeer, cString, words } from '../../helpers/fuse-peer.js'
import { MemoryVfs } from '../../helpers/memory-vfs.js'

const OUT_HEADER = 16
const opcodeOf = (name: string): number => OPCODES.find((one) => one.name === name)?.code ?? 0

function request(opcode: number, node: number, unique: number, body: Buffer): Buffer {
  const out = Buffer.alloc(40 + body.length)
  out.writeUInt32LE(out.length, 0)
  out.writeUInt32LE(opcode, 4)
  out.writeBigUInt64LE(BigInt(unique), 8)
  out.writeBigUInt64LE(BigInt(node), 16)
  out.set(body, 40)
  return out
}

function initBody(major: number, minor: number): Buffer {
  const body = Buffer.alloc(64)
  body.writeUInt32LE(major, 0)
  body.writeUInt32LE(minor, 4)
  body.writeUInt32LE(131072, 8)
  body.writeUInt32LE(0xffffffff, 12)
  return body
}

class Peer {
  readonly answers: Buffer[] = []
  refused = 0
  readonly vfs = new MemoryVfs()
  readonly server = new FuseServer({
    vfs: this.vfs,
    log: silentLog,
    send: (parts) => this.answers.push(Buffer.concat(parts)),
    onRefused: () => this.refused++,
  })
  #unique = 100

  async ask(opcode: number | string, node: number, body: Buffer): Promise<{ error: number; body: Buffer }> {
    const unique = this.#unique++
    const before = this.answers.length
    await this.server.handle(request(typeof opcode === 'string' ? opcodeOf(opcode) : opcode, node, unique, body))
    const [answer, ...more] = this.answers.slice(before)
    if (answer === undefined || more.length > 0) throw new Error(`${more.length + 1} answers`)
    if (answer.readUInt32LE(0) !== answer.length) throw new Error('an answer says another length than it has')
    if (Number(answer.readBigUInt64LE(8)) !== unique) throw new Error('an answer to another request')
    return { error: answer.readInt32LE(4), body: answer.subarray(OUT_HEADER) }
  }

  async init(): Promise<this> {
    await this.ask('init', 0, initBody(7, 38))
    return this
  }
}

t.test('INIT takes the lower minor version, only flags that were offered, and 1 MiB writes', async (t) => {
  const { error, body } = await new Peer().ask('init', 0, initBody(7, 99))
  t.equal(error, 0)
  t.equal(body.readUInt32LE(0), 7)
  t.equal(body.readUInt32LE(4), 45)
  t.equal(body.readUInt32LE(20), 1024 * 1024)
  t.equal((await new Peer().ask('init', 0, initBody(7, 31))).body.readUInt32LE(4), 31)
  const few = initBody(7, 38)
  few.writeUInt32LE(1, 12)
  t.equal((await new Peer().ask('init', 0, few)).body.readUInt32LE(12), 1)
})

t.test('a kernel older than 7.31 is refused, and the owner is told', async (t) => {
  const peer = new Peer()
  t.equal((await peer.ask('init', 0, initBody(7, 30))).error, -22)
  t.equal(peer.refused, 1)
})

t.test('a newer major version is answered with ours, so that the kernel asks again', async (t) => {
  const { error, body } = await new Peer().ask('init', 0, initBody(8, 0))
  t.equal(error, 0)
  t.equal(body.readUInt32LE(0), 7)
})

t.test('before INIT everything is EIO, and an unknown opcode is ENOSYS', async (t) => {
  const peer = new Peer()
  t.equal((await peer.ask('getattr', 1, Buffer.alloc(16))).error, -5)
  t.equal((await peer.ask(9999, 1, Buffer.alloc(0))).error, -38)
})

t.test('getattr of the root is a directory with nanosecond times', async (t) => {
  const peer = await new Peer().init()
  const { error, body } = await peer.ask('getattr', 1, Buffer.alloc(16))
  t.equal(error, 0)
  t.equal(body.length, 104)
  t.equal(body.readUInt32LE(16 + 60) & 0o170000, 0o040000)
})

t.test('the second word of flags is answered only where there is one', async (t) => {
  const initExt = 1 << 30
  const { body } = await new Peer().ask('init', 0, initBody(7, 45))
  t.not(body.readUInt32LE(12) & initExt, 0)
  const old = initBody(7, 35)
  old.writeUInt32LE(0xffffffff & ~initExt & 0x7fffffff, 12)
  old.writeUInt32LE(0xffffffff, 16)
  const answer = await new Peer().ask('init', 0, old)
  t.equal(answer.body.readUInt32LE(12) & initExt, 0)
  t.equal(answer.body.readUInt32LE(32), 0)
  t.equal((await new Peer().ask('init', 0, initBody(7, 31).subarray(0, 16))).error, 0, 'a body of the oldest length')
})

t.test('statx tells the time of birth, and the halves of a device number', async (t) => {
  const peer = new Peer()
  await peer.init()
  const mknod = Buffer.concat([Buffer.alloc(16), Buffer.from('device\0')])
  mknod.writeUInt32LE(0o020600, 0)
  // major 259, minor 66_051, as mknod(2) packs them
  mknod.writeUInt32LE((66_051 & 0xff) | (259 << 8) | ((66_051 & ~0xff) << 12), 4)
  const node = Number((await peer.ask('mknod', 1, mknod)).body.readBigUInt64LE(0))
  const { body, error } = await peer.ask('statx', node, Buffer.alloc(24))
  t.equal(error, 0)
  t.equal(body.length, 288)
  t.equal(body.readUInt32LE(32) & 0x800, 0x800, 'STATX_BTIME')
  t.equal(body.readUInt16LE(32 + 28), 0o020600)
  t.equal(Number(body.readBigUInt64LE(32 + 32)), node)
  const { btime, ctime } = await peer.vfs.getattr({ uid: 0, gid: 0, pid: 0 }, node)
  t.same([Number(body.readBigInt64LE(32 + 80)), body.readUInt32LE(32 + 88)], [btime.sec, btime.nsec])
  t.same([Number(body.readBigInt64LE(32 + 96)), body.readUInt32LE(32 + 104)], [ctime.sec, ctime.nsec])
  t.same([body.readUInt32LE(32 + 128), body.readUInt32LE(32 + 132)], [259, 66_051])
})

t.test('create, write, read and lookup go through, and 64-bit offsets are exact', async (t) => {
  const peer = await new Peer().init()
  const create = Buffer.concat([Buffer.alloc(16), Buffer.from('name\0')])
  create.writeUInt32LE(0o2 | 0o100, 0)
  create.writeUInt32LE(0o644, 4)
  const created = await peer.ask('create', 1, create)
  t.equal(created.error, 0)
  const node = Number(created.body.readBigUInt64LE(0))
  const handle = created.body.readBigUInt64LE(128)
  const offset = 2n ** 40n + 3n
  const write = Buffer.concat([Buffer.alloc(40), Buffer.from('hello')])
  write.writeBigUInt64LE(handle, 0)
  write.writeBigUInt64LE(offset, 8)
  write.writeUInt32LE(5, 16)
  t.equal((await peer.ask('write', node, write)).body.readUInt32LE(0), 5)
  const read = Buffer.alloc(40)
  read.writeBigUInt64LE(handle, 0)
  read.writeBigUInt64LE(offset - 1n, 8)
  read.writeUInt32LE(100, 16)
  t.same((await peer.ask('read', node, read)).body, Buffer.from('\0hello'))
  for (const far of [2n ** 53n - 1n, 2n ** 53n, 2n ** 63n - 1n]) {
    read.writeBigUInt64LE(far, 8)
    const nothing = await peer.ask('read', node, read)
    t.same([nothing.error, nothing.body.length], [0, 0], `nothing at ${far}`)
  }
  const { body } = await peer.ask('lookup', 1, Buffer.from('name\0'))
  t.equal(Number(body.readBigUInt64LE(0)), node)
  t.equal(Number(body.readBigUInt64LE(40 + 8)), Number(offset) + 5)
})

/** It takes its time before it looks at names and bytes. */
class SlowVfs extends MemoryVfs {
  override async create(...all: Parameters<MemoryVfs['create']>): ReturnType<MemoryVfs['create']> {
    await turn()
    return super.create(...all)
  }

  override async write(...all: Parameters<MemoryVfs['write']>): Promise<number> {
    await turn()
    return super.write(...all)
  }
}

t.test(
  'the bytes of a request that waits stay what they were, though the next one is read into the same buffer',
  async (t) => {
    const peer = new FusePeer(new SlowVfs())
    await peer.init()
    const { body } = await peer.ask('create', 1, [words(0o102, 0o644, 0, 0), cString('name')])
    const handle = body.subarray(128, 136)
    const offset = Buffer.alloc(8)
    const wrote = await peer.ask('write', 2, [handle, offset, words(5, 0, 0, 0, 0, 0), Buffer.from('hello')])
    t.equal(wrote.body.readUInt32LE(0), 5)
    const read = await peer.ask('read', 2, [handle, offset, words(100, 0, 0, 0, 0, 0)])
    t.equal(read.body.toString(), 'hello')
    t.equal((await peer.ask('lookup', 1, [cString('name')])).error, 0)
  },
)

t.test('forget gets no answer', async (t) => {
  const peer = await new Peer().init()
  const before = peer.answers.length
  await peer.server.handle(request(opcodeOf('forget'), 1, 7, Buffer.alloc(8)))
  await peer.server.handle(request(opcodeOf('batchForget'), 1, 8, Buffer.alloc(24)))
  t.equal(peer.answers.length, before)
})

t.test('no request, however malformed, throws, hangs or is answered other than once', async (t) => {
  const silent = new Set(OPCODES.filter((one) => !one.replies).map((one) => one.code))
  const codes = OPCODES.map((one) => one.code).filter((code) => code !== opcodeOf('init'))
  const anyOpcode = fc.oneof(fc.constantFrom(...codes), fc.nat(60), fc.nat(0xffffffff))
  const anyNode = fc.oneof(fc.constantFrom(0, 1, 2, 3), fc.maxSafeNat())
  const anyBody = fc.oneof(
    fc.uint8Array({ maxLength: 200 }),
    fc.uint8Array({ maxLength: 60 }).map((bytes) => Uint8Array.from([...bytes, 0, 97, 0, 98, 0])),
    fc.nat(200).map((length) => new Uint8Array(length)),
  )
  await fc.assert(
    fc.asyncProperty(fc.array(fc.tuple(anyOpcode, anyNode, anyBody), { maxLength: 20 }), async (requests) => {
      const peer = await new Peer().init()
      for (const [code, node, body] of requests) {
        if (code === opcodeOf('init')) continue
        const before = peer.answers.length
        await peer.server.handle(request(code, node, 5, Buffer.from(body)))
        const wanted = silent.has(code) ? 0 : 1
        if (peer.answers.length - before !== wanted) return false
      }
      return true
    }),
    { numRuns: 300 },
  )
  t.pass('300 series of requests')
})

t.test('bytes that are no request are dropped', async (t) => {
  const peer = await new Peer().init()
  const before = peer.answers.length
  await fc.assert(
    fc.asyncProperty(fc.uint8Array({ maxLength: 100 }), async (bytes) => {
      const buffer = Buffer.from(bytes)
      if (buffer.length >= 4 && buffer.readUInt32LE(0) === buffer.length) return
      await peer.server.handle(buffer)
    }),
  )
  t.equal(peer.answers.length, before)
})

t.test(
  'an inode that is gone is ESTALE, so that the kernel looks its name up again; a name that is missing ENOENT',
  async (t) => {
    const peer = await new Peer().init()
    const [gone, stale, missing] = [12345, -116, -2]
    for (const [name, body] of [
      ['getattr', 16],
      ['setattr', 88],
      ['readlink', 0],
      ['open', 8],
      ['opendir', 8],
    ] as const) {
      t.equal((await peer.ask(name, gone, Buffer.alloc(body))).error, stale, name)
    }
    t.equal((await peer.ask('lookup', 1, Buffer.from('none\0'))).error, missing)
  },
)
