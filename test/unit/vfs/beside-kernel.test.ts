/** What is changed through FileService beside a mount is told to its kernel: each call that changes, and no other. */
import t, { type Test } from 'tap'
import { PosixError } from '../../../src/base/errno.js'
import { ROOT_INO } from '../../../src/base/limits.js'
import { BesideKernel } from '../../../src/vfs/beside-kernel.js'
import type { Invalidation, VfsContract } from '../../../src/vfs/contract.js'
import { CALLER, O_CREAT, O_RDWR, codeOf, fixture, make } from '../../helpers/vfs-fixture.js'

const O_TRUNC = 0o1000
const bytes = (text: string): Buffer => Buffer.from(text)

/** In words: `attr 5`, `data 5`, `entry 1/name`, `all`. */
function say(what: Invalidation): string {
  if (what.kind === 'entry') return `entry ${what.parent}/${what.name.toString()}`
  return what.kind === 'all' ? 'all' : `${what.kind} ${what.ino}`
}

function beside(t: Test) {
  const { vfs: under, meta, another } = fixture(t)
  const told: string[] = []
  under.coherence.onInvalidate((what) => told.push(say(what)))
  const vfs: VfsContract = new BesideKernel(under)
  /** What the kernel hears of a call, sorted. */
  const hears = async (call: Promise<unknown>): Promise<string[]> => {
    told.length = 0
    await call.catch(() => undefined)
    return [...new Set(told)].sort()
  }
  return { vfs, under, meta, another, hears }
}

t.test('names: the name, its directory, and what it meant', async (t) => {
  const { vfs, hears } = beside(t)
  const root = `attr ${ROOT_INO}`
  t.same(await hears(vfs.mkdir(CALLER, ROOT_INO, bytes('d'), 0o755)), [root, 'entry 1/d'])
  t.same(await hears(vfs.mknod(CALLER, ROOT_INO, bytes('n'), 0o100644, 0)), [root, 'entry 1/n'])
  t.same(await hears(vfs.symlink(CALLER, ROOT_INO, bytes('s'), bytes('n'))), [root, 'entry 1/s'])
  const { ino } = await vfs.lookup(CALLER, ROOT_INO, bytes('n'))
  t.same(await hears(vfs.link(CALLER, ino, ROOT_INO, bytes('l'))), [root, `attr ${ino}`, 'entry 1/l'].sort())
  const { ino: d } = await vfs.lookup(CALLER, ROOT_INO, bytes('d'))
  t.same(
    await hears(vfs.rename(CALLER, ROOT_INO, bytes('n'), d, bytes('m'), {})),
    [root, `attr ${d}`, `attr ${ino}`, 'entry 1/n', `entry ${d}/m`].sort(),
  )
  t.same(
    await hears(vfs.unlink(CALLER, d, bytes('m'))),
    [`attr ${d}`, `attr ${ino}`, `entry ${d}/m`].sort(),
    'the link count of what has another name',
  )
  t.same(await hears(vfs.rmdir(CALLER, ROOT_INO, bytes('d'))), [root, `attr ${d}`, 'entry 1/d'].sort())
})

t.test('what lost its name is told, also where another was taken for it', async (t) => {
  const { vfs, meta, another, hears } = beside(t)
  const other = another()
  const { ino } = await make(other.vfs, 'x')
  await make(other.vfs, 'f')
  await vfs.lookup(CALLER, ROOT_INO, bytes('f'))
  t.capture(meta, 'receive', () => undefined)
  await other.vfs.link(CALLER, ino, ROOT_INO, bytes('new'))
  await other.vfs.rename(CALLER, ROOT_INO, bytes('new'), ROOT_INO, bytes('f'), {})
  t.ok((await hears(vfs.unlink(CALLER, ROOT_INO, bytes('f')))).includes(`attr ${ino}`))
})

t.test('contents: each write, what cuts, and the end of an append', async (t) => {
  const { vfs, hears } = beside(t)
  let created: { ino: number; handle: number } | undefined
  const creates = make(vfs, 'f', O_RDWR).then((file) => (created = file))
  t.same(await hears(creates), ['attr 1', 'entry 1/f'])
  const { ino, handle } = created ?? { ino: 0, handle: 0 }
  const data = [`data ${ino}`]
  t.same(await hears(vfs.write(handle, 0, bytes('x'))), data)
  t.same(await hears(vfs.fallocate(handle, 0, 0, 100)), data)
  t.same(await hears(vfs.flush(handle)), data)
  t.same(await hears(vfs.fsync(handle, false)), data)
  t.same(await hears(vfs.setattr(CALLER, ino, { sizeBytes: 3 })), data)
  t.same(await hears(vfs.setattr(CALLER, ino, { mode: 0o600 })), [`attr ${ino}`])
  t.same(await hears(vfs.open(CALLER, ino, O_RDWR | O_TRUNC)), data)
  t.same(await hears(vfs.create(CALLER, ROOT_INO, bytes('f'), 0o644, O_RDWR | O_CREAT | O_TRUNC)), [
    'attr 1',
    `attr ${ino}`,
    ...data,
    'entry 1/f',
  ])
  const to = await make(vfs, 'to')
  t.same(await hears(vfs.copyRange(handle, 0, to.handle, 0, 1)), [`data ${to.ino}`])
  t.same(await hears(vfs.setxattr(ino, bytes('user.a'), bytes('1'), 0)), [`attr ${ino}`])
  t.same(await hears(vfs.removexattr(ino, bytes('user.a'))), [`attr ${ino}`])
  t.same(await hears(vfs.release(handle)), data)
})

t.test('who only looks tells nothing', async (t) => {
  const { vfs, hears } = beside(t)
  const { ino, handle } = await make(vfs, 'f')
  const directory = await vfs.opendir(CALLER, ROOT_INO)
  const looks = async (): Promise<void> => {
    await vfs.lookup(CALLER, ROOT_INO, bytes('f'))
    await vfs.getattr(CALLER, ino)
    await vfs.read(handle, 0, 10)
    await vfs.readdir(directory, 0n, 10, true)
    await vfs.listxattr(ino)
    await vfs.statfs()
    await vfs.open(CALLER, ino, O_RDWR)
  }
  t.same(await hears(looks()), [])
})

t.test('a change that failed is told, too: it may have been made', async (t) => {
  const { vfs, meta, hears } = beside(t)
  meta.before = (call) => (call === 'mkdir' ? Promise.reject(new PosixError('EIO')) : undefined)
  t.same(await hears(vfs.mkdir(CALLER, ROOT_INO, bytes('d'), 0o755)), ['attr 1', 'entry 1/d'])
  t.equal(await codeOf(vfs.mkdir(CALLER, ROOT_INO, bytes('d'), 0o755)), 'EIO')
})

t.test(
  'it is told when the change is made, not before: a question that comes between would bring the old',
  async (t) => {
    const { vfs, under } = beside(t)
    const seen: Promise<boolean>[] = []
    under.coherence.onInvalidate((what) => {
      if (what.kind === 'entry')
        seen.push(codeOf(under.lookup(CALLER, ROOT_INO, bytes('d'))).then((code) => code === 'ok'))
    })
    await vfs.mkdir(CALLER, ROOT_INO, bytes('d'), 0o755)
    t.same(await Promise.all(seen), [true])
  },
)
