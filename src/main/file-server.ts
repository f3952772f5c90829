/** FileService and StatsService of an open volume, on a Unix socket that only its user can connect to. */
import { systemClock } from '../base/clock.js'
import type { Log } from '../base/log.js'
import type { Metrics } from '../base/metrics.js'
import { RpcServer } from '../rpc/server.js'
import { FileService } from '../service/file-service.js'
import { StatsService } from '../service/stats-service.js'
import type { VfsContract } from '../vfs/contract.js'
import { VERSION } from './version.js'

export interface FileServer {
  /** Answers what is asked already and closes what was left open: before the VFS is shut down. */
  stop(): Promise<void>
}

export async function serveFiles(vfs: VfsContract, socket: string, metrics: Metrics, log: Log): Promise<FileServer> {
  const server = new RpcServer({ log })
  const identity = { uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 }
  const service = new FileService(vfs, { identity, log })
  service.register(server)
  new StatsService(metrics, { clock: systemClock, version: VERSION }).register(server)
  await server.listen(`unix:${socket}`)
  return {
    stop: async () => {
      await server.close()
      await service.released()
    },
  }
}
