/** MetaStore: files that are open outlive their names, and what is deleted gives everything back. */
import type { Test } from 'tap'
import { WINDOW_BYTES } from '../../src/base/limits.js'
import type { MetaStore } from '../../src/meta/contract.js'
import {
  ROOT,
  bytes,
  claim,
  makeDir,
  makeDirIn,
  newFile,
  outcome,
  touch,
  until,
  writeAt,
  type OpenVolume,
} from '../helpers/meta.js'

const SHORT_LEASE = { sessionTtlMs: 400 }
const KEEP = { truncate: false }

const isGone = async (meta: MetaStore, ino: number): Promise<boolean> => (await outcome(meta.getattr(ino))) === 'ENOENT'

export function openClaims(t: Test, open: OpenVolume): void {
  for (const where of ['near', 'far'] as const) {
    claim(
      t,
      open,
      `a file without a name lives until its last opener, whichever session, ${where}`,
      async (t, volume) => {
        const [a, b] = [await volume.client(), await volume.client()]
        const { ino } = await touch(a, ROOT, 'file')
        const dir = await makeDirIn(a, ROOT, 'dir', { not: ROOT % a.settings.partitions })
        if (where === 'far') await a.rename(ROOT, bytes('file'), dir.ino, bytes('file'), {})
        await a.open(ino, KEEP)
        await b.open(ino, KEEP)
        await b.open(ino, KEEP)
        t.match(await a.unlink(where === 'far' ? dir.ino : ROOT, bytes('file')), { nlink: 0 })
        const extent = await writeAt(b, ino, 0, 10)
        a.close(ino)
        b.close(ino)
        await a.shutdown()
        t.match(await b.getattr(ino), { nlink: 0, sizeBytes: 10 })
        t.same((await b.extents(ino, 0)).extents, [extent])
        t.equal(await outcome(b.link(ino, ROOT, bytes('back'))), 'ENOENT', 'a name does not come back')
        b.close(ino)
        await until('the file is gone', () => isGone(b, ino))
      },
    )

    claim(t, open, `a file that is replaced while open keeps its data, ${where}`, async (t, volume) => {
      const meta = await volume.client()
      const home = ROOT % meta.settings.partitions
      const dir = await makeDirIn(meta, ROOT, 'dir', where === 'near' ? { partition: home } : { not: home })
      await touch(meta, ROOT, 'new')
      const { ino } = await touch(meta, dir.ino, 'old')
      const extent = await writeAt(meta, ino, 0, 10)
      await meta.open(ino, KEEP)
      await meta.rename(ROOT, bytes('new'), dir.ino, bytes('old'), {})
      t.match(await meta.getattr(ino), { nlink: 0 })
      t.same((await meta.extents(ino, 0)).extents, [extent])
      meta.close(ino)
      await until('the file is gone', () => isGone(meta, ino))
    })
  }

  claim(
    t,
    open,
    'open answers attributes and the data of a small file, and truncates when asked',
    async (t, volume) => {
      const meta = await volume.client()
      const { attr } = await meta.create(ROOT, bytes('file'), newFile(), { exclusive: true, open: true })
      const extent = await writeAt(meta, attr.ino, 5, 10)
      const reply = await meta.open(attr.ino, KEEP)
      t.match(reply.attr, { ino: attr.ino, sizeBytes: 15 })
      t.same(reply.window0?.extents, [extent])
      const cut = await meta.open(attr.ino, { truncate: true })
      t.match(cut.attr, { sizeBytes: 0, allocatedBytes: 0 })
      t.same(cut.window0?.extents, [])
      for (let i = 0; i < 3; i++) meta.close(attr.ino)
    },
  )

  claim(t, open, 'create with open keeps a file that is unlinked at once', async (t, volume) => {
    const [a, b] = [await volume.client(), await volume.client()]
    const options = { exclusive: false, open: true }
    const { attr } = await a.create(ROOT, bytes('file'), newFile(), options)
    t.match(await b.create(ROOT, bytes('file'), newFile(), options), { created: false, attr: { ino: attr.ino } })
    await b.unlink(ROOT, bytes('file'))
    a.close(attr.ino)
    await a.shutdown()
    t.match(await b.getattr(attr.ino), { nlink: 0 })
    b.close(attr.ino)
    await until('the file is gone', () => isGone(b, attr.ino))
  })

  claim(t, open, 'what a dead session had open and unlinked is freed by the others', async (t, volume) => {
    const [dead, alive] = [await volume.client(SHORT_LEASE), await volume.client(SHORT_LEASE)]
    const both = await touch(alive, ROOT, 'both')
    const one = await touch(alive, ROOT, 'one')
    for (const meta of [dead, alive]) await meta.open(both.ino, KEEP)
    await dead.open(one.ino, KEEP)
    for (const name of ['both', 'one']) await alive.unlink(ROOT, bytes(name))
    volume.cut(dead)
    await until('what only the dead one had is gone', () => isGone(alive, one.ino))
    t.match(await alive.getattr(both.ino), { nlink: 0 }, 'what another has open, too, stays')
    alive.close(both.ino)
    await until('that is gone, too', () => isGone(alive, both.ino))
  })

  claim(t, open, 'opening and closing at once, again and again, never loses an open file', async (t, volume) => {
    const [a, b] = [await volume.client(), await volume.client()]
    const { ino } = await touch(a, ROOT, 'file')
    await a.open(ino, KEEP)
    await a.unlink(ROOT, bytes('file'))
    for (let i = 0; i < 30; i++) {
      const opened = a.open(ino, KEEP)
      a.close(ino)
      t.match((await opened).attr, { ino })
      if (i % 10 === 0) await new Promise((resolve) => setTimeout(resolve, 25))
    }
    t.match(await b.getattr(ino), { nlink: 0 })
    a.close(ino)
    await until('the file is gone', () => isGone(a, ino))
  })

  freed(t, open)
}

function freed(t: Test, open: OpenVolume): void {
  claim(
    t,
    open,
    'deleting everything brings usage back, and every chunk comes to the janitor once',
    async (t, volume) => {
      const meta = await volume.client()
      const start = await meta.usage()
      const dir = await makeDir(meta, ROOT, 'dir')
      const { ino } = await touch(meta, dir.ino, 'file')
      const chunks: number[] = []
      for (const at of [0, 10, 20, 30, WINDOW_BYTES, 5 * WINDOW_BYTES]) {
        chunks.push((await writeAt(meta, ino, at, 10)).chunk?.id ?? 0)
      }
      const small = await touch(meta, dir.ino, 'small')
      chunks.push((await writeAt(meta, small.ino, 0, 7)).chunk?.id ?? 0)
      await meta.setxattr(ino, bytes('user.a'), bytes('1'), 'any')
      t.same(await meta.usage(), { usedBytes: start.usedBytes + 67, inodes: start.inodes + 3 })
      await meta.setattr(small.ino, { sizeBytes: 3 })
      t.equal((await meta.usage()).usedBytes, start.usedBytes + 63)
      for (const name of ['file', 'small']) await meta.unlink(dir.ino, bytes(name))
      await meta.rmdir(ROOT, bytes('dir'))
      t.same(await meta.usage(), start)
      const removed: number[] = []
      const remove = (ids: readonly number[]): Promise<void> => Promise.resolve(void removed.push(...ids))
      await meta.collectGarbage(remove, 60_000)
      t.strictSame(removed, [], 'not before the grace period is over')
      await t.rejects(
        meta.collectGarbage(() => Promise.reject(new Error('no')), 0),
        'the janitor could not delete',
      )
      await meta.collectGarbage(remove, 0)
      t.strictSame([...new Set(removed)].sort(), chunks.sort(), 'and then all of them')
      t.equal(await meta.collectGarbage(remove, 0), 0, 'and never again')
    },
  )
}
