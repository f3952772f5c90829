/** MetaStore: several clients at once on the same names. */
import type { Test } from 'tap'
import type { MetaStore } from '../../src/meta/contract.js'
import {
  bytes,
  claim,
  makeDir,
  makeDirIn,
  newFile,
  outcome,
  ROOT,
  touch,
  type MetaVolume,
  type OpenVolume,
} from '../helpers/meta.js'

const x = bytes('x')
const y = bytes('y')

async function pair(volume: MetaVolume): Promise<[MetaStore, MetaStore]> {
  return [await volume.client(), await volume.client()]
}

function count(results: readonly string[], what: string): number {
  return results.filter((result) => result === what).length
}

export function raceClaims(t: Test, open: OpenVolume): void {
  claim(t, open, 'one of many wins: create, mkdir, unlink, rmdir, rename', async (t, volume) => {
    const clients = [...(await pair(volume)), ...(await pair(volume))]
    const [first] = clients
    if (first === undefined) throw new Error('there are clients')
    const far = await makeDirIn(first, ROOT, 'far', { not: ROOT })
    const all = (work: (meta: MetaStore, at: number) => Promise<unknown>): Promise<string[]> =>
      Promise.all([...clients, ...clients].map((meta, at) => outcome(work(meta, at))))
    for (let round = 0; round < 5; round++) {
      const made = await all((meta) => touch(meta, ROOT, 'x'))
      t.strictSame([count(made, 'ok'), count(made, 'EEXIST')], [1, 7], 'create')
      const moved = await all((meta, at) => meta.rename(ROOT, x, at % 2 === 0 ? far.ino : ROOT, bytes(`to${at}`), {}))
      t.strictSame([count(moved, 'ok'), count(moved, 'ENOENT')], [1, 7], 'rename')
      const to = moved.indexOf('ok')
      const home = to % 2 === 0 ? far.ino : ROOT
      const removed = await all((meta) => meta.unlink(home, bytes(`to${to}`)))
      t.strictSame([count(removed, 'ok'), count(removed, 'ENOENT')], [1, 7], 'unlink')
      const dirs = await all((meta) => makeDir(meta, ROOT, 'x'))
      t.strictSame([count(dirs, 'ok'), count(dirs, 'EEXIST')], [1, 7], 'mkdir')
      const gone = await all((meta) => meta.rmdir(ROOT, x))
      t.strictSame([count(gone, 'ok'), count(gone, 'ENOENT')], [1, 7], 'rmdir')
    }
    t.equal((await first.usage()).inodes, 2)
  })

  claim(t, open, 'a directory is removed or gets an entry, never both', async (t, volume) => {
    const [a, b] = await pair(volume)
    for (let round = 0; round < 30; round++) {
      const dir = await makeDir(a, ROOT, 'd')
      const f = await touch(a, ROOT, 'f')
      const put = [
        (): Promise<unknown> => touch(b, dir.ino, 'x'),
        (): Promise<unknown> => makeDir(b, dir.ino, 'x'),
        (): Promise<unknown> => b.link(f.ino, dir.ino, x),
        (): Promise<unknown> => b.rename(ROOT, bytes('f'), dir.ino, x, {}),
      ][round % 4]
      if (put === undefined) throw new Error('four ways')
      const [removed, entered] = await Promise.all([outcome(a.rmdir(ROOT, bytes('d'))), outcome(put())])
      const both = `${removed} ${entered}`
      t.ok(both === 'ok ENOENT' || both === 'ENOTEMPTY ok', both)
      for (const parent of removed === 'ok' ? [ROOT] : [dir.ino, ROOT]) await clear(a, parent)
    }
  })

  claim(
    t,
    open,
    'the last name is removed or the file gets another, never an entry without a file',
    async (t, volume) => {
      const [a, b] = await pair(volume)
      const far = await makeDirIn(a, ROOT, 'far', { not: ROOT })
      for (let round = 0; round < 30; round++) {
        const { ino } = await touch(a, ROOT, 'f')
        const into = round % 2 === 0 ? far.ino : ROOT
        const [removed, linked] = await Promise.all([
          outcome(a.unlink(ROOT, bytes('f'))),
          outcome(b.link(ino, into, x)),
        ])
        t.equal(removed, 'ok')
        t.match(linked, /^(ok|ENOENT)$/)
        t.equal(await outcome(a.lookup(into, x)), linked)
        if (linked === 'ok') t.equal((await b.unlink(into, x)).nlink, 0)
      }
    },
  )

  claim(t, open, 'a name that is replaced again and again is always there', async (t, volume) => {
    const [a, b] = await pair(volume)
    const far = await makeDirIn(a, ROOT, 'far', { not: ROOT })
    const third = await makeDirIn(a, ROOT, 'third', { not: far.ino % a.settings.partitions })
    await touch(a, ROOT, 'x')
    let isDone = false
    const replace = (async () => {
      for (let at = 0; at < 150; at++) {
        const from = at % 3 === 0 ? ROOT : at % 3 === 1 ? far.ino : third.ino
        await touch(a, from, 'new')
        await a.rename(from, bytes('new'), ROOT, x, {})
      }
      isDone = true
    })()
    const results = new Map<string, number>()
    const look = async (work: () => Promise<unknown>): Promise<void> => {
      while (!isDone) {
        const result = await outcome(work())
        results.set(result, (results.get(result) ?? 0) + 1)
      }
    }
    const creating = async (): Promise<void> => {
      const { attr, created } = await b.create(ROOT, x, newFile(), { exclusive: false, open: true })
      b.close(attr.ino)
      if (created) throw new Error('it was there')
    }
    await Promise.all([replace, look(() => b.lookup(ROOT, x)), look(() => b.lookup(ROOT, x)), look(creating)])
    t.strictSame([...results.keys()], ['ok'])
  })

  claim(t, open, 'create without exclusive always answers a file, whoever removes it meanwhile', async (t, volume) => {
    const [a, b] = await pair(volume)
    const state = { isDone: false }
    const removing = (async () => {
      while (!state.isDone) await outcome(b.unlink(ROOT, x))
    })()
    const results = new Set<string>()
    for (let at = 0; at < 100; at++) {
      const work = a.create(ROOT, x, newFile(), { exclusive: false, open: at % 2 === 0 })
      results.add(await outcome(work))
      if (at % 2 === 0 && (await outcome(work)) === 'ok') a.close((await work).attr.ino)
    }
    state.isDone = true
    await removing
    t.strictSame([...results], ['ok'])
  })

  claim(t, open, 'swapping names by crosswise renames loses no file', async (t, volume) => {
    const [a, b] = await pair(volume)
    const far = await makeDirIn(a, ROOT, 'far', { not: ROOT })
    for (let round = 0; round < 20; round++) {
      const one = await touch(a, ROOT, 'x')
      const two = await touch(a, far.ino, 'y')
      const results = await Promise.all([
        outcome(a.rename(ROOT, x, far.ino, y, {})),
        outcome(b.rename(far.ino, y, ROOT, x, {})),
      ])
      // One after the other: the second moves what the first has put there, and the other file was replaced.
      t.strictSame(results, ['ok', 'ok'])
      const left = [await outcome(a.lookup(ROOT, x)), await outcome(a.lookup(far.ino, y))]
      t.equal(count(left, 'ok'), 1, 'one is left')
      const alive = [await outcome(a.getattr(one.ino)), await outcome(a.getattr(two.ino))]
      t.equal(count(alive, 'ok'), 1, 'and it is a whole one')
      await outcome(a.unlink(ROOT, x))
      await outcome(a.unlink(far.ino, y))
    }
  })
}

/** Removes the files and empty directories in a directory. */
async function clear(meta: MetaStore, ino: number): Promise<void> {
  const { entries } = await meta.readdir(ino, null, 100, false)
  for (const entry of entries) {
    if (entry.type !== 'directory') await meta.unlink(ino, entry.name)
    else await outcome(meta.rmdir(ino, entry.name))
  }
}
