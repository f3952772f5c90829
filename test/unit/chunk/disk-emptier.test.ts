/** A disk of several that is to be taken out: all that is on it goes to the others, whatever happens meanwhile. */
import t, { type Test } from 'tap'
import { copyFileSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { systemClock } from '../../../src/base/clock.js'
import { CHUNK_BUCKETS } from '../../../src/chunk/contract.js'
import { idsOnDisk } from '../../../src/chunk/node/digest.js'
import type { NodeDisks } from '../../../src/chunk/node/disks.js'
import { readIdentity } from '../../../src/chunk/node/identity.js'
import { Pace } from '../../../src/chunk/node/pace.js'
import { ChunkStore } from '../../../src/chunk/node/store.js'
import { VOLUME, chunkFile, failureOf, poolOf, randomChunk, type TestChunk } from '../../helpers/chunks.js'
import { SmallDisk, isRoot, newFolders, openDisks } from '../../helpers/disks.js'
import { until } from '../../helpers/meta.js'

t.setTimeout(300_000)

const pool = poolOf(t, 2)

function some(first: number, count: number, lengthBytes: (i: number) => number): TestChunk[] {
  return Array.from({ length: count }, (_, i) => randomChunk(first + i, lengthBytes(i)))
}

const mixed = (i: number): number => (i % 3 === 0 ? 700 : 40_000 + i)

interface Node {
  readonly disks: NodeDisks
  /** Until the end. */
  readonly empty: (onBad?: (id: number) => Promise<void>) => void
  readonly end: () => Promise<void>
}

/** `out`: that of them that is to be emptied. */
async function start(t: Test, folders: readonly string[], out?: string): Promise<Node> {
  const ends: (() => unknown)[] = []
  const leaving = out === undefined ? [] : [readIdentity(out, VOLUME)?.disk ?? '']
  const disks = await openDisks({ teardown: (one) => void ends.unshift(one) }, pool, folders, { leaving })
  const stop = new AbortController()
  let emptying: Promise<void> | undefined
  const end = async (): Promise<void> => {
    stop.abort()
    await emptying
    for (const one of ends.splice(0)) await one()
  }
  t.teardown(end)
  const empty: Node['empty'] = (onBad = () => Promise.resolve()) => {
    emptying = disks.empty({ pace: new Pace(systemClock, () => 0), onBad }, stop.signal)
  }
  return { disks, empty, end }
}

async function isThere(disks: NodeDisks, { id, bytes, origin }: TestChunk): Promise<boolean> {
  const range = await disks.read(id, 0, bytes.length, true)
  const isSame = range.data.equals(bytes) && JSON.stringify(range.origin) === JSON.stringify(origin)
  range.release()
  return isSame
}

async function listed(disks: NodeDisks): Promise<number[]> {
  const ids: number[] = []
  for await (const page of idsOnDisk(disks, VOLUME, 0, CHUNK_BUCKETS, () => undefined)) ids.push(...page)
  return ids.sort((a, b) => a - b)
}

const leavingOf = (disks: NodeDisks): string | undefined =>
  disks.states().find(({ leaving }) => leaving !== 'no')?.leaving

t.test('all goes to the other disks, while everything is found as it was, and nothing new comes', async (t) => {
  const folders = newFolders(t, 3)
  const [out = ''] = folders
  const before = await start(t, folders)
  const written = some(1, 90, mixed)
  for (const chunk of written) await before.disks.put(chunk, chunk.data, chunk.id % 2 === 0)
  await before.end()
  const on = written.filter(({ id }) => existsSync(chunkFile(out, id)))
  t.ok(on.length > 0)

  const { disks, empty, end } = await start(t, folders, out)
  t.equal(leavingOf(disks), 'moving')
  const [kept] = disks.live
  t.ok(kept && folders.indexOf(kept.folder) > 0, 'nor does the node write down there where its scrubbing is')
  const ids = written.map(({ id }) => id)
  let isOver = false
  const faults: string[] = []
  const ask = async (): Promise<void> => {
    for (let at = 0; !isOver; at = (at + 1) % on.length) {
      const chunk = on[at]
      if (chunk === undefined) continue
      if ((await failureOf(disks.read(chunk.id, 0, 1).then(({ release }) => release()))) !== '') faults.push('read')
      if ((await disks.sync([chunk.id])).length > 0) faults.push('sync')
      if ((await disks.lacks([chunk.id], at % 2 === 0)).length > 0) faults.push('lacks')
    }
  }
  const walk = async (): Promise<void> => {
    while (!isOver) if ((await listed(disks)).length !== ids.length) faults.push('list')
  }
  const asking = Promise.all([ask(), walk()])
  empty()
  await until('it is empty', () => leavingOf(disks) === 'empty')
  isOver = true
  await asking
  t.strictSame(faults, [], 'nobody missed anything')
  t.strictSame(await listed(disks), ids)
  for (const chunk of written) t.ok(await isThere(disks, chunk))
  for (const chunk of on) t.notOk(existsSync(chunkFile(out, chunk.id)))
  const more = some(500, 30, mixed)
  for (const chunk of more) await disks.put(chunk, chunk.data, true)
  await disks.settle()
  t.notOk(more.some(({ id }) => existsSync(chunkFile(out, id))))
  t.equal(disks.states()[0]?.chunks, 0)
  await end()

  const without = await start(t, folders.slice(1))
  for (const chunk of [...written, ...more]) t.ok(await isThere(without.disks, chunk), 'it was taken out')
})

const LOOKS: readonly { readonly by: 'read' | 'holds' | 'list' | 'lacks' | 'verify'; readonly finds: Finds }[] = [
  { by: 'read', finds: (disks, chunk) => isThere(disks, chunk) },
  { by: 'holds', finds: async (disks, { id }) => (await disks.sync([id])).length === 0 },
  { by: 'list', finds: async (disks, { id }) => (await listed(disks)).includes(id) },
  { by: 'lacks', finds: async (disks, { id }) => (await disks.lacks([id], false)).length === 0 },
  { by: 'lacks', finds: async (disks, { id }) => (await disks.lacks([id], true)).length === 0 },
  { by: 'verify', finds: async (disks, { id }) => (await disks.verify(id)).state === 'good' },
]
type Finds = (disks: NodeDisks, chunk: TestChunk) => Promise<boolean>

function methodOf(name: string): (store: ChunkStore, values: readonly unknown[]) => Promise<unknown> {
  const method: unknown = Reflect.get(ChunkStore.prototype, name)
  if (typeof method !== 'function') throw new Error(`a store has no ${name}`)
  return async (store, values) => (await Reflect.apply(method, store, values)) as unknown
}

/** The first disk that is asked so answers, then `between` runs, then the others are asked. */
function comeBetween(t: Test, by: (typeof LOOKS)[number]['by'], between: () => Promise<void>): void {
  const asked = methodOf(by)
  let isFirst = true
  let over: Promise<void> | undefined
  t.capture(ChunkStore.prototype, by, async function (this: ChunkStore, ...values: unknown[]): Promise<unknown> {
    const ask = async (): Promise<unknown> => await asked(this, values)
    if (!isFirst) {
      // What `between` asks itself is not held up.
      await over
      return await ask()
    }
    isFirst = false
    let end = (): void => undefined
    over = new Promise((resolve) => (end = resolve))
    const [answer] = await Promise.allSettled([ask()])
    over = undefined
    await between()
    end()
    if (answer.status === 'rejected') throw answer.reason
    return answer.value
  })
}

for (const { by, finds } of LOOKS) {
  t.test(`a chunk that is moved after the first disk has answered is found: ${by}`, async (t) => {
    const folders = newFolders(t, 2)
    const out = folders[1] ?? ''
    await (await start(t, folders)).end()
    // With the other one away: of some of them that is where they would be looked for first.
    const written = some(1, 6, () => 30_000)
    for (const chunk of written) {
      const before = await start(t, [out])
      await before.disks.put(chunk, chunk.data)
      await before.end()
      const { disks, empty, end } = await start(t, folders, out)
      await t.test(`chunk ${chunk.id}`, async (t) => {
        const puts: unknown[] = []
        const put = methodOf('put')
        t.capture(ChunkStore.prototype, 'put', async function (this: ChunkStore, ...values: unknown[]) {
          puts.push(values[2])
          await put(this, values)
        })
        comeBetween(t, by, async () => {
          empty()
          await until('it is moved', () => leavingOf(disks) === 'empty')
        })
        t.ok(await finds(disks, chunk))
        t.equal(leavingOf(disks), 'empty')
        t.notOk(existsSync(chunkFile(out, chunk.id)))
        t.strictSame(puts, [true], 'it was on disk there before it was gone here')
      })
      await end()
    }
  })
}

t.test('what is deleted while it is moved does not come back', async (t) => {
  const folders = newFolders(t, 2)
  const out = folders[1] ?? ''
  await (await start(t, folders)).end()
  const chunk = randomChunk(1, 30_000)
  const before = await start(t, [out])
  await before.disks.put(chunk, chunk.data)
  await before.end()
  const { disks, empty } = await start(t, folders, out)
  let removed: Promise<void> | undefined
  const put = methodOf('put')
  t.capture(ChunkStore.prototype, 'put', async function (this: ChunkStore, ...values: unknown[]) {
    removed = disks.remove([chunk.id])
    // As far as it comes.
    await Promise.race([removed, systemClock.sleep(300)])
    await put(this, values)
  })
  empty()
  await until('it is empty', () => leavingOf(disks) === 'empty')
  t.ok(removed)
  await removed
  t.strictSame(await listed(disks), [])
})

t.test('interrupted again and again, it goes on where it was; what is deleted meanwhile stays so', async (t) => {
  const folders = newFolders(t, 2)
  const [out = '', stays = ''] = folders
  const before = await start(t, folders)
  const written = some(1, 60, mixed)
  for (const chunk of written) await before.disks.put(chunk, chunk.data, true)
  await before.disks.settle()
  await before.end()
  const isOn = ({ id }: TestChunk): boolean => existsSync(chunkFile(out, id))
  const on = written.filter(isOn)
  // So many are moved, and others are about to be, until it is interrupted.
  let room = Infinity
  let interrupted = Promise.resolve()
  const put = methodOf('put')
  t.capture(ChunkStore.prototype, 'put', async function (this: ChunkStore, ...values: unknown[]) {
    if (room-- <= 0) await interrupted
    await put(this, values)
  })
  const gone: number[] = []
  let times = 0
  for (; on.some(isOn); times++) {
    const { disks, empty, end } = await start(t, folders, out)
    room = 3
    let goOn = (): void => undefined
    interrupted = new Promise((resolve) => (goOn = resolve))
    empty()
    await until('it is interrupted', () => room < 0 || leavingOf(disks) === 'empty')
    const victim = on.findLast(isOn)
    let removed: Promise<void> | undefined
    if (victim !== undefined && times < 2) {
      gone.push(victim.id)
      removed = disks.remove([victim.id])
      // As far as it comes: it waits for the move, if it is moved just now.
      await Promise.race([removed, systemClock.sleep(300)])
    }
    const ended = end()
    goOn()
    await removed
    await ended
    room = Infinity
    // As one that was killed between the two leaves it: on both disks.
    const twice = on.find(isOn)
    if (twice !== undefined && times === 0) {
      const one = await start(t, [stays])
      await one.disks.put(twice, twice.data, true)
      await one.end()
    }
  }
  t.ok(times > 2, `${times} times`)
  t.equal(gone.length, 2)
  const { disks } = await start(t, folders, out)
  t.strictSame(
    await listed(disks),
    written.map(({ id }) => id).filter((id) => !gone.includes(id)),
  )
})

t.test('what is noted on it alone for a disk that is away is noted on the others before it is empty', async (t) => {
  const folders = newFolders(t, 3)
  const [out = '', stays = '', away = ''] = folders
  const before = await start(t, folders)
  const written = some(1, 30, () => 20_000)
  for (const chunk of written) await before.disks.put(chunk, chunk.data)
  await before.end()
  const gone = written.filter(({ id }) => existsSync(chunkFile(away, id))).map(({ id }) => id)
  t.ok(gone.length > 0)
  const alone = await start(t, [out])
  await alone.disks.remove(gone)
  await alone.end()
  const { disks, empty, end } = await start(t, [out, stays], out)
  empty()
  await until('it is empty', () => leavingOf(disks) === 'empty')
  await end()
  const back = await start(t, [stays, away])
  t.strictSame(
    await listed(back.disks),
    written.map(({ id }) => id).filter((id) => !gone.includes(id)),
  )
})

t.test('a bad copy is not moved, and has its owners asked; when it is good it goes', async (t) => {
  const folders = newFolders(t, 2)
  const [out = ''] = folders
  const before = await start(t, folders)
  const written = some(1, 20, () => 20_000)
  for (const chunk of written) await before.disks.put(chunk, chunk.data)
  await before.end()
  const bad = written.find(({ id }) => existsSync(chunkFile(out, id)))
  if (bad === undefined) return
  const file = chunkFile(out, bad.id)
  const bytes = readFileSync(file)
  bytes.writeUInt8(bytes.readUInt8(bytes.length - 1) ^ 1, bytes.length - 1)
  writeFileSync(file, bytes)
  const { disks, empty } = await start(t, folders, out)
  const reported: number[] = []
  empty((id) => {
    reported.push(id)
    // As the node does it, with a copy of another one, if there is any.
    return reported.length < 2 ? Promise.resolve() : disks.put(bad, bad.data)
  })
  await until('all else is moved', () => leavingOf(disks) === 'stuck')
  t.ok(existsSync(file), 'its other leaves may be the last good ones')
  t.equal(disks.states()[0]?.chunks, 1)
  await until('it is empty', () => leavingOf(disks) === 'empty')
  t.strictSame([...new Set(reported)], [bad.id])
  t.ok(await isThere(disks, bad))
})

t.test('a file in a folder where nobody looks for it does not keep it from getting empty', async (t) => {
  const folders = newFolders(t, 2)
  const [out = ''] = folders
  const before = await start(t, folders)
  const written = some(1, 20, mixed)
  for (const chunk of written) await before.disks.put(chunk, chunk.data)
  await before.end()
  const stray = written.find(({ id }) => existsSync(chunkFile(out, id)))
  if (stray === undefined) return
  const file = chunkFile(out, stray.id)
  const elsewhere = dirname(file).endsWith('/ff/f') ? join(out, 'chunks/00/0') : join(out, 'chunks/ff/f')
  mkdirSync(elsewhere, { recursive: true })
  copyFileSync(file, join(elsewhere, basename(file)))
  const { disks, empty } = await start(t, folders, out)
  empty()
  await until('it is empty', () => leavingOf(disks) === 'empty')
  for (const chunk of written) t.ok(await isThere(disks, chunk))
})

if (isRoot) {
  t.test('without room on the others it waits, and goes on when there is some', async (t) => {
    const small = new SmallDisk(t, 40 << 20)
    const folders = [...newFolders(t, 1), `${small.folder}/disk`]
    const [out = ''] = folders
    const before = await start(t, folders)
    const written = some(1, 40, () => 100_000)
    for (const chunk of written) await before.disks.put(chunk, chunk.data)
    await before.end()
    t.ok(written.some(({ id }) => existsSync(chunkFile(out, id))))
    small.fill()
    const { disks, empty } = await start(t, folders, out)
    empty()
    await until('there is no room', () => leavingOf(disks) === 'stuck')
    for (const chunk of written) t.ok(await isThere(disks, chunk))
    t.ok(disks.space().totalBytes <= 40 << 20, 'what the node has room for is that of the others')
    const more = randomChunk(500, 50_000)
    t.equal(await failureOf(disks.put(more, more.data)), 'ENOSPC', 'nothing new comes to the one that leaves')
    small.clear()
    await until('it is empty', () => leavingOf(disks) === 'empty')
    for (const chunk of written) t.ok(await isThere(disks, chunk))
  })
}
