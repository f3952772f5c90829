/** MetaStore: what a place in a listing means. */
import type { Test } from 'tap'
import type { DirEntry, MetaStore } from '../../src/meta/contract.js'
import { inParallel } from '../helpers/meta-check.js'
import { bytes, claim, makeDir, names, ROOT, touch, type OpenVolume } from '../helpers/meta.js'

/** Names whose 52-bit hashes (name-hash.ts) are equal, found by search: they share one place in the order. */
const COLLIDING: readonly (readonly [string, string])[] = [
  ['4b7fd86', '792544c'],
  ['ef07aa', '8874df0'],
]

async function fill(meta: MetaStore, parent: number, count: number, prefix = 'n'): Promise<string[]> {
  const made = Array.from({ length: count }, (_, at) => `${prefix}${at}`)
  await inParallel(made, async (name) => {
    await touch(meta, parent, name)
  })
  return made
}

export function cursorClaims(t: Test, open: OpenVolume): void {
  claim(t, open, 'entries tell ino, type and, with plus, attributes', async (t, volume) => {
    const meta = await volume.client()
    const dir = await makeDir(meta, ROOT, 'd')
    const made = [await touch(meta, dir.ino, 'f'), await makeDir(meta, dir.ino, 'sub'), await touch(meta, ROOT, 'far')]
    await meta.link(made[2]?.ino ?? 0, dir.ino, bytes('far'))
    for (const plus of [false, true]) {
      const { entries, end } = await meta.readdir(dir.ino, null, 10, plus)
      t.equal(end, true)
      t.strictSame(entries.map((entry) => entry.ino).sort(), made.map((one) => one.ino).sort())
      for (const entry of entries) {
        const attr = await meta.lookup(dir.ino, entry.name)
        t.equal(entry.type, attr.type)
        if (entry.attr !== undefined) t.strictSame(entry.attr, attr, 'attributes that come along are right')
        if (!plus) t.equal(entry.attr, undefined)
      }
    }
    const plus = await meta.readdir(dir.ino, null, 10, true)
    t.ok(
      plus.entries.find((entry) => entry.type === 'file' && entry.attr !== undefined),
      'those of files born here come along',
    )
  })

  claim(t, open, 'the cursor of each entry goes on behind it', async (t, volume) => {
    const meta = await volume.client()
    const dir = await makeDir(meta, ROOT, 'd')
    await fill(meta, dir.ino, 40)
    const { entries } = await meta.readdir(dir.ino, null, 100, false)
    for (const [at, entry] of entries.entries()) {
      const rest = await meta.readdir(dir.ino, entry.cursor, 100, false)
      t.strictSame(rest.entries.map(nameOf), entries.slice(at + 1).map(nameOf))
      t.equal(rest.end, true)
      const next = await meta.readdir(dir.ino, { ...entry.cursor }, 1, false)
      t.strictSame(next.entries.map(nameOf), entries.slice(at + 1, at + 2).map(nameOf), 'page of one')
    }
  })

  claim(t, open, 'the cursor of a removed entry is good still', async (t, volume) => {
    const meta = await volume.client()
    const dir = await makeDir(meta, ROOT, 'd')
    const made = await fill(meta, dir.ino, 100)
    const seen: string[] = []
    for (let cursor = null; ;) {
      const reply = await meta.readdir(dir.ino, cursor, 3, false)
      seen.push(...reply.entries.map(nameOf))
      const last = reply.entries.at(-1)
      for (const entry of reply.entries) await meta.unlink(dir.ino, entry.name)
      if (reply.end || last === undefined) break
      cursor = last.cursor
    }
    t.strictSame(seen.sort(), made.sort())
    t.strictSame(await names(meta, dir.ino), [])
  })

  claim(t, open, 'names with one place in the order are told apart', async (t, volume) => {
    const meta = await volume.client()
    const dir = await makeDir(meta, ROOT, 'd')
    for (const [one, two] of COLLIDING) {
      const a = await touch(meta, dir.ino, one)
      const b = await touch(meta, dir.ino, two)
      t.equal((await meta.lookup(dir.ino, bytes(one))).ino, a.ino)
      t.equal((await meta.lookup(dir.ino, bytes(two))).ino, b.ino)
    }
    const all = COLLIDING.flat().sort()
    for (const page of [1, 2, 3, 100]) t.strictSame((await names(meta, dir.ino, page)).sort(), all)
    for (const [one, two] of COLLIDING) {
      await meta.unlink(dir.ino, bytes(one))
      t.equal((await meta.lookup(dir.ino, bytes(two))).type, 'file')
      await meta.rename(dir.ino, bytes(two), dir.ino, bytes(one), {})
    }
    t.strictSame((await names(meta, dir.ino, 1)).sort(), COLLIDING.map(([one]) => one).sort())
  })
}

function nameOf(entry: DirEntry): string {
  return entry.name.toString('latin1')
}
