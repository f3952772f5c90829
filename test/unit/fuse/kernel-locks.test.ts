/** File locks in the protocol: bytes in, bytes out. */
import t from 'tap'
import { setImmediate as turn } from 'node:timers/promises'
import { silentLog } from '../../../src/base/log.js'
import { OPCODES } from '../../../src/fuse/kernel/opcodes.js'
import { FuseServer } from '../../../src/fuse/kernel/server.js'
import { MemoryVfs } from '../../helpers/memory-vfs.js'

const OFFSET_MAX = 2n ** 63n - 1n
const [F_RDLCK, F_WRLCK, F_UNLCK] = [0, 1, 2]
const LK_FLOCK = 1
const POSIX_LOCKS = 1 << 1
const FLOCK_LOCKS = 1 << 10

/** The kernel's side of one mount with one file. */
class Kernel {
  readonly answers = new Map<number, Buffer>()
  readonly server = new FuseServer({
    vfs: new MemoryVfs(),
    log: silentLog,
    send: (parts) => {
      const answer = Buffer.concat(parts)
      const unique = Number(answer.readBigUInt64LE(8))
      if (this.answers.has(unique)) throw new Error('answered twice')
      this.answers.set(unique, answer)
    },
    onRefused: () => undefined,
  })
  flags = 0
  node = 0
  #unique = 2

  static async start(): Promise<Kernel> {
    const kernel = new Kernel()
    const init = Buffer.alloc(64)
    init.writeUInt32LE(7, 0)
    init.writeUInt32LE(38, 4)
    init.writeUInt32LE(0xffffffff, 12)
    kernel.flags = (await kernel.ask('init', init)).body.readUInt32LE(12)
    const { body } = await kernel.ask('create', Buffer.concat([openBody(0o102), Buffer.from('file\0')]), 1)
    kernel.node = Number(body.readBigUInt64LE(0))
    return kernel
  }

  /** Sends and does not wait; answers the number by which the answer will come. */
  send(name: string, body: Buffer, node = this.node): number {
    const unique = (this.#unique += 2)
    const head = Buffer.alloc(40)
    head.writeUInt32LE(40 + body.length, 0)
    head.writeUInt32LE(OPCODES.find((one) => one.name === name)?.code ?? 0, 4)
    head.writeBigUInt64LE(BigInt(unique), 8)
    head.writeBigUInt64LE(BigInt(node), 16)
    void this.server.handle(Buffer.concat([head, body]))
    return unique
  }

  async answer(unique: number): Promise<{ error: number; body: Buffer }> {
    for (let i = 0; i < 1000 && !this.answers.has(unique); i++) await turn()
    const answer = this.answers.get(unique)
    if (answer === undefined) throw new Error('no answer')
    return { error: answer.readInt32LE(4), body: answer.subarray(16) }
  }

  ask(name: string, body: Buffer, node = this.node): Promise<{ error: number; body: Buffer }> {
    return this.answer(this.send(name, body, node))
  }

  async open(): Promise<bigint> {
    return (await this.ask('open', openBody(2).subarray(0, 8))).body.readBigUInt64LE(0)
  }
}

function openBody(flags: number): Buffer {
  const body = Buffer.alloc(16)
  body.writeUInt32LE(flags, 0)
  body.writeUInt32LE(0o644, 4)
  return body
}

interface Lk {
  readonly handle: bigint
  readonly owner?: bigint
  readonly type: number
  readonly start?: bigint
  readonly end?: bigint
  readonly pid?: number
  readonly flags?: number
}

/** struct fuse_lk_in. */
function lk({ handle, owner = 1n, type, start = 0n, end = OFFSET_MAX, pid = 77, flags = 0 }: Lk): Buffer {
  const body = Buffer.alloc(48)
  body.writeBigUInt64LE(handle, 0)
  body.writeBigUInt64LE(owner, 8)
  body.writeBigUInt64LE(start, 16)
  body.writeBigUInt64LE(end, 24)
  body.writeUInt32LE(type, 32)
  body.writeUInt32LE(pid, 36)
  body.writeUInt32LE(flags, 40)
  return body
}

/** struct fuse_flush_in and fuse_release_in. */
function closeBody(handle: bigint, owner: bigint): Buffer {
  const body = Buffer.alloc(24)
  body.writeBigUInt64LE(handle, 0)
  body.writeBigUInt64LE(owner, 16)
  return body
}

t.test('INIT takes both kinds of locks', async (t) => {
  const { flags } = await Kernel.start()
  t.equal(flags & (POSIX_LOCKS | FLOCK_LOCKS), POSIX_LOCKS | FLOCK_LOCKS)
})

t.test('GETLK tells the conflict with its bounds and pid, F_UNLCK without one', async (t) => {
  const kernel = await Kernel.start()
  const handle = await kernel.open()
  const high = 0xffffffff_fffffffen
  t.equal(
    (await kernel.ask('setlk', lk({ handle, owner: high, type: F_WRLCK, start: 2n ** 62n, end: 2n ** 62n + 9n })))
      .error,
    0,
  )
  const { body } = await kernel.ask('getlk', lk({ handle, owner: high - 1n, type: F_RDLCK }))
  t.equal(body.length, 24)
  t.equal(body.readBigUInt64LE(0), 2n ** 62n)
  t.equal(body.readBigUInt64LE(8), 2n ** 62n + 9n)
  t.equal(body.readUInt32LE(16), F_WRLCK)
  t.equal(body.readUInt32LE(20), 77)
  const none = await kernel.ask('getlk', lk({ handle, owner: high, type: F_WRLCK }))
  t.equal(none.body.readUInt32LE(16), F_UNLCK)
})

t.test('SETLK: EAGAIN on a conflict; flock and record locks do not see each other', async (t) => {
  const kernel = await Kernel.start()
  const handle = await kernel.open()
  t.equal((await kernel.ask('setlk', lk({ handle, type: F_WRLCK }))).error, 0)
  t.equal((await kernel.ask('setlk', lk({ handle, owner: 2n, type: F_RDLCK }))).error, -11)
  t.equal((await kernel.ask('setlk', lk({ handle, owner: 2n, type: F_WRLCK, flags: LK_FLOCK }))).error, 0)
  t.equal((await kernel.ask('setlk', lk({ handle, owner: 1n, type: F_RDLCK, flags: LK_FLOCK }))).error, -11)
})

t.test('SETLKW waits, and is answered once when the lock is free', async (t) => {
  const kernel = await Kernel.start()
  const handle = await kernel.open()
  await kernel.ask('setlk', lk({ handle, type: F_WRLCK }))
  const waiting = kernel.send('setlkw', lk({ handle, owner: 2n, type: F_WRLCK }))
  for (let i = 0; i < 50; i++) await turn()
  t.notOk(kernel.answers.has(waiting))
  await kernel.ask('setlk', lk({ handle, type: F_UNLCK }))
  t.equal((await kernel.answer(waiting)).error, 0)
})

t.test('INTERRUPT of SETLKW is EINTR, and the lock is not held afterwards', async (t) => {
  const kernel = await Kernel.start()
  const handle = await kernel.open()
  await kernel.ask('setlk', lk({ handle, type: F_WRLCK }))
  const waiting = kernel.send('setlkw', lk({ handle, owner: 2n, type: F_WRLCK }))
  await turn()
  const interrupt = Buffer.alloc(8)
  interrupt.writeBigUInt64LE(BigInt(waiting), 0)
  kernel.send('interrupt', interrupt)
  t.equal((await kernel.answer(waiting)).error, -4)
  await kernel.ask('setlk', lk({ handle, type: F_UNLCK }))
  t.equal((await kernel.ask('setlk', lk({ handle, owner: 3n, type: F_WRLCK }))).error, 0)
})

t.test('FLUSH gives back the record locks of its owner, RELEASE what is left', async (t) => {
  const kernel = await Kernel.start()
  const [handle, other] = [await kernel.open(), await kernel.open()]
  const ofHandle = 0x1234_5678_9abc_def0n
  await kernel.ask('setlk', lk({ handle, owner: 1n, type: F_WRLCK, end: 9n }))
  await kernel.ask('setlk', lk({ handle, owner: ofHandle, type: F_WRLCK, start: 10n, end: 19n }))
  await kernel.ask('setlk', lk({ handle, owner: ofHandle, type: F_WRLCK, flags: LK_FLOCK }))
  const tries = async (): Promise<number[]> => {
    const errors = []
    for (const [start, end, flags] of [
      [0n, 9n, 0],
      [10n, 19n, 0],
      [0n, OFFSET_MAX, LK_FLOCK],
    ] as const) {
      errors.push((await kernel.ask('setlk', lk({ handle: other, owner: 9n, type: F_RDLCK, start, end, flags }))).error)
    }
    return errors
  }
  await kernel.ask('flush', closeBody(handle, 1n))
  t.strictSame(await tries(), [0, -11, -11])
  await kernel.ask('release', closeBody(handle, ofHandle))
  t.strictSame(await tries(), [0, 0, 0])
})

t.test('requests that make no sense are EINVAL, unknown handles EBADF', async (t) => {
  const kernel = await Kernel.start()
  const handle = await kernel.open()
  const errorOf = async (name: string, body: Buffer): Promise<number> => (await kernel.ask(name, body)).error
  t.equal(await errorOf('setlk', lk({ handle, type: 3 })), -22)
  t.equal(await errorOf('setlk', lk({ handle, type: F_RDLCK, start: 5n, end: 3n })), -22)
  t.equal(await errorOf('setlk', lk({ handle, type: F_RDLCK, end: 2n ** 64n - 1n })), -22)
  t.equal(await errorOf('getlk', lk({ handle, type: F_UNLCK })), -22)
  t.equal(await errorOf('setlk', lk({ handle, type: F_RDLCK }).subarray(0, 40)), -22)
  t.equal(await errorOf('setlk', lk({ handle: 999n, type: F_RDLCK })), -9)
})

t.test('when the kernel lets go of the mount, nobody waits on', async (t) => {
  const kernel = await Kernel.start()
  const handle = await kernel.open()
  await kernel.ask('setlk', lk({ handle, type: F_WRLCK }))
  const waiting = kernel.send('setlkw', lk({ handle, owner: 2n, type: F_WRLCK }))
  await turn()
  await kernel.server.end()
  t.equal((await kernel.answer(waiting)).error, -4)
})
