import { truncateSync } from 'node:fs'
import t, { type Test } from 'tap'
import { systemClock } from '../../../src/base/clock.js'
import { readBootNote } from '../../../src/chunk/node/boot-note.js'
import { changedFiles, type ChangedFile } from '../../../src/chunk/node/list.js'
import { recentFiles } from '../../../src/chunk/node/restart-look.js'
import type { NodeDisks } from '../../../src/chunk/node/disks.js'
import { ChunkPaths } from '../../../src/chunk/node/paths.js'
import { poolOf, randomChunk } from '../../helpers/chunks.js'
import { newFolders, openDisks } from '../../helpers/disks.js'

t.setTimeout(300_000)

const NEVER = new AbortController().signal
const later = (): number => Date.now() + 1_000

async function startDisks(t: Test, count: number): Promise<{ disks: NodeDisks; folders: readonly string[] }> {
  const folders = newFolders(t, count)
  return { folders, disks: await openDisks(t, poolOf(t), folders) }
}

/** Which of them were bad. */
async function look(disks: NodeDisks, boot: string, signal = NEVER): Promise<readonly number[]> {
  const bad: number[] = []
  const onBad = (id: number): Promise<void> => Promise.resolve(void bad.push(id))
  await disks.lookAfterRestart({ boot, startMs: later(), onBad }, signal)
  return bad.sort((a, b) => a - b)
}

async function fill(disks: NodeDisks, folders: readonly string[], ids: readonly number[]): Promise<readonly string[]> {
  const files: string[] = []
  for (const id of ids) {
    const chunk = randomChunk(id, 10_000)
    await disks.put(chunk, chunk.data)
    for (const folder of folders) files.push(new ChunkPaths(folder).fileOf(id))
  }
  return files
}

t.test('what has its name and not its bytes is found after a start of the machine, and only then', async (t) => {
  const { disks, folders } = await startDisks(t, 1)
  const [first = '', second = ''] = await fill(disks, folders, [1, 2, 3])
  t.notOk(disks.isAfterRestart('one'), 'nothing is noted yet')
  t.strictSame(await look(disks, 'one'), [])
  truncateSync(first)
  truncateSync(second, 5_000)
  t.notOk(disks.isAfterRestart('one'))
  t.strictSame(await look(disks, 'one'), [], 'scrubbing comes to it')
  t.ok(disks.isAfterRestart('two'))
  t.strictSame(await look(disks, 'two'), [1, 2])
  t.strictSame(readBootNote(folders[0] ?? ''), { boot: 'two', fromMs: null })
  t.notOk(disks.isAfterRestart('two'))
  t.strictSame(await look(disks, 'two'), [], 'once')
})

t.test('a node that ends meanwhile begins anew, with all of them', async (t) => {
  const { disks, folders } = await startDisks(t, 1)
  const [first = ''] = await fill(disks, folders, [1, 2])
  await look(disks, 'one')
  truncateSync(first)
  t.strictSame(await look(disks, 'two', AbortSignal.abort()), [])
  t.ok(disks.isAfterRestart('two'), 'in the same start of the machine, too')
  t.strictSame(await look(disks, 'two'), [1])
})

t.test('each disk of a node has its own', async (t) => {
  const { disks, folders } = await startDisks(t, 2)
  await fill(disks, folders, [1, 2, 3, 4, 5, 6, 7, 8])
  await look(disks, 'one')
  const paths = folders.map((folder) => new ChunkPaths(folder))
  const lost = [1, 2, 3, 4, 5, 6, 7, 8].filter((id) =>
    paths.some((one) => {
      try {
        truncateSync(one.fileOf(id))
        return true
      } catch {
        return false
      }
    }),
  )
  t.strictSame(await look(disks, 'two'), lost)
})

t.test(
  'only what was changed last is read: all since a time before the last change that was not our own',
  async (t) => {
    const { disks, folders } = await startDisks(t, 1)
    const [folder = ''] = folders
    await fill(disks, folders, [1])
    await systemClock.sleep(200)
    const betweenMs = Date.now()
    await systemClock.sleep(200)
    await fill(disks, folders, [2])
    await systemClock.sleep(200)
    const startMs = Date.now()
    await systemClock.sleep(200)
    await fill(disks, folders, [3])
    const recent = async (bounds: { startMs: number; doubtMs: number; fromMs: number }): Promise<readonly number[]> => {
      const changed = (bucket: number, sinceMs: number): Promise<readonly ChangedFile[] | null> =>
        Promise.resolve(changedFiles({ folder, bucket, sinceMs }))
      const found = await recentFiles(changed, bounds, NEVER)
      return [...(found?.ids ?? [])].sort((a, b) => a - b)
    }
    t.strictSame(await recent({ startMs, doubtMs: 50, fromMs: Infinity }), [2, 3])
    t.strictSame(await recent({ startMs, doubtMs: 3_600_000, fromMs: Infinity }), [1, 2, 3])
    t.strictSame(await recent({ startMs, doubtMs: 50, fromMs: 0 }), [1, 2, 3], 'what an earlier look has begun with')
    t.strictSame(await recent({ startMs: betweenMs, doubtMs: 50, fromMs: Infinity }), [1, 2, 3], 'the last one before')
    t.strictSame(await recent({ startMs: 0, doubtMs: 50, fromMs: Infinity }), [1, 2, 3], 'a clock that was set back')
  },
)

t.test('it ends between two folders when it is told to, and holds no thread for longer', async (t) => {
  const ending = new AbortController()
  const asked: number[] = []
  const changed = (bucket: number): Promise<readonly ChangedFile[]> => {
    asked.push(bucket)
    if (bucket === 5) ending.abort()
    return Promise.resolve([])
  }
  const bounds = { startMs: 1, doubtMs: 1, fromMs: Infinity }
  t.equal(await recentFiles(changed, bounds, ending.signal), null)
  t.strictSame(asked, [0, 1, 2, 3, 4, 5])
})
