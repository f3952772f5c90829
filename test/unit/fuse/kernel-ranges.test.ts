/** FALLOCATE, LSEEK, COPY_FILE_RANGE and writes of the page cache: bytes in, bytes out. */
import t from 'tap'
import { silentLog } from '../../../src/base/log.js'
import { errnoName } from '../../../src/base/errno.js'
import { OPCODES } from '../../../src/fuse/kernel/opcodes.js'
import { FuseServer } from '../../../src/fuse/kernel/server.js'
import { MemoryVfs } from '../../helpers/memory-vfs.js'

const CALLER = { uid: 0, gid: 0, pid: 1 }
const O_APPEND = 0o2000
const O_RDWR = 2
const MIB = 1024 * 1024
const PUNCH = 3
const SEEK_DATA = 3
const SEEK_HOLE = 4
const WRITE_CACHE = 1

const IN_HEADER = 40
const OUT_HEADER = 16

class Peer {
  readonly vfs = new MemoryVfs()
  readonly #answers: Buffer[] = []
  readonly #server = new FuseServer({
    vfs: this.vfs,
    log: silentLog,
    send: (parts) => this.#answers.push(Buffer.concat(parts)),
    onRefused: () => undefined,
  })

  static async start(): Promise<Peer> {
    const peer = new Peer()
    await peer.#handle(26, Buffer.from([7, 0, 0, 0, 38, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]))
    return peer
  }

  async open(name: string, flags = O_RDWR): Promise<number> {
    return (await this.vfs.create(CALLER, 1, Buffer.from(name), 0o644, flags)).handle
  }

  /** The errno's name, or the answer's first 64 bits; 0 if it has none. */
  async ask(name: string, words: readonly (number | bigint)[], data = Buffer.alloc(0)): Promise<number | string> {
    const fixed = Buffer.alloc(words.length * 8)
    for (const [at, word] of words.entries()) fixed.writeBigUInt64LE(BigInt.asUintN(64, BigInt(word)), at * 8)
    const code = OPCODES.find((one) => one.name === name)?.code ?? 0
    const answer = await this.#handle(code, Buffer.concat([fixed, data]))
    const error = answer.readInt32LE(4)
    if (error !== 0) return errnoName(-error)
    return answer.length === OUT_HEADER ? 0 : Number(answer.readBigUInt64LE(OUT_HEADER))
  }

  async #handle(opcode: number, body: Buffer): Promise<Buffer> {
    const request = Buffer.alloc(IN_HEADER + body.length)
    request.writeUInt32LE(request.length, 0)
    request.writeUInt32LE(opcode, 4)
    request.set(body, IN_HEADER)
    await this.#server.handle(request)
    const answer = this.#answers.pop()
    if (answer === undefined) throw new Error('no answer')
    return answer
  }
}

t.test('fallocate takes handle, offset, length and mode; lseek answers where', async (t) => {
  const peer = await Peer.start()
  const handle = await peer.open('f')
  await peer.vfs.write(handle, 0, Buffer.alloc(3 * MIB, 1))
  t.equal(await peer.ask('fallocate', [handle, MIB, MIB, PUNCH]), 0)
  t.equal(await peer.ask('lseek', [handle, 5, SEEK_HOLE]), MIB)
  t.equal(await peer.ask('lseek', [handle, MIB, SEEK_DATA]), 2 * MIB)
  t.equal(await peer.ask('lseek', [handle, -1n, SEEK_DATA]), 'ENXIO')
  t.equal(await peer.ask('fallocate', [handle, 2n ** 60n, 10, 0]), 'EFBIG')
  t.equal(await peer.ask('fallocate', [handle, 0, 10, 8]), 'EOPNOTSUPP')
})

t.test('copy_file_range takes two handles and offsets, and answers a count of 32 bits', async (t) => {
  const peer = await Peer.start()
  const [from, to] = [await peer.open('from'), await peer.open('to')]
  await peer.vfs.write(from, 0, Buffer.from('abcdef'))
  t.equal(await peer.ask('copyFileRange', [from, 1, 7, to, 2, 2n ** 63n - 1n, 0]), 5)
  t.equal((await peer.vfs.read(to, 0, 10)).toString('latin1'), '\0\0bcdef')
  t.equal(await peer.ask('copyFileRange', [from, 1, 7, to, 2, 3, 1]), 'EINVAL', 'flags')
})

t.test('bytes of the page cache go where they lie, through a handle that appends', async (t) => {
  const peer = await Peer.start()
  const handle = await peer.open('f', O_RDWR | O_APPEND)
  await peer.vfs.write(handle, 0, Buffer.from('abcdef'))
  const write = (flags: number, text: string): Promise<number | string> =>
    peer.ask('write', [handle, 1, BigInt(text.length) + (BigInt(flags) << 32n), 0, 0], Buffer.from(text))
  t.equal(await write(WRITE_CACHE, 'XY'), 2)
  t.equal((await peer.vfs.read(handle, 0, 10)).toString(), 'aXYdef')
})

t.test('where a write goes is told by its own flags, whatever the file was opened with', async (t) => {
  const peer = await Peer.start()
  const [plain, appending] = [await peer.open('f'), await peer.open('f', O_RDWR | O_APPEND)]
  const write = (handle: number, flags: number, text: string): Promise<number | string> =>
    peer.ask('write', [handle, 1, text.length, 0, flags], Buffer.from(text))
  t.equal(await write(appending, O_RDWR | O_APPEND, 'abc'), 3)
  t.equal(await write(plain, O_RDWR, 'X'), 1)
  t.equal(await write(plain, O_RDWR | O_APPEND, 'd'), 1, 'told so later')
  t.equal(await write(appending, O_RDWR, 'YZ'), 2, 'not any more')
  t.equal((await peer.vfs.read(plain, 0, 10)).toString(), 'aYZd')
})
