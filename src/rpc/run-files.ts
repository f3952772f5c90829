/** Finding the `ringfs up` that runs on this machine: it leaves a JSON file in the run folder (src/main/runfiles.ts). */
import { readdir } from 'node:fs/promises'
import path from 'node:path'
import { RingfsError, codeOf } from '../base/errors.js'
import { readSmallFile } from '../base/small-file.js'

export interface Running {
  readonly volume: string
  readonly pid: number
  /** To dial. */
  readonly address: string
}

/**
 * The one that runs, or the one of that volume.
 * Errors: RingfsError NOT_RUNNING; USAGE when there are several and none is named.
 */
export async function findRunning(folder: string, volume?: string): Promise<Running> {
  const names = await readdir(folder).catch(() => [])
  const read = names.filter((name) => name.endsWith('.json')).map((name) => readRunFile(path.join(folder, name)))
  const all = read.filter((running) => running !== null && isAlive(running.pid))
  const found = all.filter((running) => running !== null).filter((one) => volume === undefined || one.volume === volume)
  const [first] = found
  if (first === undefined) {
    const which = volume === undefined ? 'no ringfs runs here' : `no ringfs with the volume '${volume}' runs here`
    throw new RingfsError('NOT_RUNNING', `${which}: start it with 'ringfs up', or name an address`)
  }
  if (found.length > 1) {
    const those = found.map((running) => `${running.volume} at ${running.address}`).join(', ')
    const what = volume === undefined ? 'an address, or a volume' : 'an address'
    throw new RingfsError('USAGE', `several ringfs run here (${those}): name ${what}`)
  }
  return first
}

/** null for what is no run file, or one that is being written. */
function readRunFile(file: string): Running | null {
  try {
    const content: unknown = JSON.parse(readSmallFile(file))
    if (typeof content !== 'object' || content === null) return null
    const volume: unknown = Reflect.get(content, 'volume')
    const pid: unknown = Reflect.get(content, 'pid')
    const socket: unknown = Reflect.get(content, 'socket')
    if (typeof volume !== 'string' || typeof socket !== 'string') return null
    // 0 and what is below would ask after whole groups.
    if (typeof pid !== 'number' || !Number.isSafeInteger(pid) || pid <= 0) return null
    return { volume, pid, address: socket.startsWith('/') ? `unix:${socket}` : socket }
  } catch {
    return null
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    // EPERM: it is there and belongs to someone else.
    return codeOf(error) === 'EPERM'
  }
}
