/** MetaStore: files come, get further names and go. */
import type { Test } from 'tap'
import { NAME_MAX_BYTES, SYMLINK_MAX_BYTES } from '../../src/base/limits.js'
import type { Attr, InodeType } from '../../src/meta/contract.js'
import {
  ROOT,
  bytes,
  claim,
  makeDir,
  makeDirIn,
  names,
  newFile,
  outcome,
  touch,
  writeAt,
  type OpenVolume,
} from '../helpers/meta.js'

const EXCLUSIVE = { exclusive: true, open: false }
const TYPES: readonly InodeType[] = ['file', 'symlink', 'fifo', 'socket', 'char', 'block']

export function nameClaims(t: Test, open: OpenVolume): void {
  claim(t, open, 'every type of inode keeps what it was made with', async (t, volume) => {
    const meta = await volume.client()
    for (const type of TYPES) {
      const inode = newFile({ type, mode: 0o4751, rdev: 0x1_0305, target: bytes('to/\xff') })
      const { attr, created } = await meta.create(ROOT, bytes(type), inode, EXCLUSIVE)
      const isDevice = type === 'char' || type === 'block'
      t.ok(created)
      t.match(attr, { type, mode: 0o4751, uid: 1000, gid: 1000, nlink: 1, parent: 0, rdev: isDevice ? 0x1_0305 : 0 })
      t.same(await meta.lookup(ROOT, bytes(type)), attr)
      t.same(await meta.getattr(attr.ino), attr)
      const target = await outcome(meta.readlink(attr.ino))
      t.equal(target, type === 'symlink' ? 'ok' : 'EINVAL', 'only a symlink has a target')
    }
    const link = await meta.lookup(ROOT, bytes('symlink'))
    t.same(await meta.readlink(link.ino), bytes('to/\xff'))
    t.equal(link.sizeBytes, bytes('to/\xff').length)
  })

  claim(
    t,
    open,
    'a change of a name changes its times and the link counts of directories, and nothing else of an inode',
    async (t, volume) => {
      const meta = await volume.client()
      const at = { partition: 2 }
      const top = await makeDirIn(meta, ROOT, 'top', at)
      const other = await makeDirIn(meta, ROOT, 'other', at)
      const [before, behind] = [
        { sec: 1_000_000_000, nsec: 999_999_999 },
        { sec: -5, nsec: 7 },
      ]
      const file = await touch(meta, top.ino, 'file')
      for (const { ino } of [top, other, file]) {
        await meta.setxattr(ino, bytes('user.x'), bytes('v'), 'any')
        await meta.setattr(ino, { mode: 0o3751, uid: 4_000_000_001, gid: 4_000_000_002, atime: before, mtime: behind })
      }
      await writeAt(meta, file.ino, 2 ** 33, 4096)
      await meta.setattr(file.ino, { atime: before, mtime: behind })
      const [inos, nlinks] = [
        [top.ino, other.ino, file.ino],
        [2, 2, 1],
      ]
      const look = (): Promise<Attr[]> => Promise.all(inos.map((ino) => meta.getattr(ino)))
      let last = await look()
      const changes = async (what: string, more: readonly number[], work: () => Promise<unknown>): Promise<void> => {
        await work()
        const now = await look()
        more.forEach((links, i) => (nlinks[i] = (nlinks[i] ?? 0) + links))
        for (const [i, { ctime, mtime, ...rest }] of now.entries()) {
          const { ctime: ctimeBefore, mtime: mtimeBefore, ...restBefore } = last[i] ?? fail()
          t.same(rest, { ...restBefore, nlink: nlinks[i] }, `${what}: inode ${i}`)
          // Times in the order in which they are: a directory has one for both.
          if (i === 2) t.same(mtime, mtimeBefore, `${what}: the file's data`)
          else t.same(mtime, isSame(ctime, ctimeBefore) ? mtimeBefore : ctime, `${what}: directory ${i}`)
        }
        last = now
      }
      const [t0, o0] = [top.ino, other.ino]
      await changes('create', [0, 0, 0], () => meta.create(t0, bytes('new'), newFile(), EXCLUSIVE))
      await changes('mkdir', [1, 0, 0], () => meta.mkdir(t0, bytes('dir'), 0o755, 0, 0))
      await changes('rename', [0, 0, 0], () => meta.rename(t0, bytes('file'), t0, bytes('renamed'), {}))
      await changes('rename elsewhere', [0, 0, 0], () => meta.rename(t0, bytes('renamed'), o0, bytes('file'), {}))
      await changes('exchange', [0, 0, 0], () => meta.rename(o0, bytes('file'), t0, bytes('new'), { exchange: true }))
      await changes('link', [0, 0, 1], () => meta.link(file.ino, o0, bytes('second')))
      await changes('unlink', [0, 0, -1], () => meta.unlink(t0, bytes('new')))
      await changes('rename of a directory', [-1, 1, 0], () => meta.rename(t0, bytes('dir'), o0, bytes('dir'), {}))
      await changes('rmdir', [0, -1, 0], () => meta.rmdir(o0, bytes('dir')))
    },
  )

  claim(t, open, 'a change of a name tells the attributes of its directory', async (t, volume) => {
    const meta = await volume.client()
    const near = await makeDirIn(meta, ROOT, 'near', { partition: 2 })
    const other = await makeDirIn(meta, ROOT, 'other', { partition: 2 })
    const far = await makeDirIn(meta, ROOT, 'far', { partition: 3 })
    const file = await touch(meta, near.ino, 'file')
    const seen = new Map<number, Attr>()
    const saw = (attr: Attr): void => void seen.set(attr.ino, attr)
    const same = async (what: string, ...inos: readonly number[]): Promise<void> => {
      t.strictSame([...seen.keys()].sort(), [...inos].sort(), what)
      for (const ino of inos) t.same(seen.get(ino), await meta.getattr(ino), what)
      seen.clear()
    }
    await meta.create(near.ino, bytes('new'), newFile(), EXCLUSIVE, saw)
    await same('create', near.ino)
    await meta.link(file.ino, other.ino, bytes('link'), saw)
    await same('link', other.ino)
    await meta.link(file.ino, far.ino, bytes('link'), saw)
    await meta.rename(near.ino, bytes('new'), near.ino, bytes('old'), {}, saw)
    seen.delete(far.ino)
    await same('rename', near.ino)
    await meta.rename(near.ino, bytes('old'), other.ino, bytes('old'), {}, saw)
    await same('rename to a directory of the same partition', near.ino, other.ino)
    await meta.mkdir(near.ino, bytes('dir'), 0o755, 0, 0, 0, saw)
    await same('mkdir', near.ino)
    await meta.rmdir(near.ino, bytes('dir'), saw)
    await same('rmdir', near.ino)
    await meta.unlink(other.ino, bytes('old'), saw)
    await same('unlink', other.ino)
  })

  claim(t, open, 'rmdir with a guess of the inode does what it does without', async (t, volume) => {
    const meta = await volume.client()
    const [gone, full, right] = [await makeDir(meta, ROOT, 'gone'), await makeDir(meta, ROOT, 'full'), 'right']
    await meta.rmdir(ROOT, bytes('gone'))
    await touch(meta, full.ino, 'file')
    for (const guess of [gone.ino, full.ino, ROOT, 0]) {
      const { ino } = await makeDir(meta, ROOT, right)
      t.equal(await meta.rmdir(ROOT, bytes(right), undefined, guess), ino, `${guess}: it says which it was`)
      t.equal(await outcome(meta.rmdir(ROOT, bytes('none'), undefined, guess)), 'ENOENT')
      t.equal(await outcome(meta.rmdir(ROOT, bytes('full'), undefined, guess)), 'ENOTEMPTY')
    }
    t.strictSame(await names(meta, ROOT), ['full'])
  })

  claim(t, open, 'names are bytes up to 255, and nothing is decoded', async (t, volume) => {
    const meta = await volume.client()
    const odd = [
      Buffer.from([0xff]),
      Buffer.from([0xc3]),
      bytes('a\u0308'),
      bytes('\u00e4'),
      bytes(' '),
      bytes('\n'),
      bytes('*'),
    ]
    const all = [...odd, Buffer.alloc(NAME_MAX_BYTES, 0xfe), bytes('1e5'), bytes('-1')]
    for (const name of all) await touch(meta, ROOT, name)
    const expected = all.map((name) => name.toString('latin1')).sort()
    t.strictSame((await names(meta, ROOT)).sort(), expected)
    for (const name of all) await meta.unlink(ROOT, name)
    t.strictSame(await names(meta, ROOT), [])
  })

  claim(t, open, 'bad names are refused by every call that takes one', async (t, volume) => {
    const meta = await volume.client()
    const { ino } = await touch(meta, ROOT, 'file')
    const long = Buffer.alloc(NAME_MAX_BYTES + 1, 0x61)
    const calls: Record<string, (name: Buffer) => Promise<unknown>> = {
      lookup: (name) => meta.lookup(ROOT, name),
      create: (name) => meta.create(ROOT, name, newFile(), EXCLUSIVE),
      mkdir: (name) => meta.mkdir(ROOT, name, 0o755, 0, 0),
      link: (name) => meta.link(ino, ROOT, name),
      unlink: (name) => meta.unlink(ROOT, name),
      rmdir: (name) => meta.rmdir(ROOT, name),
      'rename from': (name) => meta.rename(ROOT, name, ROOT, bytes('x'), {}),
      'rename to': (name) => meta.rename(ROOT, bytes('file'), ROOT, name, {}),
    }
    for (const [what, call] of Object.entries(calls)) {
      t.equal(await outcome(call(long)), 'ENAMETOOLONG', `${what}: too long`)
      t.equal(await outcome(call(bytes('a/b'))), 'EINVAL', `${what}: a slash`)
      t.equal(await outcome(call(bytes('a\0b'))), 'EINVAL', `${what}: a NUL`)
      t.equal(await outcome(call(bytes(''))), 'ENOENT', `${what}: empty`)
    }
  })

  claim(t, open, 'the target of a symlink has 1 to 4095 bytes', async (t, volume) => {
    const meta = await volume.client()
    const make = (target: Buffer): Promise<string> =>
      outcome(meta.create(ROOT, bytes(`s${target.length}`), newFile({ type: 'symlink', target }), EXCLUSIVE))
    t.equal(await make(Buffer.alloc(0)), 'ENOENT')
    t.equal(await make(Buffer.alloc(SYMLINK_MAX_BYTES + 1, 1)), 'ENAMETOOLONG')
    t.equal(await make(Buffer.alloc(SYMLINK_MAX_BYTES, 1)), 'ok')
    const { ino } = await meta.lookup(ROOT, bytes(`s${SYMLINK_MAX_BYTES}`))
    t.same(await meta.readlink(ino), Buffer.alloc(SYMLINK_MAX_BYTES, 1))
  })

  claim(t, open, 'the errnos of names are those of POSIX', async (t, volume) => {
    const meta = await volume.client()
    const file = await touch(meta, ROOT, 'file')
    const dir = await makeDir(meta, ROOT, 'dir')
    await touch(meta, dir.ino, 'child')
    const gone = file.ino + 8 * 1000
    const expected: readonly (readonly [string, string, () => Promise<unknown>])[] = [
      ['lookup of no name', 'ENOENT', () => meta.lookup(ROOT, bytes('none'))],
      ['lookup in a file', 'ENOTDIR', () => meta.lookup(file.ino, bytes('x'))],
      ['lookup in nothing', 'ESTALE', () => meta.lookup(gone, bytes('x'))],
      ['getattr of nothing', 'ENOENT', () => meta.getattr(gone)],
      ['create of a name that is there', 'EEXIST', () => meta.create(ROOT, bytes('file'), newFile(), EXCLUSIVE)],
      ['create of a directory that is there', 'EEXIST', () => meta.create(ROOT, bytes('dir'), newFile(), EXCLUSIVE)],
      ['create in a file', 'ENOTDIR', () => meta.create(file.ino, bytes('x'), newFile(), EXCLUSIVE)],
      ['create in nothing', 'ENOENT', () => meta.create(gone, bytes('x'), newFile(), EXCLUSIVE)],
      [
        'create of a directory',
        'EINVAL',
        () => meta.create(ROOT, bytes('x'), newFile({ type: 'directory' }), EXCLUSIVE),
      ],
      ['mkdir of a file', 'EEXIST', () => meta.mkdir(ROOT, bytes('file'), 0o755, 0, 0)],
      ['mkdir of a directory', 'EEXIST', () => meta.mkdir(ROOT, bytes('dir'), 0o755, 0, 0)],
      ['mkdir in a file', 'ENOTDIR', () => meta.mkdir(file.ino, bytes('x'), 0o755, 0, 0)],
      ['mkdir in nothing', 'ENOENT', () => meta.mkdir(gone, bytes('x'), 0o755, 0, 0)],
      ['link of a directory', 'EPERM', () => meta.link(dir.ino, ROOT, bytes('x'))],
      ['link of nothing', 'ENOENT', () => meta.link(gone, ROOT, bytes('x'))],
      ['link to a name that is there', 'EEXIST', () => meta.link(file.ino, ROOT, bytes('dir'))],
      [
        'link in another directory to a name that is there',
        'EEXIST',
        () => meta.link(file.ino, dir.ino, bytes('child')),
      ],
      ['link in a file', 'ENOTDIR', () => meta.link(file.ino, file.ino, bytes('x'))],
      ['unlink of no name', 'ENOENT', () => meta.unlink(ROOT, bytes('none'))],
      ['unlink of a directory', 'EISDIR', () => meta.unlink(ROOT, bytes('dir'))],
      ['unlink in a file', 'ENOTDIR', () => meta.unlink(file.ino, bytes('x'))],
      ['rmdir of no name', 'ENOENT', () => meta.rmdir(ROOT, bytes('none'))],
      ['rmdir of a file', 'ENOTDIR', () => meta.rmdir(ROOT, bytes('file'))],
      ['rmdir of one with names', 'ENOTEMPTY', () => meta.rmdir(ROOT, bytes('dir'))],
      ['rmdir in a file', 'ENOTDIR', () => meta.rmdir(file.ino, bytes('x'))],
      ['readlink of a file', 'EINVAL', () => meta.readlink(file.ino)],
      ['readdir of a file', 'ENOTDIR', () => meta.readdir(file.ino, null, 10, false)],
      ['readdir of nothing', 'ENOENT', () => meta.readdir(gone, null, 10, false)],
      ['open of nothing', 'ENOENT', () => meta.open(gone, { truncate: false })],
    ]
    for (const [what, errno, call] of expected) t.equal(await outcome(call()), errno, what)
    t.strictSame((await names(meta, ROOT)).sort(), ['dir', 'file'], 'nothing was changed')
    t.strictSame(await names(meta, dir.ino), ['child'])
  })

  claim(t, open, 'create without exclusive answers what is there, near and far', async (t, volume) => {
    const meta = await volume.client()
    const shared = { exclusive: false, open: false }
    const near = await touch(meta, ROOT, 'near')
    const dir = await makeDirIn(meta, ROOT, 'dir', { not: ROOT })
    const far = await meta.link(near.ino, dir.ino, bytes('far'))
    t.match(await meta.create(ROOT, bytes('near'), newFile(), shared), { created: false, attr: { ino: near.ino } })
    t.match(await meta.create(dir.ino, bytes('far'), newFile(), shared), { created: false, attr: { ino: far.ino } })
    t.match(await meta.create(ROOT, bytes('new'), newFile(), shared), { created: true })
  })

  for (const where of ['near', 'far'] as const) hardLinks(t, open, where)

  claim(t, open, 'a name that is created by many at once is created by one', async (t, volume) => {
    const clients = await Promise.all([1, 2, 3, 4].map(() => volume.client()))
    const made = await Promise.all(clients.map((meta) => outcome(touch(meta, ROOT, 'one'))))
    t.strictSame(made.sort(), ['EEXIST', 'EEXIST', 'EEXIST', 'ok'])
    const dirs = await Promise.all(clients.map((meta) => outcome(makeDir(meta, ROOT, 'dir'))))
    t.strictSame(dirs.sort(), ['EEXIST', 'EEXIST', 'EEXIST', 'ok'])
    const gone = await Promise.all(clients.map((meta) => outcome(meta.unlink(ROOT, bytes('one')))))
    t.strictSame(gone.sort(), ['ENOENT', 'ENOENT', 'ENOENT', 'ok'])
    const removed = await Promise.all(clients.map((meta) => outcome(meta.rmdir(ROOT, bytes('dir')))))
    t.strictSame(removed.sort(), ['ENOENT', 'ENOENT', 'ENOENT', 'ok'])
  })
}

function hardLinks(t: Test, open: OpenVolume, where: 'near' | 'far'): void {
  claim(t, open, `a file has many names, ${where}, and goes with the last`, async (t, volume) => {
    const meta = await volume.client()
    const home = ROOT % meta.settings.partitions
    const dir = await makeDirIn(meta, ROOT, 'dir', where === 'near' ? { partition: home } : { not: home })
    const { ino } = await touch(meta, ROOT, 'first')
    const linked = await meta.link(ino, dir.ino, bytes('second'))
    t.match(linked, { ino, nlink: 2 })
    t.match(await meta.lookup(dir.ino, bytes('second')), { ino, nlink: 2, type: 'file' })
    t.match(await meta.unlink(ROOT, bytes('first')), { ino, nlink: 1 })
    t.match(await meta.link(ino, ROOT, bytes('third')), { ino, nlink: 2 })
    t.match(await meta.unlink(dir.ino, bytes('second')), { ino, nlink: 1 })
    t.match(await meta.unlink(ROOT, bytes('third')), { ino, nlink: 0 })
    t.equal(await outcome(meta.getattr(ino)), 'ENOENT')
    t.equal(await outcome(meta.link(ino, ROOT, bytes('again'))), 'ENOENT')
  })

  claim(t, open, `many clients link and unlink one file at once, ${where}: its count is right`, async (t, volume) => {
    const clients = await Promise.all([1, 2, 3, 4].map(() => volume.client()))
    const [meta] = clients
    if (meta === undefined) throw new Error('there are clients')
    const home = ROOT % meta.settings.partitions
    const dir = await makeDirIn(meta, ROOT, 'dir', where === 'near' ? { partition: home } : { not: home })
    const { ino } = await touch(meta, ROOT, 'file')
    const work = clients.map(async (client, who) => {
      for (let i = 0; i < 8; i++) await client.link(ino, dir.ino, bytes(`${who}-${i}`))
      for (let i = 0; i < 4; i++) await client.unlink(dir.ino, bytes(`${who}-${i}`))
    })
    await Promise.all(work)
    t.equal((await meta.getattr(ino)).nlink, 1 + clients.length * 4)
  })
}

function isSame(a: Attr['ctime'], b: Attr['ctime']): boolean {
  return a.sec === b.sec && a.nsec === b.nsec
}

function fail(): never {
  throw new Error('there are as many as before')
}
