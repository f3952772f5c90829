/** Listing a directory: pages in the order of the names' hashes, each page one script. */
import { invariant } from '../base/invariant.js'
import type { DirCursor, DirEntry, ReaddirReply } from './contract.js'
import { birthsIn } from './births.js'
import type { Core } from './core.js'
import { nameHash } from './name-hash.js'
import { decodeDirent, decodeInode } from './records.js'
import { SCRIPTS } from './scripts.js'

/** Room for names with the hash of the cursor's, which the page begins with. */
const TIES = 4

export async function readdir(
  core: Core,
  ino: number,
  cursor: DirCursor | null,
  limit: number,
  plus: boolean,
): Promise<ReaddirReply> {
  invariant(limit > 0, 'a page has entries')
  const score = cursor === null ? 0 : cursor.name === null ? cursor.score + 1 : cursor.score
  const wanted = limit + TIES
  for (let offset = 0; ; offset += wanted) {
    const page = await readPage(core, ino, score, wanted, offset, plus)
    const fresh = page.filter((entry) => isBehind(entry, cursor))
    const end = page.length < wanted
    if (fresh.length > 0 || end) return { entries: fresh.slice(0, limit), end: end && fresh.length <= limit }
  }
}

async function readPage(
  core: Core,
  ino: number,
  score: number,
  limit: number,
  offset: number,
  plus: boolean,
): Promise<DirEntry[]> {
  const { keys, partitions } = core
  const reply = await core.read(
    SCRIPTS.readdir,
    keys.home(ino),
    [keys.of(ino).names(ino)],
    [ino, score, limit, plus ? 1 : 0, partitions, offset],
  )
  // Whoever is told of a directory finds it.
  await Promise.all(birthsIn(reply.list(3), keys.home(ino)).map((birth) => core.births.complete(birth)))
  const records = reply.list(2)
  return reply.list(1).map((member, at) => {
    invariant(Buffer.isBuffer(member), 'a listing has strings')
    const { name, ino: child, type } = decodeDirent(member)
    const record = records[at]
    const cursor = { score: nameHash(name), name }
    if (!Buffer.isBuffer(record)) return { name, ino: child, type, cursor }
    return { name, ino: child, type, cursor, attr: decodeInode(child, record).attr }
  })
}

/** Members with one score are ordered by their bytes, and a name ends with a NUL there: so names compare alike. */
function isBehind(entry: DirEntry, cursor: DirCursor | null): boolean {
  if (cursor?.name == null || entry.cursor.score !== cursor.score) return true
  return Buffer.compare(entry.name, cursor.name) > 0
}
