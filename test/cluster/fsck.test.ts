/** fsck on a real Redis with real chunk nodes in this process: what it finds, what it must not report, what it mends. */
import t, { type Test } from 'tap'
import { writeFileSync, readFileSync, rmSync, existsSync } from 'node:fs'
import { join } from 'node:path'
import { systemClock } from '../../src/base/clock.js'
import { fsck, type FsckParts, type FsckResult } from '../../src/check/fsck.js'
import type { RedisStore } from '../../src/cluster/contract.js'
import { arrayOf } from '../../src/cluster/reply.js'
import { buildRing } from '../../src/cluster/ring.js'
import { backupVolume } from '../../src/meta/backup/backup.js'
import { restoreVolume } from '../../src/meta/backup/restore.js'
import type { MetaStore } from '../../src/meta/contract.js'
import { VolumeKeys } from '../../src/meta/keys.js'
import { SCRIPTS } from '../../src/meta/scripts.js'
import { bound } from '../helpers/bound-redis.js'
import { VOLUME, chunkFile, originOf, startCluster, temporaryFolder, type TestCluster } from '../helpers/chunks.js'
import { checkVolume } from '../helpers/meta-check.js'
import { ROOT, bytes, makeDir, makeDirIn, newFile, touch, until, volumesOn, type MetaVolume } from '../helpers/meta.js'
import { startRedis } from '../helpers/redis.js'

t.setTimeout(600_000)

const TIME = { sec: 1_700_000_000, nsec: 5 }

interface Bed {
  readonly volume: MetaVolume
  readonly meta: MetaStore
  readonly cluster: TestCluster
  readonly keys: VolumeKeys
  readonly parts: FsckParts
  readonly check: (change?: {
    readonly repair?: boolean
    readonly deep?: boolean
    readonly graceMs?: number
  }) => Promise<FsckResult>
  /** A file with one chunk; answers its ino and the chunk. */
  readonly file: (
    parent: number,
    name: string,
    length?: number,
  ) => Promise<{ readonly ino: number; readonly chunk: number }>
}

async function bed(t: Test, open: () => Promise<MetaVolume>): Promise<Bed> {
  const volume = await open()
  const cluster = await startCluster(t, { nodes: 3 })
  const meta = await volume.client()
  const keys = new VolumeKeys(volume.settings.name, volume.settings.partitions)
  const parts: FsckParts = {
    ...{ store: volume.redis, volume: VOLUME, clock: systemClock, deep: false, onProgress: () => undefined },
    settings: { ...volume.settings, uuid: VOLUME, replicas: 3 },
    view: () => cluster.placement().view,
    ring: () => cluster.placement().ring,
    node: (id) => cluster.node(id).api,
  }
  return {
    ...{ volume, meta, cluster, keys, parts },
    check: async ({ repair = false, deep = false, graceMs = 1e9 } = {}) => {
      if (!repair) return await fsck({ ...parts, deep })
      const enqueue: NonNullable<FsckParts['repair']>['enqueue'] = async (id, tasks) => {
        cluster.node(id).queue.push(...tasks)
        await Promise.resolve()
      }
      const client = await volume.client()
      const result = await fsck({
        ...parts,
        deep,
        repair: { meta: client, chunks: cluster.client, enqueue, orphanGraceMs: graceMs },
      })
      await cluster.drain()
      return result
    },
    file: async (parent, name, length = 100_000) => {
      const { ino } = await touch(meta, parent, name)
      const id = await meta.chunkId()
      const data = Buffer.alloc(length, id % 251)
      const ref = await cluster.client.write(id, [data], originOf(length, ino), { durability: 'all', sync: false })
      const extent = { fileOffset: 0, lengthBytes: length, chunkOffset: 0, chunk: ref }
      await meta.commit(ino, { extents: [extent], mode: 'at', allocatedDeltaBytes: length, mtime: TIME })
      return { ino, chunk: id }
    },
  }
}

function kinds({ findings }: FsckResult): string[] {
  return findings.map(({ kind, mended }) => `${kind}${mended ? ' mended' : ''}`).sort()
}

t.test('fsck', async (t) => {
  const redis = await startRedis(t, { masters: 1 })
  const open = volumesOn(t, redis)

  t.test('a whole volume has nothing wrong, also deep', async (t) => {
    const { meta, check, file, volume } = await bed(t, open)
    const dir = await makeDir(meta, ROOT, 'dir')
    const { ino } = await file(dir.ino, 'a')
    await meta.link(ino, ROOT, bytes('b'))
    const pieces = [{ fileOffset: 0, bytes: Buffer.from('small') }]
    const small = await touch(meta, dir.ino, 'small')
    await meta.commitInline(small.ino, { pieces, mode: 'at', allocatedDeltaBytes: 5, mtime: TIME })
    await meta.open(small.ino, { truncate: false })
    await meta.unlink(dir.ino, bytes('small'))
    const { findings, inodes, chunks, copies } = await check({ deep: true })
    t.strictSame(findings, [])
    t.strictSame({ inodes, chunks, copies }, { inodes: 4, chunks: 1, copies: 3 })
    t.strictSame(kinds(await check({ repair: true })), [])
    await volume.close()
  })

  t.test('wrong links, counters, nameless inodes and bodies are found and mended; lost ones are told', async (t) => {
    const { meta, check, file, volume, keys } = await bed(t, open)
    const dir = await makeDir(meta, ROOT, 'dir')
    const { ino } = await file(dir.ino, 'a')
    const nameless = await file(dir.ino, 'nameless')
    const lost = await file(dir.ino, 'lost')
    const at = (one: number) => keys.of(one)
    const { redis } = volume
    const record = await redis.call('HGET', at(ino).inodes, ino)
    t.ok(Buffer.isBuffer(record))
    await redis.run(SCRIPTS.recount, [at(ino).inodes, at(ino).channel], [ino, Buffer.isBuffer(record) ? record : '', 7])
    await redis.call('HINCRBY', at(ino).counters, 'bytes', 12_345)
    const names = await redis.call('ZRANGE', at(dir.ino).names(dir.ino), 0, -1)
    const member = arrayOf(names, 'ZRANGE').find((one) => String(one).startsWith('nameless'))
    await redis.call('ZREM', at(dir.ino).names(dir.ino), Buffer.isBuffer(member) ? member : '')
    await redis.call('HDEL', at(lost.ino).inodes, lost.ino)
    const found = await check()
    t.strictSame(kinds(found), ['counters', 'dangling-name', 'link-count', 'nameless', 'orphans'])
    t.match(
      found.findings.find(({ kind }) => kind === 'link-count'),
      { path: '/dir/a', text: /7 links, and has 1/, severity: 'wrong' },
    )
    t.match(
      found.findings.find(({ kind }) => kind === 'dangling-name'),
      { text: /\/dir\/lost leads to/, severity: 'lost' },
    )
    const mended = await check({ repair: true })
    t.strictSame(kinds(mended), ['counters mended', 'dangling-name', 'link-count mended', 'nameless mended', 'orphans'])
    t.strictSame(kinds(await check()), ['dangling-name', 'orphans'], 'the name stays, and the chunk')
    const folder = await meta.lookup(ROOT, bytes('lost+found'))
    t.match(await meta.lookup(folder.ino, bytes(`inode-${nameless.ino}`)), { ino: nameless.ino, nlink: 1 })
    t.equal((await meta.getattr(ino)).nlink, 1)
    await volume.close()
  })

  t.test('links that were made since they were counted are counted, or nothing is mended', async (t) => {
    const { parts, meta, check, file, volume, cluster, keys } = await bed(t, open)
    const [linked, nameless] = [await file(ROOT, 'linked'), await file(ROOT, 'nameless')]
    const names = keys.of(ROOT).names(ROOT)
    const at = keys.of(linked.ino)
    const record = await volume.redis.call('HGET', at.inodes, linked.ino)
    if (!Buffer.isBuffer(record)) throw new Error('it has a record')
    await volume.redis.run(SCRIPTS.recount, [at.inodes, at.channel], [linked.ino, record, 3])
    const members = arrayOf(await volume.redis.call('ZRANGE', names, 0, -1), 'ZRANGE')
    const member = members.find((one) => String(one).startsWith('nameless'))
    await volume.redis.call('ZREM', names, Buffer.isBuffer(member) ? member : '')
    /** By others, when it was judged, or when the nameless one has just got a name. */
    const more = new Map([
      [linked.ino, { looks: 2, name: 'linked too' }],
      [nameless.ino, { looks: 3, name: 'nameless no more' }],
    ])
    const call: RedisStore['call'] = async (...words) => {
      const next = words[0] === 'HGET' ? more.get(Number(words[2])) : undefined
      if (next !== undefined && next.looks-- === 0) await meta.link(Number(words[2]), ROOT, bytes(next.name))
      return await volume.redis.call(...words)
    }
    const enqueue = (): Promise<void> => Promise.resolve()
    const repair = { meta: await volume.client(), chunks: cluster.client, enqueue, orphanGraceMs: 1e9 }
    const found = kinds(await fsck({ ...parts, store: { ...bound(volume.redis), call }, repair }))
    t.strictSame(found, ['link-count', 'nameless mended'])
    t.ok([...more.values()].every(({ looks }) => looks < 0))
    t.equal((await meta.getattr(nameless.ino)).nlink, 2)
    t.equal((await meta.getattr(linked.ino)).nlink, 4, 'as wrong as before')
    t.strictSame(kinds(await check({ repair: true })), ['link-count mended'])
    t.equal((await meta.getattr(linked.ino)).nlink, 2)
    t.strictSame(await checkVolume(volume), [])
    await volume.close()
  })

  t.test('an inode without a name gets one beside those that are taken in lost+found', async (t) => {
    const { meta, check, file, volume, keys } = await bed(t, open)
    const { ino } = await file(ROOT, 'nameless')
    const folder = await makeDir(meta, ROOT, 'lost+found')
    await makeDir(meta, folder.ino, `inode-${ino}`)
    const other = await touch(meta, folder.ino, `inode-${ino}.1`)
    const names = keys.of(ROOT).names(ROOT)
    const members = arrayOf(await volume.redis.call('ZRANGE', names, 0, -1), 'ZRANGE')
    const member = members.find((one) => String(one).startsWith('nameless'))
    await volume.redis.call('ZREM', names, Buffer.isBuffer(member) ? member : '')
    t.strictSame(kinds(await check({ repair: true })), ['nameless mended'])
    t.match(await meta.lookup(folder.ino, bytes(`inode-${ino}.2`)), { ino, nlink: 1 })
    t.match(await meta.lookup(folder.ino, bytes(`inode-${ino}.1`)), { ino: other.ino, nlink: 1 })
    t.strictSame(kinds(await check()), [])
    await volume.close()
  })

  t.test('missing, too few, bad and surplus chunks are told; copies are made again', async (t) => {
    const { check, file, volume, cluster, meta } = await bed(t, open)
    const few = await file(ROOT, 'few')
    const bad = await file(ROOT, 'bad')
    const gone = await file(ROOT, 'gone')
    const fileOn = (node: number, chunk: number): string => chunkFile(cluster.nodes[node]?.folder ?? '', chunk)
    // Lost, not deleted: a node would not take back so soon what it was told to delete.
    await cluster.nodes[0]?.store.remove([few.chunk])
    for (const node of cluster.nodes) await node.store.remove([gone.chunk])
    const damaged = readFileSync(fileOn(1, bad.chunk))
    damaged.writeUInt8(damaged.readUInt8(damaged.length - 1) ^ 1, damaged.length - 1)
    // The node has the old one open: another file takes its name.
    rmSync(fileOn(1, bad.chunk))
    writeFileSync(fileOn(1, bad.chunk), damaged)
    const orphan = await meta.chunkId()
    await cluster.client.write(orphan, [Buffer.alloc(10)], originOf(10), { durability: 'all', sync: false })
    t.strictSame(kinds(await check()), ['few-copies', 'missing-chunk', 'orphans'])
    const deep = await check({ deep: true })
    t.strictSame(kinds(deep), ['bad-copy', 'few-copies', 'missing-chunk', 'orphans'])
    t.match(
      deep.findings.find(({ kind }) => kind === 'missing-chunk'),
      { severity: 'lost', path: '/gone', chunk: gone.chunk },
    )
    t.match(
      deep.findings.find(({ kind }) => kind === 'few-copies'),
      { text: /has 2 of its 3 copies: none on node / },
    )
    t.strictSame(kinds(await check({ deep: true, repair: true })), [
      'bad-copy mended',
      'few-copies mended',
      'missing-chunk',
      'orphans',
    ])
    t.strictSame(kinds(await check({ deep: true })), ['missing-chunk', 'orphans'])
    t.ok(existsSync(fileOn(0, few.chunk)))
    const node = cluster.nodes[2]
    if (node !== undefined) node.faults.killed = true
    const away = await check()
    t.strictSame(kinds(away), ['missing-chunk', 'node-away', 'orphans'])
    t.match(
      away.findings.find(({ kind }) => kind === 'missing-chunk'),
      { severity: 'wrong', text: /that answer/ },
    )
    await volume.close()
  })

  t.test('what a disk that is away may have is not called lost, and no orphan is freed meanwhile', async (t) => {
    const { file, volume, cluster, parts, check, meta, keys } = await bed(t, open)
    const { chunk } = await file(ROOT, 'gone')
    for (const node of cluster.nodes) await node.store.remove([chunk])
    const orphan = await meta.chunkId()
    await cluster.client.write(orphan, [Buffer.alloc(10)], originOf(10), { durability: 'all', sync: false })
    const lacking = (id: string): string | undefined => (id === 'node-1' ? '/mnt/disk2 is missing' : undefined)
    const without = { ...parts, lacking }
    t.match((await fsck(without)).findings, [
      { kind: 'node-away', severity: 'note', text: /node-1 .*disk2 is missing/ },
      { kind: 'missing-chunk', severity: 'wrong', text: /that answer/, path: '/gone' },
      { kind: 'orphans' },
    ])
    const noted = async (): Promise<number> => Number(await volume.redis.call('HLEN', keys.wide('orphans')))
    const client = await volume.client()
    const repair = { meta: client, chunks: cluster.client, enqueue: () => Promise.resolve(), orphanGraceMs: 0 }
    t.equal((await fsck({ ...without, repair })).freedOrphans, 0)
    t.equal(await noted(), 0, 'its grace does not even begin')
    t.match(
      (await check()).findings.find(({ kind }) => kind === 'missing-chunk'),
      { severity: 'lost' },
      'with all disks there it is',
    )
    await volume.close()
  })

  t.test('a volume without any node, as after a restore, is not one that has lost its files', async (t) => {
    const { file, volume, parts } = await bed(t, open)
    await file(ROOT, 'one')
    await file(ROOT, 'two')
    const nobody = { ...parts, view: () => ({ epoch: 1, members: [] }), ring: () => buildRing([]) }
    const { findings } = await fsck(nobody)
    t.match(findings, [{ kind: 'node-away', severity: 'wrong', text: /no node is there.* 2 chunks .*start the nodes/ }])
    t.equal(findings.length, 1)
    await volume.close()
  })

  t.test('a partition of more files than a page is counted by pages, while files come and go', async (t) => {
    const { parts, volume, meta, keys, cluster } = await bed(t, open)
    const { counters } = keys.of(ROOT)
    const inodes = async (): Promise<number> => Number(String(await volume.redis.call('HGET', counters, 'inodes')))
    for (let i = 0; i < 20; i++) await touch(meta, ROOT, `file${i}`)
    const right = await inodes()
    await volume.redis.call('HINCRBY', counters, 'inodes', 7)
    let pages = 0
    let most = 0
    const store: RedisStore = {
      ...bound(volume.redis),
      run: async (script, names, args, options) => {
        if (script.name === SCRIPTS.countPage.name) {
          most = Math.max(most, args.length)
          await meta.unlink(ROOT, bytes(`file${pages++}`))
          await touch(meta, ROOT, `new${pages}`)
          await touch(meta, ROOT, `newer${pages}`)
        }
        return await volume.redis.run(script, names, args, options)
      },
    }
    const enqueue = (): Promise<void> => Promise.resolve()
    const repair = { meta: await volume.client(), chunks: cluster.client, enqueue, orphanGraceMs: 1e9 }
    const steps = new Set<string>()
    const onProgress = (what: string, done: number, all: number): void => void steps.add(`${what}: ${done} of ${all}`)
    const result = await fsck({ ...parts, store, repair, countedAtOnce: 4, onProgress })
    t.strictSame(kinds(result), ['counters mended'])
    t.ok(pages >= 5 && most <= 4 + 5, `${pages} pages`)
    t.ok(steps.has(`inodes of partition ${ROOT}: 4 of 21`))
    t.equal(await inodes(), right + pages, 'each page took one file away and made two')
    t.strictSame(kinds(await fsck({ ...parts, store: volume.redis })), [])
    await volume.close()
  })

  t.test('a partition that cannot be counted is told of, and does not end it', async (t) => {
    const { parts, volume, keys } = await bed(t, open)
    await volume.redis.call('HINCRBY', keys.of(ROOT).counters, 'inodes', 7)
    const store: RedisStore = {
      ...bound(volume.redis),
      run: async (script, ...rest) =>
        script.name === SCRIPTS.countPage.name ? [-1] : await volume.redis.run(script, ...rest),
    }
    const { findings } = await fsck({ ...parts, store })
    t.match(findings, [{ kind: 'counters', severity: 'note', text: /partition 1 .*run fsck again/, mended: false }])
    await volume.close()
  })

  t.test('one that is stopped while it counts ends soon, and leaves the counters as they are', async (t) => {
    const { keys, volume, parts } = await bed(t, open)
    const { redis } = volume
    const p = 3
    await redis.call('HINCRBY', keys.partition(p).counters, 'inodes', 7)
    const stopping = new AbortController()
    let begun = 0
    const store: RedisStore = {
      ...bound(redis),
      run: async (script, ...args) => {
        const reply = await redis.run(script, ...args)
        if (script.name === SCRIPTS.countBegin.name) {
          begun++
          stopping.abort()
        }
        return reply
      },
    }
    await t.rejects(fsck({ ...parts, store, signal: stopping.signal }), { code: 'CANCELLED' })
    t.equal(begun, 1)
    await until('it has ended', async () => (await redis.call('HGET', keys.partition(p).locks, 'C')) === null)
    t.equal(Number(await redis.call('HGET', keys.partition(p).counters, 'inodes')), 7)
    await t.rejects(fsck({ ...parts, store, signal: stopping.signal }), { code: 'CANCELLED' }, 'nor does it begin then')
    t.equal(begun, 1)
    await volume.close()
  })

  t.test('what is torn, doubled or half there is told, and never guessed away', async (t) => {
    const { meta, check, file, volume, keys } = await bed(t, open)
    const { redis } = volume
    const [one, two] = [await makeDir(meta, ROOT, 'one'), await makeDir(meta, ROOT, 'two')]
    const child = await makeDir(meta, one.ino, 'child')
    const wrong = await makeDir(meta, one.ino, 'wrong')
    const rename = async (of: number, from: number, to: number, keepsName: boolean): Promise<void> => {
      for (const member of arrayOf(await redis.call('ZRANGE', keys.of(from).names(from), 0, -1), 'ZRANGE')) {
        if (!Buffer.isBuffer(member) || member.readUIntLE(member.length - 8, 6) !== of) continue
        const score = await redis.call('ZSCORE', keys.of(from).names(from), member)
        await redis.call('ZADD', keys.of(to).names(to), String(score), member)
        if (!keepsName) await redis.call('ZREM', keys.of(from).names(from), member)
      }
    }
    await rename(child.ino, one.ino, two.ino, true)
    await rename(wrong.ino, one.ino, two.ino, false)
    const pieces = [{ fileOffset: 0, bytes: Buffer.from('small') }]
    const inline = await Promise.all(['lost', 'torn'].map((name) => touch(meta, two.ino, name)))
    for (const { ino } of inline) {
      await meta.commitInline(ino, { pieces, mode: 'at', allocatedDeltaBytes: 5, mtime: TIME })
    }
    const [lost, torn] = inline.map(({ ino }) => ino)
    await redis.call('HDEL', keys.of(lost ?? 0).inodes, `b${lost}`)
    await redis.call('HSET', keys.of(torn ?? 0).inodes, `b${torn}`, 'no body')
    const { ino: stray } = await file(two.ino, 'stray')
    await redis.call('HSET', keys.of(stray).inodes, `b${stray}`, '')
    const { ino: broken } = await file(two.ino, 'broken')
    const record = await redis.call('HGET', keys.of(broken).inodes, broken)
    await redis.call('HSET', keys.of(broken).inodes, broken, Buffer.isBuffer(record) ? record.subarray(0, 20) : '')
    const told = ['lost-body', 'stray-body', 'two-names', 'unreadable', 'wrong-parent']
    const only = (result: FsckResult): string[] => [...new Set(kinds(result).filter((kind) => told.includes(kind)))]
    t.strictSame(only(await check()), told)
    await check({ repair: true })
    t.strictSame(only(await check()), told, 'nothing of it is mended')
    t.equal((await meta.lookup(two.ino, bytes('wrong'))).ino, wrong.ino)
    t.equal((await meta.lookup(two.ino, bytes('child'))).ino, child.ino)
    await volume.close()
  })

  t.test('orphans are freed only after their grace, when every client of then has ended', async (t) => {
    const { check, volume, cluster, meta, keys } = await bed(t, open)
    const orphan = await meta.chunkId()
    const write = { durability: 'all', sync: false } as const
    await cluster.client.write(orphan, [Buffer.alloc(10)], originOf(10), write)
    const isThere = () => cluster.nodes.every((node) => existsSync(chunkFile(node.folder, orphan)))
    t.equal((await check({ repair: true, graceMs: 0 })).freedOrphans, 0, 'seen for the first time')
    t.equal((await check({ repair: true, graceMs: 0 })).freedOrphans, 0, 'its writer may live')
    t.ok(isThere())
    await volume.close()
    t.equal((await check({ repair: true, graceMs: 1e9 })).freedOrphans, 0, 'its grace is not over')
    await volume.close()
    // Written after all that the metadata know of: somebody's data, whatever its grace.
    await volume.redis.call('HINCRBY', keys.wide('n'), 'chunkBlock', -1)
    t.match((await check({ repair: true, graceMs: 0 })).findings, [
      { kind: 'orphans', severity: 'wrong', text: /rebuild/ },
    ])
    t.ok(isThere())
    await volume.redis.call('HINCRBY', keys.wide('n'), 'chunkBlock', 1)
    await volume.close()
    // As after a failover: what the old server named may be lost with its end.
    const known = await volume.redis.call('HGET', keys.wide('n'), 'r2')
    await volume.redis.call('HSET', keys.wide('n'), 'r2', 'an older history')
    for (let round = 0; round < 2; round++) {
      const { freedOrphans, findings } = await check({ repair: true, graceMs: 0 })
      t.match({ freedOrphans, findings }, { freedOrphans: 0, findings: [{ kind: 'orphans', text: /ringfs rebuild/ }] })
      await volume.close()
    }
    t.ok(isThere())
    // As by a rebuild that was complete.
    await volume.redis.call('HSET', keys.wide('n'), 'r2', String(known))
    await volume.redis.call('DEL', keys.wide('rebuild'))
    t.equal((await check({ repair: true, graceMs: 0 })).freedOrphans, 1)
    t.notOk(isThere())
    t.strictSame(await volume.redis.call('HLEN', keys.wide('orphans')), 1, 'the next one forgets it')
    await check({ repair: true })
    t.strictSame(await volume.redis.call('HLEN', keys.wide('orphans')), 0)
    await volume.close()
  })

  t.test('what a client has still to commit that was declared dead, and lives on, is not freed', async (t) => {
    const { parts, volume, cluster, meta, keys } = await bed(t, open)
    const { ino } = await touch(meta, ROOT, 'file')
    const sleeper = await volume.client({ sessionTtlMs: 1_000 })
    const id = await sleeper.chunkId()
    const write = { durability: 'all', sync: false } as const
    const chunk = await cluster.client.write(id, [Buffer.alloc(10)], originOf(10, ino), write)
    await meta.shutdown()
    const freed = async (): Promise<number> => {
      const client = await volume.client()
      const enqueue = (): Promise<void> => Promise.resolve()
      const repair = { meta: client, chunks: cluster.client, enqueue, orphanGraceMs: 0 }
      const { freedOrphans } = await fsck({ ...parts, repair })
      await client.shutdown()
      return freedOrphans
    }
    t.equal(await freed(), 0, 'seen for the first time')
    const session = sleeper.sessionId
    volume.cut(sleeper)
    const other = await volume.client({ sessionTtlMs: 1_000 })
    await until('others have cleaned up', async () => {
      const score = async (key: 's' | 'dead') => await volume.redis.call('ZSCORE', keys.wide(key), session)
      return (await score('s')) === null && (await score('dead')) === null
    })
    await other.shutdown()
    volume.mend(sleeper)
    await until('it has another session', () => sleeper.sessionId !== session && sleeper.leased)
    t.equal(await freed(), 0, 'every client of then has ended, but for this one')
    const extents = [{ fileOffset: 0, lengthBytes: 10, chunkOffset: 0, chunk }]
    await sleeper.commit(ino, { extents, mode: 'at', allocatedDeltaBytes: 10, mtime: TIME })
    t.ok(cluster.nodes.every((node) => existsSync(chunkFile(node.folder, id))))
    await volume.close()
  })

  t.test(
    'what was written after a backup is not freed when that was restored, until a rebuild was complete',
    async (t) => {
      const { check, volume, cluster, keys, file } = await bed(t, open)
      await file(ROOT, 'old')
      const backup = join(temporaryFolder(t), 'backup')
      const options = { version: '0.0.0', clock: systemClock, maxPauseMs: 20_000, onProgress: () => undefined }
      await backupVolume(volume.redis, volume.settings, backup, options)
      const { chunk } = await file(ROOT, 'new')
      await volume.close()
      await redis.command(0, 'FLUSHALL')
      await restoreVolume(volume.redis, volume.settings.name, backup, () => undefined)
      // As the first client that stays does.
      await volume.redis.call('DEL', keys.wide('dead'))
      t.match((await check()).findings, [{ kind: 'orphans', severity: 'wrong', text: /^1 chunks .*ringfs rebuild/ }])
      const freed = async (): Promise<number> => {
        const { freedOrphans } = await check({ repair: true, graceMs: 0 })
        await volume.close()
        return freedOrphans
      }
      t.strictSame([await freed(), await freed(), await freed()], [0, 0, 0])
      t.ok(cluster.nodes.every((node) => existsSync(chunkFile(node.folder, chunk))))
      // As a rebuild does that was complete.
      await volume.redis.call('DEL', keys.wide('rebuild'))
      t.strictSame([await freed(), await freed()], [0, 1])
    },
  )

  t.test('what is deleted, or comes to be named, while the nodes are asked is no orphan', async (t) => {
    const { volume, meta, cluster, parts, file } = await bed(t, open)
    /** What is found when this is done after the nodes were asked, and before anything else. */
    const found = async (work: () => Promise<unknown>): Promise<string[]> => {
      let isDue = false
      const call: RedisStore['call'] = async (...words) => {
        if (isDue) {
          isDue = false
          await work()
        }
        return volume.redis.call(...words)
      }
      const onProgress: FsckParts['onProgress'] = (what, done, all) => (isDue = what === 'chunks' && done === all)
      const result = kinds(await fsck({ ...parts, store: { ...bound(volume.redis), call }, onProgress }))
      t.notOk(isDue)
      return result
    }
    await file(ROOT, 'gone')
    await meta.unlink(ROOT, bytes('gone'))
    t.strictSame(await found(() => meta.collectGarbage((ids) => cluster.client.remove(ids), 0)), [], 'deleted')
    const written = await touch(meta, ROOT, 'written')
    const id = await meta.chunkId()
    const write = { durability: 'all', sync: false } as const
    const chunk = await cluster.client.write(id, [Buffer.alloc(10)], originOf(10, written.ino), write)
    const extents = [{ fileOffset: 0, lengthBytes: 10, chunkOffset: 0, chunk }]
    const commit = () => meta.commit(written.ino, { extents, mode: 'at', allocatedDeltaBytes: 10, mtime: TIME })
    t.strictSame(await found(() => Promise.resolve()), ['orphans'], 'not committed yet')
    const kill = async (killed: boolean): Promise<void> => {
      for (const node of cluster.nodes) node.faults.killed = killed
      await Promise.resolve()
    }
    t.strictSame(await found(() => kill(true)), ['node-away', 'node-away', 'node-away', 'orphans'], 'nobody tells')
    await kill(false)
    t.strictSame(await found(commit), [], 'committed')
    await volume.close()
  })

  t.test('nothing is reported of a volume that others change all the time', async (t) => {
    const { volume, check, file, meta, cluster } = await bed(t, open)
    const home = await makeDirIn(meta, ROOT, 'home', { partition: 1 })
    const away = await makeDirIn(meta, ROOT, 'away', { partition: 2 })
    await file(home.ino, 'quiet')
    let isRunning = true
    let changes = 0
    const clients = await Promise.all([volume.client(), volume.client()])
    const work = clients.map(async (client, who) => {
      const mine = await client.create(home.ino, bytes(`m${who}`), newFile(), { exclusive: true, open: false })
      let [from, to] = [home.ino, away.ino]
      for (let n = 0; isRunning; n++, changes++) {
        await client.rename(from, bytes(`m${who}`), to, bytes(`m${who}`), {})
        ;[from, to] = [to, from]
        await client.link(mine.attr.ino, from, bytes(`l${who}`))
        await client.unlink(from, bytes(`l${who}`))
        const dir = await makeDir(client, from, `d${who}`)
        const made = await file(dir.ino, 'f', 1000)
        if (n % 3 === 0) await client.rename(dir.ino, bytes('f'), home.ino, bytes(`g${who}`), {})
        else await client.unlink(dir.ino, bytes('f'))
        if (n % 3 !== 0) await cluster.client.remove([made.chunk])
        await client.rmdir(from, bytes(`d${who}`))
      }
    })
    for (let round = 0; round < 4; round++) {
      const seen = changes
      await until('changes go on', () => changes > seen + 5)
      const { findings } = await check({ deep: round === 1 })
      t.strictSame(
        findings.filter(({ severity }) => severity !== 'note'),
        [],
        `round ${round}`,
      )
    }
    isRunning = false
    await Promise.all(work)
    await volume.close()
    t.strictSame(await checkVolume(volume), [])
    await volume.close()
  })
})
