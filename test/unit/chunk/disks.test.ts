/** A node on several disks: a chunk is on one of them, whichever, and a disk that has failed has nothing. */
import t from 'tap'
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { dirname } from 'node:path'
import type { Test } from 'tap'
import { systemClock } from '../../../src/base/clock.js'
import { silentLog } from '../../../src/base/log.js'
import { CHUNK_BUCKETS, type ListReply } from '../../../src/chunk/contract.js'
import { rankDisks, seedOf } from '../../../src/chunk/node/disk-choice.js'
import { digestOf, digestsOfDisk } from '../../../src/chunk/node/digest.js'
import type { NodeDisks } from '../../../src/chunk/node/disks.js'
import { Repairer } from '../../../src/chunk/node/repair.js'
import { VOLUME, chunkFile, failureOf, originOf, poolOf, randomChunk, type TestChunk } from '../../helpers/chunks.js'
import { dyingDisk, isRoot, newFolders, openDisks, tmpfs, unmount } from '../../helpers/disks.js'

t.setTimeout(300_000)

/** Threads take a moment to start: once for all. */
const pool = poolOf(t, 2)

async function ground(t: Test, count = 3) {
  const folders = newFolders(t, count)
  const failed: string[] = []
  const onFailed = ({ folder }: { readonly folder: string }): void => void failed.push(folder)
  return { folders, failed, disks: await openDisks(t, pool, folders, { onFailed }) }
}

function chunks(first: number, count: number, lengthBytes = 20_000): TestChunk[] {
  return Array.from({ length: count }, (_, i) => randomChunk(first + i, lengthBytes))
}

async function isThere(disks: NodeDisks, { id, bytes }: TestChunk): Promise<boolean> {
  const range = await disks.read(id, 0, bytes.length)
  const same = range.data.equals(bytes)
  range.release()
  return same
}

async function listedIn(disks: NodeDisks, limit: number, headers: boolean): Promise<number[]> {
  const ids: number[] = []
  let from: { readonly bucket: number; readonly id: number } | null = { bucket: 0, id: 0 }
  while (from !== null) {
    const range = { fromBucket: from.bucket, toBucket: CHUNK_BUCKETS, fromId: from.id }
    const page: ListReply = await disks.list({ volume: VOLUME, ...range, limit, headers })
    ids.push(...page.chunks.map(({ id }) => id))
    from = page.next
  }
  return ids
}

/** Where the file of the chunk is. */
const placesOf = (folders: readonly string[], { id }: TestChunk): readonly string[] =>
  folders.filter((folder) => existsSync(chunkFile(folder, id)))

const ORDER = ['bca', 'cba', 'cba', 'bca', 'bca']

t.test('the order of disks: by their lengths, for ever the same, and little moves when one comes or goes', (t) => {
  const disk = (name: string, weight: number) => ({ name, weight, seed: seedOf(name) })
  const few = [disk('a', 1), disk('b', 3)]
  const first = (id: number, disks: typeof few): string => rankDisks(id, disks)[0]?.name ?? ''
  const ids = Array.from({ length: 20_000 }, (_, i) => i * 7 + 2 ** 33)
  const onB = ids.filter((id) => first(id, few) === 'b').length
  t.ok(Math.abs(onB / ids.length - 0.75) < 0.02, 'three quarters of the chunks on three quarters of the room')
  const more = [...few, disk('c', 4)]
  for (const id of ids) if (first(id, more) !== 'c' && first(id, more) !== first(id, few)) t.fail(`chunk ${id} moves`)
  const order = [1, 2, 3, 2 ** 40, 2 ** 52].map((id) =>
    rankDisks(id, more)
      .map(({ name }) => name)
      .join(''),
  )
  t.strictSame(order, ORDER, 'chunks that were stored are looked for in this order')
  t.end()
})

t.test('chunks are spread, found, counted, listed once, put on disk and removed, wherever they are', async (t) => {
  const { folders, disks } = await ground(t)
  const written = [...chunks(1, 40), ...chunks(100, 20, 900)]
  for (const chunk of written) await disks.put(chunk, chunk.data, chunk.id % 2 === 0)
  await disks.settle()
  for (const chunk of written) t.ok((await isThere(disks, chunk)) && placesOf(folders, chunk).length === 1)
  for (const folder of folders) {
    t.ok(written.filter((one) => placesOf([folder], one).length > 0).length > 5, `${folder} has its share`)
  }
  t.equal(disks.chunks, written.length)
  const ids = written.map(({ id }) => id)
  for (const [limit, headers] of [
    [7, true],
    [1000, false],
  ] as const) {
    const listed = await listedIn(disks, limit, headers)
    t.strictSame([listed.length, new Set(listed)], [ids.length, new Set(ids)])
  }
  t.same(await disks.sync([...ids, 999]), [999])
  t.same(await disks.lacks([...ids, 999], false), [999])
  t.same(await disks.lacks([...ids, 999], true), [999])
  t.same(await disks.verify(5), { state: 'good', root: written[4]?.root })
  const again = await openDisks(t, pool, folders).catch(failureCode)
  t.equal(again, 'ALREADY_RUNNING')
  await disks.remove([1, 2, 3])
  t.equal(await failureOf(disks.read(2, 0, 1)), 'CHUNK_MISSING')
  t.equal(disks.chunks, written.length - 3)
})

function failureCode(error: unknown): string {
  return error instanceof Error && 'code' in error ? String(error.code) : ''
}

t.test('one id has one content, on whichever disk; the same again is no second copy', async (t) => {
  const { folders, disks } = await ground(t)
  const written = chunks(1, 20)
  for (const chunk of written) await disks.put(chunk, chunk.data)
  for (const chunk of written) {
    await disks.put(chunk, chunk.data, true)
    const other = randomChunk(chunk.id, 500)
    t.equal(await failureOf(disks.put(other, other.data, true)), 'CHUNK_CONFLICT')
    t.equal(placesOf(folders, chunk).length, 1)
  }
  const two = randomChunk(77, 300)
  const others = Array.from({ length: 5 }, () => randomChunk(77, 300))
  const results = await Promise.all([two, ...others].map((one) => failureOf(disks.put(one, one.data, true))))
  t.equal(results.filter((code) => code === '').length, 1, 'of several at once one wins')
})

for (const count of [1, 2])
  t.test(
    `what ${count === 1 ? 'the disk' : 'one of the disks'} cannot read is a bad copy, and the disk works`,
    async (t) => {
      const { folders, failed, disks } = await ground(t, count)
      for (const chunk of chunks(1, 2, 300_000)) {
        await disks.put(chunk, chunk.data, true)
        const [folder = ''] = placesOf(folders, chunk)
        const file = chunkFile(folder, chunk.id)
        rmSync(file)
        // Nothing is mapped at its beginning: EIO.
        if (chunk.id === 1) symlinkSync('/proc/self/mem', file)
        else mkdirSync(file)
        t.equal(await failureOf(disks.read(chunk.id, 0, 100)), 'CHUNK_CORRUPT', 'it is reported by who wants it')
        t.match(await disks.verify(chunk.id), { state: 'bad' })
        await disks.put(chunk, chunk.data, true)
        t.ok(await isThere(disks, chunk), 'and replaced')
      }
      t.strictSame(failed, [])
    },
  )

t.test(
  'a copy that cannot be opened keeps its name, whoever wants it repaired, and where nobody has another',
  async (t) => {
    const { folders, failed, disks } = await ground(t, 1)
    const [folder = ''] = folders
    const [chunk] = chunks(1, 1, 300_000)
    if (chunk === undefined) throw new Error('there is one')
    await disks.put(chunk, chunk.data, true)
    const file = chunkFile(folder, chunk.id)
    renameSync(file, `${folder}/aside`)
    // It can neither be read nor flushed.
    symlinkSync('/proc/self/mem', file)
    const alone = { nodeId: 'alone', volume: VOLUME, disk: disks, order: () => [], clock: systemClock, log: silentLog }
    const peer = (): never => {
      throw new Error('there is no other node')
    }
    await new Repairer({ ...alone, peer }).ensure(chunk.id, null, [])
    t.match(await disks.verify(chunk.id), { state: 'bad' })
    t.strictSame(await disks.sync([chunk.id]), [chunk.id], 'not on disk')
    t.strictSame(readdirSync(`${folder}/quarantine`), [])
    // What was in the way has passed.
    renameSync(`${folder}/aside`, file)
    t.ok(await isThere(disks, chunk))
    t.strictSame(await disks.sync([chunk.id]), [])
    t.strictSame(failed, [])
  },
)

t.test('giving up and asking go together, as on one disk', async (t) => {
  const { disks } = await ground(t)
  const written = chunks(1, 12)
  for (const chunk of written) await disks.put(chunk, chunk.data)
  const ids = written.map(({ id }) => id)
  const given = await disks.retire(ids, async (held) => {
    t.strictSame(await disks.lacks(held, false), held, 'what is being given up is missing already')
    return held.filter((id) => id % 2 === 0)
  })
  t.equal(given, 6)
  t.same(
    await disks.lacks(ids, false),
    ids.filter((id) => id % 2 === 0),
  )
})

t.test(
  'a chunk on two disks is one: it is listed once, read while one of them is good, and removed from both',
  async (t) => {
    const { folders, disks } = await ground(t)
    const chunk = randomChunk(5, 5000)
    await disks.put(chunk, chunk.data)
    const [from = ''] = placesOf(folders, chunk)
    // As after a start without that disk.
    for (const folder of folders) copyTo(chunkFile(folder, 5), chunkFile(from, 5))
    t.equal(placesOf(folders, chunk).length, 3)
    t.strictSame(await listedIn(disks, 10, true), [5])
    const everywhere = [[{ first: 0, last: 2 ** 32 - 1 }]]
    t.strictSame(await digestsOfDisk(disks, VOLUME, everywhere), [digestOf([5])], 'as one that has it once')
    const file = chunkFile(from, 5)
    writeFileSync(file, Buffer.alloc(6000))
    t.equal((await disks.verify(5)).state, 'good')
    t.same(await disks.lacks([5], true), [])
    copyTo(file, chunkFile(folders.find((folder) => folder !== from) ?? '', 5))
    const bytes = readFileSync(file)
    // The header is good: only who compares the data finds out.
    writeFileSync(file, bytes.fill(1 ^ (bytes.at(-1) ?? 0), bytes.length - 1))
    t.notOk(await isThere(disks, chunk))
    t.equal((await disks.verify(5)).state, 'good', 'who has read it tells')
    t.ok(await isThere(disks, chunk))
    t.strictSame([await disks.sync([5]), placesOf(folders, chunk).length], [[], 2])
    await disks.remove([5])
    t.strictSame([placesOf(folders, chunk), await listedIn(disks, 10, false)], [[], []])
  },
)

function copyTo(to: string, from: string): void {
  if (to === from) return
  mkdirSync(dirname(to), { recursive: true })
  copyFileSync(from, to)
}

t.test('a disk that has vanished has failed: nothing of it is there, and all goes on with the others', async (t) => {
  const { folders, disks, failed } = await ground(t)
  const [gone = ''] = folders
  const written = [...chunks(1, 30), ...chunks(50, 30, 700)]
  for (const chunk of written) await disks.put(chunk, chunk.data, true)
  await disks.settle()
  const lost = written.filter((chunk) => placesOf([gone], chunk).length > 0)
  t.ok(lost.length > 5)
  const before = disks.space()
  renameSync(gone, `${gone}.away`)
  const more = chunks(200, 40)
  for (const chunk of more) await disks.put(chunk, chunk.data, chunk.id % 2 === 0)
  t.strictSame(failed, [gone], 'the first write to it has found out')
  for (const chunk of more) t.ok(await isThere(disks, chunk))
  t.strictSame(
    await disks.lacks(
      written.map(({ id }) => id),
      false,
    ),
    lost.map(({ id }) => id),
  )
  for (const chunk of lost) t.equal(await failureOf(disks.read(chunk.id, 0, 1)), 'CHUNK_MISSING')
  t.same(
    await disks.sync(lost.map(({ id }) => id)),
    lost.map(({ id }) => id),
  )
  t.match(disks.states(), [
    { folder: gone, state: 'failed', why: /ENOENT/, chunks: 0 },
    { state: 'up' },
    { state: 'up' },
  ])
  t.equal(disks.live.length, 2)
  t.ok(before.totalBytes > 0)
  renameSync(`${gone}.away`, gone)
  for (const chunk of lost) await disks.put(chunk, chunk.data)
  for (const chunk of lost) {
    t.ok(await isThere(disks, chunk))
    t.ok(placesOf(folders, chunk).length === 2, 'it was not written again, though it is back')
  }
})

t.test('another folder in its place is another disk', async (t) => {
  const { folders, disks, failed } = await ground(t, 2)
  const [gone = ''] = folders
  renameSync(gone, `${gone}.away`)
  mkdirSync(gone)
  await disks.check(false)
  t.strictSame(failed, [gone])
  rmSync(gone, { recursive: true })
  writeFileSync(gone, '')
  const [, last = ''] = folders
  renameSync(last, `${last}.away`)
  await disks.check(true)
  t.equal(disks.live.length, 0)
  const chunk = randomChunk(1, 100)
  t.equal(await failureOf(disks.put(chunk, chunk.data, true)), 'EIO')
  t.equal(await failureOf(disks.read(1, 0, 1)), 'CHUNK_MISSING')
  t.equal(await failureOf(disks.sync([1])), 'EIO', 'nobody can tell, and that is not missing')
  t.equal(await failureOf(disks.remove([1])), 'EIO', 'the task stays in the queue')
  t.equal(
    await failureOf(disks.list({ volume: VOLUME, fromBucket: 0, toBucket: 1, fromId: 0, limit: 1, headers: false })),
    'EIO',
  )
  t.same([disks.space().totalBytes, disks.chunks], [0, 0])
})

const ends: (() => unknown)[] = []

t.test('a disk that cannot be opened is missing, as long as another can', async (t) => {
  const { folders, disks } = await ground(t, 2)
  const chunk = randomChunk(1, 100)
  await disks.put(chunk, chunk.data, true)
  const [a = '', b = ''] = newFolders(t, 2)
  const first = await openDisks({ teardown: (end) => void ends.push(end) }, pool, [a, b])
  t.equal(first.live.length, 2)
  for (const end of ends.splice(0)) await end()
  rmSync(`${b}/chunks`, { recursive: true })
  writeFileSync(`${b}/chunks`, '')
  const second = await openDisks(t, pool, [a, b])
  t.match(second.states(), [
    { folder: a, state: 'up' },
    { folder: b, state: 'missing', why: /EEXIST|ENOTDIR/ },
  ])
  t.equal(folders.length, 2)
})

if (isRoot) {
  t.test('a full disk passes over to others, and only when all are full there is no room', async (t) => {
    const folders = [tmpfs(t, 3 << 20), tmpfs(t, 1 << 20)]
    const disks = await openDisks(t, pool, folders)
    const kept: TestChunk[] = []
    let code = ''
    for (let id = 1; id < 60 && code === ''; id++) {
      const chunk = randomChunk(id, 150_000)
      code = await failureOf(disks.put(chunk, chunk.data, id % 2 === 0))
      if (code === '') kept.push(chunk)
    }
    t.equal(code, 'ENOSPC')
    t.ok(kept.length > 22, `${kept.length} chunks on both`)
    for (const chunk of kept) t.ok(await isThere(disks, chunk))
    t.equal(disks.live.length, 2, 'a full disk has not failed')
    await disks.remove([1, 2, 3, 4])
    const chunk = { ...randomChunk(99, 150_000), origin: originOf(150_000) }
    await disks.put(chunk, chunk.data, true)
    t.ok(await isThere(disks, chunk))
  })

  t.test('a disk whose reads and writes are EIO, or that is unmounted, has failed', async (t) => {
    const dying = dyingDisk(t, 24 << 20)
    const well = tmpfs(t, 30 << 20)
    const mounted = tmpfs(t, 30 << 20)
    const disks = await openDisks(t, pool, [dying.folder, well, mounted])
    const written = [...chunks(1, 40, 40_000), ...chunks(50, 20, 700)]
    for (const chunk of written) await disks.put(chunk, chunk.data, true)
    await disks.settle()
    dying.die()
    unmount(mounted)
    const states = (): string[] => disks.states().map(({ state }) => state)
    const later: number[] = []
    for (const chunk of chunks(100, 40, 40_000)) {
      // What a disk took before it was known to fail goes with it.
      const isKnown = states().filter((state) => state === 'failed').length === 2
      await disks.put(chunk, chunk.data, true)
      if (isKnown) later.push(chunk.id)
    }
    t.match(disks.states(), [{ state: 'failed', why: /EIO|EROFS|gone/ }, { state: 'up' }, { state: 'failed' }])
    t.ok(later.length > 0)
    t.same(await disks.lacks(later, true), [])
    for (const chunk of written) {
      t.equal(await failureOf(disks.read(chunk.id, 0, 1)), placesOf([well], chunk).length > 0 ? '' : 'CHUNK_MISSING')
    }
  })
}
