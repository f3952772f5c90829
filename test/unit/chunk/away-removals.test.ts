/** What is deleted while a disk is away does not come back with it. */
import t from 'tap'
import { appendFileSync, existsSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs'
import type { Test } from 'tap'
import { CHUNK_BUCKETS } from '../../../src/chunk/contract.js'
import type { NodeDisks } from '../../../src/chunk/node/disks.js'
import { dirname } from 'node:path'
import { noteRemoved, readRemoved, removedFile, type DropTask } from '../../../src/chunk/node/removed-file.js'
import { WorkerPool, type Job } from '../../../src/chunk/pool.js'
import {
  VOLUME,
  chunkFile,
  failureOf,
  poolOf,
  randomChunk,
  temporaryFolder,
  type TestChunk,
} from '../../helpers/chunks.js'
import { isRoot, newFolders, openDisks, tmpfs } from '../../helpers/disks.js'

t.setTimeout(300_000)

const pool = poolOf(t, 2)

interface Opened {
  readonly disks: NodeDisks
  close(): Promise<void>
}

/** Counts the notes that are being written at a time, and tells which folders are on disk before notes go. */
class NotingPool extends WorkerPool {
  most = 0
  readonly synced: string[] = []
  #now = 0

  override async run<Input, Output>(
    job: Job<Input, Output>,
    input: Input,
    transfer?: readonly ArrayBuffer[],
  ): Promise<Output> {
    if (isDrop(input)) this.synced.push(...input.after)
    if (job.name !== 'noteRemoved') return await super.run(job, input, transfer)
    this.most = Math.max(this.most, ++this.#now)
    try {
      return await super.run(job, input, transfer)
    } finally {
      this.#now--
    }
  }
}

function isDrop(input: unknown): input is DropTask {
  return typeof input === 'object' && input !== null && 'after' in input
}

/** As by a start of the node. */
async function start(
  t: Test,
  folders: readonly string[],
  options: Parameters<typeof openDisks>[3] = {},
): Promise<Opened> {
  const ends: (() => unknown)[] = []
  const close = async (): Promise<void> => {
    for (const end of ends.splice(0)) await end()
  }
  t.teardown(close)
  const disks = await openDisks({ teardown: (end) => void ends.push(end) }, pool, folders, options)
  return { disks, close }
}

/** It fails while it is in use; `back` mounts it again. */
async function lose(disks: NodeDisks, folder: string): Promise<{ back(): void }> {
  renameSync(folder, `${folder}.away`)
  await disks.check(true)
  return { back: () => renameSync(`${folder}.away`, folder) }
}

async function listed(disks: NodeDisks): Promise<readonly number[]> {
  const range = { fromBucket: 0, toBucket: CHUNK_BUCKETS, fromId: 0, limit: 10_000, headers: true }
  const ids: number[] = []
  for (let from = { bucket: 0, id: 0 }, isOver = false; !isOver;) {
    const page = await disks.list({ volume: VOLUME, ...range, fromBucket: from.bucket, fromId: from.id })
    ids.push(...page.chunks.map(({ id }) => id))
    isOver = page.next === null
    from = page.next ?? from
  }
  return ids.sort((a, b) => a - b)
}

async function fill(disks: NodeDisks): Promise<readonly TestChunk[]> {
  const chunks = Array.from({ length: 24 }, (_, index) => randomChunk(1 + index, 500 + (index % 3) * 20_000))
  for (const chunk of chunks) await disks.put(chunk, chunk.data, chunk.id % 2 === 0)
  await disks.settle()
  return chunks
}

const even = (ids: readonly number[]): number[] => ids.filter((id) => id % 2 === 0)
const odd = (ids: readonly number[]): number[] => ids.filter((id) => id % 2 === 1)
const idsOf = (chunks: readonly TestChunk[]): number[] => chunks.map(({ id }) => id)
const notes = (on: string, chunks: readonly TestChunk[], of: string): readonly TestChunk[] =>
  chunks.filter(({ id }) => existsSync(chunkFile(of, id)) && !existsSync(chunkFile(on, id)))

t.test('chunks deleted while their disk is away are not there when it is back; the others are', async (t) => {
  const folders = newFolders(t, 3)
  const [gone = '', other = ''] = folders
  const first = await start(t, folders)
  const ids = idsOf(await fill(first.disks))
  const away = await lose(first.disks, gone)
  await first.disks.remove(even(ids))
  // One of those that have the notes is lost, too: the other has them.
  await lose(first.disks, other)
  await first.disks.remove([1, 3])
  await first.close()
  away.back()
  const second = await start(t, [folders[0] ?? '', folders[2] ?? ''])
  t.strictSame(
    (await listed(second.disks)).filter((id) => id % 2 === 0 || id < 4),
    [],
    'nothing that was deleted is told',
  )
  t.strictSame(await second.disks.lacks(even(ids), false), even(ids))
  await second.close()
  renameSync(`${other}.away`, other)
  const third = await start(t, folders)
  t.strictSame(
    await listed(third.disks),
    odd(ids).filter((id) => id > 3),
    'all else is there',
  )
  for (const folder of folders) {
    for (const { disk } of third.disks.live) t.notOk(existsSync(removedFile(folder, disk)), 'the notes are gone')
  }
})

t.test('that they are gone is on disk before the notes go: the folders that named them are flushed', async (t) => {
  const folders = newFolders(t, 2)
  const [gone = ''] = folders
  const first = await start(t, folders)
  const ids = idsOf(await fill(first.disks))
  const named = ids.filter((id) => existsSync(chunkFile(gone, id))).map((id) => dirname(chunkFile(gone, id)))
  const away = await lose(first.disks, gone)
  await first.disks.remove(ids)
  await first.close()
  away.back()
  const pools: NotingPool[] = []
  const newPool = (): NotingPool => {
    const made = new NotingPool()
    pools.push(made)
    return made
  }
  await start(t, folders, { newPool })
  const synced = new Set(pools.flatMap((one) => one.synced))
  t.ok(named.length > 0)
  for (const folder of named) t.ok(synced.has(folder))
})

t.test('nor if its folder was left out, or another disk was in its place, for some starts', async (t) => {
  const folders = newFolders(t, 2)
  const [gone = '', stays = ''] = folders
  const first = await start(t, folders)
  const ids = idsOf(await fill(first.disks))
  await first.close()
  const without = await start(t, [stays])
  t.match(without.disks.states()[1], { folder: gone, state: 'missing', why: /not given/ })
  await without.disks.remove(even(ids))
  await without.close()
  renameSync(gone, `${gone}.away`)
  const replaced = await start(t, folders)
  t.match(replaced.disks.states()[2], { folder: gone, state: 'missing', why: /in its place/ })
  await replaced.disks.remove([1, 3])
  await replaced.close()
  const back = await start(t, [stays, gone, `${gone}.away`])
  t.strictSame(
    await listed(back.disks),
    odd(ids).filter((id) => id > 3),
  )
  t.equal(back.disks.states().length, 3, 'nothing is missed')
})

t.test('what is deleted at once is noted whole, one after the other', async (t) => {
  const pool = new NotingPool({ threads: 4 })
  t.teardown(() => pool.close())
  const folders = newFolders(t, 2)
  const [gone = '', stays = ''] = folders
  const { disks } = await start(t, folders, { pool })
  const [disk = ''] = disks.live.filter(({ folder }) => folder === gone).map((one) => one.disk)
  await lose(disks, gone)
  const file = removedFile(stays, disk)
  const ids = Array.from({ length: 15 }, (_, index) => 1 + index)
  for (let round = 0; round < 3; round++) {
    await Promise.all(ids.map((id) => disks.remove([id])))
    t.strictSame([...readRemoved({ files: [file] })], ids, `round ${round}`)
    // Who notes first makes the file, which nobody may take for an old one.
    rmSync(file)
  }
  t.equal(pool.most, 1, 'notes at a time')
})

t.test('copies that are given up are not noted: the node may get them again', async (t) => {
  const folders = newFolders(t, 2)
  const [gone = '', stays = ''] = folders
  const first = await start(t, folders)
  const chunks = await fill(first.disks)
  const lost = idsOf(notes(stays, chunks, gone))
  const away = await lose(first.disks, gone)
  await first.disks.retire(idsOf(chunks), (ids) => Promise.resolve(ids))
  t.strictSame(await listed(first.disks), [])
  await first.close()
  away.back()
  t.strictSame(await listed((await start(t, folders)).disks), lost)
})

t.test('notes are bounded, and go with a disk that is given up', async (t) => {
  const folders = newFolders(t, 2)
  const [gone = '', stays = ''] = folders
  const first = await start(t, folders, { removedMaxBytes: 12 * 12 })
  const ids = idsOf(await fill(first.disks))
  const [disk = ''] = first.disks.live.filter(({ folder }) => folder === gone).map((one) => one.disk)
  await lose(first.disks, gone)
  await first.disks.remove(even(ids))
  await first.disks.remove(odd(ids))
  t.equal(statSync(removedFile(stays, disk)).size, 12 * 12, 'the removal is done, though it is not noted')
  await first.close()
  const second = await start(t, [stays], { forget: [gone] })
  t.strictSame(second.disks.states().length, 1, 'it is not missed any more')
  t.notOk(existsSync(removedFile(stays, disk)))
  t.strictSame(await listed(second.disks), [])
})

t.test('only whole entries count, and what a crash left is written over', (t) => {
  const file = removedFile(temporaryFolder(t), 'd')
  const big = Number.MAX_SAFE_INTEGER
  t.strictSame(noteRemoved({ files: [file], ids: [7, big], maxBytes: 1000 }), [true])
  appendFileSync(file, Buffer.from([0, 0, 0, 0, 0, 0, 1]))
  t.strictSame([...readRemoved({ files: [file, `${file}-none`] })], [7, big])
  noteRemoved({ files: [file], ids: [5, 7], maxBytes: 1000 })
  appendFileSync(file, Buffer.alloc(24))
  t.strictSame([...readRemoved({ files: [file] })], [5, 7, big])
  writeFileSync(file, Buffer.alloc(12, 1))
  t.strictSame([...readRemoved({ files: [file] })], [], 'a damaged entry removes nothing')
  t.end()
})

if (isRoot) {
  t.test('a removal that can be noted nowhere is not done: its task stays in the queue', async (t) => {
    const [gone = ''] = newFolders(t, 1)
    const full = tmpfs(t, 1 << 20)
    const { disks } = await start(t, [gone, full])
    const chunk = randomChunk(1, 100)
    await disks.put(chunk, chunk.data, true)
    await lose(disks, gone)
    let code = ''
    try {
      for (let n = 0; ; n++) writeFileSync(`${full}/filler-${n}`, Buffer.alloc(4096))
    } catch {
      code = await failureOf(disks.remove([77]))
    }
    t.equal(code, 'ENOSPC')
    t.equal(disks.live.length, 1)
  })
}
