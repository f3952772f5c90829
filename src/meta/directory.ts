/** Listing a directory: pages in the order of the names' hashes, each page one script. */
import { invariant } from '../base/invariant.js'
import type { DirCursor, DirEntry, ReaddirReply } from './contract.js'
import { birthsIn } from './births.js'
import type { Core } from './core.js'
import { nameHash } from './name-hash.js'
import { decodeDirent, decodeInode } from './records.js'
import { SCRIPTS } from './scripts.js'

export async function readdir(
  core: Core,
  ino: number,
  cursor: DirCursor | null,
  limit: number,
  plus: boolean,
): Promise<ReaddirReply> {
  invariant(limit > 0, 'a page has entries')
  const entries = await readPage(core, ino, cursor, limit + 1, plus)
  return { entries: entries.slice(0, limit), end: entries.length <= limit }
}

async function readPage(
  core: Core,
  ino: number,
  cursor: DirCursor | null,
  limit: number,
  plus: boolean,
): Promise<DirEntry[]> {
  const { keys, partitions } = core
  // Behind all names of the score, where it is not known which of them it was.
  const { score, name } = cursor ?? { score: -1, name: null }
  const from = name === null ? score + 1 : score
  const reply = await core.read(
    SCRIPTS.readdir,
    keys.home(ino),
    [keys.of(ino).names(ino)],
    [ino, from, limit, plus ? 1 : 0, partitions, name ?? ''],
  )
  // Whoever is told of a directory finds it.
  await Promise.all(birthsIn(reply.list(3), keys.home(ino)).map((birth) => core.births.complete(birth)))
  const records = reply.list(2)
  return reply.list(1).map((member, at) => {
    invariant(Buffer.isBuffer(member), 'a listing has strings')
    const entry = decodeDirent(member)
    const found = { ...entry, cursor: { score: nameHash(entry.name), name: entry.name } }
    const record = records[at]
    return Buffer.isBuffer(record) ? { ...found, attr: decodeInode(entry.ino, record).attr } : found
  })
}
