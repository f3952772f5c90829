/** A FileService on a MemoryVfs behind a real socket, and a client of it. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { connectClient, type RingfsClient } from '../../src/rpc/file-client.js'
import { RpcServer } from '../../src/rpc/server.js'
import { FileService, type FileServiceOptions } from '../../src/service/file-service.js'
import type { VfsContract } from '../../src/vfs/contract.js'
import { MemoryVfs } from './memory-vfs.js'

export const SERVER_IDENTITY = { uid: 1234, gid: 5678 }

export interface Served {
  readonly vfs: MemoryVfs
  readonly service: FileService
  readonly server: RpcServer
  readonly address: string
  readonly client: RingfsClient
  readonly connect: () => Promise<RingfsClient>
}

export async function serveFiles(
  t: { teardown(end: () => unknown): void },
  options: Partial<FileServiceOptions> & { readonly wrap?: (vfs: VfsContract) => VfsContract } = {},
): Promise<Served> {
  const folder = await mkdtemp(path.join(tmpdir(), 'ringfs-files-'))
  const vfs = new MemoryVfs()
  const server = new RpcServer({ limits: { drainMs: 500 } })
  const service = new FileService(options.wrap?.(vfs) ?? vfs, { identity: SERVER_IDENTITY, ...options })
  service.register(server)
  const address = await server.listen(`unix:${path.join(folder, 'rpc.sock')}`)
  const clients: RingfsClient[] = []
  const connect = async (): Promise<RingfsClient> => {
    const client = await connectClient({ address, deadlineMs: 60_000 }, folder)
    clients.push(client)
    return client
  }
  t.teardown(async () => {
    await Promise.all(clients.map((client) => client.close()))
    await server.close()
    await rm(folder, { recursive: true, force: true, maxRetries: 50, retryDelay: 100 })
  })
  return { vfs, service, server, address, client: await connect(), connect }
}
