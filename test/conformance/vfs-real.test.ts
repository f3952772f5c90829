/** The VFS on what it runs on: the metadata engine on a real redis-server, chunk nodes with real folders and workers. */
import t, { type Test } from 'tap'
import fc from 'fast-check'
import { randomUUID } from 'node:crypto'
import { INLINE_MAX_BYTES, KIB, MIB, ROOT_INO } from '../../src/base/limits.js'
import { silentLog } from '../../src/base/log.js'
import { openMeta } from '../../src/meta/engine.js'
import { formatVolume, loadVolume } from '../../src/meta/format.js'
import type { MetaEvent, MetaStore } from '../../src/meta/contract.js'
import { createVfs } from '../../src/vfs/vfs.js'
import { startCluster } from '../helpers/chunks.js'
import { within } from '../helpers/deadline.js'
import { coherent } from '../helpers/meta.js'
import { propertyRun } from '../helpers/property.js'
import { connectPatiently, startRedis } from '../helpers/redis.js'
import { BORDER, Play, anyOp, type Op } from '../helpers/vfs-model.js'
import { vfsSuite, type VfsPair } from './vfs-suite.js'

const DEADLINE_MS = 90_000

/** A session of the volume whose events can be waited for. */
interface Session {
  readonly meta: MetaStore
  /** Resolves at the next event of the root. */
  rootTouched(): Promise<void>
  close(): Promise<void>
}

t.test('the VFS over Redis Cluster and chunk nodes', async (st) => {
  const redis = await within(180_000, startRedis(st), 'redis-server')

  const openSession = async (name: string): Promise<Session> => {
    const store = await connectPatiently(redis.url(name))
    const meta = await openMeta(store, await loadVolume(store, name), { log: silentLog })
    await coherent(meta)
    let wake = (): void => undefined
    const listen = meta.onEvent.bind(meta)
    meta.onEvent = (listener) =>
      listen((event: MetaEvent) => {
        listener(event)
        if (event.kind === 'attr' && event.ino === ROOT_INO) wake()
      })
    return {
      meta,
      rootTouched: () => new Promise((resolve) => (wake = resolve)),
      close: async () => {
        await meta.shutdown()
        await store.close()
      },
    }
  }
  const admin = await connectPatiently(redis.url('any'))
  st.teardown(() => admin.close())

  const makePair = async (claim: Test, chunkBytes: number, inlineBytes?: number): Promise<VfsPair> => {
    const cluster = await startCluster(claim, { nodes: 2, replicas: 2, writeQuorum: 2 })
    const name = `vfs-${randomUUID()}`
    await formatVolume(admin, name, {
      partitions: 8,
      chunkBytes,
      ...(inlineBytes === undefined ? {} : { inlineBytes }),
    })
    const one = await openSession(name)
    const two = await openSession(name)
    const vfses = [one, two].map(({ meta }) =>
      createVfs({ meta, chunks: cluster.client, log: silentLog, limits: { cloneBytes: 1 } }),
    )
    const [a, b] = vfses
    if (a === undefined || b === undefined) throw new Error('two clients')
    return {
      a,
      b,
      // Messages about the root and the files born in it come in order: behind this one there is nothing older.
      settle: async () => {
        const heard = two.rootTouched()
        await one.meta.setxattr(ROOT_INO, Buffer.from('user.settle'), Buffer.from('1'), 'any')
        await within(DEADLINE_MS, heard, 'an event')
      },
      close: async () => {
        for (const vfs of vfses) await vfs.shutdown()
        await one.close()
        await two.close()
      },
    }
  }
  await st.test('random operations read as a buffer does', async (claim) => {
    const play = async (ops: readonly Op[], base: number, inlineBytes: number): Promise<void> => {
      const pair = await makePair(claim, 64 * KIB, inlineBytes)
      const game = new Play(pair.a, pair.b, () => undefined, base)
      await game.start()
      for (const op of ops) await game.run(op)
      await game.end()
      await pair.close()
    }
    await fc.assert(
      fc.asyncProperty(
        fc.array(anyOp, { minLength: 60, maxLength: 150 }),
        // At the beginning of a file is what the metadata keep.
        fc.constantFrom(BORDER, 0),
        fc.constantFrom(8 * KIB, INLINE_MAX_BYTES),
        (ops, base, inlineBytes) => within(60_000, play(ops, base, inlineBytes), 'one play'),
      ),
      { ...propertyRun(claim, 8), includeErrorInReport: true, endOnFailure: true },
    )
    claim.pass('every play')
  })
  await vfsSuite(st, (claim) => within(DEADLINE_MS, makePair(claim, 4 * MIB), 'two clients'))
})
