/**
 * Who a data folder is: a node keeps its identity there, apart from its address, so that it comes back as itself on another
 * port or machine and brings its chunks along.
 */
import { randomUUID } from 'node:crypto'
import { closeSync, fsyncSync, mkdirSync, openSync, readFileSync, readdirSync, renameSync, writeSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { z } from 'zod'
import { RingfsError, messageOf } from '../../base/errors.js'
import { FORMAT_VERSION } from '../../cluster/contract.js'
import { lockFolder } from '../../cluster/folder-lock.js'
import { codeOf } from '../outcome.js'
import { syncFolder } from './files.js'

const IDENTITY_FILE = 'ringfs-node.json'
const LOCK_PURPOSE = 'node'
const TEMPORARY_FILE = 'ringfs-node.json.new'
/** What a fresh folder may hold: leavings of a first start that was killed, and of mkfs. */
const HARMLESS = new Set([TEMPORARY_FILE, `${LOCK_PURPOSE}.lock`, 'lost+found'])

const identitySchema = z.object({ format: z.int().positive(), node: z.uuid(), volume: z.uuid() })
/** Read first: a newer program may have changed all the rest. */
const formatSchema = z.object({ format: z.int().positive() })

export interface DataFolder {
  readonly folder: string
  /** The node's stable id, a uuid. */
  readonly nodeId: string
  readonly volume: string
  /** Lets another process open the folder. */
  close(): Promise<void>
}

/**
 * Opens the data folder of a node of `volume`; makes it, with a new identity, if it does not exist or is empty.
 * Errors: RingfsError ALREADY_RUNNING, NODE_WRONG_VOLUME, VOLUME_NEWER, VOLUME_CORRUPT, USAGE (something else's folder).
 */
export async function openDataFolder(
  path: string,
  volume: string,
  newId: () => string = randomUUID,
): Promise<DataFolder> {
  const folder = resolve(path)
  makeFolder(folder)
  const entries = readdirSync(folder)
  if (!entries.includes(IDENTITY_FILE)) refuseForeign(folder, entries)
  const lock = await lockFolder(folder, LOCK_PURPOSE)
  try {
    // Read again under the lock: another process may have made the identity meanwhile.
    const nodeId = readIdentity(folder, volume) ?? writeIdentity(folder, volume, newId())
    return { folder, nodeId, volume, close: () => lock.release() }
  } catch (error) {
    await lock.release()
    throw error
  }
}

function makeFolder(folder: string): void {
  try {
    mkdirSync(folder, { recursive: true, mode: 0o700 })
  } catch (error) {
    if (codeOf(error) !== 'EEXIST' && codeOf(error) !== 'ENOTDIR') throw error
    throw new RingfsError('USAGE', `${folder} is not a folder: give another data folder`, { cause: error })
  }
}

function refuseForeign(folder: string, entries: readonly string[]): void {
  const foreign = entries.find((name) => !HARMLESS.has(name))
  if (foreign === undefined) return
  throw new RingfsError(
    'USAGE',
    `${folder} is not empty (${foreign}) and not the data folder of a ringfs node: give an empty one`,
  )
}

/**
 * Whose data folder it is, without opening it; undefined: nobody's yet.
 * Errors: RingfsError NODE_WRONG_VOLUME, VOLUME_NEWER, VOLUME_CORRUPT.
 */
export function readIdentity(folder: string, volume: string): string | undefined {
  const text = readIdentityFile(folder)
  if (text === undefined) return undefined
  const identity = parseIdentity(folder, text)
  if (identity.volume === volume) return identity.node
  throw new RingfsError(
    'NODE_WRONG_VOLUME',
    `${folder} belongs to volume ${identity.volume}, not to ${volume}: give the data folder of this volume or an empty one`,
  )
}

function readIdentityFile(folder: string): string | undefined {
  try {
    return readFileSync(join(folder, IDENTITY_FILE), 'utf8')
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return undefined
    throw error
  }
}

function parseIdentity(folder: string, text: string): z.infer<typeof identitySchema> {
  const json = parseJson(folder, text)
  const version = formatSchema.safeParse(json)
  if (version.success && version.data.format > FORMAT_VERSION) {
    throw new RingfsError(
      'VOLUME_NEWER',
      `${folder} has format ${version.data.format}; this ringfs knows ${FORMAT_VERSION}: use a newer ringfs`,
    )
  }
  const identity = identitySchema.safeParse(json)
  if (identity.success) return identity.data
  throw damaged(folder, 'its fields are wrong')
}

function parseJson(folder: string, text: string): unknown {
  try {
    return JSON.parse(text)
  } catch (error) {
    throw damaged(folder, messageOf(error))
  }
}

function damaged(folder: string, why: string): RingfsError {
  return new RingfsError(
    'VOLUME_CORRUPT',
    `${join(folder, IDENTITY_FILE)} is damaged (${why}): restore it from a backup`,
  )
}

/** Whole and on disk before it counts: a node that lost its id would come back as a stranger to its own chunks. */
function writeIdentity(folder: string, volume: string, node: string): string {
  const temporary = join(folder, TEMPORARY_FILE)
  const fd = openSync(temporary, 'w', 0o600)
  try {
    writeSync(fd, `${JSON.stringify({ format: FORMAT_VERSION, node, volume })}\n`)
    fsyncSync(fd)
  } finally {
    closeSync(fd)
  }
  renameSync(temporary, join(folder, IDENTITY_FILE))
  syncFolder(folder)
  return node
}
