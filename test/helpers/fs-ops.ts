/** What tests do to a file system, through real system calls, and how it ends. Never synchronous: the mount may be stuck. */
import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { access, lstat, readdir, readlink, type FileHandle } from 'node:fs/promises'
import { join } from 'node:path'
import { within } from './deadline.js'

const OPERATION_TIMEOUT_MS = 90_000

/** `ok`, or the name of the errno. */
export async function outcome(work: () => Promise<unknown>, what = 'the operation'): Promise<string> {
  try {
    await within(OPERATION_TIMEOUT_MS, work(), what)
    return 'ok'
  } catch (error) {
    return errnoName(error)
  }
}

/** Errors that are not of the system are thrown on. */
export function errnoName(error: unknown): string {
  if (error instanceof Error && 'syscall' in error && 'code' in error) return String(error.code)
  throw error
}

export async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  )
}

/** All of what is asked for, unless the file ends before. */
export async function readAt(file: FileHandle, offset: number, lengthBytes: number): Promise<Buffer> {
  const { bytesRead, buffer } = await file.read(Buffer.alloc(lengthBytes), 0, lengthBytes, offset)
  return buffer.subarray(0, bytesRead)
}

export async function sha256(path: string): Promise<string> {
  const hash = createHash('sha256')
  for await (const chunk of createReadStream(path, { highWaterMark: 1024 * 1024 })) hash.update(Buffer.from(chunk))
  return hash.digest('hex')
}

/** One line for each entry below a folder: everything but times and inode numbers. */
export async function describeTree(root: string, path = ''): Promise<readonly string[]> {
  const names = (await readdir(join(root, path))).sort()
  const lines = await Promise.all(
    names.map(async (name) => {
      const entry = join(path, name)
      const line = await describe(join(root, entry), entry)
      return line.startsWith('directory') ? [line, ...(await describeTree(root, entry))] : [line]
    }),
  )
  return lines.flat()
}

async function describe(path: string, name: string): Promise<string> {
  const stat = await lstat(path)
  const common = `${name} ${(stat.mode & 0o7777).toString(8)} ${stat.uid}:${stat.gid} links=${stat.nlink}`
  if (stat.isDirectory()) return `directory ${common}`
  if (stat.isSymbolicLink()) return `symlink ${common} -> ${await readlink(path)}`
  if (!stat.isFile()) return `special ${common}`
  return `file ${common} size=${stat.size} ${await sha256(path)}`
}
