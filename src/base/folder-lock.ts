/**
 * One process at a time for a folder. Node has no flock(2), and a file with a pid outlives a crash. The lock is a listening
 * Unix socket: on Linux with an abstract name made of the folder's device and inode, which the kernel takes back when
 * the process dies, however it dies; elsewhere a socket file, stale when nobody answers on it. Whoever connects is
 * told the holder's pid.
 */
import { stat, unlink } from 'node:fs/promises'
import { connect, createServer, type Server } from 'node:net'
import { join } from 'node:path'
import { RingfsError } from './errors.js'

export interface FolderLock {
  release(): Promise<void>
}

const ASK_TIMEOUT_MS = 1_000

/**
 * `purpose` keeps locks of different things on one folder apart; `stopWith` is the command that ends the holder. Errors: ALREADY_RUNNING, with
 * the holder's pid.
 */
export async function lockFolder(folder: string, purpose: string, stopWith?: string): Promise<FolderLock> {
  const { dev, ino } = await stat(folder)
  const isAbstract = process.platform === 'linux'
  const name = isAbstract ? `\0ringfs-${purpose}-${dev}-${ino}` : join(folder, `${purpose}.lock`)
  const server = createServer((socket) => {
    socket.on('error', () => undefined)
    socket.end(`${process.pid}`)
  })
  if (!(await listen(server, name))) {
    const pid = await askHolder(name)
    if (pid !== undefined || isAbstract) throw taken(folder, pid, stopWith)
    await unlink(name)
    if (!(await listen(server, name))) throw taken(folder, undefined, stopWith)
  }
  server.unref()
  return { release: () => new Promise((resolve) => server.close(() => resolve())) }
}

/** Whether some process holds the lock now. */
export async function isLocked(folder: string, purpose: string): Promise<boolean> {
  try {
    await (await lockFolder(folder, purpose)).release()
    return false
  } catch (error) {
    if (error instanceof RingfsError && error.code === 'ALREADY_RUNNING') return true
    throw error
  }
}

function taken(folder: string, pid: string | undefined, stopWith: string | undefined): RingfsError {
  const who = pid === undefined ? 'another process' : `process ${pid}`
  const how = stopWith === undefined ? '' : `: ${stopWith}`
  return new RingfsError('ALREADY_RUNNING', `${folder} is in use by ${who}: stop that first${how}`)
}

/** false: the name is taken. */
function listen(server: Server, name: string): Promise<boolean> {
  return new Promise((resolve, reject) => {
    server.once('error', (error) => {
      if ('code' in error && error.code === 'EADDRINUSE') resolve(false)
      else reject(error)
    })
    server.listen(name, () => {
      server.removeAllListeners('error')
      resolve(true)
    })
  })
}

function askHolder(name: string): Promise<string | undefined> {
  return new Promise((resolve) => {
    let text = ''
    const socket = connect(name)
    socket.setTimeout(ASK_TIMEOUT_MS, () => socket.destroy())
    socket.on('data', (data) => (text += data.toString()))
    socket.on('error', () => undefined)
    socket.on('close', () => resolve(/^\d+$/.test(text) ? text : undefined))
  })
}
