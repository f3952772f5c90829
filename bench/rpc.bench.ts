/**
 * The RPC alone: a server in a process of its own that echoes, over TCP, TLS-PSK and a Unix socket.
 *
 *   latency    one request at a time, no payload
 *   requests/s 64 in flight, no payload
 *   MB/s       1 MiB payloads, 8 in flight, each way
 */
import { fork } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { MIB } from '../src/base/limits.js'
import { RpcChannel } from '../src/rpc/channel.js'
import { KeyRing } from '../src/rpc/key-ring.js'
import { CHUNK_GET, CHUNK_PUT } from '../src/rpc/messages-chunk.js'
import { FILE_STAT } from '../src/rpc/messages-file.js'
import { RpcServer } from '../src/rpc/server.js'

const SECONDS = 1.5
const KEY = KeyRing.of(Buffer.from('the key of a benchmark'))
const CALL = { deadlineMs: 60_000 }

async function serve(address: string, key: string): Promise<void> {
  const server = new RpcServer(key === '' ? {} : { key: KEY })
  const data = Buffer.alloc(MIB, 1)
  server.handle(CHUNK_PUT, async () => ({ reply: { stored: [], queued: [], missing: [] } }))
  server.handle(CHUNK_GET, async (_request, _payload, context) => {
    await context.reserve(data.length)
    return { reply: { chunkLengthBytes: MIB, leaves: Buffer.alloc(512), firstLeaf: 0 }, payload: [data] }
  })
  process.send?.(await server.listen(address))
  process.on('disconnect', () => process.exit(0))
}

/** Runs `job` with so many at once for SECONDS; answers runs a second. */
async function rate(width: number, job: () => Promise<unknown>): Promise<number> {
  for (let i = 0; i < width * 20; i++) await job()
  const start = performance.now()
  const end = start + SECONDS * 1000
  let runs = 0
  const lane = async (): Promise<void> => {
    while (performance.now() < end) {
      await job()
      runs++
    }
  }
  await Promise.all(Array.from({ length: width }, lane))
  return (runs / (performance.now() - start)) * 1000
}

async function measure(name: string, address: string, secure: boolean): Promise<void> {
  const child = fork(fileURLToPath(import.meta.url), [address, secure ? 'key' : ''])
  const bound = await new Promise<string>((resolve) =>
    child.once('message', (message) => typeof message === 'string' && resolve(message)),
  )
  const channel = new RpcChannel(bound, secure ? { key: KEY } : {})
  const data = [Buffer.alloc(MIB, 2)]
  const put = {
    ...{ volume: 'bench', id: 1, root: Buffer.alloc(32), leaves: Buffer.alloc(512), sync: false, copies: 1 },
    ...{ forward: [], absent: [], origin: { ino: 1, order: 1, extents: [] } },
  }
  const get = { volume: 'bench', id: 1, offset: 0, lengthBytes: MIB }
  const one = await rate(1, () => channel.ping(CALL))
  const many = await rate(64, () => channel.ping(CALL))
  const out = await rate(8, () => channel.call(CHUNK_PUT, put, data, CALL))
  const back = await rate(8, () => channel.call(CHUNK_GET, get, [], CALL))
  const megabytes = (perSecond: number): string => `${((perSecond * MIB) / 1e6).toFixed(0)} MB/s`
  console.log(
    `${name.padEnd(8)} latency ${(1e6 / one).toFixed(1)} us, 64 in flight ${many.toFixed(0)} requests/s, ` +
      `1 MiB: put ${megabytes(out)}, get ${megabytes(back)}`,
  )
  await channel.close()
  child.disconnect()
}

/** What a message costs: the longest of the common ones, a struct stat. */
function measureCodec(): void {
  const time = { sec: 1_700_000_000, nsec: 123_456_789 }
  const stat = {
    ...{ ino: 2 ** 40, type: 'file' as const, mode: 0o644, uid: 0, gid: 0, nlink: 1, sizeBytes: 2 ** 35 },
    ...{ allocatedBytes: 2 ** 35, rdev: 0, atime: time, mtime: time, ctime: time, btime: time },
  }
  const runs = 200_000
  const bytes = FILE_STAT.reply.encode(stat)
  const each = (work: () => unknown): string => {
    for (let i = 0; i < 20_000; i++) work()
    const start = performance.now()
    for (let i = 0; i < runs; i++) work()
    return (((performance.now() - start) / runs) * 1000).toFixed(2)
  }
  console.log(
    `message  stat of ${bytes.length} bytes: encode ${each(() => FILE_STAT.reply.encode(stat))} us, ` +
      `decode ${each(() => FILE_STAT.reply.decode(bytes))} us`,
  )
}

const [address, key = ''] = process.argv.slice(2)
if (address !== undefined) await serve(address, key)
else {
  const folder = mkdtempSync(path.join(tmpdir(), 'ringfs-bench-'))
  try {
    await measure('tcp', '127.0.0.1:0', false)
    await measure('tls-psk', '127.0.0.1:0', true)
    await measure('unix', `unix:${path.join(folder, 's')}`, false)
    measureCodec()
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}
