/** `ringfs node`: a chunk node in a process of its own. */
import { RingfsError } from '../base/errors.js'
import type { Log } from '../base/log.js'
import { serveReadily } from '../base/priority.js'
import { FIRST_ANSWER_MS } from '../cluster/redis.js'
import type { MetaUrl } from '../cluster/url.js'
import type { KeyRing } from '../rpc/key-ring.js'
import { RpcServer } from '../rpc/server.js'
import { Closer } from './closer.js'
import { checkKey } from './key-check.js'
import { startNode } from './node.js'
import { openVolume } from './volume.js'

export interface NodeProcessOptions {
  readonly url: MetaUrl
  /** One a disk. */
  readonly folders: readonly string[]
  /** As of NodeOptions. */
  readonly forget?: readonly string[]
  readonly empty?: readonly string[]
  /** `host:port` or `unix:/path`; port 0 takes any. */
  readonly listen: string
  /** What peers and clients dial. Default: where it listens. */
  readonly advertise?: string | undefined
  readonly zone: string
  readonly weight: number
  /** Its nice value; default: as serveReadily has it. */
  readonly nice?: number | undefined
  readonly key?: KeyRing | undefined
  readonly log: Log
}

/** Everybody's address is nobody's: a peer that dialled it would reach itself. */
const ANY_HOST = /^(0\.0\.0\.0|\[::\]|\*):/

/** A node goes by who is where, not by how full others are: so hundreds of them do not tell Redis to tell each of all every other second. */
const FIGURES_MS = 30_000

/** Runs until `stop` fires. Errors: those of openVolume and startNode. */
export async function runNode(
  options: NodeProcessOptions,
  stop: Promise<void>,
  onReady: (node: { readonly id: string; readonly address: string }) => void,
): Promise<void> {
  const { url, key, log, listen, advertise } = options
  if (advertise === undefined && ANY_HOST.test(listen)) {
    throw new RingfsError('USAGE', `others cannot dial ${listen}: add --advertise HOST:PORT`)
  }
  // Not its session as a whole: what it does behind the scenes is not to come before the programs of others.
  serveReadily(options.nice, { group: false })
  const closer = new Closer()
  await closer.orClose(async () => {
    const volume = await openVolume(url, { log, key, figuresMs: FIGURES_MS, firstAnswerMs: FIRST_ANSWER_MS })
    closer.add(() => volume.close())
    await checkKey(volume.watcher.current().view.members, key)
    const server = new RpcServer({ log, memory: volume.buffers, ...(key && { key }) })
    const node = await startNode(volume, {
      ...options,
      server,
      listen: async () => {
        const address = await server.listen(listen)
        return advertise ?? address
      },
    })
    closer.add(() => node.stop())
    onReady(node)
    const lost = await Promise.race([stop, node.lost])
    if (lost instanceof RingfsError) throw lost
  })
  await closer.close()
}
