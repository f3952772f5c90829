/**
 * A directory of 30,000 entries: listed while others make and remove names, with positions that stay good, in little
 * memory, by the VFS and by `ls` on a mount. NAMES in the environment: another number.
 */
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import t from 'tap'
import { silentLog } from '../../src/base/log.js'
import { ROOT_INO } from '../../src/base/limits.js'
import { openMeta } from '../../src/meta/engine.js'
import { formatVolume } from '../../src/meta/format.js'
import type { MetaStore } from '../../src/meta/contract.js'
import { createVfs } from '../../src/vfs/vfs.js'
import type { VfsContract } from '../../src/vfs/contract.js'
import { inParallel } from '../helpers/meta-check.js'
import { bytes, makeDir, newFile } from '../helpers/meta.js'
import { MemoryChunks } from '../helpers/memory-chunks.js'
import { mountTest, sh } from '../helpers/mount.js'
import { connectPatiently, startRedis } from '../helpers/redis.js'

const NAMES = Number(process.env['NAMES'] ?? 30_000)
const CALLER = { uid: 0, gid: 0, pid: 1 }
/** As getdents of 32 KiB gives, about. */
const PAGE = 1_000
const HEAP_MAX_BYTES = 4 * 1024 * 1024

t.setTimeout(600_000)

const redis = await startRedis(t)
const url = redis.url('big')
const store = await connectPatiently(url)
const settings = await formatVolume(store, 'big', { partitions: 8 })
const meta = await openMeta(store, settings, { log: silentLog })
const vfs = createVfs({ meta, chunks: new MemoryChunks() })
t.teardown(async () => {
  await vfs.shutdown()
  await meta.shutdown()
  await store.close()
})

const big = (await makeDir(meta, ROOT_INO, 'big')).ino
const stable = Array.from({ length: NAMES }, (_, i) => `stable-${i}`)

function create(name: string): Promise<unknown> {
  return meta.create(big, bytes(name), newFile(), { exclusive: true, open: false })
}

t.test('it is made', async (t) => {
  const start = performance.now()
  await inParallel(stable, async (name) => {
    await create(name)
  })
  t.comment(`${NAMES} files made in ${Math.round(performance.now() - start)} ms`)
})

/** Makes and removes other names until it is told to stop. */
class Change {
  #isOver = false
  readonly #done: Promise<void>
  rounds = 0

  constructor(store: MetaStore) {
    this.#done = this.#run(store)
  }

  async #run(store: MetaStore): Promise<void> {
    while (!this.#isOver) {
      const names = Array.from({ length: 20 }, (_, i) => `passing-${this.rounds}-${i}`)
      await Promise.all(names.map(create))
      await Promise.all(names.map((name) => store.unlink(big, bytes(name))))
      this.rounds++
    }
  }

  async stop(): Promise<void> {
    this.#isOver = true
    await this.#done
  }
}

/** Lists, and goes back now and then to a position that it was given before. Answers how often each name was met. */
async function list(vfs: VfsContract, seeks: boolean): Promise<Map<string, number>> {
  const handle = await vfs.opendir(CALLER, big)
  const met = new Map<string, number>()
  let page = 0
  for (let offset = 0n; ;) {
    const entries = await vfs.readdir(handle, offset, PAGE, false)
    const last = entries.at(-1)
    if (last === undefined) break
    for (const { name } of entries) met.set(name.toString(), (met.get(name.toString()) ?? 0) + 1)
    // seekdir: from a position in the middle of the page, what is stable comes again, and nothing is left out.
    if (seeks && ++page % 10 === 0) {
      const [from, to] = [entries[3], entries[13]]
      if (from === undefined || to === undefined) break
      const again = (await vfs.readdir(handle, from.offset, PAGE, false)).map(({ name }) => name.toString())
      const wanted = entries.slice(4, 14).map(({ name }) => name.toString())
      for (const name of wanted.filter((one) => one.startsWith('stable'))) {
        if (!again.includes(name)) throw new Error(`${name} is not there again`)
      }
    }
    offset = last.offset
  }
  vfs.releasedir(handle)
  return met
}

function missedOrTwice(met: ReadonlyMap<string, number>): string[] {
  return stable.filter((name) => met.get(name) !== 1)
}

t.test('every name that stays is listed exactly once while others come and go, from any position', async (t) => {
  const change = new Change(meta)
  const start = performance.now()
  const met = await list(vfs, true)
  t.comment(`listed in ${Math.round(performance.now() - start)} ms, ${change.rounds} rounds of changes meanwhile`)
  await change.stop()
  t.same(missedOrTwice(met), [])
  t.ok(change.rounds > 0, 'it was changed meanwhile')
  for (const [name, times] of met) if (times > 1) t.fail(`${name} was met ${times} times`)
})

/** Bytes that are in use, garbage not counted. */
function heapBytes(): number {
  setFlagsFromString('--expose-gc')
  runInNewContext('gc()')
  return process.memoryUsage().heapUsed
}

t.test('a listing holds a page of it, not all of it', async (t) => {
  const handle = await vfs.opendir(CALLER, big)
  const before = heapBytes()
  let most = 0
  let count = 0
  for (let offset = 0n; ;) {
    const last = (await vfs.readdir(handle, offset, PAGE, false)).at(-1)
    if (last === undefined) break
    offset = last.offset
    if (++count % 5 === 0) most = Math.max(most, heapBytes() - before)
  }
  vfs.releasedir(handle)
  t.ok(count >= NAMES / PAGE)
  t.ok(most < HEAP_MAX_BYTES, `${Math.round(most / 1024)} KiB more at most`)
})

t.test('ls on a mount lists every name that stays exactly once while others come and go', async (t) => {
  const mount = await mountTest(t, { driver: 'kernel', backend: redis.urlText('big') })
  const change = new Change(meta)
  const names = (await sh('sh', '-c', 'ls -f "$0" | sort | uniq -c', `${mount.mountpoint}/big`)).trimEnd().split('\n')
  await change.stop()
  const met = new Map(
    names.map((line) => line.trim().split(' ', 2)).map(([times, name]) => [name ?? '', Number(times)]),
  )
  t.same(missedOrTwice(met), [])
  t.equal(met.get('.'), 1)
})

t.test('it is emptied, and is like any other directory then', async (t) => {
  await inParallel(stable, async (name) => {
    await meta.unlink(big, bytes(name))
  })
  t.same([...(await list(vfs, false)).keys()], ['.', '..'])
  await meta.rmdir(ROOT_INO, bytes('big'))
})
