/**
 * Binding a Unix socket: mode 0600 from its first moment, and a path left behind by a dead process is taken over.
 *
 * Two processes may find the same dead socket at once. Deleting it by name could delete the socket that the other has
 * bound just now, so the path is first renamed to a name of our own and asked again there: if it answers, it is put back.
 */
import { randomBytes } from 'node:crypto'
import { link, lstat, rename, rm } from 'node:fs/promises'
import { connect, type Server } from 'node:net'
import { RingfsError } from '../base/errors.js'

const PROBE_TIMEOUT_MS = 2000

/** Errors: RingfsError LISTEN_FAILED. */
export async function listenUnix(server: Server, path: string): Promise<void> {
  for (let attempt = 0; attempt < 3; attempt++) {
    const failure = await bind(server, path)
    if (failure === null) return
    if (failure.code !== 'EADDRINUSE')
      throw new RingfsError('LISTEN_FAILED', `cannot listen on ${path}: ${failure.message}`)
    await removeStale(path)
  }
  throw new RingfsError('LISTEN_FAILED', `cannot listen on ${path}: others take it at the same time`)
}

function bind(server: Server, path: string): Promise<NodeJS.ErrnoException | null> {
  return new Promise((resolve) => {
    const onError = (error: NodeJS.ErrnoException): void => resolve(error)
    server.once('error', onError)
    // bind(2) runs inside listen(), so that the umask holds for it alone.
    const before = process.umask(0o177)
    try {
      server.listen(path, () => {
        server.removeListener('error', onError)
        resolve(null)
      })
    } finally {
      process.umask(before)
    }
  })
}

async function removeStale(path: string): Promise<void> {
  const stat = await lstat(path).catch(() => null)
  if (stat === null) return
  if (!stat.isSocket()) throw new RingfsError('LISTEN_FAILED', `cannot listen on ${path}: a file is in the way`)
  if (await answers(path)) throw inUse(path)
  // As long as the path itself at most, or connect(2) would refuse it.
  const aside = path.slice(0, path.lastIndexOf('/') + 1) + randomBytes(4).toString('hex')
  await rename(path, aside).catch(() => undefined)
  const live = await answers(aside)
  if (live) await link(aside, path).catch(() => undefined)
  await rm(aside, { force: true })
  if (live) throw inUse(path)
}

function inUse(path: string): RingfsError {
  return new RingfsError('LISTEN_FAILED', `cannot listen on ${path}: another process listens there`)
}

/** Whether anyone accepts connections. In doubt yes: a live socket must never be taken. */
function answers(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ path })
    const finish = (live: boolean): void => {
      socket.destroy()
      resolve(live)
    }
    socket.setTimeout(PROBE_TIMEOUT_MS, () => finish(true))
    socket.once('connect', () => finish(true))
    socket.once('error', (error: NodeJS.ErrnoException) => {
      finish(error.code !== 'ECONNREFUSED' && error.code !== 'ENOENT')
    })
  })
}
