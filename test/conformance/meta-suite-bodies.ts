/** MetaStore: bytes of small files that it keeps itself. */
import type { Test } from 'tap'
import { WINDOW_BYTES, longestInlineBytes } from '../../src/base/limits.js'
import { systemClock, type Clock } from '../../src/base/clock.js'
import type { CommitReply, MetaStore } from '../../src/meta/contract.js'
import type { OldBody } from '../../src/meta/inline-contract.js'
import { VolumeKeys } from '../../src/meta/keys.js'
import { SCRIPTS } from '../../src/meta/scripts.js'
import { until } from '../helpers/deadline.js'
import { ROOT, bytes, claim, coherent, extentOf, outcome, touch, writeAt, type OpenVolume } from '../helpers/meta.js'

const MTIME = { sec: 1_700_000_000, nsec: 7 }

async function put(
  meta: MetaStore,
  ino: number,
  text: string,
  where: number | 'append' = 0,
): Promise<CommitReply | null> {
  const at = where === 'append' ? 0 : where
  return await meta.commitInline(ino, {
    pieces: [{ fileOffset: at, bytes: Buffer.from(text, 'latin1') }],
    mode: where === 'append' ? 'append' : 'at',
    allocatedDeltaBytes: text.length,
    mtime: MTIME,
  })
}

/** An hour ago. */
const behind: Clock = {
  now: () => ({ ...systemClock.now(), sec: systemClock.now().sec - 3_600 }),
  monotonicMs: () => systemClock.monotonicMs(),
  wallMs: () => systemClock.wallMs(),
  sleep: (ms) => systemClock.sleep(ms),
  after: systemClock.after.bind(systemClock),
}

/** All that is found until these are. */
async function oldOf(meta: MetaStore, restMs: number, wanted: readonly number[]): Promise<Map<number, OldBody>> {
  const found = new Map<number, OldBody>()
  await meta.oldBodies.count()
  await until('they are found', async () => {
    for (const old of await meta.oldBodies.find(restMs)) found.set(old.ino, old)
    return wanted.every((ino) => found.has(ino))
  })
  return found
}

/** What the body reads as, up to the size of the file; a zero is a dot. */
async function body(meta: MetaStore, ino: number): Promise<string> {
  const { sizeBytes } = await meta.getattr(ino)
  const out = Buffer.alloc(sizeBytes, '.')
  for (const { fileOffset, lengthBytes, bytes: data } of (await meta.extents(ino, 0)).body ?? []) {
    if (data === null) out.fill('.', Math.min(fileOffset, sizeBytes), Math.min(fileOffset + lengthBytes, sizeBytes))
    else data.copy(out, fileOffset)
  }
  return out.toString('latin1')
}

export function bodyClaims(t: Test, open: OpenVolume): void {
  claim(t, open, 'bytes that the store keeps come back with open and with extents', async (t, volume) => {
    const meta = await volume.client()
    const before = await touch(meta, ROOT, 'file')
    t.match(before, { hasBody: false, hasExtents: false })
    const reply = await put(meta, before.ino, 'hello')
    t.match(reply, { baseOffset: 0, attr: { sizeBytes: 5, allocatedBytes: 5, mtime: MTIME, hasBody: true } })
    t.ok((reply?.attr.dataVersion ?? 0) > before.dataVersion)
    // An answer that was lost comes again without them.
    const { window0 = await meta.extents(before.ino, 0) } = await meta.open(before.ino, { truncate: false })
    t.same(window0.body, [{ fileOffset: 0, lengthBytes: 5, bytes: bytes('hello') }])
    t.same(window0.extents, [])
    t.same((await meta.windows(before.ino, 0, 9)).windows, [0])
    meta.close(before.ino)
    const have = reply?.attr.dataVersion ?? 0
    t.equal((await meta.open(before.ino, { truncate: false, have })).window0, undefined, 'who has them gets none')
    meta.close(before.ino)
    await put(meta, before.ino, 'again')
    t.equal((await meta.open(before.ino, { truncate: false, have })).attr.dataVersion, have + 1)
    const fresh = await meta.extents(before.ino, 0)
    t.same(fresh.body, [{ fileOffset: 0, lengthBytes: 5, bytes: bytes('again') }])
    meta.close(before.ino)
  })

  claim(
    t,
    open,
    'later pieces hide earlier ones, between them are zeros, appended ones lie at the end',
    async (t, v) => {
      const meta = await v.client()
      const { ino } = await touch(meta, ROOT, 'file')
      await put(meta, ino, 'aaaa', 2)
      await put(meta, ino, 'bb', 4)
      await put(meta, ino, 'c', 8)
      t.equal(await body(meta, ino), '..aabb..c')
      t.match(await put(meta, ino, 'dd', 'append'), { baseOffset: 9 })
      t.equal(await body(meta, ino), '..aabb..cdd')
      await put(meta, ino, 'whole text.', 0)
      t.equal((await meta.extents(ino, 0)).body?.length, 1, 'one over all takes the place of all')
    },
  )

  claim(t, open, 'appends of many clients are all there, whole', async (t, volume) => {
    const clients = await Promise.all([volume.client(), volume.client(), volume.client()])
    const [meta] = clients
    const { ino } = await touch(meta, ROOT, 'file')
    const lines = clients.flatMap((client, c) =>
      Array.from({ length: 20 }, (_, i) => put(client, ino, `<${c}.${i}>`, 'append')),
    )
    await Promise.all(lines)
    const found = (await body(meta, ino)).match(/<\d+\.\d+>/g) ?? []
    t.equal(new Set(found).size, 60)
    t.equal(found.join(''), await body(meta, ino))
  })

  claim(t, open, 'what is too long, and what comes to a file that has extents, is refused', async (t, volume) => {
    const meta = await volume.client()
    const longest = volume.settings.inlineBytes
    t.equal(meta.inlineBytes, longest)
    const small = await touch(meta, ROOT, 'small')
    t.ok(await put(meta, small.ino, 'x'.repeat(longest)), 'up to the limit')
    t.equal(await put(meta, small.ino, 'y', longest), null)
    t.equal(await put(meta, small.ino, 'y', 'append'), null)
    t.equal((await meta.getattr(small.ino)).sizeBytes, longest, 'nothing was done')
    const large = await touch(meta, ROOT, 'large')
    await writeAt(meta, large.ino, 0, 10)
    t.equal(await put(meta, large.ino, 'x', 100), null)
    const far = await touch(meta, ROOT, 'far')
    await writeAt(meta, far.ino, WINDOW_BYTES, 10)
    t.equal(await put(meta, far.ino, 'x', 0), null)
    t.match(await meta.getattr(far.ino), { hasExtents: true, hasBody: false })
  })

  claim(t, open, 'a longer file is taken only as one piece from its start on', async (t, volume) => {
    const meta = await volume.client()
    const longest = longestInlineBytes(volume.settings.inlineBytes)
    t.equal(meta.wholeInlineBytes, longest)
    const { ino } = await touch(meta, ROOT, 'long')
    t.equal(await put(meta, ino, 'x'.repeat(longest + 1)), null)
    t.equal(await put(meta, ino, 'x'.repeat(longest), 'append'), null)
    t.equal(await put(meta, ino, 'x'.repeat(longest - 1), 1), null)
    t.ok(await put(meta, ino, 'x'.repeat(longest)))
    t.equal(await put(meta, ino, 'y', 1), null, 'a part of it is for extents')
    t.equal(await put(meta, ino, 'y', 0), null, 'so is its start')
    t.ok(await put(meta, ino, 'z'.repeat(longest)))
    t.equal(await body(meta, ino), 'z'.repeat(longest))
  })

  claim(t, open, 'a body does not grow however often it is written over or cut', async (t, volume) => {
    const meta = await volume.client()
    const { ino } = await touch(meta, ROOT, 'file')
    const longest = volume.settings.inlineBytes
    await put(meta, ino, 'x'.repeat(longest))
    const done: boolean[] = []
    for (let i = 0; i < 10; i++) done.push((await put(meta, ino, 'y'.repeat(longest / 4), 5)) !== null)
    t.same([done[0], done[9]], [true, false], 'then it is for extents')
    const length = async (): Promise<number> => (await meta.extents(ino, 0)).body?.length ?? 0
    await meta.setattr(ino, { sizeBytes: 3 })
    const pieces = await length()
    for (const sizeBytes of [9, 2, 9, 3, 9, 2, 9, 2, 9, 1, 9]) await meta.setattr(ino, { sizeBytes })
    t.ok((await length()) <= pieces)
    t.equal(await body(meta, ino), 'x........')
  })

  claim(t, open, 'a cut takes from the body, and what was beyond does not come back', async (t, volume) => {
    const meta = await volume.client()
    const { ino } = await touch(meta, ROOT, 'file')
    await put(meta, ino, 'abcdef')
    await put(meta, ino, 'XY', 4)
    t.match(await meta.setattr(ino, { sizeBytes: 5 }), { allocatedBytes: 5 })
    await meta.setattr(ino, { sizeBytes: 8 })
    t.equal(await body(meta, ino), 'abcdX...')
    await put(meta, ino, 'z', 7)
    t.equal(await body(meta, ino), 'abcdX..z')
    await meta.setattr(ino, { sizeBytes: 2 })
    await writeAt(meta, ino, 10, 5)
    await meta.setattr(ino, { sizeBytes: 1 })
    t.equal(await body(meta, ino), 'a')
    t.match(await meta.setattr(ino, { sizeBytes: 0 }), { hasBody: false, hasExtents: false })
    t.equal((await meta.extents(ino, 0)).body, undefined)
  })

  claim(t, open, 'extents come to lie above a body, which is seen where they are not', async (t, volume) => {
    const meta = await volume.client()
    const { ino } = await touch(meta, ROOT, 'file')
    await put(meta, ino, 'hello')
    for (let i = 0; i < 4; i++) {
      const extent = await writeAt(meta, ino, 5 + 10 * i, 10)
      const window = await meta.extents(ino, 0)
      t.same(window.extents.at(-1), extent)
      t.same(window.body, [{ fileOffset: 0, lengthBytes: 5, bytes: bytes('hello') }])
    }
    t.match(await meta.getattr(ino), { hasBody: true, hasExtents: true })
    t.same((await meta.windows(ino, 0, 9)).windows, [0], 'the window is named once')
  })

  for (const above of [0, 1, 4]) {
    claim(t, open, `a body is spilt below ${above} extents that came later`, async (t, volume) => {
      const meta = await volume.client()
      const { ino } = await touch(meta, ROOT, 'file')
      await put(meta, ino, 'hello')
      const late = []
      for (let i = 0; i < above; i++) late.push(await writeAt(meta, ino, 3 + i, 10))
      const before = await meta.extents(ino, 0)
      const base = extentOf(await meta.chunkId(), 0, 5)
      t.equal(await meta.spill(ino, before.dataVersion - 1, [base]), null, 'of another version: not')
      const attr = await meta.spill(ino, before.dataVersion, [base])
      t.match(attr, { hasBody: false, hasExtents: true, dataVersion: before.dataVersion + 1 })
      t.same((await meta.extents(ino, 0)).extents, [base, ...late])
      t.same((await meta.extents(ino, 0, before)).extents, [base, ...late], 'also for who has some of it')
      t.equal((await meta.extents(ino, 0)).body, undefined)
      t.equal(await meta.spill(ino, before.dataVersion + 1, [base]), null, 'there is no body any more')
      t.equal(await put(meta, ino, 'x'), null)
    })
  }

  claim(t, open, 'a hole is not punched into a body, nor cloned over one', async (t, volume) => {
    const meta = await volume.client()
    const { ino, dataVersion } = (await put(meta, (await touch(meta, ROOT, 'file')).ino, 'hello'))?.attr ?? {
      ino: 0,
      dataVersion: 0,
    }
    const request = { allocatedDeltaBytes: 0, mtime: MTIME, clearSuid: false, minSizeBytes: 0 }
    t.equal(await meta.punch(ino, { ...request, offset: 0, lengthBytes: 3, windows: new Map([[0, 0]]) }), null)
    const hole = { extent: { fileOffset: 0, lengthBytes: 3, chunk: null, chunkOffset: 0 }, sourceWindow: 0 }
    const clone = { ...request, source: ino, sourceVersion: dataVersion, version: dataVersion, extents: [hole] }
    t.equal(await meta.clone(ino, clone), null)
    t.equal(await body(meta, ino), 'hello')
  })

  claim(t, open, 'other clients are told of what is committed, and of a spill', async (t, volume) => {
    const [one, two] = [await volume.client(), await volume.client()]
    const { ino } = await touch(one, ROOT, 'file')
    await coherent(two)
    await two.caughtUp()
    const heard: string[] = []
    two.onEvent((event) => heard.push(`${event.kind} ${'ino' in event ? event.ino : ''}`))
    const reply = await put(one, ino, 'hello')
    await two.caughtUp()
    t.same(heard, [`data ${ino}`])
    await one.spill(ino, reply?.attr.dataVersion ?? 0, [extentOf(await one.chunkId(), 0, 5)])
    await two.caughtUp()
    t.same(heard, [`data ${ino}`, `data ${ino}`])
  })

  claim(t, open, 'old bodies are found, with what is needed to move them', async (t, volume) => {
    const then = await volume.client({ clock: behind })
    const now = await volume.client()
    const inos = new Map<string, number>()
    for (const name of ['old', 'grown', 'open', 'little', 'gone', 'changed']) {
      const { ino } = await touch(then, ROOT, name)
      await put(then, ino, name === 'little' ? 'x' : name.repeat(100))
      inos.set(name, ino)
    }
    const inoOf = (name: string): number => inos.get(name) ?? 0
    await writeAt(then, inoOf('grown'), 100, 10_000)
    await now.open(inoOf('open'), { truncate: false })
    await now.open(inoOf('gone'), { truncate: false })
    await now.unlink(ROOT, bytes('gone'))
    await now.setattr(inoOf('changed'), { mode: 0o600 })
    await put(now, (await touch(now, ROOT, 'young')).ino, 'y'.repeat(200))
    const found = await oldOf(now, 600_000, [inoOf('old'), inoOf('grown')])
    const { dataVersion: version, ctime } = await now.getattr(inoOf('old'))
    t.match(found.get(inoOf('old')), { version, ctime, body: [{ fileOffset: 0, bytes: bytes('old'.repeat(100)) }] })
    t.match(found.get(inoOf('grown')), { body: undefined }, 'extents lie above it')
    t.equal(found.size, 2, 'and no others')
    t.equal((await now.oldBodies.find(7_200_000)).length, 0, 'nor any that is not as old as was asked for')
  })

  claim(
    t,
    open,
    'bodies are moved together, each if it is as it was, and are no part of the budget then',
    async (t, v) => {
      const meta = await v.client()
      const inos: number[] = []
      const extents = []
      for (let i = 0; i < 3 * v.settings.partitions; i++) {
        const { ino, dataVersion } = (await put(meta, (await touch(meta, ROOT, `f${i}`)).ino, 'text'.repeat(50)))
          ?.attr ?? {
          ...{ ino: 0, dataVersion: 0 },
        }
        inos.push(ino)
        extents.push({ ino, version: dataVersion, extents: [extentOf(await meta.chunkId(), 0, 200)] })
      }
      const [first, second, third, ...rest] = extents
      if (first === undefined || second === undefined || third === undefined) throw new Error('there are three')
      const below = await writeAt(meta, third.ino, 300, 10)
      const { dataVersion } = await meta.getattr(third.ino)
      await put(meta, first.ino, 'else'.repeat(50))
      await meta.unlink(ROOT, bytes('f1'))
      const all = [first, second, { ...third, version: dataVersion }, ...rest]
      const before = await meta.oldBodies.count()
      t.same(await meta.oldBodies.move(all), [false, false, true, ...rest.map(() => true)])
      t.ok(meta.oldBodies.usedBytes < before - 200 * rest.length, 'counted at once')
      t.equal(await meta.oldBodies.count(), meta.oldBodies.usedBytes)
      t.equal(await body(meta, first.ino), 'else'.repeat(50))
      t.same((await meta.extents(third.ino, 0)).extents, [third.extents[0], below])
      for (const { ino, version, extents } of rest) {
        t.match(await meta.getattr(ino), { hasBody: false, hasExtents: true, sizeBytes: 200, dataVersion: version + 1 })
        t.same((await meta.extents(ino, 0)).extents, extents)
      }
      t.same(
        await meta.oldBodies.move(all),
        all.map(() => false),
        'once',
      )
      t.same(await meta.oldBodies.move([]), [])
    },
  )

  claim(t, open, 'nothing is found while the metadata are frozen, or others hold a delegation', async (t, volume) => {
    const then = await volume.client({ clock: behind })
    const { ino } = await touch(then, ROOT, 'old')
    await put(then, ino, 'text'.repeat(100))
    const meta = await volume.client({ delegations: { enabled: false } })
    await oldOf(meta, 600_000, [ino])
    const { name, partitions } = volume.settings
    const locks = new VolumeKeys(name, partitions).of(ino).locks
    await volume.redis.run(SCRIPTS.freeze, [locks], ['backup', 60_000, 0])
    t.equal((await meta.oldBodies.find(600_000)).length, 0)
    await volume.redis.run(SCRIPTS.thaw, [locks], ['backup'])
    await oldOf(meta, 600_000, [ino])
    const holder = await volume.client({ delegations: { quietMs: 0, restMs: 1 } })
    await until('it is held', async () => {
      if (!holder.holds(ino)) return false
      const found = await meta.oldBodies.find(600_000)
      return holder.holds(ino) && found.length === 0
    })
    t.ok(holder.holds(ino), 'it was not asked to give it back')
  })

  claim(
    t,
    open,
    'housekeeping does not wait for a thaw: it changes nothing, and can be done later',
    async (t, volume) => {
      const meta = await volume.client()
      const { ino } = await touch(meta, ROOT, 'file')
      const version = (await put(meta, ino, 'text'.repeat(100)))?.attr.dataVersion ?? 0
      const move = { ino, version, extents: [extentOf(await meta.chunkId(), 0, 400)] }
      const { ino: large } = await touch(meta, ROOT, 'large')
      for (let n = 0; n < 5; n++) await writeAt(meta, large, 0, 1_000)
      const compact = async (): Promise<number | null> => {
        const old = await meta.extents(large, 0)
        return meta.compact(large, old, old.extents.slice(-1), old.extents.slice(0, -1), 0)
      }
      const { name, partitions } = volume.settings
      const locks = new Set([ino, large].map((one) => new VolumeKeys(name, partitions).of(one).locks))
      for (const one of locks) await volume.redis.run(SCRIPTS.freeze, [one], ['backup', 600_000, 0])
      t.same(await meta.oldBodies.move([move]), [false])
      t.equal(await compact(), null)
      t.match(await meta.getattr(ino), { hasBody: true, dataVersion: version })
      for (const one of locks) await volume.redis.run(SCRIPTS.thaw, [one], ['backup'])
      t.equal(await body(meta, ino), 'text'.repeat(100))
      t.same(await meta.oldBodies.move([move]), [true])
      t.type(await compact(), 'number')
      t.equal((await meta.extents(large, 0)).extents.length, 1)
    },
  )

  claim(t, open, 'one client has the moving of bodies to itself', async (t, volume) => {
    const [one, two] = [await volume.client(), await volume.client()]
    t.equal(await one.oldBodies.claim(), true)
    t.equal(await two.oldBodies.claim(), false)
    t.equal(await one.oldBodies.claim(), true)
  })

  claim(
    t,
    open,
    'a body goes with its file, at once or with the last opener, and with what it is replaced by',
    async (t, v) => {
      const meta = await v.client()
      for (const name of ['one', 'two', 'three']) await put(meta, (await touch(meta, ROOT, name)).ino, name)
      const { ino } = await meta.lookup(ROOT, bytes('one'))
      await meta.open(ino, { truncate: false })
      await meta.unlink(ROOT, bytes('one'))
      t.equal(await body(meta, ino), 'one', 'it is open still')
      meta.close(ino)
      await meta.unlink(ROOT, bytes('two'))
      await touch(meta, ROOT, 'four')
      await meta.rename(ROOT, bytes('four'), ROOT, bytes('three'), {})
      t.equal((await meta.lookup(ROOT, bytes('three'))).sizeBytes, 0)
    },
  )

  claim(t, open, 'a write takes set-id bits away, and is for files', async (t, volume) => {
    const meta = await volume.client()
    const { ino } = await touch(meta, ROOT, 'file')
    await meta.setattr(ino, { mode: 0o6755 })
    const request = {
      pieces: [{ fileOffset: 0, bytes: bytes('x') }],
      mode: 'at',
      allocatedDeltaBytes: 1,
      mtime: MTIME,
    } as const
    t.match(await meta.commitInline(ino, { ...request, clearSuid: true }), { attr: { mode: 0o755 } })
    t.equal(await outcome(meta.commitInline(ROOT, request)), 'EINVAL')
    t.equal(await outcome(meta.commitInline(987_654, request)), 'ENOENT')
  })

  claim(t, open, 'attributes can be changed in the same moment, behind the bytes', async (t, volume) => {
    const [meta, other] = [await volume.client(), await volume.client()]
    const { ino } = await touch(meta, ROOT, 'file')
    const request = {
      pieces: [{ fileOffset: 0, bytes: bytes('some') }],
      mode: 'at',
      allocatedDeltaBytes: 4,
      mtime: MTIME,
    } as const
    const times = { mtime: { sec: 7, nsec: 8 }, atime: { sec: 9, nsec: 10 } }
    const expected = { mode: 0o4711, uid: 12, gid: 13, ...times, sizeBytes: 4 }
    const attributes = { mode: 0o4711, uid: 12, gid: 13, ...times }
    t.match(await meta.commitInline(ino, { ...request, attributes }), { attr: expected })
    t.match(await other.getattr(ino), expected)
    const owner = await meta.commitInline(ino, { ...request, attributes: { uid: 14, mtime: 'now' } })
    t.match(owner, { attr: { mode: 0o711, uid: 14 } }, 'a new owner has no right to become the old one')
    t.not(owner?.attr.mtime.sec, MTIME.sec)
    const before = await meta.getattr(ino)
    const long = [{ fileOffset: 0, bytes: Buffer.alloc(100_000) }]
    t.equal(await meta.commitInline(ino, { ...request, pieces: long, attributes: { mode: 0o600 } }), null)
    t.same(await meta.getattr(ino), before, 'refused, all of it is')
    const seen = { uid: 1000, gid: 13 }
    const left = await meta.commitInline(ino, { ...request, attributes: { mode: 0o4755, mtime: 'now', seen } })
    t.match(left, { attributesLeft: true, attr: { mode: 0o711, uid: 14, mtime: MTIME } }, 'bytes rest on no owner')
    t.match(await other.getattr(ino), { mode: 0o711, uid: 14, mtime: MTIME, dataVersion: left?.attr.dataVersion })
    const made = await meta.commitInline(ino, { ...request, attributes: { mode: 0o600, seen: { ...seen, uid: 14 } } })
    t.match(made, { attr: { mode: 0o600 } })
    t.notOk(made?.attributesLeft)
  })
}
