/** Real processes, killed without a chance to say so. */
import { spawn, type ChildProcess } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { connectClient } from '../../../src/rpc/file-client.js'
import { until } from '../../helpers/deadline.js'
import { serveFiles } from '../../helpers/file-service.js'

t.setTimeout(300_000)

const PROGRAM = fileURLToPath(new URL('../../helpers/file-process.js', import.meta.url))

/** A running child, and a function that waits for its next line. */
function start(t: { teardown(end: () => unknown): void }, ...args: string[]) {
  const child: ChildProcess = spawn(process.execPath, [PROGRAM, ...args], { stdio: ['ignore', 'pipe', 'inherit'] })
  const gone = new Promise<void>((resolve) => child.once('exit', () => resolve()))
  t.teardown(async () => {
    child.kill('SIGKILL')
    await gone
  })
  if (child.stdout === null) throw new Error('stdout is a pipe')
  const lines = createInterface(child.stdout)[Symbol.asyncIterator]()
  const kill = () => {
    child.kill('SIGKILL')
    return gone
  }
  return { kill, line: async () => String((await lines.next()).value) }
}

async function folder(t: { teardown(end: () => unknown): void }): Promise<string> {
  const dir = await mkdtemp(path.join(tmpdir(), 'ringfs-killed-'))
  t.teardown(() => rm(dir, { recursive: true, force: true }))
  return dir
}

t.test(
  'a server killed in the middle of a call: CONNECTION_LOST, and its successor is found without a new client',
  async (t) => {
    const dir = await folder(t)
    for (const target of [`unix:${path.join(dir, 'sock')}`, '127.0.0.1:0']) {
      const first = start(t, 'server', target)
      const address = await first.line()
      const fs = await connectClient({ address, limits: { backoffMinMs: 1, backoffMaxMs: 5 } }, dir)
      t.teardown(() => fs.close())
      await fs.write('/stuck', 0, Buffer.from('stuck'))
      const file = await fs.open('/stuck')
      const reading = file.read(0, 5)
      reading.catch(() => undefined)
      t.equal(await first.line(), 'reading')
      await first.kill()
      await t.rejects(reading, { name: 'RingfsError', code: 'CONNECTION_LOST' })
      await t.rejects(fs.stat('/'), { code: 'NODE_UNREACHABLE' })

      const second = start(t, 'server', address)
      await second.line()
      await until('its successor answers', () =>
        fs.stat('/').then(
          () => true,
          () => false,
        ),
      )
      await t.rejects(file.read(0, 5), { name: 'PosixError', code: 'EBADF' }, 'handles are not those of the successor')
      await second.kill()
    }
  },
)

t.test('a client killed with a file open and a read under way: its handles are released', async (t) => {
  let waiting = 0
  let go = (): void => undefined
  const gate = new Promise<void>((resolve) => (go = resolve))
  const { address, vfs, service, server } = await serveFiles(t, {
    wrap: (inner) =>
      new Proxy(inner, {
        get(object, property) {
          const value: unknown = Reflect.get(object, property, object)
          if (typeof value !== 'function') return value
          if (property !== 'read') return (...args: unknown[]): unknown => Reflect.apply(value, object, args)
          return async (handle: number, offset: number, length: number) => {
            waiting++
            await gate
            return inner.read(handle, offset, length)
          }
        },
      }),
  })
  const before = server.connections
  const child = start(t, 'client', address, '/held')
  t.equal(await child.line(), 'open')
  await until('it reads', () => waiting > 0)
  t.equal(vfs.openHandles, 1)
  await child.kill()
  await until('its connection is gone', () => server.connections <= before)
  t.equal(vfs.openHandles, 1, 'not while the read uses it')
  go()
  await service.released()
  t.equal(vfs.openHandles, 0)
})
