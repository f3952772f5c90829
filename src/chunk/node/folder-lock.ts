/**
 * One process at a time in a data folder.
 *
 * Node has no flock(2). On Linux the lock is a Unix socket with an abstract name made of the folder's device and inode: the
 * kernel gives the name to one process, and takes it back when that one dies, however it dies; no file can go stale. Two
 * containers with network namespaces of their own do not see each other's names: there the cluster's membership notices
 * (NODE_IDENTITY_CLAIMED). Elsewhere: a file with the pid, stale when no such process lives.
 */
import { readFileSync, statSync, unlinkSync, writeFileSync } from 'node:fs'
import { createServer, type Server } from 'node:net'
import { join } from 'node:path'
import { RingfsError } from '../../base/errors.js'
import { codeOf } from '../outcome.js'

const FILE = 'lock'
/** May lie in a folder that is otherwise empty. */
export const LOCK_FILE = FILE

export interface FolderLock {
  release(): Promise<void>
}

/** Errors: RingfsError ALREADY_RUNNING. */
export async function lockFolder(folder: string, platform: string = process.platform): Promise<FolderLock> {
  return platform === 'linux' ? await lockByName(folder) : lockByFile(folder)
}

async function lockByName(folder: string): Promise<FolderLock> {
  const { dev, ino } = statSync(folder)
  const server = createServer((socket) => socket.destroy())
  await listen(server, `\0ringfs-node-${dev}-${ino}`, folder)
  // Holding the name must not keep a process alive that has nothing else to do.
  server.unref()
  const file = join(folder, FILE)
  writeFileSync(file, `${process.pid}\n`, { mode: 0o600 })
  return {
    release: () =>
      new Promise((resolve) => {
        removeQuietly(file)
        server.close(() => resolve())
      }),
  }
}

function listen(server: Server, path: string, folder: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', (error) => reject(codeOf(error) === 'EADDRINUSE' ? alreadyRunning(folder) : error))
    server.listen({ path }, resolve)
  })
}

function alreadyRunning(folder: string): RingfsError {
  const pid = readPid(join(folder, FILE))
  const who = pid === undefined ? 'another process' : `process ${pid}`
  return new RingfsError('ALREADY_RUNNING', `${who} has the data folder ${folder} open: stop it first`)
}

function readPid(file: string): number | undefined {
  try {
    const pid = Number(readFileSync(file, 'latin1').trim())
    return Number.isInteger(pid) && pid > 0 ? pid : undefined
  } catch {
    return undefined
  }
}

function lockByFile(folder: string): FolderLock {
  const file = join(folder, FILE)
  const pid = readPid(file)
  if (pid !== undefined && pid !== process.pid && isAlive(pid)) throw alreadyRunning(folder)
  removeQuietly(file)
  try {
    writeFileSync(file, `${process.pid}\n`, { flag: 'wx', mode: 0o600 })
  } catch (error) {
    if (codeOf(error) === 'EEXIST') throw alreadyRunning(folder)
    throw error
  }
  return {
    release: async () => {
      removeQuietly(file)
      await Promise.resolve()
    },
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return codeOf(error) === 'EPERM'
  }
}

function removeQuietly(file: string): void {
  try {
    unlinkSync(file)
  } catch {
    // Gone already.
  }
}
