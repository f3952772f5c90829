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
 * completed by the next one, and a volume whose metadata has vanished is not taken for a new one and formatted over.
 */
import { chmodSync, mkdirSync, readdirSync, realpathSync, renameSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { z } from 'zod'
import { RingfsError, codeOf, messageOf } from '../base/errors.js'
import { readSmallFile } from '../base/small-file.js'

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

/** Makes it if it is missing. Errors: RingfsError USAGE when it cannot be, or is somebody else's folder with files in it. */
export function openDataFolders(path: string): DataFolders {
  try {
    mkdirSync(path, { recursive: true, mode: 0o700 })
    const root = realpathSync(path)
    refuseForeign(root)
    for (const folder of ['redis', 'nodes']) mkdirSync(join(root, folder), { recursive: true, mode: 0o700 })
    chmodSync(root, 0o700)
    return foldersOf(root)
  } catch (error) {
    if (error instanceof RingfsError) throw error
    throw new RingfsError('USAGE', `${path} cannot be a data folder (${messageOf(error)}): choose another with --data`)
  }
}

/** The folders of one that exists; undefined when there is none. */
export function findDataFolders(path: string): DataFolders | undefined {
  try {
    const root = realpathSync(path)
    return readdirSync(root).includes(FILE) ? foldersOf(root) : undefined
  } catch {
    return undefined
  }
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
