/**
 * The data folders of a node, one a disk, opened together. They know of each other (identity.ts), so that one that is missing is told
 * from one that is new, and folders of several nodes cannot be mixed up.
 *
 *   has an identity of this node --------------------------------------------------> opened
 *   has one of another node or volume, or something else's files ------------------> refused
 *   empty, or not there: known, and its file system is not mounted ----------------> missing: the node starts without it
 *                        else -----------------------------------------------------> made, as a new disk
 *   cannot be looked at: known, or all of it is known --> missing;  else ----------> refused
 *
 * Invariants: each folder has at most one process that has it open. A folder is never made below a mount point that is bare: chunks
 * would go to the disk of the system.
 */
import { randomUUID } from 'node:crypto'
import { existsSync, mkdirSync, readdirSync, realpathSync, statSync } from 'node:fs'
import { dirname, resolve } from 'node:path'
import { RingfsError, messageOf } from '../../base/errors.js'
import { lockFolder, type FolderLock } from '../../cluster/folder-lock.js'
import { codeOf } from '../outcome.js'
import { IDENTITY_FILE, IDENTITY_TEMPORARY, readIdentity, writeIdentity } from './identity.js'
import type { Identity, KnownDisk } from './identity.js'

const LOCK_PURPOSE = 'node'
/** What a fresh folder may hold: leavings of a first start that was killed, and of mkfs. */
const HARMLESS = new Set([IDENTITY_TEMPORARY, `${LOCK_PURPOSE}.lock`, 'lost+found'])

export interface DiskFolder {
  /** Stable, a uuid. */
  readonly disk: string
  readonly folder: string
}

export interface MissingFolder extends DiskFolder {
  readonly why: string
}

export interface NodeFolders {
  /** The node's stable id, a uuid. */
  readonly nodeId: string
  readonly volume: string
  /** At least one, in the order in which they were given. */
  readonly disks: readonly DiskFolder[]
  /** Given, and known, but not to be had now. */
  readonly missing: readonly MissingFolder[]
  /** Known, and not given any more. */
  readonly dropped: readonly DiskFolder[]
  /** Lets another process open the folders. */
  close(): Promise<void>
}

/** A folder that was given, as it is found. `identity` undefined: nobody's yet. */
type Found =
  | { readonly folder: string; readonly state: 'there'; readonly identity: Identity | undefined }
  | { readonly folder: string; readonly state: 'absent' }
  | { readonly folder: string; readonly state: 'bad'; readonly error: unknown }

/**
 * Opens the data folders of a node of `volume`; makes those that are new. Errors: RingfsError ALREADY_RUNNING, NODE_WRONG_VOLUME,
 * VOLUME_NEWER, VOLUME_CORRUPT, USAGE (something else's folder, or another node's). `isOffline`: only to look at what is there, which may
 * be some of the disks; they keep what they know of each other.
 */
export async function openNodeFolders(
  paths: readonly string[],
  volume: string,
  options: { readonly isOffline?: boolean } = {},
): Promise<NodeFolders> {
  const opening = new Opening(
    paths.map((path) => resolve(path)),
    volume,
    options.isOffline === true,
  )
  try {
    return await opening.run()
  } catch (error) {
    await opening.close()
    throw error
  }
}

class Opening {
  readonly #folders: readonly string[]
  readonly #volume: string
  readonly #isOffline: boolean
  readonly #locks: FolderLock[] = []

  constructor(folders: readonly string[], volume: string, isOffline: boolean) {
    this.#folders = folders
    this.#volume = volume
    this.#isOffline = isOffline
  }

  async close(): Promise<void> {
    await Promise.all(this.#locks.splice(0).map((lock) => lock.release()))
  }

  async run(): Promise<NodeFolders> {
    refuseTwice(this.#folders)
    const found: Found[] = []
    for (const folder of this.#folders) found.push(await this.#look(folder))
    const identities = found.flatMap((one) => (one.state === 'there' && one.identity !== undefined ? one.identity : []))
    const nodeId = oneNode(found) ?? randomUUID()
    const known = newestSet(identities)
    const disks: DiskFolder[] = []
    const missing: MissingFolder[] = []
    for (const one of found) {
      const before = known.disks.find(({ folder }) => folder === one.folder)
      const why = before === undefined ? null : whyMissing(one, before)
      if (before !== undefined && why !== null) missing.push({ disk: before.disk, folder: one.folder, why })
      else disks.push({ disk: diskOf(one) ?? randomUUID(), folder: one.folder })
      if (why === null) await this.#makeIfNew(one)
    }
    const kept = known.disks.filter(({ disk }) => missing.some((one) => one.disk === disk))
    const set = [...disks.map(({ disk, folder }) => ({ disk, folder, mount: mountOf(folder) })), ...kept]
    if (!this.#isOffline) this.#write(nodeId, disks, { version: known.version, disks: set }, identities)
    const dropped = known.disks.filter(({ disk }) => !set.some((one) => one.disk === disk))
    return { nodeId, volume: this.#volume, disks, missing, dropped, close: () => this.close() }
  }

  /** Under its lock, if it is there: nobody gives it an identity meanwhile. */
  async #look(folder: string): Promise<Found> {
    try {
      if (!isFolder(folder)) return { folder, state: 'absent' }
      this.#locks.push(await lockFolder(folder, LOCK_PURPOSE))
      return { folder, state: 'there', identity: readIdentity(folder, this.#volume) }
    } catch (error) {
      if (error instanceof RingfsError) throw error
      return { folder, state: 'bad', error }
    }
  }

  async #makeIfNew(found: Found): Promise<void> {
    const { folder } = found
    if (found.state === 'bad') throw unusable(folder, found.error)
    if (found.state === 'there') {
      if (found.identity === undefined) refuseForeign(folder)
      return
    }
    makeFolder(folder)
    this.#locks.push(await lockFolder(folder, LOCK_PURPOSE))
    // Another process may have been quicker.
    refuseForeign(folder)
  }

  /** Those that do not say so yet: who they are, and which others there are. */
  #write(
    node: string,
    disks: readonly DiskFolder[],
    set: NonNullable<Identity['set']>,
    before: readonly Identity[],
  ): void {
    const isSame = (one: Identity): boolean => JSON.stringify(one.set) === JSON.stringify(set)
    if (before.length === disks.length && before.every(isSame)) return
    const next = { version: set.version + 1, disks: set.disks }
    for (const { disk, folder } of disks) {
      try {
        writeIdentity(folder, { node, volume: this.#volume, disk, set: next })
      } catch (error) {
        // One that has an identity may be full, or cannot be written any more: what it knows of the others is old then.
        if (!before.some((one) => one.disk === disk)) throw error
      }
    }
  }
}

function refuseTwice(folders: readonly string[]): void {
  const twice = folders.find((folder, index) => folders.indexOf(folder) !== index)
  if (twice !== undefined) throw new RingfsError('USAGE', `${twice} is given twice: a disk each`)
}

/** The node that they are of; undefined: of none yet. Errors: USAGE. */
function oneNode(found: readonly Found[]): string | undefined {
  let first: { readonly folder: string; readonly identity: Identity } | undefined
  const disks = new Map<string, string>()
  for (const one of found) {
    if (one.state !== 'there' || one.identity === undefined) continue
    const { folder, identity } = one
    first ??= { folder, identity }
    if (identity.node !== first.identity.node) {
      throw new RingfsError(
        'USAGE',
        `${folder} belongs to node ${identity.node}, and ${first.folder} to node ${first.identity.node}: ` +
          'give each node its own folders',
      )
    }
    const twin = disks.get(identity.disk)
    if (twin !== undefined) {
      throw new RingfsError(
        'USAGE',
        `${folder} and ${twin} are the same disk, one copied from the other: give one of them`,
      )
    }
    disks.set(identity.disk, folder)
  }
  return first?.identity.node
}

function diskOf(found: Found): string | undefined {
  return found.state === 'there' ? found.identity?.disk : undefined
}

/** What the newest of them says. */
function newestSet(identities: readonly Identity[]): {
  readonly version: number
  readonly disks: readonly KnownDisk[]
} {
  const sets = identities.flatMap(({ set }) => set ?? [])
  return sets.reduce((newest, set) => (set.version > newest.version ? set : newest), { version: 0, disks: [] })
}

/** null: it is there, or may be made anew. */
function whyMissing(found: Found, { mount }: KnownDisk): string | null {
  if (found.state === 'bad') return messageOf(found.error)
  if (found.state === 'there' && found.identity !== undefined) return null
  const now = mountOf(found.folder)
  return now !== mount && isBelow(mount, now) ? `nothing is mounted on ${mount}` : null
}

function isBelow(path: string, above: string): boolean {
  return path.startsWith(above === '/' ? above : `${above}/`)
}

/** Where the file system is mounted on which the folder lies, or would. Errors: what the disk says. */
function mountOf(folder: string): string {
  let at = folder
  while (!existsSync(at)) at = dirname(at)
  at = realpathSync(at)
  const { dev } = statSync(at)
  for (let above = dirname(at); above !== at && statSync(above).dev === dev; above = dirname(at)) at = above
  return at
}

/** false: nothing is there. Errors: ENOTDIR, what the disk says. */
function isFolder(path: string): boolean {
  try {
    readdirSync(path)
    return true
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return false
    throw error
  }
}

function makeFolder(folder: string): void {
  try {
    mkdirSync(folder, { recursive: true, mode: 0o700 })
  } catch (error) {
    throw unusable(folder, error)
  }
}

function unusable(folder: string, error: unknown): unknown {
  if (codeOf(error) !== 'EEXIST' && codeOf(error) !== 'ENOTDIR') return error
  return new RingfsError('USAGE', `${folder} is not a folder: give another data folder`, { cause: error })
}

function refuseForeign(folder: string): void {
  const foreign = readdirSync(folder).find((name) => !HARMLESS.has(name))
  if (foreign === undefined) return
  const what = foreign === IDENTITY_FILE ? 'another process has just taken it' : 'not the data folder of a ringfs node'
  throw new RingfsError('USAGE', `${folder} is not empty (${foreign}) and ${what}: give an empty one`)
}
