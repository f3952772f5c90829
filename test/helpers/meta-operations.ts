/** The common operations, each with what it may cost in round trips: for counting them, and for measuring how long they take. */
import type { MetaStore } from '../../src/meta/contract.js'
import { ACCESS, DEFAULT, aclOf } from './acls.js'
import { ROOT, bytes, extentOf, makeDirIn, newFile, touch } from './meta.js'

export interface Operation {
  readonly name: string
  /** To Redis, one after the other or at once, before the call returns. */
  readonly roundTrips: number
  /** The `i`-th run. Needs at first what `before` makes. */
  readonly before?: (ground: OperationGround, i: number) => Promise<unknown>
  readonly run: (ground: OperationGround, i: number) => Promise<unknown>
}

export interface OperationGround {
  readonly meta: MetaStore
  /** The directory that has the next two. */
  readonly top: number
  /** Directories in two partitions. */
  readonly near: number
  readonly far: number
  /** A third, with a default ACL, and a file in it with an access ACL. */
  readonly shared: number
  readonly named: number
  /** A file in `near`, of one extent. */
  readonly file: number
  /** What `before` made for run `i`. */
  readonly made: Map<number, number>
}

/** In a directory `name` of its own. */
export async function operationGround(meta: MetaStore, name: string): Promise<OperationGround> {
  // In the root's partition is neither of the two.
  const top = await makeDirIn(meta, ROOT, name, { partition: ROOT })
  const shared = await makeDirIn(meta, top.ino, 'shared', { partition: 4 })
  await meta.setxattr(shared.ino, DEFAULT, ACL, 'any')
  const named = await touch(meta, shared.ino, 'named')
  // That it hands something down is learnt from the first.
  await meta.mkdir(shared.ino, bytes('first'), 0o755, 0, 0)
  const near = await makeDirIn(meta, top.ino, 'near', { partition: 2 })
  const far = await makeDirIn(meta, top.ino, 'far', { partition: 3 })
  const { ino } = await touch(meta, near.ino, 'file')
  const ground = {
    meta,
    top: top.ino,
    near: near.ino,
    far: far.ino,
    shared: shared.ino,
    named: named.ino,
    file: ino,
    made: new Map<number, number>(),
  }
  await commit(ground, ino, 'at')
  await meta.setxattr(ino, bytes('user.x'), bytes('v'), 'any')
  return ground
}

const ACL = aclOf('u::rwx,u:1000:rwx,g::r-x,m::rwx,o::---')
const MTIME = { sec: 1_700_000_000, nsec: 1 }

async function commit({ meta }: OperationGround, ino: number, mode: 'at' | 'append'): Promise<void> {
  const extents = [extentOf(await meta.chunkId(), 0, 4096)]
  await meta.commit(ino, { extents, mode, allocatedDeltaBytes: mode === 'at' ? 0 : 4096, mtime: MTIME })
}

async function makeFile({ meta, near, made }: OperationGround, i: number): Promise<void> {
  made.set(i, (await touch(meta, near, `made${i}`)).ino)
}

const made = (i: number): Buffer => bytes(`made${i}`)

export const OPERATIONS: readonly Operation[] = [
  { name: 'lookup', roundTrips: 1, run: ({ meta, near }) => meta.lookup(near, bytes('file')) },
  { name: 'lookup, far inode', roundTrips: 2, run: ({ meta, top }) => meta.lookup(top, bytes('near')) },
  { name: 'getattr', roundTrips: 1, run: ({ meta, file }) => meta.getattr(file) },
  { name: 'setattr', roundTrips: 1, run: ({ meta, file }) => meta.setattr(file, { mode: 0o600 }) },
  { name: 'truncate', roundTrips: 1, run: ({ meta, file }, i) => meta.setattr(file, { sizeBytes: 4096 + i }) },
  {
    name: 'create',
    roundTrips: 1,
    run: ({ meta, near }, i) => meta.create(near, bytes(`new${i}`), newFile(), { exclusive: true, open: false }),
  },
  {
    name: 'create and open',
    roundTrips: 1,
    run: ({ meta, near }, i) => meta.create(near, bytes(`opened${i}`), newFile(), { exclusive: true, open: true }),
  },
  { name: 'open', roundTrips: 1, run: ({ meta, file }) => meta.open(file, { truncate: false }) },
  { name: 'extents', roundTrips: 1, run: ({ meta, file }) => meta.extents(file, 0) },
  { name: 'commit', roundTrips: 1, run: (ground) => commit(ground, ground.file, 'at') },
  {
    name: 'commit, append',
    roundTrips: 1,
    before: makeFile,
    run: (ground, i) => commit(ground, ground.made.get(i) ?? 0, 'append'),
  },
  {
    name: 'link',
    roundTrips: 1,
    run: ({ meta, near, file }, i) => meta.link(file, near, bytes(`link${i}`)),
  },
  { name: 'unlink', roundTrips: 1, before: makeFile, run: ({ meta, near }, i) => meta.unlink(near, made(i)) },
  {
    name: 'rename, same directory',
    roundTrips: 1,
    before: makeFile,
    run: ({ meta, near }, i) => meta.rename(near, made(i), near, bytes(`renamed${i}`), {}),
  },
  {
    name: 'rename, far directory',
    // Both names, at once; the change.
    roundTrips: 3,
    before: makeFile,
    run: ({ meta, near, far }, i) => meta.rename(near, made(i), far, bytes(`moved${i}`), {}),
  },
  {
    name: 'readdir, 100 names',
    roundTrips: 1,
    before: makeFile,
    run: ({ meta, near }) => meta.readdir(near, null, 100, true),
  },
  // With a number of its own each time: else one.
  { name: 'mkdir', roundTrips: 2, run: ({ meta, near }, i) => meta.mkdir(near, bytes(`dir${i}`), 0o755, 0, 0) },
  {
    name: 'rmdir',
    // The name; the change.
    roundTrips: 2,
    before: ({ meta, near }, i) => makeDirIn(meta, near, `made${i}`, { not: 2 }),
    run: ({ meta, near }, i) => meta.rmdir(near, made(i)),
  },
  {
    name: 'rmdir of what the name is known to mean',
    roundTrips: 1,
    before: async ({ meta, near, made: inos }, i) => {
      inos.set(i, (await makeDirIn(meta, near, `known${i}`, { not: 2 })).ino)
    },
    run: ({ meta, near, made: inos }, i) => meta.rmdir(near, bytes(`known${i}`), undefined, inos.get(i)),
  },
  {
    name: 'create, default ACL',
    roundTrips: 1,
    run: ({ meta, shared }, i) => meta.create(shared, bytes(`new${i}`), newFile(), { exclusive: true, open: true }),
  },
  {
    name: 'mkdir, default ACL',
    roundTrips: 2,
    run: ({ meta, shared }, i) => meta.mkdir(shared, bytes(`dir${i}`), 0o755, 0, 0),
  },
  { name: 'chmod, access ACL', roundTrips: 1, run: ({ meta, named }, i) => meta.setattr(named, { mode: 0o600 + i }) },
  { name: 'set an ACL', roundTrips: 1, run: ({ meta, named }) => meta.setxattr(named, ACCESS, ACL, 'any') },
  { name: 'get an ACL', roundTrips: 1, run: ({ meta, named }) => meta.getxattr(named, ACCESS) },
  { name: 'setxattr', roundTrips: 1, run: ({ meta, file }) => meta.setxattr(file, bytes('user.x'), bytes('v'), 'any') },
  { name: 'getxattr', roundTrips: 1, run: ({ meta, file }) => meta.getxattr(file, bytes('user.x')) },
]
