/**
 * The data folders of a node, one a disk, opened together. They know of each other (identity.ts), so that one that is missing is told
 * from one that is new, and folders of several nodes cannot be mixed up.
 *
 *   has an identity of this node --------------------------------------------------> opened
 *   has one of another node or volume, or something else's files ------------------> refused
 *   empty, or not there: known, and its file system is not mounted ----------------> missing: the node starts without it
 *                        else -----------------------------------------------------> made, as a new disk
 *   cannot be looked at: known --> missing;  else ---------------------------------> refused
 *   not given, or another one is in its place: known ------------------------------> missing, until it is given up (known-disks.ts)
 *
 * Invariants: each folder has at most one process that has it open. A folder is never made below a mount point that is bare: chunks
 * would go to the disk of the system. One that has an identity has its name on disk, as have those above it.
 */
import { randomUUID } from 'node:crypto'
import { existsSync, readdirSync, realpathSync, statSync } from 'node:fs'
import { dirname, resolve } from 'node:path'
import { RingfsError, codeOf, messageOf } from '../../base/errors.js'
import { lockFolder, type FolderLock } from '../../base/folder-lock.js'
import { makeFolders } from '../../base/make-folders.js'
import { syncNames } from './files.js'
import { IDENTITY_FILE, IDENTITY_TEMPORARY, readIdentity, writeIdentity } from './identity.js'
import type { Identity, KnownDisk } from './identity.js'
import { isForgotten, joinedSet, type DiskSet } from './known-disks.js'

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
  /** Known, but not to be had now. */
  readonly missing: readonly MissingFolder[]
  /** Given up by this start. */
  readonly dropped: readonly DiskFolder[]
  /** Lets another process open the folders. */
  close(): Promise<void>
}

/** A folder that was given, as it is found. `identity` undefined: nobody's yet. */
type Found =
  | { readonly folder: string; readonly state: 'there'; readonly identity: Identity | undefined }
  | { readonly folder: string; readonly state: 'absent' }
  | { readonly folder: string; readonly state: 'bad'; readonly error: unknown }

export interface OpenFoldersOptions {
  /** Folders, or ids, of disks that are given up, unless they are in use. */
  readonly forget?: readonly string[]
  /** Only to look at what is there, which may be some of the disks; they keep what they know of each other. */
  readonly isOffline?: boolean
}

/**
 * Opens the data folders of a node of `volume`; makes those that are new. Errors: RingfsError ALREADY_RUNNING, NODE_WRONG_VOLUME,
 * VOLUME_NEWER, VOLUME_CORRUPT, USAGE (something else's folder, or another node's).
 */
export async function openNodeFolders(
  paths: readonly string[],
  volume: string,
  options: OpenFoldersOptions = {},
): Promise<NodeFolders> {
  const opening = new Opening(
    paths.map((path) => resolve(path)),
    volume,
    options,
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
  readonly #options: OpenFoldersOptions
  readonly #locks: FolderLock[] = []

  constructor(folders: readonly string[], volume: string, options: OpenFoldersOptions) {
    this.#folders = folders
    this.#volume = volume
    this.#options = options
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
    const known = joinedSet(identities)
    const absent = known.disks.filter(({ disk }) => !identities.some((one) => one.disk === disk))
    const { forget = [], isOffline = false } = this.#options
    const dropped = absent.filter((one) => isForgotten(one, forget))
    const away = absent.filter((one) => !dropped.includes(one))
    const bare = new Map(found.flatMap((one) => unmade(one, known.disks)))
    const disks: DiskFolder[] = []
    for (const one of found) {
      if (bare.has(one.folder)) continue
      await this.#makeIfNew(one)
      disks.push({ disk: diskOf(one) ?? randomUUID(), folder: one.folder })
    }
    const set = nextSet(known, disks, away, dropped)
    if (!isOffline) this.#write(nodeId, disks, known, set, identities)
    const missing = away.map(({ disk, folder }) => ({ disk, folder, why: bare.get(folder) ?? this.#whyAway(folder) }))
    return { nodeId, volume: this.#volume, disks, missing, dropped, close: () => this.close() }
  }

  #whyAway(folder: string): string {
    const why = this.#folders.includes(folder) ? 'another disk is in its place' : 'its folder was not given'
    return `${why}; if it will never be back, give it up with --forget`
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
      if (found.identity !== undefined) return
    } else {
      makeFolder(folder)
      this.#locks.push(await lockFolder(folder, LOCK_PURPOSE))
    }
    // Another process may have been quicker.
    refuseForeign(folder)
    // Also of what is there: who made it may have died before.
    syncNames(folder)
  }

  /**
   * Those that do not say so yet: who they are, and which others there are. The new ones first, apart: one that the others know, and
   * that does not know itself, would be missing for ever.
   */
  #write(node: string, disks: readonly DiskFolder[], known: DiskSet, next: DiskSet, before: readonly Identity[]): void {
    const isKnown = ({ disk }: DiskFolder): boolean => before.some((one) => one.disk === disk)
    const isSame = (one: Identity): boolean =>
      JSON.stringify(one.set) === JSON.stringify({ ...next, version: known.version })
    if (before.length === disks.length && before.every(isSame)) return
    const write = ({ disk, folder }: DiskFolder, set: DiskSet): void =>
      writeIdentity(folder, {
        node,
        volume: this.#volume,
        disk,
        set: { ...set, disks: [...set.disks], forgotten: [...set.forgotten] },
      })
    if (disks.length > 1) for (const one of disks) if (!isKnown(one)) write(one, known)
    for (const one of disks) {
      try {
        write(one, next)
      } catch (error) {
        // One that has an identity may be full, or cannot be written any more: what it knows of the others is old then.
        if (!isKnown(one)) throw error
      }
    }
  }
}

function nextSet(
  known: DiskSet,
  disks: readonly DiskFolder[],
  away: readonly KnownDisk[],
  dropped: readonly KnownDisk[],
): DiskSet {
  const here = disks.map(({ disk, folder }) => ({ disk, folder, mount: mountOf(folder) }))
  const all = [...here, ...away]
  const forgotten = [...new Set([...known.forgotten, ...dropped.map(({ disk }) => disk)])]
  return {
    version: known.version + 1,
    disks: all,
    forgotten: forgotten.filter((id) => !all.some(({ disk }) => disk === id)),
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

/** The folder, and why nothing is made there: it is that of a known disk, and cannot be had. */
function unmade(found: Found, known: readonly KnownDisk[]): [string, string][] {
  const { folder } = found
  const mounts = known.filter((one) => one.folder === folder).map(({ mount }) => mount)
  if (mounts.length === 0 || (found.state === 'there' && found.identity !== undefined)) return []
  if (found.state === 'bad') return [[folder, messageOf(found.error)]]
  const now = mountOf(folder)
  const mount = mounts.find((one) => now !== one && isBelow(one, now))
  return mount === undefined ? [] : [[folder, `nothing is mounted on ${mount}`]]
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
    makeFolders(folder, 0o700)
  } catch (error) {
    if (codeOf(error) !== 'ENOENT') throw unusable(folder, error)
    // Below /proc, say: the folder above is there, and nothing can be made in it.
    throw new RingfsError('USAGE', `${folder} cannot be made (${messageOf(error)}): give another data folder`)
  }
}

function unusable(folder: string, error: unknown): unknown {
  if (codeOf(error) === 'EACCES') {
    const what = `${folder} cannot be used (${messageOf(error)})`
    return new RingfsError('USAGE', `${what}: run this as the user whose folder it is, or give another data folder`)
  }
  if (codeOf(error) !== 'EEXIST' && codeOf(error) !== 'ENOTDIR') return error
  return new RingfsError('USAGE', `${folder} is not a folder: give another data folder`, { cause: error })
}

function refuseForeign(folder: string): void {
  const foreign = readdirSync(folder).find((name) => !HARMLESS.has(name))
  if (foreign === undefined) return
  const what = foreign === IDENTITY_FILE ? 'another process has just taken it' : 'not the data folder of a ringfs node'
  throw new RingfsError('USAGE', `${folder} is not empty (${foreign}) and ${what}: give an empty one`)
}
