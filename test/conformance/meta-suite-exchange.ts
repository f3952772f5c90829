/** MetaStore: renameat2(2) with RENAME_EXCHANGE. */
import type { Test } from 'tap'
import type { Attr, MetaStore } from '../../src/meta/contract.js'
import { walk } from '../helpers/meta-check.js'
import {
  ROOT,
  bytes,
  claim,
  coherent,
  makeDir,
  makeDirIn,
  outcome,
  touch,
  type OpenVolume,
  until,
} from '../helpers/meta.js'

const EXCHANGE = { exchange: true }
const KINDS = ['file', 'far file', 'near directory', 'directory', 'full directory'] as const
type Kind = (typeof KINDS)[number]
const PLACES = ['same', 'near', 'far'] as const
type Place = (typeof PLACES)[number]

export function exchangeClaims(t: Test, open: OpenVolume): void {
  for (const place of PLACES) everyPair(t, open, place)
  refused(t, open)
  heard(t, open)
  atOnce(t, open)
}

async function make(meta: MetaStore, parent: number, name: string, kind: Kind): Promise<Attr> {
  const home = parent % meta.settings.partitions
  if (kind === 'file') return touch(meta, parent, name)
  if (kind === 'near directory') return makeDirIn(meta, parent, name, { partition: home })
  if (kind === 'far file') {
    const born = await makeDirIn(meta, ROOT, 'born', { not: home })
    const { ino } = await touch(meta, born.ino, name)
    await meta.rename(born.ino, bytes(name), parent, bytes(name), {})
    await meta.rmdir(ROOT, bytes('born'))
    return meta.getattr(ino)
  }
  const dir = await makeDirIn(meta, parent, name, { not: home })
  if (kind === 'full directory') await touch(meta, dir.ino, 'child')
  return meta.getattr(dir.ino)
}

async function destination(meta: MetaStore, place: Place): Promise<number> {
  if (place === 'same') return ROOT
  const home = ROOT % meta.settings.partitions
  return (await makeDirIn(meta, ROOT, 'to', place === 'near' ? { partition: home } : { not: home })).ino
}

function isDirectory(attr: Attr): boolean {
  return attr.type === 'directory'
}

function everyPair(t: Test, open: OpenVolume, place: Place): void {
  claim(t, open, `an exchange of every type with every type, ${place} directory`, async (t, volume) => {
    const meta = await volume.client()
    const to = await destination(meta, place)
    for (const one of KINDS) {
      for (const other of KINDS) {
        const what = `${one} with ${other}`
        const [a, b] = [bytes(`${one}-a-${other}`), bytes(`${one}-b-${other}`)]
        const first = await make(meta, ROOT, a.toString(), one)
        const second = await make(meta, to, b.toString(), other)
        const parents = await Promise.all([ROOT, to].map((ino) => meta.getattr(ino)))
        t.same(await meta.rename(ROOT, a, to, b, EXCHANGE), { moved: first.ino, replaced: second.ino })
        const [found, foundOther] = [await meta.lookup(ROOT, a), await meta.lookup(to, b)]
        t.strictSame([found.ino, foundOther.ino], [second.ino, first.ino], what)
        t.strictSame([found.nlink, foundOther.nlink], [second.nlink, first.nlink], `links of ${what}`)
        for (const [now, before] of [
          [found, second],
          [foundOther, first],
        ] as const) {
          t.ok(later(now.ctime, before.ctime), `${what}: a new ctime`)
          t.strictSame(now.mtime, before.mtime, `${what}: the old mtime`)
        }
        if (isDirectory(found)) t.equal(found.parent, ROOT)
        if (isDirectory(foundOther)) t.equal(foundOther.parent, to)
        const [root, other2] = await Promise.all([ROOT, to].map((ino) => meta.getattr(ino)))
        const moved = place === 'same' ? 0 : Number(isDirectory(second)) - Number(isDirectory(first))
        t.equal(root?.nlink, (parents[0]?.nlink ?? 0) + moved, `${what}: links of the first parent`)
        if (place !== 'same') t.equal(other2?.nlink, (parents[1]?.nlink ?? 0) - moved, `${what}: of the second`)
        for (const [i, now] of [root, other2].entries()) {
          const before = parents[i]
          if (now === undefined || before === undefined) throw new Error('two parents')
          t.ok(later(now.mtime, before.mtime) && later(now.ctime, before.ctime), `${what}: times of parent ${i}`)
        }
      }
    }
  })
}

function later(a: Attr['ctime'], b: Attr['ctime']): boolean {
  return a.sec > b.sec || (a.sec === b.sec && a.nsec > b.nsec)
}

function refused(t: Test, open: OpenVolume): void {
  claim(t, open, 'an exchange refuses what renameat2(2) refuses, and changes nothing then', async (t, volume) => {
    const meta = await volume.client()
    const file = await touch(meta, ROOT, 'file')
    const a = await makeDir(meta, ROOT, 'a')
    const b = await makeDir(meta, a.ino, 'b')
    const c = await makeDir(meta, b.ino, 'c')
    await touch(meta, b.ino, 'f')
    await meta.link(file.ino, a.ino, bytes('link'))
    const exchange = (from: number, name: string, to: number, newName: string): Promise<string> =>
      outcome(meta.rename(from, bytes(name), to, bytes(newName), EXCHANGE))
    t.equal(await exchange(ROOT, 'none', ROOT, 'file'), 'ENOENT', 'no first name')
    t.equal(await exchange(ROOT, 'file', ROOT, 'none'), 'ENOENT', 'no second name')
    t.equal(await exchange(ROOT, 'file', c.ino, 'none'), 'ENOENT', 'no second name, elsewhere')
    t.equal(await exchange(ROOT, 'none', c.ino, 'none'), 'ENOENT', 'neither')
    t.equal(await exchange(file.ino, 'x', ROOT, 'a'), 'ENOTDIR', 'out of a file')
    t.equal(await exchange(ROOT, 'a', file.ino, 'x'), 'ENOTDIR', 'into a file')
    t.equal(await exchange(ROOT, 'a', b.ino, 'c'), 'EINVAL', 'a directory with one below it')
    t.equal(await exchange(b.ino, 'c', ROOT, 'a'), 'EINVAL', 'a directory with one above it')
    t.equal(await exchange(ROOT, 'a', b.ino, 'f'), 'EINVAL', 'a directory with a file below it')
    t.equal(await exchange(b.ino, 'f', ROOT, 'a'), 'EINVAL', 'a file with a directory above it')
    const both = { exchange: true, noReplace: true }
    t.equal(await outcome(meta.rename(ROOT, bytes('a'), ROOT, bytes('file'), both)), 'EINVAL', 'and no replace')
    t.equal(await exchange(ROOT, 'a', ROOT, 'a'), 'ok', 'with itself')
    t.equal(await exchange(ROOT, 'file', a.ino, 'link'), 'ok', 'with a hard link of itself')
    const tree = await walk(meta)
    t.strictSame([...tree.paths.keys()].sort(), ['', '/a', '/a/b', '/a/b/c', '/a/b/f', '/a/link', '/file'])
  })
}

function heard(t: Test, open: OpenVolume): void {
  claim(t, open, 'an exchange is told to others: both names, both inodes', async (t, volume) => {
    const [meta, other] = await Promise.all([volume.client(), volume.client()])
    const to = await makeDirIn(meta, ROOT, 'to', { not: ROOT % meta.settings.partitions })
    const [file, dir] = [await touch(meta, ROOT, 'file'), await makeDir(meta, to.ino, 'dir')]
    await coherent(other)
    const events: string[] = []
    other.onEvent((event) => {
      if (event.kind === 'entry') events.push(`${event.parent}/${event.name.toString()}`)
      if (event.kind === 'attr') events.push(String(event.ino))
    })
    await meta.rename(ROOT, bytes('file'), to.ino, bytes('dir'), EXCHANGE)
    const wanted = [`${ROOT}/file`, `${to.ino}/dir`, `${file.ino}`, `${dir.ino}`, `${ROOT}`, `${to.ino}`]
    await until('all is told', () => wanted.every((one) => events.includes(one))).catch(() => undefined)
    for (const one of wanted) t.ok(events.includes(one), one)
  })
}

function atOnce(t: Test, open: OpenVolume): void {
  claim(t, open, 'names that clients exchange all the time are there all the time', async (t, volume) => {
    const clients = await Promise.all([1, 2, 3].map(() => volume.client()))
    const [meta] = clients
    if (meta === undefined) throw new Error('there are clients')
    const to = await makeDirIn(meta, ROOT, 'to', { not: ROOT % meta.settings.partitions })
    const inos = new Set([(await touch(meta, ROOT, 'x')).ino, (await makeDir(meta, to.ino, 'y')).ino])
    const work = clients.map(async (client) => {
      for (let i = 0; i < 5; i++) {
        t.equal(await outcome(client.rename(ROOT, bytes('x'), to.ino, bytes('y'), EXCHANGE)), 'ok')
        const [x, y] = await Promise.all([client.lookup(ROOT, bytes('x')), client.lookup(to.ino, bytes('y'))])
        t.ok(inos.has(x.ino) && inos.has(y.ino), 'both names name one of the two')
      }
    })
    await Promise.all(work)
    t.not((await meta.lookup(ROOT, bytes('x'))).ino, (await meta.lookup(to.ino, bytes('y'))).ino)
  })

  claim(t, open, 'directories that clients exchange crosswise make no loop, and none is lost', async (t, volume) => {
    const clients = await Promise.all([1, 2, 3].map(() => volume.client()))
    const [meta] = clients
    if (meta === undefined) throw new Error('there are clients')
    const dirs: Attr[] = []
    for (let i = 0; i < 4; i++) dirs.push(await makeDir(meta, dirs.at(-1)?.ino ?? ROOT, `d${i}`))
    for (const { ino } of dirs) await makeDir(meta, ino, 'leaf')
    const results = await Promise.all(
      clients.flatMap((client, who) =>
        dirs.map(async (dir, i) => {
          const other = dirs[(i + who + 1) % dirs.length] ?? dir
          return outcome(client.rename(dir.ino, bytes('leaf'), other.ino, bytes(`d${(i + who + 2) % 4}`), EXCHANGE))
        }),
      ),
    )
    for (const result of results) t.match(result, /^(ok|EINVAL|ENOENT)$/)
    const tree = await walk(meta)
    t.strictSame(tree.problems, [])
    for (const dir of dirs) t.ok([...tree.paths.values()].includes(dir.ino), `${dir.ino} is in the tree`)
    t.ok(results.includes('ok'))
  })
}
