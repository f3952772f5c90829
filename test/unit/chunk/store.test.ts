import fc from 'fast-check'
import t from 'tap'
import { execFileSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { existsSync, mkdirSync, readFileSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { CHUNK_MAX_BYTES, LEAF_BYTES } from '../../../src/base/limits.js'
import { firstBadLeaf, rootOf } from '../../../src/chunk/hash.js'
import { removeFiles, syncFiles } from '../../../src/chunk/node/files.js'
import type { FlushTogether } from '../../../src/chunk/node/flush-together.js'
import type { ChunkStore } from '../../../src/chunk/node/store.js'
import {
  chunkFile,
  chunkOf,
  failureOf,
  openStore,
  poolOf,
  randomChunk,
  temporaryFolder,
  type TestChunk,
} from '../../helpers/chunks.js'
import { isRoot } from '../../helpers/disks.js'

t.setTimeout(300_000)

const SIZES = [1, 100, 4096, LEAF_BYTES - 1, LEAF_BYTES, LEAF_BYTES + 1, 3 * LEAF_BYTES, 300_000, CHUNK_MAX_BYTES]

async function readAll(store: ChunkStore, chunk: TestChunk): Promise<Buffer> {
  return (await store.read(chunk.id, 0, chunk.bytes.length)).data
}

for (const inlineMaxBytes of [0, 128 * 1024, CHUNK_MAX_BYTES + 1]) {
  t.test(`what is put is read back, inline up to ${inlineMaxBytes} bytes`, async (t) => {
    const folder = temporaryFolder(t)
    const store = await openStore(folder, poolOf(t), { inlineMaxBytes })
    for (const [id, size] of SIZES.entries()) {
      const chunk = randomChunk(id, size)
      await store.put(chunk, [chunk.bytes.subarray(0, size >> 1), chunk.bytes.subarray(size >> 1)])
      for (let again = 0; again < 2; again++) {
        const range = await store.read(id, 0, CHUNK_MAX_BYTES, again === 0)
        t.ok(range.data.equals(chunk.bytes), `${size} bytes`)
        t.ok(range.leaves.equals(chunk.leaves))
        t.equal(range.chunkLengthBytes, size)
        t.strictSame(range.origin, again === 0 ? chunk.origin : null)
      }
      t.strictSame(await store.sync([id, 999]), [999])
      t.strictSame(await store.sync([id]), [], 'synced again')
    }
    t.equal(store.chunks, SIZES.length)
    t.strictSame(readdirSync(join(folder, 'tmp')), [])
    const reopened = await openStore(folder, poolOf(t), { inlineMaxBytes })
    t.equal(reopened.chunks, SIZES.length)
  })
}

t.test('any range comes as the whole leaves that cover it', async (t) => {
  const store = await openStore(temporaryFolder(t), poolOf(t))
  const chunk = randomChunk(1, 5 * LEAF_BYTES + 1234)
  await store.put(chunk, chunk.data)
  await fc.assert(
    fc.asyncProperty(fc.nat(chunk.bytes.length - 1), fc.nat(chunk.bytes.length * 2), async (offset, length) => {
      const { firstLeaf, data, leaves } = await store.read(1, offset, length)
      const from = firstLeaf * LEAF_BYTES
      t.ok(from <= offset && from + LEAF_BYTES > offset)
      t.ok(from + data.length >= Math.min(offset + length, chunk.bytes.length))
      t.ok(data.equals(chunk.bytes.subarray(from, from + data.length)))
      t.equal(firstBadLeaf([data], leaves, firstLeaf), -1)
    }),
    { numRuns: 50 },
  )
})

t.test('data that does not match its hashes is never visible', async (t) => {
  const folder = temporaryFolder(t)
  for (const inlineMaxBytes of [0, CHUNK_MAX_BYTES + 1]) {
    const store = await openStore(folder, poolOf(t), { inlineMaxBytes })
    const chunk = randomChunk(1, 200_000)
    const wrong = Buffer.from(chunk.bytes)
    wrong.writeUInt8(wrong.readUInt8(150_000) ^ 1, 150_000)
    t.equal(await failureOf(store.put(chunk, [wrong])), 'CHUNK_CORRUPT')
    t.equal(await failureOf(store.put({ ...chunk, root: randomBytes(32) }, chunk.data)), 'CHUNK_CORRUPT')
    t.equal(await failureOf(store.put({ ...chunk, leaves: chunk.leaves.subarray(32) }, chunk.data)), 'EINVAL')
    t.equal(await failureOf(store.read(1, 0, 10)), 'CHUNK_MISSING')
    t.strictSame(readdirSync(join(folder, 'tmp')), [])
    t.equal(store.chunks, 0)
  }
})

t.test('a put again with the same root is success, with another root it changes nothing', async (t) => {
  const folder = temporaryFolder(t)
  const store = await openStore(folder, poolOf(t))
  const chunk = randomChunk(1, 1000)
  const other = randomChunk(1, 1000)
  await store.put(chunk, chunk.data)
  await store.put(chunk, chunk.data)
  t.equal(await failureOf(store.put(other, other.data)), 'CHUNK_CONFLICT')
  t.ok((await readAll(store, chunk)).equals(chunk.bytes))
  t.equal(store.chunks, 1)
})

t.test('of many puts of one id at once exactly one content wins', async (t) => {
  const store = await openStore(temporaryFolder(t), poolOf(t, 2), { inlineMaxBytes: 0 })
  const chunks = Array.from({ length: 8 }, () => randomChunk(1, 100_000))
  const results = await Promise.all(chunks.map((chunk) => failureOf(store.put(chunk, chunk.data))))
  t.equal(results.filter((code) => code === '').length, 1)
  t.equal(results.filter((code) => code === 'CHUNK_CONFLICT').length, 7)
  const winner = chunks[results.indexOf('')]
  t.ok(winner !== undefined && (await readAll(store, winner)).equals(winner.bytes))
})

t.test('after a loss of power a file that has its name and not its bytes is not on disk', async (t) => {
  const folder = temporaryFolder(t)
  const [empty, torn, whole] = [randomChunk(1, 100_000), randomChunk(2, 100_000), randomChunk(3, 100_000)]
  const store = await openStore(folder, poolOf(t))
  for (const chunk of [empty, torn, whole]) await store.put(chunk, chunk.data)
  writeFileSync(chunkFile(folder, 1), '')
  writeFileSync(chunkFile(folder, 2), readFileSync(chunkFile(folder, 2)).fill(0, 50_000))
  const next = await openStore(folder, poolOf(t))
  t.strictSame(await next.sync([1, 2, 3]), [1, 2])
  t.strictSame(await next.sync([3]), [])
  t.ok((await next.read(2, 0, 10)).data.subarray(0, 10).equals(torn.bytes.subarray(0, 10)), 'its good leaves are here')
  await next.put(torn, torn.data, true)
  t.strictSame(await next.sync([1, 2, 3]), [1])
})

t.test(
  'what the disk could not write has its name no more: who flushes it again is not told that it is on disk',
  (t) => {
    const folder = temporaryFolder(t)
    const [kept, dropped, aside] = [join(folder, 'kept'), join(folder, 'dropped'), join(folder, 'aside')]
    // A device that cannot be flushed.
    for (const file of [kept, dropped]) symlinkSync('/dev/null', file)
    t.strictSame(syncFiles({ files: [kept], aside: [aside], folders: [folder] }), ['failed'])
    t.strictSame(syncFiles({ files: [dropped], folders: [] }), ['failed'])
    t.strictSame(syncFiles({ files: [kept, dropped], folders: [] }), ['missing', 'missing'])
    t.strictSame(readdirSync(folder), ['aside'])
    t.end()
  },
)

t.test('many files are flushed at once; what the disk could not write of them has its name no more', (t) => {
  const folder = temporaryFolder(t)
  const names = Array.from({ length: 6 }, (_, index) => join(folder, `file${index}`))
  for (const name of names) writeFileSync(name, 'x')
  const files = [...names, join(folder, 'none')]
  const aside = files.map((file) => `${file}.aside`)
  const asked: number[] = []
  const bad = (fds: readonly number[]): boolean[] => {
    asked.push(fds.length)
    return fds.map((_, index) => index !== 2)
  }
  const synced = Array.from({ length: 6 }, () => 'synced')
  t.strictSame(syncFiles({ files, aside, folders: [folder] }), [...synced, 'missing'])
  t.strictSame(syncFiles({ files, aside, folders: [folder] }, bad), [...synced.with(2, 'failed'), 'missing'])
  t.strictSame(asked, [6])
  t.ok(existsSync(`${names[2] ?? ''}.aside`) && !existsSync(names[2] ?? ''))
  const left = { files: files.filter((_, index) => index !== 2), folders: [folder] }
  t.strictSame(
    syncFiles(left, () => null),
    [...synced.slice(1), 'missing'],
    'each by itself',
  )
  // Is as it was: told by the file itself.
  rmSync(names[0] ?? '')
  symlinkSync('/dev/null', names[0] ?? '')
  t.strictSame(syncFiles(left), ['failed', ...synced.slice(2), 'missing'])
  t.strictSame(syncFiles({ ...left, folders: [join(folder, 'never made')] }), [
    'missing',
    ...synced.slice(2),
    'missing',
  ])
  t.end()
})

t.test(
  'what the disk could not write and cannot be moved aside is deleted; if not even that, no other keeps its name',
  (t) => {
    const folder = temporaryFolder(t)
    const stuck = join(folder, 'a file')
    writeFileSync(stuck, '')
    const made = (): { files: string[]; aside: string[]; folders: string[] } => {
      const files = Array.from({ length: 6 }, (_, index) => join(folder, `file${index}`))
      for (const file of files) symlinkSync('/dev/null', file)
      const aside = files.map((file) => `${file}.aside`)
      aside[1] = join(stuck, 'in it')
      aside[2] = join(folder, 'no folder', 'in it')
      return { files, aside, folders: [folder] }
    }
    const ways: readonly FlushTogether[] = [(fds) => fds.map(() => false), () => null, () => 'failed']
    for (const together of ways) {
      for (const isHopeless of [false, true]) {
        const task = made()
        // Nobody can delete, move or empty that.
        if (isHopeless) task.files[3] = '/proc/self/net/dev'
        if (isHopeless) t.throws(() => syncFiles(task, together), { code: 'EPERM' })
        else if (together([], folder) === 'failed') t.throws(() => syncFiles(task, together), { code: 'EIO' })
        else t.strictSame(syncFiles(task, together), Array(6).fill('failed'))
        const left = readdirSync(folder).filter((name) => name !== 'a file')
        const kept = isHopeless ? ['file3'] : ['file3.aside']
        t.strictSame(left.sort(), ['file0.aside', ...kept, 'file4.aside', 'file5.aside'])
        for (const name of left) rmSync(join(folder, name))
      }
    }
    t.end()
  },
)

t.test('what the disk could not write and can neither be moved nor deleted is nobody’s good copy', async (t) => {
  if (!isRoot) return t.pass('only root can mount')
  const folder = temporaryFolder(t)
  const [chunk, other] = [randomChunk(1, 100_000), randomChunk(2, 100_000)]
  const store = await openStore(folder, poolOf(t))
  for (const one of [chunk, other]) await store.put(one, one.data)
  const [file, otherFile] = [chunkFile(folder, 1), chunkFile(folder, 2)]
  // What is mounted on has its name for as long as it is.
  const mount = (...words: string[]): void => void execFileSync(words[0] ?? '', words.slice(1))
  mount('mount', '--bind', file, file)
  t.teardown(() => mount('umount', '--lazy', file))
  const task = { files: [file, otherFile], aside: [`${file}.aside`, `${otherFile}.aside`], folders: [folder] }
  const many = { ...task, files: [...task.files, ...Array.from({ length: 4 }, () => join(folder, 'none'))] }
  const results = syncFiles(many, (fds) => fds.map((_, index) => index > 0))
  t.strictSame(results.slice(0, 2), ['failed', 'synced'])
  t.ok(existsSync(file))
  const next = await openStore(folder, poolOf(t))
  t.strictSame(await next.sync([1, 2]), [1])
})

t.test('a file system that could not write all: who tells so goes aside, and nothing counts as written', (t) => {
  const folder = temporaryFolder(t)
  const files = Array.from({ length: 4 }, (_, index) => join(folder, `file${index}`))
  const [bad = '', ...good] = files
  symlinkSync('/dev/null', bad)
  for (const name of good) writeFileSync(name, 'x')
  const task = { files, aside: files.map((file) => `${file}.aside`), folders: [folder] }
  t.throws(() => syncFiles(task, () => 'failed'), { code: 'EIO' })
  t.ok(existsSync(`${bad}.aside`) && !existsSync(bad))
  t.ok(good.every((name) => existsSync(name)))
  t.end()
})

t.test('not more files are open at once than are flushed at once', (t) => {
  const folder = temporaryFolder(t)
  const none = (count: number): string[] => Array.from({ length: count }, (_, index) => join(folder, `none${index}`))
  const asked: number[] = []
  for (const count of [3, 4, 512, 513]) {
    const results = syncFiles({ files: none(count), folders: [folder] }, () => {
      asked.push(count)
      return []
    })
    t.strictSame(new Set(results), new Set(['missing']))
  }
  t.strictSame(asked, [4, 512])
  t.end()
})

t.test('a bad copy in the way is set aside and replaced', async (t) => {
  const folder = temporaryFolder(t)
  const store = await openStore(folder, poolOf(t))
  const chunk = randomChunk(1, 100_000)
  await store.put(chunk, chunk.data)
  const file = chunkFile(folder, 1)
  writeFileSync(file, readFileSync(file).subarray(0, 50_000))
  await store.put(chunk, chunk.data)
  t.ok((await readAll(store, chunk)).equals(chunk.bytes))
  t.equal(readdirSync(join(folder, 'quarantine')).length, 1)
  t.equal(store.chunks, 1)
})

t.test(
  'flipping any byte, or cutting at any length: the verdict is bad, a read fails or its leaves do not match',
  async (t) => {
    const folder = temporaryFolder(t)
    const store = await openStore(folder, poolOf(t))
    const chunk = randomChunk(3, 2 * LEAF_BYTES + 100)
    await store.put(chunk, chunk.data)
    const file = chunkFile(folder, 3)
    const good = readFileSync(file)
    const check = async (bad: Buffer, strict: boolean): Promise<void> => {
      writeFileSync(file, bad)
      const verdict = await store.verify(3)
      if (strict) t.equal(verdict.state, 'bad')
      try {
        const fresh = await openStore(folder, pool)
        const { data, leaves, firstLeaf } = await fresh.read(3, 0, CHUNK_MAX_BYTES)
        const right = rootOf(leaves).equals(chunk.root) && firstBadLeaf([data], leaves, firstLeaf) === -1
        t.equal(right, data.equals(chunk.bytes))
      } catch (error) {
        t.match(error, { code: /CHUNK_CORRUPT|VOLUME_NEWER/ })
      }
    }
    const pool = poolOf(t)
    const padding = [96 + 16 + 32 + chunk.leaves.length, 4096] as const
    await fc.assert(
      fc.asyncProperty(fc.nat(good.length - 1), fc.integer({ min: 1, max: 255 }), async (at, mask) => {
        // The version says "newer", which is neither good nor bad.
        fc.pre(at < 8 || at >= 12)
        const bad = Buffer.from(good)
        bad.writeUInt8(bad.readUInt8(at) ^ mask, at)
        await check(bad, at < padding[0] || at >= padding[1])
      }),
      { numRuns: 60 },
    )
    await fc.assert(
      fc.asyncProperty(fc.nat(good.length - 1), (length) => check(good.subarray(0, length), true)),
      { numRuns: 40 },
    )
    await check(Buffer.concat([good, Buffer.from('x')]), true)
  },
)

t.test('a file of another chunk or another volume under our name is not ours', async (t) => {
  const folder = temporaryFolder(t)
  const store = await openStore(folder, poolOf(t))
  const [one, two] = [randomChunk(1, 1000), randomChunk(2, 1000)]
  await store.put(one, one.data)
  await store.put(two, two.data)
  writeFileSync(chunkFile(folder, 1), readFileSync(chunkFile(folder, 2)))
  const fresh = await openStore(folder, poolOf(t))
  t.equal(await failureOf(fresh.read(1, 0, 1)), 'CHUNK_CORRUPT')
  t.equal((await fresh.verify(1)).state, 'bad')
})

t.test('a start removes what a crash left half-written, and nothing else', async (t) => {
  const folder = temporaryFolder(t)
  const store = await openStore(folder, poolOf(t))
  const chunk = randomChunk(1, 1000)
  await store.put(chunk, chunk.data)
  writeFileSync(join(folder, 'tmp', '00000000000002.x-1'), 'half a chunk')
  const fresh = await openStore(folder, poolOf(t))
  t.strictSame(readdirSync(join(folder, 'tmp')), [])
  t.ok((await readAll(fresh, chunk)).equals(chunk.bytes))
  t.equal(await failureOf(fresh.read(2, 0, 1)), 'CHUNK_MISSING')
})

t.test('remove is idempotent, in batches, and gives the count back', async (t) => {
  const folder = temporaryFolder(t)
  const store = await openStore(folder, poolOf(t))
  const chunks = Array.from({ length: 30 }, (_, id) => chunkOf(id, Buffer.from(`chunk ${id}`)))
  await Promise.all(chunks.map((chunk) => store.put(chunk, chunk.data)))
  await Promise.all([store.remove([1, 2, 3, 3, 777]), store.remove([3, 2, 1])])
  t.equal(store.chunks, 27)
  t.notOk(existsSync(chunkFile(folder, 1)))
  t.equal(await failureOf(store.read(1, 0, 1)), 'CHUNK_MISSING')
  await store.remove(chunks.map(({ id }) => id))
  t.equal(store.chunks, 0)
})

t.test('a node keeps its reserve free: ENOSPC before the disk is full', async (t) => {
  const folder = temporaryFolder(t)
  const store = await openStore(folder, poolOf(t), { reserveBytes: 2 ** 50 })
  const chunk = randomChunk(1, 1000)
  t.equal(store.space().freeBytes, 0)
  t.equal(await failureOf(store.put(chunk, chunk.data)), 'ENOSPC')
})

t.test('one file that cannot be removed keeps no other one', (t) => {
  const folder = temporaryFolder(t)
  const [stuck, other] = [join(folder, 'stuck'), join(folder, 'other')]
  mkdirSync(stuck)
  writeFileSync(other, 'x')
  t.throws(() => removeFiles([stuck, other]), 'it is told')
  t.notOk(existsSync(other), 'the other one is gone')
  t.end()
})
