/** MetaStore: rename(2) of everything onto everything, and directories that move. */
import type { Test } from 'tap'
import type { Attr, MetaStore } from '../../src/meta/contract.js'
import { walk } from '../helpers/meta-check.js'
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

const KINDS = ['file', 'symlink', 'empty', 'full'] as const
type Kind = (typeof KINDS)[number]
const PLACES = ['same', 'near', 'far'] as const
type Place = (typeof PLACES)[number]

export function renameClaims(t: Test, open: OpenVolume): void {
  for (const place of PLACES) ontoEverything(t, open, place)
  for (const place of PLACES) toAFreeName(t, open, place)
  ontoItself(t, open)
  refused(t, open)
  crosswise(t, open)
}

async function make(meta: MetaStore, parent: number, name: string, kind: Kind): Promise<Attr> {
  if (kind === 'file') return touch(meta, parent, name)
  if (kind === 'symlink') return touch(meta, parent, name, newFile({ type: 'symlink', target: bytes('target') }))
  const dir = await makeDir(meta, parent, name)
  if (kind === 'full') await touch(meta, dir.ino, 'child')
  return dir
}

/** A directory as far from the root as the place says. */
async function destination(meta: MetaStore, place: Place): Promise<number> {
  if (place === 'same') return ROOT
  const home = ROOT % meta.settings.partitions
  return (await makeDirIn(meta, ROOT, 'to', place === 'near' ? { partition: home } : { not: home })).ino
}

function expected(source: Kind, target: Kind): string {
  const [from, to] = [source, target].map((kind) => kind === 'empty' || kind === 'full')
  if (from === true && to !== true) return 'ENOTDIR'
  if (from !== true && to === true) return 'EISDIR'
  return target === 'full' ? 'ENOTEMPTY' : 'ok'
}

function ontoEverything(t: Test, open: OpenVolume, place: Place): void {
  claim(t, open, `rename of every type onto every type, ${place} directory`, async (t, volume) => {
    const meta = await volume.client()
    const to = await destination(meta, place)
    for (const source of KINDS) {
      for (const target of KINDS) {
        const [a, b] = [`${source}-onto-${target}`, `${target}-under-${source}`].map(bytes)
        if (a === undefined || b === undefined) throw new Error('two names')
        const moved = await make(meta, ROOT, a.toString(), source)
        const old = await make(meta, to, b.toString(), target)
        t.equal(await outcome(meta.rename(ROOT, a, to, b, { noReplace: true })), 'EEXIST')
        const done = meta.rename(ROOT, a, to, b, {})
        const result = await outcome(done)
        t.equal(result, expected(source, target), `${source} onto ${target}`)
        if (result === 'ok') t.same(await done, { moved: moved.ino, replaced: old.ino })
        t.equal((await meta.lookup(to, b)).ino, result === 'ok' ? moved.ino : old.ino)
        t.equal(await outcome(meta.lookup(ROOT, a)), result === 'ok' ? 'ENOENT' : 'ok')
        t.equal(await outcome(meta.getattr(old.ino)), result === 'ok' ? 'ENOENT' : 'ok')
      }
    }
  })
}

function toAFreeName(t: Test, open: OpenVolume, place: Place): void {
  claim(t, open, `rename keeps the inode and sets the times POSIX says, ${place} directory`, async (t, volume) => {
    const meta = await volume.client()
    const to = await destination(meta, place)
    for (const kind of KINDS) {
      const before = await make(meta, ROOT, kind, kind)
      const settled = await meta.getattr(before.ino)
      t.same(await meta.rename(ROOT, bytes(kind), to, bytes(`${kind}2`), {}), { moved: before.ino, replaced: 0 })
      const after = await meta.lookup(to, bytes(`${kind}2`))
      const isDirectory = after.type === 'directory'
      t.same(after, { ...settled, ctime: after.ctime, parent: isDirectory ? to : 0 })
      t.notSame(after.ctime, settled.ctime, 'its ctime')
      const parents = await Promise.all([meta.getattr(ROOT), meta.getattr(to)])
      for (const dir of parents) {
        t.same(dir.mtime, dir.ctime)
        t.notSame(dir.mtime, dir.btime)
      }
      t.equal(await outcome(meta.rename(to, bytes(`${kind}2`), ROOT, bytes(kind), { noReplace: true })), 'ok', 'back')
    }
  })
}

function ontoItself(t: Test, open: OpenVolume): void {
  for (const place of PLACES) {
    claim(t, open, `rename onto a hard link of itself does nothing, ${place} directory`, async (t, volume) => {
      const meta = await volume.client()
      const to = await destination(meta, place)
      const { ino } = await touch(meta, ROOT, 'a')
      await meta.link(ino, to, bytes('b'))
      const before = await meta.getattr(ino)
      t.same(await meta.rename(ROOT, bytes('a'), to, bytes('b'), {}), { moved: ino, replaced: ino })
      t.equal(await outcome(meta.rename(ROOT, bytes('a'), to, bytes('b'), { noReplace: true })), 'EEXIST')
      t.same(await meta.getattr(ino), before)
      t.match(await meta.lookup(ROOT, bytes('a')), { ino })
      t.match(await meta.lookup(to, bytes('b')), { ino })
    })
  }

  claim(t, open, 'rename onto the same name does nothing', async (t, volume) => {
    const meta = await volume.client()
    for (const kind of KINDS) {
      const { ino } = await make(meta, ROOT, kind, kind)
      const before = await meta.getattr(ino)
      await meta.rename(ROOT, bytes(kind), ROOT, bytes(kind), {})
      t.same(await meta.lookup(ROOT, bytes(kind)), before)
    }
  })
}

function refused(t: Test, open: OpenVolume): void {
  claim(t, open, 'rename refuses what rename(2) refuses', async (t, volume) => {
    const meta = await volume.client()
    const file = await touch(meta, ROOT, 'file')
    const a = await makeDir(meta, ROOT, 'a')
    const b = await makeDir(meta, a.ino, 'b')
    const c = await makeDir(meta, b.ino, 'c')
    const gone = file.ino + 8 * 1000
    const rename = (from: number, name: string, to: number, newName: string): Promise<string> =>
      outcome(meta.rename(from, bytes(name), to, bytes(newName), {}))
    t.equal(await rename(ROOT, 'none', ROOT, 'x'), 'ENOENT', 'no old name')
    t.equal(await rename(ROOT, 'none', c.ino, 'x'), 'ENOENT', 'no old name, elsewhere')
    t.equal(await rename(file.ino, 'x', ROOT, 'y'), 'ENOTDIR', 'out of a file')
    t.equal(await rename(ROOT, 'file', file.ino, 'x'), 'ENOTDIR', 'into a file')
    t.equal(await rename(ROOT, 'file', gone, 'x'), 'ENOENT', 'into nothing')
    t.equal(await rename(ROOT, 'a', a.ino, 'x'), 'EINVAL', 'a directory into itself')
    t.equal(await rename(ROOT, 'a', c.ino, 'x'), 'EINVAL', 'a directory below itself')
    t.equal(await rename(b.ino, 'c', ROOT, 'a'), 'ENOTEMPTY', 'a directory onto one above it')
    const tree = await walk(meta)
    t.strictSame([...tree.paths.keys()].sort(), ['', '/a', '/a/b', '/a/b/c', '/file'])
  })
}

/** d0 … d5 move into each other at once: any two crosswise moves both done would be a loop. */
function crosswise(t: Test, open: OpenVolume): void {
  claim(t, open, 'directories that clients move crosswise make no loop, and none is lost', async (t, volume) => {
    const clients = await Promise.all([1, 2, 3].map(() => volume.client()))
    const [meta] = clients
    if (meta === undefined) throw new Error('there are clients')
    const dirs: Attr[] = []
    for (let i = 0; i < 4; i++) dirs.push(await makeDir(meta, ROOT, `d${i}`))
    const results = await Promise.all(
      clients.flatMap((client, who) =>
        dirs.map((dir, i) => moveTo(client, dir.ino, (dirs[(i + who + 1) % dirs.length] ?? dir).ino, `d${i}`)),
      ),
    )
    for (const result of results) t.match(result, /^(ok|EINVAL|ENOENT|gone)$/)
    const tree = await walk(meta)
    t.strictSame(tree.problems, [])
    for (const dir of dirs) t.ok([...tree.paths.values()].includes(dir.ino), `${dir.ino} is in the tree`)
    t.ok(results.includes('ok'))
  })

  claim(t, open, 'one file that clients move to and fro is in one place at each moment', async (t, volume) => {
    const clients = await Promise.all([1, 2, 3].map(() => volume.client()))
    const [meta] = clients
    if (meta === undefined) throw new Error('there are clients')
    const home = ROOT % meta.settings.partitions
    const to = await makeDirIn(meta, ROOT, 'to', { not: home })
    const { ino } = await touch(meta, ROOT, 'file')
    const name = bytes('file')
    const work = clients.map(async (client) => {
      for (let i = 0; i < 6; i++) {
        await outcome(client.rename(ROOT, name, to.ino, name, {}))
        await outcome(client.rename(to.ino, name, ROOT, name, {}))
      }
    })
    await Promise.all(work)
    const found = [...(await names(meta, ROOT)), ...(await names(meta, to.ino))].filter((one) => one === 'file')
    t.strictSame(found, ['file'])
    t.match(await meta.getattr(ino), { nlink: 1 })
  })
}

/** Moves a directory from wherever it is now. */
async function moveTo(meta: MetaStore, ino: number, parent: number, name: string): Promise<string> {
  const { parent: from } = await meta.getattr(ino)
  return outcome(meta.rename(from, bytes(name), parent, bytes(name), {}))
}
