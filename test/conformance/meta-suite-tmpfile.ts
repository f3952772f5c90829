/** MetaStore: files made without a name (O_TMPFILE). */
import type { Test } from 'tap'
import type { MetaStore } from '../../src/meta/contract.js'
import {
  ROOT,
  bytes,
  claim,
  extentOf,
  makeDir,
  makeDirIn,
  newFile,
  outcome,
  touch,
  until,
  type OpenVolume,
} from '../helpers/meta.js'

const MTIME = { sec: 1_700_000_000, nsec: 1 }

export function tmpfileClaims(t: Test, open: OpenVolume): void {
  goes(t, open)
  isLinked(t, open)
  inherits(t, open)
  meetsItsEnd(t, open)
}

async function isGone(meta: MetaStore, ino: number): Promise<boolean> {
  return (await outcome(meta.getattr(ino))) === 'ENOENT'
}

async function append(meta: MetaStore, ino: number): Promise<void> {
  const extents = [extentOf(await meta.chunkId(), 0, 4096)]
  await meta.commit(ino, { extents, mode: 'append', allocatedDeltaBytes: 4096, mtime: MTIME })
}

function goes(t: Test, open: OpenVolume): void {
  claim(
    t,
    open,
    'a file without a name changes no directory, counts, and goes with its last opener',
    async (t, volume) => {
      const [meta, other] = await Promise.all([volume.client(), volume.client()])
      const [root, usage] = [await meta.getattr(ROOT), await meta.usage()]
      const { ino, nlink, mode } = await meta.tmpfile(ROOT, newFile({ mode: 0o640 }))
      t.strictSame([nlink, mode], [0, 0o640])
      t.strictSame(await meta.getattr(ROOT), root)
      await append(meta, ino)
      t.strictSame(await meta.usage(), { inodes: usage.inodes + 1, usedBytes: usage.usedBytes + 4096 })
      await other.open(ino, { truncate: false })
      meta.close(ino)
      await other.setattr(ino, { mode: 0o600 })
      t.match(await other.getattr(ino), { nlink: 0, sizeBytes: 4096, mode: 0o600 })
      other.close(ino)
      await until('it is gone', () => isGone(meta, ino))
      t.strictSame(await meta.usage(), usage)
      t.equal(await outcome(meta.tmpfile((await touch(meta, ROOT, 'file')).ino, newFile())), 'ENOTDIR')
      t.equal(await outcome(meta.tmpfile(8 * 1000, newFile())), 'ENOENT')
    },
  )

  claim(t, open, 'a file without a name goes with the session that has it open', async (t, volume) => {
    const [meta, other] = await Promise.all([volume.client(), volume.client()])
    const { ino } = await meta.tmpfile(ROOT, newFile())
    await append(meta, ino)
    await meta.shutdown()
    t.ok(await isGone(other, ino))
  })
}

function isLinked(t: Test, open: OpenVolume): void {
  for (const place of ['near', 'far'] as const) {
    claim(
      t,
      open,
      `a file without a name gets one by link, ${place}, and is like any other then`,
      async (t, volume) => {
        const meta = await volume.client()
        const home = ROOT % meta.settings.partitions
        const dir = await makeDirIn(meta, ROOT, 'dir', place === 'near' ? { partition: home } : { not: home })
        await touch(meta, dir.ino, 'taken')
        const { ino } = await meta.tmpfile(ROOT, newFile())
        await append(meta, ino)
        // A new mode must not take from it that it may be linked.
        await meta.setattr(ino, { mode: 0o600 })
        t.equal(await outcome(meta.link(ino, dir.ino, bytes('taken'))), 'EEXIST')
        t.match(await meta.link(ino, dir.ino, bytes('named')), { nlink: 1, mode: 0o600, sizeBytes: 4096 })
        meta.close(ino)
        t.equal((await meta.lookup(dir.ino, bytes('named'))).ino, ino)
        await meta.open(ino, { truncate: false })
        await meta.unlink(dir.ino, bytes('named'))
        t.equal(await outcome(meta.link(ino, dir.ino, bytes('again'))), 'ENOENT', 'a removed file gets no name')
        meta.close(ino)
        await until('it is gone', () => isGone(meta, ino))
      },
    )
  }
}

function inherits(t: Test, open: OpenVolume): void {
  claim(t, open, 'a file without a name inherits as a new one does: group, umask', async (t, volume) => {
    const meta = await volume.client()
    const dir = await makeDir(meta, ROOT, 'dir')
    await meta.setattr(dir.ino, { mode: 0o2755, gid: 77 })
    for (const parent of [ROOT, dir.ino]) {
      const inode = newFile({ mode: 0o666, umask: 0o027 })
      const named = await meta.create(parent, bytes('named'), inode, { exclusive: true, open: false })
      const { ino, mode, uid, gid } = await meta.tmpfile(parent, inode)
      t.strictSame({ mode, uid, gid }, { mode: named.attr.mode, uid: named.attr.uid, gid: named.attr.gid })
      meta.close(ino)
    }
  })
}

/** Whoever ends the transaction sees to it that the file has its name, or is gone. */
function meetsItsEnd(t: Test, open: OpenVolume): void {
  for (const isTaken of [false, true]) {
    const what = isTaken ? 'is refused' : 'is done'
    claim(
      t,
      open,
      `a file without a name whose last opener closes it while a far link of it ${what}`,
      async (t, volume) => {
        const [setup, reader] = await Promise.all([volume.client(), volume.client()])
        const dir = await makeDirIn(setup, ROOT, 'dir', { not: ROOT % setup.settings.partitions })
        let ino = 0
        const meta: MetaStore = await volume.client({
          onStep: async (step) => {
            if (!step.startsWith('link:prepared')) return
            meta.close(ino)
            // Sent 20 ms later, in a batch.
            await new Promise((resolve) => setTimeout(resolve, 200))
            if (isTaken) await touch(setup, dir.ino, 'named')
          },
        })
        ;({ ino } = await meta.tmpfile(ROOT, newFile()))
        t.equal(await outcome(meta.link(ino, dir.ino, bytes('named'))), isTaken ? 'EEXIST' : 'ok')
        if (isTaken) t.ok(await isGone(reader, ino))
        else t.match(await reader.lookup(dir.ino, bytes('named')), { ino, nlink: 1 })
      },
    )
  }
}
