/** FALLOCATE, LSEEK, COPY_FILE_RANGE and writes of the page cache: bytes in, bytes out. */
import t from 'tap'
import { silentLog } from '../../../src/base/log.js'
import { RangeHandlers } from '../../../src/fuse/kernel/handlers/ranges.js'
import { FileHandlers } from '../../../src/fuse/kernel/handlers/files.js'
import type { Answer } from '../../../src/fuse/kernel/handlers/request.js'
import { MemoryVfs } from '../../helpers/memory-vfs.js'
import { codeOf } from '../../helpers/vfs-fixture.js'

const CALLER = { uid: 0, gid: 0, pid: 1 }
const O_APPEND = 0o2000
const O_RDWR = 2
const MIB = 1024 * 1024
const PUNCH = 3
const SEEK_DATA = 3
const SEEK_HOLE = 4
const WRITE_CACHE = 1

class Peer {
  readonly vfs = new MemoryVfs()
  readonly #table = { ...new FileHandlers(this.vfs).table, ...new RangeHandlers(this.vfs).table }

  async open(name: string, flags = O_RDWR): Promise<number> {
    return (await this.vfs.create(CALLER, 1, Buffer.from(name), 0o644, flags)).handle
  }

  async ask(name: string, words: readonly (number | bigint)[], data = Buffer.alloc(0)): Promise<Answer> {
    const fixed = Buffer.alloc(words.length * 8)
    for (const [at, word] of words.entries()) fixed.writeBigUInt64LE(BigInt.asUintN(64, BigInt(word)), at * 8)
    const handler = this.#table[name]
    if (handler === undefined) throw new Error(`no handler ${name}`)
    const request = { node: 0, caller: CALLER, body: Buffer.concat([fixed, data]), names: [], rest: fixed.length }
    return await handler({ ...request, agreed: 0, signal: new AbortController().signal })
  }

  async number(name: string, words: readonly (number | bigint)[]): Promise<number> {
    const answer = await this.ask(name, words)
    if (!Buffer.isBuffer(answer) || answer.length !== 8) throw new Error('an answer of 8 bytes')
    return Number(answer.readBigUInt64LE(0))
  }
}

t.test('fallocate takes handle, offset, length and mode; lseek answers where', async (t) => {
  const peer = new Peer()
  const handle = await peer.open('f')
  await peer.vfs.write(handle, 0, Buffer.alloc(3 * MIB, 1))
  t.equal(await peer.ask('fallocate', [handle, MIB, MIB, PUNCH]), undefined)
  t.equal(await peer.number('lseek', [handle, 5, SEEK_HOLE]), MIB)
  t.equal(await peer.number('lseek', [handle, MIB, SEEK_DATA]), 2 * MIB)
  t.equal(await codeOf(peer.ask('lseek', [handle, -1n, SEEK_DATA])), 'ENXIO')
  t.equal(await codeOf(peer.ask('fallocate', [handle, 2n ** 60n, 10, 0])), 'EFBIG')
  t.equal(await codeOf(peer.ask('fallocate', [handle, 0, 10, 8])), 'EOPNOTSUPP')
})

t.test('copy_file_range takes two handles and offsets, and answers a count of 32 bits', async (t) => {
  const peer = new Peer()
  const [from, to] = [await peer.open('from'), await peer.open('to')]
  await peer.vfs.write(from, 0, Buffer.from('abcdef'))
  t.equal(await peer.number('copyFileRange', [from, 1, 7, to, 2, 2n ** 63n - 1n, 0]), 5)
  t.equal((await peer.vfs.read(to, 0, 10)).toString('latin1'), '\0\0bcdef')
  t.equal(await codeOf(peer.ask('copyFileRange', [from, 1, 7, to, 2, 3, 1])), 'EINVAL', 'flags')
})

t.test('bytes of the page cache go where they lie, through a handle that appends', async (t) => {
  const peer = new Peer()
  const handle = await peer.open('f', O_RDWR | O_APPEND)
  await peer.vfs.write(handle, 0, Buffer.from('abcdef'))
  const write = (flags: number, text: string): Promise<Answer> =>
    peer.ask('write', [handle, 1, BigInt(text.length) + (BigInt(flags) << 32n), 0, 0], Buffer.from(text))
  await write(WRITE_CACHE, 'XY')
  t.equal((await peer.vfs.read(handle, 0, 10)).toString(), 'aXYdef')
  await write(0, 'Z')
  t.equal((await peer.vfs.read(handle, 0, 10)).toString(), 'aXYdefZ')
  await new FileHandlers(peer.vfs).releaseAll(silentLog)
})
