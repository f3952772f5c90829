/**
 * Redis itself fails under a stream of changes, and comes back with its append-only file.
 *
 * Fault model: a server gets SIGKILL and is started again, or is stopped for some seconds. What it had answered it still
 * has: an append-only file is written before the reply is sent, and the machine lives on. Requests that are not answered in
 * time are sent again, although the first copy may have run or may run later. No call may fail, none may be done twice.
 */
import t, { type Test } from 'tap'
import { silentLog } from '../../src/base/log.js'
import { openMeta } from '../../src/meta/engine.js'
import type { MetaStore } from '../../src/meta/contract.js'
import { within } from '../helpers/deadline.js'
import { checkVolume, walk } from '../helpers/meta-check.js'
import { ROOT, bytes, makeDirIn, pause, touch, until, volumesOn, type MetaVolume } from '../helpers/meta.js'
import { connectPatiently, startRedis, type TestRedis } from '../helpers/redis.js'

const CLIENTS = 3
const LANES = 4
/** Shorter than the stop, so that requests are sent twice. */
const REPLY_TIMEOUT_MS = 800
const STOP_MS = 3_000
const MORE = 60

interface Folder {
  readonly name: string
  readonly ino: number
}

/** One client's stream. What it says in `expected` was acknowledged. */
class Stream {
  readonly expected = new Set<string>()
  done = 0
  #isOver = false
  #running: Promise<unknown> = Promise.resolve()

  constructor(
    readonly meta: MetaStore,
    readonly label: string,
    readonly folders: readonly Folder[],
  ) {}

  start(): void {
    this.#running = Promise.all(Array.from({ length: LANES }, (_, lane) => this.#lane(lane)))
    // Looked at in end().
    this.#running.catch(() => undefined)
  }

  async end(): Promise<void> {
    this.#isOver = true
    await this.#running
  }

  #folder(at: number): Folder {
    const folder = this.folders[at % this.folders.length]
    if (folder === undefined) throw new Error('there are folders')
    return folder
  }

  async #lane(lane: number): Promise<void> {
    for (let i = 0; !this.#isOver; i++) {
      await this.#round(this.#folder(lane + i), this.#folder(lane + i + 1), `${this.label}${lane}-${i}`, i)
      this.done++
    }
  }

  /** Every change fails when it is done twice: the second time there is nothing to move, or the name is taken. */
  async #round(here: Folder, there: Folder, name: string, i: number): Promise<void> {
    await touch(this.meta, here.ino, name)
    if (i % 2 === 0) {
      this.expected.add(`/${here.name}/${name}`)
      return
    }
    await this.meta.rename(here.ino, bytes(name), there.ino, bytes(`${name}-moved`), { noReplace: true })
    if (i % 4 === 1) await this.meta.unlink(there.ino, bytes(`${name}-moved`))
    else this.expected.add(`/${there.name}/${name}-moved`)
    if (i % 8 !== 1) return
    await this.meta.mkdir(here.ino, bytes(`${name}-made`), 0o755, 0, 0)
    this.expected.add(`/${here.name}/${name}-made`)
  }
}

async function startStreams(t: Test, redis: TestRedis, volume: MetaVolume): Promise<Stream[]> {
  const owner = await volume.client()
  const folders: Folder[] = []
  for (const [at, name] of ['a', 'b', 'c', 'd'].entries()) {
    folders.push({ name, ino: (await makeDirIn(owner, ROOT, name, { partition: at * 2 })).ino })
  }
  const streams: Stream[] = []
  for (let at = 0; at < CLIENTS; at++) {
    const store = await connectPatiently(redis.url('any'), { log: silentLog, replyTimeoutMs: REPLY_TIMEOUT_MS })
    t.teardown(() => store.close())
    const meta = await openMeta(store, volume.settings, { log: silentLog })
    const stream = new Stream(meta, `client${at}-`, folders)
    t.teardown(() => stream.end().catch(() => undefined))
    streams.push(stream)
  }
  for (const stream of streams) stream.start()
  return streams
}

async function goOn(streams: readonly Stream[], what: string): Promise<void> {
  const aims = streams.map((stream) => stream.done + MORE)
  await until(what, () => streams.every((stream, at) => stream.done >= (aims[at] ?? 0)), 90_000)
  await until('all caches may be used again', () => streams.every(({ meta }) => meta.coherent))
}

async function judge(t: Test, volume: MetaVolume, streams: readonly Stream[]): Promise<void> {
  for (const stream of streams) await within(90_000, stream.end(), 'ending a stream')
  const reader = await volume.client()
  const { paths } = await walk(reader)
  const found = [...paths.keys()].filter((path) => path.includes('client')).sort()
  const expected = streams.flatMap((stream) => [...stream.expected]).sort()
  t.strictSame(found, expected, 'every acknowledged change is there, once, and nothing else')
  for (const { meta } of streams) await meta.shutdown()
  await volume.close()
  t.strictSame(await checkVolume(volume), [], 'the volume is whole afterwards')
  await volume.close()
}

for (const masters of [1, 3] as const) {
  const victim = masters - 1
  t.test(`with ${masters} Redis master(s)`, { timeout: 300_000 }, async (t) => {
    const redis = await startRedis(t, { masters })
    const open = volumesOn(t, redis)

    await t.test('a master that is killed and comes back loses nothing that was acknowledged', async (t) => {
      const volume = await open()
      const streams = await startStreams(t, redis, volume)
      await goOn(streams, 'the streams flow')
      await redis.kill(victim)
      await pause(300)
      await redis.restart(victim)
      await goOn(streams, 'the streams flow again')
      await judge(t, volume, streams)
    })

    await t.test('a master that stands still for a while does nothing twice', async (t) => {
      const volume = await open()
      const streams = await startStreams(t, redis, volume)
      await goOn(streams, 'the streams flow')
      redis.pause(victim)
      await pause(STOP_MS)
      redis.resume(victim)
      await goOn(streams, 'the streams flow again')
      await judge(t, volume, streams)
    })
  })
}
