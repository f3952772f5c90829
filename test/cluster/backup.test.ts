/** Backups of a volume in use, on one and on three masters, and what becomes of them. */
import t, { type Test } from 'tap'
import { readFileSync, rmSync, writeFileSync, existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { systemClock } from '../../src/base/clock.js'
import { silentLog } from '../../src/base/log.js'
import type { RedisStore } from '../../src/cluster/contract.js'
import { backupVolume } from '../../src/meta/backup/backup.js'
import { restoreVolume } from '../../src/meta/backup/restore.js'
import type { MetaStore } from '../../src/meta/contract.js'
import { loadVolume } from '../../src/meta/format.js'
import { openMeta } from '../../src/meta/engine.js'
import { whileFrozen } from '../../src/meta/freeze.js'
import { VolumeKeys } from '../../src/meta/keys.js'
import { encodeExtents, writeU56 } from '../../src/meta/records.js'
import { BACKUP_OPTIONS, backupFile } from '../helpers/backups.js'
import { bound } from '../helpers/bound-redis.js'
import { failureOf, temporaryFolder } from '../helpers/chunks.js'
import { checkVolume, describe, walk } from '../helpers/meta-check.js'
import { ROOT, bytes, extentOf, makeDir, touch, until, volumesOn, writeAt, type MetaVolume } from '../helpers/meta.js'
import { connectPatiently, startRedis, type TestRedis } from '../helpers/redis.js'

t.setTimeout(600_000)

const SOME_TIME = { sec: 1_700_000_000, nsec: 5 }

async function wipe(redis: TestRedis): Promise<void> {
  for (let server = 0; server < redis.ports.length; server++) await redis.command(server, 'FLUSHALL')
}

/** As a client sees it after a restore. */
async function restored(t: Test, store: RedisStore, volume: MetaVolume): Promise<MetaVolume> {
  const settings = await loadVolume(store, volume.settings.name)
  const clients: MetaStore[] = []
  const close = async (): Promise<void> => {
    await Promise.all(clients.splice(0).map((client) => client.shutdown()))
  }
  t.teardown(close)
  return {
    ...volume,
    settings,
    close,
    client: async () => {
      const client = await openMeta(store, settings, { log: silentLog, sessionTtlMs: 2_000 })
      clients.push(client)
      return client
    },
  }
}

for (const masters of [1, 3] as const) {
  t.test(`on ${masters} masters`, async (t) => {
    const redis = await startRedis(t, { masters })
    const open = volumesOn(t, redis)
    const store = await connectPatiently(redis.url('any'))
    t.teardown(() => store.close())

    t.test('what is restored is what was there: names, times, data, attributes, links', async (t) => {
      const volume = await open()
      const meta = await volume.client()
      const dir = await makeDir(meta, ROOT, 'dir')
      const file = await touch(meta, dir.ino, 'file')
      // More extents than an inode record holds, and a second window.
      for (let i = 0; i < 4; i++) await writeAt(meta, file.ino, i * 2 ** 20, 2 ** 20)
      await writeAt(meta, file.ino, 100 * 2 ** 20, 1000)
      await meta.link(file.ino, ROOT, bytes('link'))
      const small = await touch(meta, dir.ino, Buffer.from([0xff, 0x0a, 0x80]))
      const pieces = [{ fileOffset: 0, bytes: Buffer.from('a small file') }]
      await meta.commitInline(small.ino, { pieces, mode: 'at', allocatedDeltaBytes: 12, mtime: SOME_TIME })
      await meta.setxattr(small.ino, bytes('user.a'), bytes('value'), 'any')
      await meta.create(
        dir.ino,
        bytes('sym'),
        { type: 'symlink', mode: 0o777, uid: 1, gid: 2, target: bytes('x') },
        FRESH,
      )
      const before = await walk(meta)
      const file1 = backupFile(t)
      const result = await backupVolume(store, volume.settings, file1, BACKUP_OPTIONS)
      t.equal(result.inodes, before.attrs.size)
      t.equal(result.names, before.paths.size - 1)
      const held = await meta.open(file.ino, { truncate: false })
      t.ok(held)
      await volume.close()

      await wipe(redis)
      await restoreVolume(store, volume.settings.name, file1, () => undefined)
      const again = await restored(t, store, volume)
      const other = await again.client()
      const after = await walk(other)
      t.strictSame(describe(after), describe(before))
      t.strictSame([...after.attrs.values()], [...before.attrs.values()])
      t.strictSame(await other.getxattr(small.ino, bytes('user.a')), bytes('value'))
      t.equal(String((await other.extents(small.ino, 0)).body?.[0]?.bytes), 'a small file')
      t.equal((await other.extents(file.ino, 0)).extents.length, 4)
      t.ok((await other.chunkId()) > (await meta.chunkId()) + 2 ** 24, 'chunk ids begin far above')
      await again.close()
      t.strictSame(await checkVolume(again), [])
    })

    t.test('a backup made while clients rename, link and delete is of one moment', async (t) => {
      const volume = await open()
      const folders: number[] = []
      const meta = await volume.client()
      for (let i = 0; i < 6; i++) folders.push((await makeDir(meta, ROOT, `d${i}`)).ino)
      // Each of these names exists all the time, in one folder or another, always with the same inode.
      const movers = await Promise.all(
        Array.from({ length: 6 }, async (_, i) => ({
          i,
          ino: (await touch(meta, folders[i] ?? 0, `m${i}`)).ino,
          at: i,
        })),
      )
      let isRunning = true
      let changes = 0
      const clients = await Promise.all([volume.client(), volume.client()])
      const work = movers.map(async (mover) => {
        const client = clients[mover.i % 2] ?? meta
        for (let n = 0; isRunning; n++, changes++) {
          const [from, to] = [mover.at, (mover.at + 1 + (n % 4)) % 6]
          await client.rename(folders[from] ?? 0, bytes(`m${mover.i}`), folders[to] ?? 0, bytes(`m${mover.i}`), {})
          mover.at = to
          const made = await makeDir(client, folders[to] ?? 0, `x${mover.i}-${n}`)
          if (n % 2 === 0) await client.rmdir(folders[to] ?? 0, bytes(`x${mover.i}-${n}`))
          t.ok(made.ino)
          await client.link(mover.ino, folders[from] ?? 0, bytes(`l${mover.i}-${n}`))
          await client.unlink(folders[from] ?? 0, bytes(`l${mover.i}-${n}`))
        }
      })
      const files: string[] = []
      const folder = temporaryFolder(t)
      for (let round = 0; round < 4; round++) {
        const seen = changes
        await until('changes go on', () => changes > seen + 10)
        files.push(join(folder, `backup-${round}`))
        await backupVolume(store, volume.settings, files[round] ?? '', BACKUP_OPTIONS)
      }
      isRunning = false
      await Promise.all(work)
      await volume.close()
      for (const file of files) {
        await wipe(redis)
        await restoreVolume(store, volume.settings.name, file, () => undefined)
        const again = await restored(t, store, volume)
        const client = await again.client()
        // The sessions of that moment are cleaned up after: what they were about is finished or taken back.
        await until('the dead are buried', async () => {
          return (await store.call('ZCARD', new VolumeKeys(volume.settings.name, 8).wide('dead'))) === 0
        })
        const { paths } = await walk(client)
        for (const { i, ino } of movers) {
          const found = [...paths].filter(([path]) => path.endsWith(`/m${i}`))
          t.strictSame(
            found.map(([, at]) => at),
            [ino],
            `m${i} has one name`,
          )
        }
        await again.close()
        t.strictSame(await checkVolume(again), [])
        await again.close()
      }
    })
  })
}

t.test('claims of the janitor on all extents of many windows are restored as they were', async (t) => {
  const redis = await startRedis(t, { masters: 1 })
  const store = await connectPatiently(redis.url('any'))
  t.teardown(() => store.close())
  const { settings } = await volumesOn(t, redis)()
  const { garbage } = new VolumeKeys(settings.name, settings.partitions).partition(3)
  // As zombie-free.lua leaves them of a file that was written in pieces of 4 KiB, each somewhere.
  const extents = Array.from({ length: 16_384 }, (_, i) => extentOf(2 ** 24 + i, i * 4096, 4096))
  const blob = encodeExtents(extents, 0)
  const claims = Array.from({ length: 90 }, (_, window) => {
    const head = Buffer.alloc(18)
    head.writeUIntLE(Date.now(), 0, 6)
    writeU56(head, 11, 7)
    head.writeUInt32LE(window, 14)
    return Buffer.concat([head, blob])
  })
  for (const claim of claims) await store.call('RPUSH', garbage, claim)
  const file = backupFile(t)
  await backupVolume(store, settings, file, BACKUP_OPTIONS)
  await wipe(redis)
  await restoreVolume(store, settings.name, file, () => undefined)
  t.equal(await store.call('LLEN', garbage), claims.length)
  for (const [at, claim] of claims.entries()) {
    const there = await store.call('LINDEX', garbage, at)
    if (!Buffer.isBuffer(there) || !there.equals(claim)) t.fail(`claim ${at} is another`)
  }
})

t.test('while a backup is made the janitor takes nothing away that it would miss', async (t) => {
  const redis = await startRedis(t, { masters: 1 })
  const store = await connectPatiently(redis.url('any'))
  t.teardown(() => store.close())
  const volume = await volumesOn(t, redis)()
  const { settings } = volume
  const janitor = await volume.client({ reaps: false })
  const { garbage, zombies } = new VolumeKeys(settings.name, settings.partitions).partition(3)
  const claimOf = (chunk: number): Buffer => {
    const head = Buffer.alloc(18)
    head.writeUIntLE(Date.now() - 60_000, 0, 6)
    writeU56(head, 11, 7)
    return Buffer.concat([head, encodeExtents([extentOf(chunk, 0, 4096)], 0)])
  }
  const claims = Array.from({ length: 1_100 }, (_, i) => claimOf(2 ** 24 + i))
  for (const claim of claims) await store.call('RPUSH', garbage, claim)
  await store.call('HSET', zombies, 11, 1)
  const removed: number[] = []
  const collect = (): Promise<number> =>
    janitor.collectGarbage((ids) => {
      removed.push(...ids)
      return Promise.resolve()
    }, 0)
  let isDue = true
  // Between two pages.
  const busy: RedisStore = {
    ...bound(store),
    call: async (...words) => {
      const reply = await store.call(...words)
      if (words[0] !== 'LRANGE' || words[1] !== garbage || !isDue) return reply
      isDue = false
      await collect()
      return reply
    },
  }
  const file = backupFile(t)
  await backupVolume(busy, settings, file, BACKUP_OPTIONS)
  t.strictSame([isDue, removed], [false, []])
  t.equal(await store.call('HLEN', zombies), 1)
  t.equal(await collect(), claims.length, 'afterwards')
  t.equal(await store.call('HLEN', zombies), 0)
  await volume.close()
  await wipe(redis)
  await restoreVolume(store, settings.name, file, () => undefined)
  t.equal(await store.call('LLEN', garbage), claims.length)
})

t.test('a backup that is restored twice gives no number out that was given out between', async (t) => {
  const redis = await startRedis(t, { masters: 1 })
  const store = await connectPatiently(redis.url('any'))
  t.teardown(() => store.close())
  const volume = await volumesOn(t, redis)()
  await touch(await volume.client(), ROOT, 'old')
  const file = backupFile(t)
  await backupVolume(store, volume.settings, file, BACKUP_OPTIONS)
  await volume.close()
  /** As the first client of a restored volume gets them. */
  const numbers = async (): Promise<readonly number[]> => {
    await wipe(redis)
    await restoreVolume(store, volume.settings.name, file, () => undefined)
    const again = await restored(t, store, volume)
    const client = await again.client()
    const given = [client.sessionId, await client.chunkId(), (await touch(client, ROOT, 'new')).ino]
    await again.close()
    return given
  }
  const [first, second] = [await numbers(), await numbers()]
  t.strictSame(
    second.filter((number) => first.includes(number)),
    [],
    'nodes have chunks with those of the first time',
  )
})

t.test('refusals', async (t) => {
  const redis = await startRedis(t, { masters: 1 })
  const open = volumesOn(t, redis)
  const store = await connectPatiently(redis.url('any'))
  t.teardown(() => store.close())
  const volume = await open()
  const meta = await volume.client()
  await makeDir(meta, ROOT, 'dir')
  const { name } = volume.settings
  const keys = new VolumeKeys(name, volume.settings.partitions)
  const folder = temporaryFolder(t)
  const file = join(folder, 'backup')
  const restore = (from: string, to = name): Promise<unknown> => restoreVolume(store, to, from, () => undefined)

  await t.test('a pause that is too short fails, leaves no file and lets everybody go on', async (t) => {
    const slow: RedisStore = {
      ...bound(store),
      call: async (...args) => {
        await systemClock.sleep(args[0] === 'LRANGE' ? 120 : 0)
        return await store.call(...args)
      },
    }
    const failing = backupVolume(slow, volume.settings, file, { ...BACKUP_OPTIONS, maxPauseMs: 60 })
    t.equal(await failureOf(failing), 'DEADLINE')
    t.notOk(existsSync(file))
    t.strictSame(readdirSync(folder), [])
    await makeDir(meta, ROOT, 'later')
  })

  await t.test('one that is stopped leaves no file, and changes go on at once', async (t) => {
    const stopping = new AbortController()
    const stopped: RedisStore = {
      ...bound(store),
      call: async (...args) => {
        if (args[0] === 'LRANGE') stopping.abort()
        return await store.call(...args)
      },
    }
    const options = { ...BACKUP_OPTIONS, maxPauseMs: 600_000, signal: stopping.signal }
    t.equal(await failureOf(backupVolume(stopped, volume.settings, file, options)), 'CANCELLED')
    t.strictSame(readdirSync(folder), [])
    await makeDir(meta, ROOT, 'after a stop')
  })

  await t.test('a file that came meanwhile is not replaced', async (t) => {
    const came = join(folder, 'came')
    const onProgress = (): void => {
      if (!existsSync(came)) writeFileSync(came, 'another')
    }
    t.equal(await failureOf(backupVolume(store, volume.settings, came, { ...BACKUP_OPTIONS, onProgress })), 'USAGE')
    t.equal(readFileSync(came, 'utf8'), 'another')
    t.strictSame(readdirSync(folder).sort(), ['came'])
    await backupVolume(store, volume.settings, came, { ...BACKUP_OPTIONS, replaces: true })
    t.ok(readFileSync(came).length > 20)
    rmSync(came)
  })

  await t.test(
    'two backups at once, as in containers where both have the same process id, do not disturb each other',
    async (t) => {
      let other: Promise<string> | undefined
      // The first one's file is there by then.
      const onProgress = (): void =>
        void (other ??= failureOf(backupVolume(store, volume.settings, file, BACKUP_OPTIONS)))
      const first = await failureOf(backupVolume(store, volume.settings, file, { ...BACKUP_OPTIONS, onProgress }))
      // The second finds the metadata frozen, or is behind that, and either may have the name first.
      t.same([first, await other].sort(), ['', 'USAGE'])
      t.strictSame(readdirSync(folder), ['backup'])
      rmSync(file)
    },
  )

  await t.test('a freeze whose owner died ends by itself, and only one has it', async (t) => {
    const dying = new Error('died')
    const all = [0, 1, 2, 3, 4, 5, 6, 7]
    let waited: Promise<unknown> | undefined
    await whileFrozen(store, keys, all, 60_000, async () => {
      t.equal(await failureOf(whileFrozen(store, keys, all, 100, async () => undefined)), 'USAGE')
      waited = makeDir(meta, ROOT, 'waits')
      t.equal(await Promise.race([waited.then(() => 'made'), systemClock.sleep(150).then(() => 'waits')]), 'waits')
    })
    await waited
    const neverThaws: RedisStore = {
      ...bound(store),
      run: async (script, ...args) => {
        if (script.name === 'thaw') throw dying
        return await store.run(script, ...args)
      },
    }
    await t.rejects(
      whileFrozen(neverThaws, keys, all, 300, async () => undefined),
      dying,
    )
    await makeDir(meta, ROOT, 'after')
    // As after a step back of Redis's clock by ten hours.
    const end = Buffer.alloc(8)
    end.writeBigUInt64LE(BigInt(Date.now() + 36_000_000))
    for (const p of all) await store.call('HSET', keys.partition(p).locks, 'F', end.subarray(0, 6))
    await makeDir(meta, ROOT, 'not in ten hours')
    await whileFrozen(store, keys, all, 60_000, () => Promise.resolve())
  })

  await t.test('a volume is never restored over; a wrong, damaged or cut file writes nothing', async (t) => {
    await backupVolume(store, volume.settings, file, BACKUP_OPTIONS)
    t.equal(await failureOf(restore(file)), 'VOLUME_EXISTS')
    await volume.close()
    await store.call('DEL', keys.wide('settings'))
    t.equal(await failureOf(restore(file)), 'VOLUME_EXISTS', 'remains count')
    await redis.command(0, 'FLUSHALL')
    const whole = readFileSync(file)
    const other = join(folder, 'other')
    for (const at of [0, 9, 30, 100, whole.length - 12]) {
      const bad = Buffer.from(whole)
      bad.writeUInt8((bad.readUInt8(at) ^ 0x55) & 0xff, at)
      writeFileSync(other, bad)
      t.match(await failureOf(restore(other)), /^(USAGE|VOLUME_CORRUPT|VOLUME_NEWER)$/, `byte ${at}`)
    }
    for (const length of [0, 5, 12, 40, whole.length - 1]) {
      writeFileSync(other, whole.subarray(0, length))
      t.match(await failureOf(restore(other)), /^(USAGE|VOLUME_CORRUPT)$/, `${length} bytes`)
    }
    t.equal(await failureOf(restore(file, 'another')), 'USAGE')
    t.equal(await redis.command(0, 'DBSIZE'), 0)
  })

  await t.test('a restore is done when the replicas have it; until then there is no volume', async (t) => {
    const more = await open(8, 1)
    const { name: other } = more.settings
    await (await more.client({ reaps: false })).chunkId()
    await backupVolume(store, more.settings, `${file}.more`, BACKUP_OPTIONS)
    await more.close()
    await redis.command(0, 'FLUSHALL')
    const waited: number[] = []
    const withReplicas = (count: number): RedisStore => ({
      ...bound(store),
      waitReplicas: (keys, wanted) => {
        waited.push(keys.length, wanted)
        return Promise.resolve(keys.length === 1 ? wanted : count)
      },
    })
    const restoring = (count: number) =>
      failureOf(restoreVolume(withReplicas(count), other, `${file}.more`, () => undefined))
    t.equal(await restoring(0), 'NO_QUORUM')
    t.strictSame(waited, [1, 1, 9, 1], 'for the claim, and for everything')
    t.equal(await failureOf(loadVolume(store, other)), 'VOLUME_MISSING')
    await restoreVolume(withReplicas(1), other, `${file}.more`, () => undefined)
    t.equal((await loadVolume(store, other)).metaReplicas, 1)
    t.strictSame(waited.slice(4), [1, 1, 9, 1, 1, 1], 'and for the settings')
    await redis.command(0, 'FLUSHALL')
  })

  await t.test('a restore that was interrupted is begun anew with the same file', async (t) => {
    let calls = 0
    const dying: RedisStore = {
      ...bound(store),
      run: async (script, ...args) => {
        if (script.name === 'restore-write' && ++calls > 12) throw new Error('died')
        return await store.run(script, ...args)
      },
    }
    await t.rejects(
      restoreVolume(dying, name, file, () => undefined),
      { message: 'died' },
    )
    t.equal(await failureOf(loadVolume(store, name)), 'VOLUME_MISSING')
    await restore(file)
    const again = await restored(t, store, volume)
    t.ok((await walk(await again.client())).paths.has('/dir'))
    await again.close()
    t.strictSame(await checkVolume(again), [])
  })
})

const FRESH = { exclusive: true, open: false } as const
