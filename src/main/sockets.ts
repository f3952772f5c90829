/** Where the Unix sockets of a process lie. */
import { createHash } from 'node:crypto'
import { join } from 'node:path'
import { UNIX_PATH_MAX_BYTES } from '../rpc/address.js'
import { ensureRunFolder } from './runfiles.js'

/**
 * In the data folder, where a person would look for it; in the run folder when that path is too long for the kernel
 * (sun_path in unix(7)). The same folder always gives the same socket.
 */
export function socketIn(folder: string, name: string, runFolder: string): string {
  const path = join(folder, `${name}.sock`)
  if (Buffer.byteLength(path) <= UNIX_PATH_MAX_BYTES) return path
  ensureRunFolder(runFolder)
  const short = createHash('sha256').update(folder).digest('hex').slice(0, 16)
  return join(runFolder, `${short}-${name}.sock`)
}

/** For a process without a data folder. */
export function socketOfProcess(runFolder: string): string {
  ensureRunFolder(runFolder)
  return join(runFolder, `${process.pid}.sock`)
}
