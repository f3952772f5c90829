/** The temporary file of `ringfs get`, on a disk: where one goes on, and what tells one version from another. */
import { open, stat, utimes } from 'node:fs/promises'
import { basename, join } from 'node:path'
import t from 'tap'
import { MIB } from '../../../src/base/limits.js'
import { Leftovers, PartialFile, partialNames } from '../../../src/cli/files/partial-file.js'
import type { Attr } from '../../../src/vfs/contract.js'
import { temporaryFolder } from '../../helpers/chunks.js'

t.setTimeout(60_000)

const BEGAN = { sec: 1_000_000, nsec: 0 }
const ATTR: Attr = {
  ino: 7,
  type: 'file',
  mode: 0o440,
  uid: 0,
  gid: 0,
  nlink: 1,
  sizeBytes: 200 * MIB,
  allocatedBytes: 200 * MIB,
  rdev: 0,
  atime: BEGAN,
  mtime: BEGAN,
  ctime: BEGAN,
  btime: BEGAN,
  dataVersion: 3,
  parent: 0,
  hasXattrs: false,
  hasExtents: true,
  hasBody: false,
}

/** An empty one of this length. */
async function make(path: string, lengthBytes = 0): Promise<void> {
  const file = await open(path, 'w')
  await file.truncate(lengthBytes)
  await file.close()
}

t.test('a file goes on at the last step but one, and one that is too long from the beginning', async (t) => {
  const path = join(temporaryFolder(t), 'partial')
  for (const [thereMib, keptMib] of [
    [0, 0],
    [1, 0],
    [64, 0],
    [65, 32],
    [96, 32],
    [97, 64],
    [201, 0],
  ] as const) {
    await make(path, thereMib * MIB)
    const partial = await PartialFile.open(path, ATTR)
    t.equal(partial.offset, keptMib * MIB, `of ${thereMib} MiB`)
    await partial.close()
    t.equal((await stat(path)).size, keptMib * MIB, `and no more of ${thereMib} MiB is there`)
  }
})

t.test('what is appended is there under the name, with holes, mode and times', async (t) => {
  const folder = temporaryFolder(t)
  const [path, local] = [join(folder, 'partial'), join(folder, 'local')]
  const partial = await PartialFile.open(path, ATTR)
  await partial.appendHole(40 * MIB)
  await partial.append(Buffer.from('end'))
  t.equal(partial.offset, 40 * MIB + 3)
  await partial.end()
  await partial.moveTo(local)
  await partial.close()
  await t.rejects(stat(path), { code: 'ENOENT' })
  const info = await stat(local)
  t.match(info, { size: 40 * MIB + 3, mtimeMs: BEGAN.sec * 1000 })
  t.equal(info.mode & 0o777, 0o440)
  t.ok(info.blocks * 512 < MIB, 'the hole takes no room')
})

t.test(
  'another version has another name of the same file; another volume and another path have names of their own',
  (t) => {
    const local = join('/tmp', 'x'.repeat(255))
    const one = partialNames('volume', '/a/b', ATTR, local)
    t.equal(Buffer.byteLength(basename(one.partial)), 255, 'the longest name is not too long')
    t.same(partialNames('volume', 'a//./b', ATTR, local), one, 'the same path')
    t.same(partialNames('volume', '/a/b', { ...ATTR, dataVersion: 4 }, local), one, 'housekeeping')
    const changed = partialNames('volume', '/a/b', { ...ATTR, mtime: { sec: 1_000_001, nsec: 0 } }, local)
    t.not(changed.partial, one.partial)
    t.equal(changed.prefix, one.prefix)
    t.not(partialNames('other', '/a/b', ATTR, local).prefix, one.prefix)
    t.not(partialNames('volume', '/a/c', ATTR, local).prefix, one.prefix)
    t.end()
  },
)

t.test('what is left of other versions goes, but what was written lately, or is of another file', async (t) => {
  const local = join(temporaryFolder(t), 'local')
  const nameOf = (from: string, sec: number): string =>
    partialNames('volume', from, { ...ATTR, mtime: { sec, nsec: 0 } }, local).partial
  const [old, recent, other] = [nameOf('/a', 1), nameOf('/a', 2), nameOf('/b', 1)]
  const own = partialNames('volume', '/a', ATTR, local)
  for (const path of [old, recent, other, own.partial]) await make(path)
  for (const path of [old, other, own.partial]) await utimes(path, 1_000, 1_000)
  await new Leftovers().remove(own)
  await t.rejects(stat(old), { code: 'ENOENT' })
  for (const path of [recent, other, own.partial]) await t.resolves(stat(path))
})
