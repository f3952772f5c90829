/**
 * Whose a data folder is. A node keeps its identity in each of its folders, apart from its address, so that it comes back as itself
 * on another port or machine and brings its chunks along. Opening them, with their locks: node-folders.ts.
 *
 *     {"format": 2, "node": uuid, "volume": uuid, "disk": uuid,
 *      "set": {"version": n, "disks": [{"disk", "folder", "mount"}], "forgotten": [uuid]}}
 *
 * `set`: all disks of the node, as of a start; how those of several disks are read: known-disks.ts. A file without `disk` is
 * of a program that knew one folder a node: the disk has the node's id, so that it is the same when the file cannot be written.
 */
import { join } from 'node:path'
import * as z from 'zod'
import { RingfsError, codeOf, messageOf } from '../../base/errors.js'
import { FORMAT_VERSION } from '../../cluster/contract.js'
import { readSmallFile } from '../../base/small-file.js'
import { replaceFile } from './files.js'

export const IDENTITY_FILE = 'ringfs-node.json'
/** replaceFile() of it. */
export const IDENTITY_TEMPORARY = `${IDENTITY_FILE}.new`

const knownDiskSchema = z.object({ disk: z.uuid(), folder: z.string(), mount: z.string() })
const identitySchema = z.object({
  format: z.int().positive(),
  node: z.uuid(),
  volume: z.uuid(),
  disk: z.uuid().optional(),
  set: z
    .object({
      version: z.int().nonnegative(),
      disks: z.array(knownDiskSchema),
      forgotten: z.array(z.uuid()).optional(),
    })
    .optional(),
})
/** Read first: a newer program may have changed all the rest. */
const formatSchema = z.object({ format: z.int().positive() })

/** A folder of a node, as the node's other folders remember it. */
export type KnownDisk = z.infer<typeof knownDiskSchema>

export type Identity = Omit<z.infer<typeof identitySchema>, 'format' | 'disk'> & { readonly disk: string }

/**
 * Whose data folder it is, without opening it; undefined: nobody's yet.
 * Errors: RingfsError NODE_WRONG_VOLUME, VOLUME_NEWER, VOLUME_CORRUPT; what the disk says.
 */
export function readIdentity(folder: string, volume: string): Identity | undefined {
  const text = readIdentityFile(folder)
  if (text === undefined) return undefined
  const identity = parseIdentity(folder, text)
  if (identity.volume === volume) return { ...identity, disk: identity.disk ?? identity.node }
  throw new RingfsError(
    'NODE_WRONG_VOLUME',
    `${folder} belongs to volume ${identity.volume}, not to ${volume}: give the data folder of this volume or an empty one`,
  )
}

function readIdentityFile(folder: string): string | undefined {
  try {
    return readSmallFile(join(folder, IDENTITY_FILE))
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
export function writeIdentity(folder: string, identity: Identity): void {
  replaceFile(join(folder, IDENTITY_FILE), `${JSON.stringify({ format: FORMAT_VERSION, ...identity })}\n`)
}
