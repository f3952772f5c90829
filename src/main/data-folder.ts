/**
 * The data folder of `ringfs up`:
 *
 *   up.json       which volume it is, how many nodes hold its chunks, where it was mounted last
 *   redis/        the private Redis: its append-only file, its password
 *   nodes/1/ …    a chunk node each
 *   files.sock    FileService;  node.sock  the node in the same process
 *   log           of --detach
 *
 * Further ones, each on a disk of its own, hold chunks alone: nodes/1/ … again, a second disk of the same nodes.
 *
 * Invariant: up.json is written before the volume is formatted, with its uuid after; so a first start that was cut short is
 * completed by the next one, and a volume whose metadata has vanished is not taken for a new one and formatted over. One that was refused before
 * it began leaves no folder.
 */
import { chmodSync, readdirSync, realpathSync, renameSync, rmSync, rmdirSync, writeFileSync } from 'node:fs'
import { dirname, join, resolve } from 'node:path'
import * as z from 'zod'
import { RingfsError, codeOf, messageOf } from '../base/errors.js'
import { makeFolders } from '../base/make-folders.js'
import { readSmallFile } from '../base/small-file.js'

/** What only one `up`, or a rebuild of what it had, does in it: folder-lock.ts. */
export const UP_LOCK = 'up'

const FILE = 'up.json'
const FORMAT = 1

const schema = z.object({
  format: z.int(),
  volume: z.string(),
  nodes: z.int().positive(),
  /** Missing until the volume is formatted. */
  uuid: z.uuid().optional(),
  /** Where it was mounted last: `down` looks there for what a crash left. */
  mountpoint: z.string().optional(),
  /** Further data folders, absolute. */
  more: z.array(z.string()).optional(),
  /** Such folders that were given up: nodes that do not know yet are told at each start. */
  forgotten: z.array(z.string()).optional(),
})

export type UpRecord = z.infer<typeof schema>

export interface DataFolders {
  /** Real path. */
  readonly root: string
  readonly redis: string
  readonly log: string
  /** Of a node, one a disk: below this folder, and below those in `more`. */
  node(number: number, more?: readonly string[]): readonly string[]
}

function foldersOf(root: string): DataFolders {
  const node = (number: number, more: readonly string[] = []): readonly string[] =>
    [root, ...more].map((folder) => join(folder, 'nodes', String(number)))
  return { root, redis: join(root, 'redis'), log: join(root, 'log'), node }
}

export interface OpenedDataFolders extends DataFolders {
  /**
   * Nothing came of it: takes away what the opening has made, and the log in it, unless something is in there by now. For who has the lock, or
   * nobody could.
   */
  withdraw(): void
}

/** Makes it if it is missing. Errors: RingfsError USAGE when it cannot be, or is somebody else's folder with files in it. */
export function openDataFolders(path: string): OpenedDataFolders {
  try {
    const made = makeFolder(path)
    const root = realpathSync(path)
    refuseForeign(root)
    const below = ['redis', 'nodes'].flatMap((name) => makeFolder(join(root, name)))
    chmodSync(root, 0o700)
    const folders = foldersOf(root)
    return { ...folders, withdraw: () => withdraw(made, below, folders.log) }
  } catch (error) {
    if (error instanceof RingfsError) throw error
    const advice = accessAdvice(error, 'choose another with --data')
    throw new RingfsError('USAGE', `${path} cannot be a data folder (${messageOf(error)}): ${advice}`)
  }
}

/** Answers what it has made, the lowest first. */
function makeFolder(folder: string): readonly string[] {
  const path = resolve(folder)
  const first = makeFolders(path, 0o700)
  const made: string[] = []
  if (first !== undefined) for (let at = path; at !== dirname(first); at = dirname(at)) made.push(at)
  return made
}

/** Something that is used has something in it: `redis` and `nodes` go first. */
function withdraw(made: readonly string[], below: readonly string[], log: string): void {
  try {
    for (const folder of below) rmdirSync(folder)
    if (made.length > 0) rmSync(log, { force: true })
    for (const folder of made) rmdirSync(folder)
  } catch {
    // So it stays, as it would without this.
  }
}

/** The folders of one that exists; undefined when there is none. Errors: RingfsError USAGE when that cannot be seen. */
export function findDataFolders(path: string): DataFolders | undefined {
  try {
    const root = realpathSync(path)
    return readdirSync(root).includes(FILE) ? foldersOf(root) : undefined
  } catch (error) {
    if (codeOf(error) === 'ENOENT' || codeOf(error) === 'ENOTDIR') return undefined
    const advice = accessAdvice(error, 'look at its disk')
    throw new RingfsError('USAGE', `${path} cannot be read (${messageOf(error)}): ${advice}`, { cause: error })
  }
}

function accessAdvice(error: unknown, otherwise: string): string {
  return codeOf(error) === 'EACCES' ? 'run this as the user whose folder it is, or name another' : otherwise
}

const OURS = new Set([FILE, `${FILE}.new`, 'redis', 'nodes', 'log', 'files.sock', 'node.sock', 'lost+found'])

function refuseForeign(root: string): void {
  const names = readdirSync(root)
  const foreign = names.find((name) => !OURS.has(name))
  if (foreign === undefined || names.includes(FILE)) return
  throw new RingfsError(
    'USAGE',
    `${root} is not a data folder of ringfs (it has ${foreign}): give an empty one with --data`,
  )
}

/** undefined: never used. Errors: RingfsError VOLUME_CORRUPT, VOLUME_NEWER. */
export function readUpRecord(root: string): UpRecord | undefined {
  const file = join(root, FILE)
  let text: string
  try {
    text = readSmallFile(file)
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return undefined
    throw new RingfsError('VOLUME_CORRUPT', `${file} cannot be read: ${messageOf(error)}`)
  }
  return parse(file, text)
}

function parse(file: string, text: string): UpRecord {
  try {
    const record = schema.parse(JSON.parse(text))
    if (record.format <= FORMAT) return record
  } catch (error) {
    throw new RingfsError('VOLUME_CORRUPT', `${file} is damaged: restore it from a backup`, { cause: error })
  }
  throw new RingfsError('VOLUME_NEWER', `${file} was written by a newer ringfs: use that one`)
}

export function writeUpRecord(root: string, record: Omit<UpRecord, 'format'>): void {
  const file = join(root, FILE)
  writeFileSync(`${file}.new`, `${JSON.stringify({ format: FORMAT, ...record }, null, 2)}\n`, {
    mode: 0o600,
    flush: true,
  })
  renameSync(`${file}.new`, file)
}
