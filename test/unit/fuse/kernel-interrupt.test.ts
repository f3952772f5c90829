/** INTERRUPT, bytes in and bytes out, and what proc(5) says of signals. */
import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import { lend } from '../../../src/base/lent.js'
import { silentLog } from '../../../src/base/log.js'
import { hasDeadlySignal, isDying } from '../../../src/fuse/kernel/dying.js'
import { OPCODES } from '../../../src/fuse/kernel/opcodes.js'
import { FuseServer } from '../../../src/fuse/kernel/server.js'
import type { VfsContract } from '../../../src/vfs/contract.js'
import { MemoryVfs } from '../../helpers/memory-vfs.js'

const EINTR = -4
const CALLER = { uid: 0, gid: 0, pid: 0 }
const codeOf = (name: string): number => OPCODES.find((one) => one.name === name)?.code ?? 0

/** A server whose VFS does the named call only when it is let go. */
class Peer {
  readonly answers: { unique: number; error: number }[] = []
  readonly vfs = new MemoryVfs()
  isDying = true
  asked = 0
  letGo: () => void = () => undefined
  readonly #server: FuseServer

  constructor(slow: keyof VfsContract, pieces: readonly Buffer[] = []) {
    const gate = new Promise<void>((resolve) => (this.letGo = resolve))
    const vfs = new Proxy<VfsContract>(this.vfs, {
      get(target, property) {
        const value: unknown = Reflect.get(target, property, target)
        if (typeof value !== 'function') return value
        return (...args: unknown[]): unknown => {
          const call = (): unknown =>
            property === 'readPieces' ? Promise.resolve(pieces) : Reflect.apply(value, target, args)
          return property === slow ? gate.then(call) : call()
        }
      },
    })
    this.#server = new FuseServer({
      vfs,
      log: silentLog,
      send: ([head]) => this.answers.push({ unique: head?.readUInt32LE(8) ?? 0, error: head?.readInt32LE(4) ?? 0 }),
      onRefused: () => undefined,
      running: {
        recheckMs: 1,
        isDying: () => {
          this.asked++
          return Promise.resolve(this.isDying)
        },
      },
    })
    const init = Buffer.alloc(64)
    init.writeUInt32LE(7, 0)
    init.writeUInt32LE(38, 4)
    void this.send('init', 0, 1, init)
    this.answers.length = 0
  }

  async send(name: string, node: number, unique: number, body: Buffer): Promise<void> {
    const out = Buffer.alloc(40 + body.length)
    out.writeUInt32LE(out.length, 0)
    out.writeUInt32LE(codeOf(name), 4)
    out.writeUInt32LE(unique, 8)
    out.writeUInt32LE(node, 16)
    out.set(body, 40)
    await this.#server.handle(out)
  }

  async interrupt(unique: number): Promise<void> {
    const body = Buffer.alloc(8)
    body.writeUInt32LE(unique, 0)
    await this.send('interrupt', 0, unique + 1, body)
    await sleep(10)
  }

  end(): Promise<void> {
    return this.#server.end()
  }
}

t.test('a question of a dying caller is answered EINTR at once, and not again when its answer comes', async (t) => {
  const peer = new Peer('getattr')
  const done = peer.send('getattr', 1, 10, Buffer.alloc(16))
  await peer.interrupt(10)
  await peer.interrupt(10)
  t.same(peer.answers, [{ unique: 10, error: EINTR }])
  peer.letGo()
  await done
  t.equal(peer.answers.length, 1)
})

t.test('what was lent for an answer is given back once, whether it is sent or comes too late', async (t) => {
  for (const isLate of [false, true]) {
    let back = 0
    const pieces = ['some', 'bytes'].map((text) => lend(Buffer.from(text), () => (back += 1)))
    const peer = new Peer('readPieces', pieces)
    const done = peer.send('read', 1, 10, Buffer.alloc(40))
    if (isLate) await peer.interrupt(10)
    t.equal(back, 0)
    peer.letGo()
    await done
    t.same(peer.answers, [{ unique: 10, error: isLate ? EINTR : 0 }])
    t.equal(back, 2)
  }
})

t.test('the bytes of an interrupted request are kept until its handler is done', async (t) => {
  const peer = new Peer('lookup')
  let isDone = false
  const done = peer.send('lookup', 1, 10, Buffer.from('name\0')).then(() => (isDone = true))
  await peer.interrupt(10)
  t.equal(isDone, false)
  peer.letGo()
  await done
})

t.test(
  'a signal that the caller survives interrupts no question, but it is let go if it is killed later',
  async (t) => {
    const peer = new Peer('getattr')
    peer.isDying = false
    void peer.send('getattr', 1, 10, Buffer.alloc(16))
    await peer.interrupt(10)
    t.same(peer.answers, [])
    peer.isDying = true
    await sleep(20)
    t.same(peer.answers, [{ unique: 10, error: EINTR }])
  },
)

t.test('an interrupted question that is answered after all is not watched any more', async (t) => {
  const peer = new Peer('getattr')
  peer.isDying = false
  const done = peer.send('getattr', 1, 10, Buffer.alloc(16))
  await peer.interrupt(10)
  peer.letGo()
  await done
  await sleep(5)
  const { asked } = peer
  await sleep(20)
  t.equal(peer.asked, asked)
  t.same(peer.answers, [{ unique: 10, error: 0 }])
})

t.test('a change is never interrupted, nor is an open that cuts the file', async (t) => {
  const mkdir = new Peer('mkdir')
  const body = Buffer.concat([Buffer.alloc(8), Buffer.from('folder\0')])
  const made = mkdir.send('mkdir', 1, 10, body)
  await mkdir.interrupt(10)
  t.same(mkdir.answers, [])
  mkdir.letGo()
  await made
  t.same(mkdir.answers, [{ unique: 10, error: 0 }])
  const open = new Peer('open')
  const { ino } = await open.vfs.mknod(CALLER, 1, Buffer.from('file'), 0o100644, 0)
  const flags = Buffer.alloc(8)
  flags.writeUInt32LE(0o1002, 0)
  void open.send('open', ino, 20, flags)
  await open.interrupt(20)
  t.same(open.answers, [])
})

for (const name of ['open', 'opendir'] as const) {
  t.test(`what an interrupted ${name} opened is closed again`, async (t) => {
    const peer = new Peer(name)
    const { ino } = await peer.vfs.mknod(CALLER, 1, Buffer.from('file'), 0o100644, 0)
    const done = peer.send(name, name === 'open' ? ino : 1, 10, Buffer.alloc(8))
    await peer.interrupt(10)
    t.same(peer.answers, [{ unique: 10, error: EINTR }])
    peer.letGo()
    await done
    t.equal(peer.vfs.openHandles, 0)
    t.equal(peer.answers.length, 1)
  })
}

t.test('INTERRUPT of a request that is over or never was is nothing', async (t) => {
  const peer = new Peer('statfs')
  await peer.send('getattr', 1, 10, Buffer.alloc(16))
  await peer.interrupt(10)
  await peer.interrupt(77)
  await peer.send('interrupt', 0, 3, Buffer.alloc(2))
  t.same(peer.answers, [{ unique: 10, error: 0 }])
})

t.test('the end waits for no abandoned request', async (t) => {
  const peer = new Peer('getattr')
  void peer.send('getattr', 1, 10, Buffer.alloc(16))
  await peer.interrupt(10)
  await peer.end()
  t.equal(peer.answers.length, 1)
})

t.test('a deadly signal is one that is pending and neither blocked, caught, ignored nor harmless', (t) => {
  const status = (pending: string, shared: string, blocked: string, ignored: string, caught: string): string =>
    `Name:\tcat\nSigQ:\t0/7\nSigPnd:\t${pending}\nShdPnd:\t${shared}\nSigBlk:\t${blocked}\nSigIgn:\t${ignored}\nSigCgt:\t${caught}\n`
  const none = '0000000000000000'
  const kill = '0000000000000100'
  const interrupt = '0000000000000002'
  const child = '0000000000010000'
  t.equal(hasDeadlySignal(status(none, none, none, none, none)), false)
  t.equal(hasDeadlySignal(status(kill, none, none, none, none)), true)
  t.equal(hasDeadlySignal(status(none, interrupt, none, none, none)), true)
  t.equal(hasDeadlySignal(status(none, interrupt, interrupt, none, none)), false)
  t.equal(hasDeadlySignal(status(none, interrupt, none, interrupt, none)), false)
  t.equal(hasDeadlySignal(status(none, interrupt, none, none, interrupt)), false)
  t.equal(hasDeadlySignal(status(child, child, none, none, none)), false)
  t.end()
})

t.test('this process is not dying, one that cannot be seen counts as such', async (t) => {
  t.equal(await isDying(process.pid), false)
  t.equal(await isDying(0), true)
})
