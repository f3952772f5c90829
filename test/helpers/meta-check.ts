/** fsck for tests: walks a volume as a client sees it, compares it with itself and with what lies in Redis. */
import type { RedisValue } from '../../src/cluster/contract.js'
import { WINDOW_BYTES } from '../../src/base/limits.js'
import type { Attr, DirEntry, MetaStore } from '../../src/meta/contract.js'
import { parseAcl } from '../../src/base/acl.js'
import { listSessions } from '../../src/meta/format.js'
import { VolumeKeys, type PartitionKeys } from '../../src/meta/keys.js'
import { PATIENCE_MS } from './deadline.js'
import type { MetaVolume } from './meta.js'

const ROOT = 1
const PAGE = 500
const WINDOWS_MAX = 64
const PARALLEL = 64

export interface Tree {
  /** Path -> ino. The root is ''. Names are latin1. */
  readonly paths: ReadonlyMap<string, number>
  readonly attrs: ReadonlyMap<number, Attr>
  readonly problems: readonly string[]
}

/** Walks everything, once. What does not fit together is a problem in words. */
export async function walk(meta: MetaStore): Promise<Tree> {
  const paths = new Map<string, number>([['', ROOT]])
  const attrs = new Map<number, Attr>([[ROOT, await meta.getattr(ROOT)]])
  const problems: string[] = []
  const names = new Map<number, number>()
  const subdirectories = new Map<number, number>()
  const seen = new Set<number>([ROOT])
  const todo = [{ path: '', ino: ROOT }]
  for (let next = todo.pop(); next !== undefined; next = todo.pop()) {
    const { path, ino } = next
    for (const entry of await list(meta, ino)) {
      const child = `${path}/${entry.name.toString('latin1')}`
      if (paths.has(child)) problems.push(`${child} is listed twice`)
      paths.set(child, entry.ino)
      names.set(entry.ino, (names.get(entry.ino) ?? 0) + 1)
      if (entry.type !== 'directory') continue
      subdirectories.set(ino, (subdirectories.get(ino) ?? 0) + 1)
      if (seen.has(entry.ino)) {
        problems.push(`${child} is a directory with two names`)
        continue
      }
      seen.add(entry.ino)
      todo.push({ path: child, ino: entry.ino })
    }
  }
  await inParallel([...new Set(paths.values())], async (ino) => {
    const attr = await meta.getattr(ino).catch((error: unknown) => String(error))
    if (typeof attr === 'string') problems.push(`ino ${ino} has a name and ${attr}`)
    else attrs.set(ino, attr)
  })
  problems.push(...wrongLinks(paths, attrs, names, subdirectories))
  return { paths, attrs, problems }
}

/** Link counts and parents that do not fit the names found. `names` and `subdirectories` are counted by ino. */
function wrongLinks(
  paths: ReadonlyMap<string, number>,
  attrs: ReadonlyMap<number, Attr>,
  names: ReadonlyMap<number, number>,
  subdirectories: ReadonlyMap<number, number>,
): string[] {
  const problems: string[] = []
  for (const [path, ino] of paths) {
    const attr = attrs.get(ino)
    if (attr === undefined) continue
    const isDirectory = attr.type === 'directory'
    const expected = isDirectory ? 2 + (subdirectories.get(ino) ?? 0) : (names.get(ino) ?? 0)
    if (attr.nlink !== expected) problems.push(`${path || '/'} has nlink ${attr.nlink}, not ${expected}`)
    const parent = path === '' ? ROOT : paths.get(path.slice(0, path.lastIndexOf('/')))
    if (isDirectory && attr.parent !== parent) problems.push(`${path || '/'} names ${attr.parent} as parent`)
    if (!isDirectory && attr.parent !== 0) problems.push(`${path} is no directory and names a parent`)
  }
  return problems
}

async function list(meta: MetaStore, ino: number): Promise<DirEntry[]> {
  const found: DirEntry[] = []
  for (let cursor = null; ;) {
    const reply = await meta.readdir(ino, cursor, PAGE, false)
    found.push(...reply.entries)
    const last = reply.entries.at(-1)
    if (reply.end || last === undefined) return found
    cursor = last.cursor
  }
}

/** `work` for each, some at a time. */
export async function inParallel<T>(items: readonly T[], work: (item: T) => Promise<void>): Promise<void> {
  const rest = items.values()
  const lanes = Array.from({ length: PARALLEL }, async () => {
    for (const item of rest) await work(item)
  })
  await Promise.all(lanes)
}

/** A volume on which nobody works: problems of the tree, usage that is off, orphans, locks and openers left behind. */
export async function checkVolume(volume: MetaVolume): Promise<string[]> {
  const meta = await volume.client()
  const deadline = Date.now() + PATIENCE_MS
  for (;;) {
    // Closings and clean-up after the dead come a little later.
    const problems = await checkOnce(volume, meta)
    if (problems.length === 0 || Date.now() > deadline) return problems
    await new Promise((resolve) => setTimeout(resolve, 100))
  }
}

async function checkOnce(volume: MetaVolume, meta: MetaStore): Promise<string[]> {
  const tree = await walk(meta)
  const problems = [...tree.problems]
  const used = [...tree.attrs.values()].reduce((sum, attr) => sum + attr.allocatedBytes, 0)
  const usage = await meta.usage()
  if (usage.inodes !== tree.attrs.size) problems.push(`usage says ${usage.inodes} inodes, not ${tree.attrs.size}`)
  if (usage.usedBytes !== used) problems.push(`usage says ${usage.usedBytes} bytes, not ${used}`)
  problems.push(...(await checkKeys(volume, tree)), ...(await checkGarbage(meta, tree)))
  return problems
}

async function checkKeys(volume: MetaVolume, tree: Tree): Promise<string[]> {
  const problems: string[] = []
  const keys = new VolumeKeys(volume.settings.name, volume.settings.partitions)
  const sessions = new Set((await listSessions(volume.redis, volume.settings.name)).map(({ id }) => id))
  for (let p = 0; p < keys.partitions; p++) {
    const partition = keys.partition(p)
    const fields = texts(await volume.redis.call('HKEYS', partition.inodes))
    for (const ino of fields.filter((field) => !field.startsWith('b'))) {
      if (!tree.attrs.has(Number(ino))) problems.push(`inode ${ino} is in Redis and has no name`)
    }
    problems.push(...(await checkBodies(volume, partition, tree, fields)))
    for (const lock of texts(await volume.redis.call('HKEYS', partition.locks)))
      // Delegations run out.
      if (lock !== 'D' && lock !== 'B') problems.push(`the lock ${lock} is left`)
    for (const [ino, session] of pairs(await volume.redis.call('HGETALL', partition.reserved))) {
      if (!sessions.has(Number(session))) problems.push(`the number ${ino} is reserved still`)
    }
    for (const ino of texts(await volume.redis.call('HKEYS', partition.fileLocks))) {
      problems.push(`ino ${ino} is locked still`)
    }
    for (const ino of texts(await volume.redis.call('HKEYS', partition.open))) problems.push(`ino ${ino} is open still`)
    problems.push(...(await checkAcls(volume, partition, tree)))
  }
  for (const who of texts(await volume.redis.call('HKEYS', keys.wide('w')))) problems.push(`${who} waits still`)
  return problems
}

/** A body is where the record says that there is one, and all of the partition are as long as its counter says. */
async function checkBodies(
  volume: MetaVolume,
  partition: PartitionKeys,
  tree: Tree,
  fields: readonly string[],
): Promise<string[]> {
  const problems: string[] = []
  const bodies = new Set(fields.filter((field) => field.startsWith('b')))
  let sum = 0
  for (const field of bodies) {
    if (tree.attrs.get(Number(field.slice(1)))?.hasBody !== true) problems.push(`the body ${field} is nobody's`)
    sum += Number(await volume.redis.call('HSTRLEN', partition.inodes, field))
  }
  for (const field of fields) {
    const hasBody = tree.attrs.get(Number(field))?.hasBody === true
    if (hasBody && !bodies.has(`b${field}`)) problems.push(`inode ${field} has lost its body`)
  }
  const counted = Number((await volume.redis.call('HGET', partition.counters, 'inline')) ?? 0)
  if (counted !== sum) problems.push(`${counted} bytes of bodies are counted, not ${sum}`)
  return problems
}

/** Every ACL has its inode, or one that is still to be freed; the inode knows of it, and its mode says the same. */
async function checkAcls(volume: MetaVolume, partition: PartitionKeys, tree: Tree): Promise<string[]> {
  const problems: string[] = []
  const freed = new Set(texts(await volume.redis.call('HKEYS', partition.zombies)))
  for (const field of texts(await volume.redis.call('HKEYS', partition.acls))) {
    const ino = field.slice(1)
    if (freed.has(ino)) continue
    const attr = tree.attrs.get(Number(ino))
    const value = await volume.redis.call('HGET', partition.acls, field)
    const acl = Buffer.isBuffer(value) ? parseAcl(value) : null
    if (attr?.hasXattrs !== true || acl === null) problems.push(`the ACL ${field} is nobody's`)
    else if (field.startsWith('a') && (acl.isMinimal || acl.permissions !== (attr.mode & 0o777)))
      problems.push(`the ACL ${field} does not say what the mode ${attr.mode.toString(8)} says`)
  }
  return problems
}

function pairs(reply: RedisValue): [string, string][] {
  const all = texts(reply)
  return all.flatMap((field, at) => (at % 2 === 0 ? [[field, all[at + 1] ?? '']] : []))
}

function texts(reply: RedisValue): string[] {
  return Array.isArray(reply) ? reply.map(String) : []
}

/** The janitor must not be given a chunk that a file has. */
async function checkGarbage(meta: MetaStore, tree: Tree): Promise<string[]> {
  const live = await liveChunks(meta, tree)
  const problems: string[] = []
  await meta.collectGarbage((ids) => {
    for (const id of ids) if (live.has(id)) problems.push(`chunk ${id} is to be deleted and in use`)
    return Promise.resolve()
  }, 0)
  return problems
}

/** Chunk ids that any file has now. */
export async function liveChunks(meta: MetaStore, tree: Tree): Promise<Set<number>> {
  const live = new Set<number>()
  const files = [...tree.attrs.values()].filter((attr) => attr.type === 'file' && attr.sizeBytes > 0)
  await inParallel(files, async ({ ino, sizeBytes }) => {
    const windows = Math.min(Math.ceil(sizeBytes / WINDOW_BYTES), WINDOWS_MAX)
    for (let window = 0; window < windows; window++) {
      for (const { chunk } of (await meta.extents(ino, window)).extents) if (chunk !== null) live.add(chunk.id)
    }
  })
  return live
}

/** One line a path, for comparing states: type, link count, which inode, of a directory its parent. */
export function describe(tree: Tree): string[] {
  return [...tree.paths]
    .map(([path, ino]) => {
      const attr = tree.attrs.get(ino)
      return attr === undefined
        ? `${path} ${ino} GONE`
        : `${path || '/'} ${attr.type} ino=${ino} nlink=${attr.nlink} parent=${attr.parent} mode=${attr.mode.toString(8)}`
    })
    .sort()
}
