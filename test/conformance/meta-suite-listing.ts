/** MetaStore: listings while others change the directory. */
import type { Test } from 'tap'
import type { MetaStore } from '../../src/meta/contract.js'
import { inParallel } from '../helpers/meta-check.js'
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
  type OpenVolume,
} from '../helpers/meta.js'

/** `many`: how many names the large listing has. */
export function listingClaims(t: Test, open: OpenVolume, many: number): void {
  claim(
    t,
    open,
    `of ${many} names each that stays is listed once, whatever comes, goes and is replaced`,
    async (t, volume) => {
      const [reader, writer] = [await volume.client(), await volume.client()]
      const dir = await makeDir(reader, ROOT, 'dir')
      const kept = Array.from({ length: many }, (_, i) => `stays-${i}`)
      await inParallel(kept, async (name) => {
        await touch(writer, dir.ino, name)
      })
      const working = { now: true }
      const storms = [0, 1, 2].map((who) => storm(writer, dir.ino, who, kept, working))
      for (const page of [997, 64]) {
        const listed = (await names(reader, dir.ino, page)).filter((name) => name.startsWith('stays-'))
        t.equal(listed.length, many, `pages of ${page}: none is missing or twice`)
        t.equal(new Set(listed).size, many)
      }
      working.now = false
      await Promise.all(storms)
      await inParallel(await names(reader, dir.ino, 1000), async (name) => {
        await writer.unlink(dir.ino, bytes(name))
      })
      await reader.rmdir(ROOT, bytes('dir'))
    },
  )

  claim(t, open, 'a listing ends, is empty for an empty directory, and goes on behind any entry', async (t, volume) => {
    const meta = await volume.client()
    const dir = await makeDir(meta, ROOT, 'dir')
    t.same(await meta.readdir(dir.ino, null, 5, true), { entries: [], end: true })
    for (let i = 0; i < 23; i++) await touch(meta, dir.ino, `n${i}`)
    const whole = await names(meta, dir.ino, 1000)
    for (const page of [1, 2, 22, 23, 24]) t.strictSame(await names(meta, dir.ino, page), whole, `pages of ${page}`)
    const { entries } = await meta.readdir(dir.ino, null, 100, false)
    for (const [i, entry] of entries.entries()) {
      const rest = await meta.readdir(dir.ino, entry.cursor, 100, false)
      t.same(rest.entries, entries.slice(i + 1))
      await meta.unlink(dir.ino, entry.name)
      const after = await meta.readdir(dir.ino, entry.cursor, 100, false)
      t.same(after.entries, rest.entries, 'also when that entry is gone')
    }
    await meta.rmdir(ROOT, bytes('dir'))
    t.equal(await outcome(meta.readdir(dir.ino, null, 5, false)), 'ENOENT')
  })

  claim(t, open, 'a listing with attributes has those of files born there, and every type', async (t, volume) => {
    const meta = await volume.client()
    const dir = await makeDir(meta, ROOT, 'dir')
    const file = await touch(meta, dir.ino, 'file')
    const fifo = await touch(meta, dir.ino, 'fifo', newFile({ type: 'fifo' }))
    const sub = await makeDirIn(meta, dir.ino, 'sub', { not: dir.ino % meta.settings.partitions })
    const { entries } = await meta.readdir(dir.ino, null, 10, true)
    const found = Object.fromEntries(entries.map((entry) => [entry.name.toString(), entry]))
    t.match(found['file'], { ino: file.ino, type: 'file', attr: file })
    t.match(found['fifo'], { ino: fifo.ino, type: 'fifo', attr: fifo })
    t.match(found['sub'], { ino: sub.ino, type: 'directory' })
    t.equal(found['sub']?.attr, undefined, 'not in the same round trip')
  })
}

/** Adds, removes and replaces names in a directory until told to stop. */
async function storm(
  meta: MetaStore,
  dir: number,
  who: number,
  kept: readonly string[],
  working: { readonly now: boolean },
): Promise<void> {
  for (let i = 0; working.now; i++) {
    const name = bytes(`comes-${who}-${i % 50}`)
    await touch(meta, dir, name)
    if (i % 2 === 0) await meta.unlink(dir, name)
    else await meta.rename(dir, name, dir, bytes(kept[(i * 31 + who) % kept.length] ?? ''), {})
  }
}
