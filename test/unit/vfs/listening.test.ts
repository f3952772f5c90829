/** What is kept of partitions that are not listened to at times. */
import t from 'tap'
import { ROOT_INO } from '../../../src/base/limits.js'
import { CALLER, Gate, codeOf, fixture, settle, type Fixture, type Mounted } from '../../helpers/vfs-fixture.js'

t.setTimeout(60_000)

const name = (text: string): Buffer => Buffer.from(text)

/** Two directories of one client, and another client. */
async function ground({ vfs, another }: Fixture): Promise<Mounted & { near: number; far: number }> {
  const other = another()
  const [near = 0, far = 0] = await Promise.all(
    ['near', 'far'].map(async (text) => (await vfs.mkdir(CALLER, ROOT_INO, name(text), 0o755)).ino),
  )
  await other.meta.delivered()
  return { ...other, near, far }
}

t.test('what is kept of a partition goes when it is ignored, and of no other', async (t) => {
  const one = fixture(t)
  const { vfs, meta, near, far } = await ground(one)
  const modes = async (): Promise<number[]> =>
    await Promise.all([near, far].map(async (ino) => (await vfs.getattr(CALLER, ino)).mode))
  await modes()
  t.equal(await codeOf(vfs.lookup(CALLER, near, name('f'))), 'ENOENT')
  t.equal(await codeOf(vfs.lookup(CALLER, far, name('f'))), 'ENOENT')
  meta.calls.clear()
  meta.ignore(meta.partitionOf(far))
  for (const ino of [near, far]) await one.vfs.setattr(CALLER, ino, { mode: 0o700 })
  await one.vfs.mknod(CALLER, far, name('f'), 0o644, 0)
  await meta.delivered()
  for (let i = 0; i < 3; i++) t.strictSame(await modes(), [0o700, 0o700])
  t.equal(await codeOf(vfs.lookup(CALLER, far, name('f'))), 'ok')
  t.equal(await codeOf(vfs.lookup(CALLER, near, name('f'))), 'ENOENT')
  t.equal(meta.calls.get('lookup'), 1)
})

t.test('what was asked before a partition was heard is not kept, what is asked then is', async (t) => {
  const { vfs, meta, far } = await ground(fixture(t))
  meta.ignore(meta.partitionOf(far))
  meta.calls.clear()
  for (let i = 0; i < 4; i++) await vfs.getattr(CALLER, far)
  t.equal(meta.calls.get('getattr'), 2)
})

t.test('a directory that was listed is not taken for complete behind a gap', async (t) => {
  const one = fixture(t)
  const { vfs, meta, far } = await ground(one)
  const list = async (): Promise<void> => {
    const handle = await vfs.opendir(CALLER, far)
    const all = await vfs.readdir(handle, 0n, 100, true)
    await vfs.readdir(handle, all.at(-1)?.offset ?? 0n, 100, true)
    vfs.releasedir(handle)
  }
  await list()
  meta.calls.clear()
  t.equal(await codeOf(vfs.lookup(CALLER, far, name('one'))), 'ENOENT')
  t.equal(meta.calls.get('lookup'), undefined, 'it is complete')
  meta.ignore(meta.partitionOf(far))
  for (const text of ['one', 'two']) await one.vfs.mknod(CALLER, far, name(text), 0o644, 0)
  await meta.delivered()
  for (const text of ['one', 'two']) t.equal(await codeOf(vfs.lookup(CALLER, far, name(text))), 'ok')

  const gate = new Gate()
  meta.after = (call) => (call === 'readdir' ? gate.passed : undefined)
  const listed = list()
  await settle()
  meta.ignore(meta.partitionOf(far))
  await one.vfs.mknod(CALLER, far, name('meanwhile'), 0o644, 0)
  await meta.delivered()
  meta.after = () => undefined
  await vfs.getattr(CALLER, far)
  gate.open()
  await listed
  t.equal(await codeOf(vfs.lookup(CALLER, far, name('meanwhile'))), 'ok')
})

t.test('contents that are kept of a file go with its partition', async (t) => {
  const one = fixture(t)
  const { vfs, meta } = await ground(one)
  const { attr, handle } = await one.vfs.create(CALLER, ROOT_INO, name('f'), 0o644, 0o102)
  await one.vfs.write(handle, 0, Buffer.from('old'))
  await one.vfs.flush(handle)
  const mine = await vfs.open(CALLER, attr.ino, 0)
  t.equal(String(await vfs.read(mine.handle, 0, 3)), 'old')
  meta.ignore(meta.partitionOf(attr.ino))
  await one.vfs.write(handle, 0, Buffer.from('new'))
  await one.vfs.flush(handle)
  await meta.delivered()
  for (let i = 0; i < 3; i++) t.equal(String(await vfs.read(mine.handle, 0, 3)), 'new')
  await vfs.release(mine.handle)
  await one.vfs.release(handle)
})
