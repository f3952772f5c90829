/**
 * One process at a time for a folder, or for what a name stands for. Node has no flock(2), and a file with a pid outlives a crash. The lock is a
 * listening Unix socket: on Linux with an abstract name, of a folder made of its device and inode, which the kernel takes back when
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
const IS_ABSTRACT = process.platform === 'linux'
/** For sockets of names, where they are files: their paths have a hundred bytes at most. */
const SOCKET_FOLDER = '/tmp'

/**
 * `purpose` keeps locks of different things on one folder apart; `stopWith` is the command that ends the holder. Errors: ALREADY_RUNNING, with
 * the holder's pid.
 */
export async function lockFolder(folder: string, purpose: string, stopWith?: string): Promise<FolderLock> {
  const { dev, ino } = await stat(folder)
  const address = IS_ABSTRACT ? `\0ringfs-${purpose}-${dev}-${ino}` : join(folder, `${purpose}.lock`)
  const how = stopWith === undefined ? '' : `: ${stopWith}`
  return await lock(address, (holder) => `${folder} is in use by ${holder}: stop that first${how}`)
}

/** The same for a name of this machine, of letters and digits. `taken`: what is told of who holds it. Errors: ALREADY_RUNNING. */
export async function lockName(name: string, taken: (holder: string) => string): Promise<FolderLock> {
  return await lock(IS_ABSTRACT ? `\0ringfs-${name}` : join(SOCKET_FOLDER, `ringfs-${name}.lock`), taken)
}

async function lock(address: string, taken: (holder: string) => string): Promise<FolderLock> {
  const refusal = (pid: string | undefined): RingfsError =>
    new RingfsError('ALREADY_RUNNING', taken(pid === undefined ? 'another process' : `process ${pid}`))
  const server = createServer((socket) => {
    socket.on('error', () => undefined)
    socket.end(`${process.pid}`)
  })
  if (!(await listen(server, address))) {
    const pid = await askHolder(address)
    if (pid !== undefined || IS_ABSTRACT) throw refusal(pid)
    await unlink(address)
    if (!(await listen(server, address))) throw refusal(undefined)
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
