/**
 * Run files: what runs on this machine, for commands that are not told. One file a process with a mount, `<pid>.json`, in
 * a folder that only its user can look into: the file holds the metadata's password.
 *
 * Invariant: a run file appears whole (written under another name, renamed) and after its socket listens. One whose process
 * has died is not believed; a pid used again by another process is told by its start time. It is removed by whoever knows for certain that it
 * has died: in another pid or time namespace (a container that shares the folder) living processes look as if they were gone.
 *
 * A process that does not end well leaves `<pid>.word` for whoever told it to end (`down`, `umount`): it is not their child.
 */
import { readdirSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import * as z from 'zod'
import { RingfsError, messageOf } from '../base/errors.js'
import { makeFolders } from '../base/make-folders.js'
import { PID_MAX, isThere, startOf, systemProcesses } from '../base/processes.js'
import { readSmallFile } from '../base/small-file.js'

/** A ProcessId in a file. */
export const processSchema = z.object({
  boot: z.string(),
  pidns: z.string(),
  timens: z.string(),
  pid: z.int().positive().max(PID_MAX),
  start: z.string(),
})

const schema = z.object({
  volume: z.string(),
  /** With its password. */
  metaUrl: z.string(),
  /** The data folder of an `up`; null for a mount. */
  dataDir: z.string().nullable(),
  /** Real path. */
  mountpoint: z.string(),
  /** Unix socket of FileService. */
  socket: z.string(),
  driver: z.string().default(''),
  readOnly: z.boolean().default(false),
  pid: z.int().positive().max(PID_MAX),
  /** When the process began, in the kernel's own unit; null where that is not known. */
  startedAt: z.string().nullable(),
  /** Whose numbers these are; null where that is not known. */
  process: processSchema.nullable().default(null),
})

export type RunFile = z.infer<typeof schema>

/** Makes the folder, or makes sure that it is ours alone: a stranger's could feed us a socket of his. Errors: RingfsError USAGE. */
export function ensureRunFolder(folder: string): void {
  try {
    makeFolders(folder, 0o700)
  } catch (error) {
    throw new RingfsError('USAGE', `no run files in ${folder} (${messageOf(error)}): set XDG_RUNTIME_DIR`)
  }
  const { uid, mode } = statSync(folder)
  const own = process.getuid?.() ?? uid
  if (uid !== own || (mode & 0o077) !== 0) {
    throw new RingfsError('USAGE', `${folder} must belong to you with mode 0700: remove it, or set XDG_RUNTIME_DIR`)
  }
}

/** Answers how to take it away again. */
export function writeRunFile(folder: string, content: Omit<RunFile, 'pid' | 'startedAt' | 'process'>): () => void {
  ensureRunFolder(folder)
  const file = join(folder, `${process.pid}.json`)
  const partial = `${file}.new`
  const record: RunFile = {
    ...content,
    pid: process.pid,
    startedAt: startOf(process.pid),
    process: systemProcesses.self(),
  }
  writeFileSync(partial, `${JSON.stringify(record, null, 2)}\n`, { mode: 0o600 })
  renameSync(partial, file)
  return () => rmSync(file, { force: true })
}

/** Of the processes that live, oldest first. */
export function readRunFiles(folder: string): readonly RunFile[] {
  const found: RunFile[] = []
  for (const name of list(folder)) {
    const file = join(folder, name)
    const record = parse(file)
    if (record === undefined) continue
    if (isRunning(record)) found.push(record)
    else if (hasEnded(record)) rmSync(file, { force: true })
  }
  return found.sort((a, b) => Number(a.startedAt) - Number(b.startedAt))
}

const wordSchema = z.object({ startedAt: z.string().nullable(), text: z.string() })
/** Nobody waited for it. */
const WORD_KEPT_MS = 3_600_000

/** For whoever waits for the end of this process, which does not end well: what it could not do. Never throws. */
export function leaveWord(folder: string, text: string): void {
  try {
    removeOldWords(folder)
    const word = { startedAt: startOf(process.pid), text }
    writeFileSync(wordOf(folder, process.pid), JSON.stringify(word), { mode: 0o600 })
  } catch {
    // It says so in its log and with its exit code, too.
  }
}

/** What a process that has ended left, once; undefined: it ended well. */
export function takeWord(folder: string, { pid, startedAt }: Pick<RunFile, 'pid' | 'startedAt'>): string | undefined {
  const file = wordOf(folder, pid)
  try {
    const word = wordSchema.parse(JSON.parse(readSmallFile(file)))
    if (word.startedAt !== startedAt) return undefined
    rmSync(file, { force: true })
    return word.text
  } catch {
    return undefined
  }
}

function wordOf(folder: string, pid: number): string {
  return join(folder, `${pid}.word`)
}

function removeOldWords(folder: string): void {
  for (const name of readdirSync(folder)) {
    const file = join(folder, name)
    if (name.endsWith('.word') && Date.now() - statSync(file).mtimeMs > WORD_KEPT_MS) rmSync(file, { force: true })
  }
}

function list(folder: string): readonly string[] {
  try {
    const { uid } = statSync(folder)
    if (uid !== (process.getuid?.() ?? uid)) return []
    return readdirSync(folder).filter((name) => name.endsWith('.json'))
  } catch {
    return []
  }
}

/** undefined: no run file, one of another version, or gone meanwhile. */
function parse(file: string): RunFile | undefined {
  try {
    return schema.parse(JSON.parse(readSmallFile(file)))
  } catch {
    return undefined
  }
}

/** For certain. After another boot nothing runs that ran before: the folder is of this machine. */
function hasEnded({ process: one }: RunFile): boolean {
  const own = systemProcesses.self()
  // As versions before this one wrote it.
  if (one === null) return true
  return own !== null && (one.boot !== own.boot || systemProcesses.hasEnded(one))
}

export function isRunning({ pid, startedAt }: Pick<RunFile, 'pid' | 'startedAt'>): boolean {
  return isThere(pid) && (startedAt === null || startedAt === startOf(pid))
}
