/**
 * Changes across partitions while their slots move: what one script can do where both are on one server (src/meta/transaction.ts), and what is
 * left to the steps where they are not, or not any more.
 */
import t, { type Test } from 'tap'
import { VolumeKeys } from '../../src/meta/keys.js'
import type { MetaStore } from '../../src/meta/contract.js'
import type { RedisValue } from '../../src/cluster/contract.js'
import { SLOTS, keySlot } from '../../src/cluster/slot.js'
import { checkVolume } from '../helpers/meta-check.js'
import { ROOT, bytes, makeDirIn, outcome, pause, touch, until, volumesOn, type MetaVolume } from '../helpers/meta.js'
import { startRedis, type TestRedis } from '../helpers/redis.js'
import { ScriptSpy } from '../helpers/script-spy.js'

const MASTERS = 3
const PARTITIONS = 16
const LONG_TTL_MS = 3_600_000
const timeout = 300_000

const redis = await startRedis(t, { masters: MASTERS })
const spy = new ScriptSpy()
const open = volumesOn(t, redis, (store) => spy.wrap(store))

interface Ground {
  readonly volume: MetaVolume
  readonly meta: MetaStore
  readonly keys: VolumeKeys
  /** Two directories whose partitions are on one server, and a file in the first that has a name in the second, too. */
  readonly near: number
  readonly far: number
  readonly file: number
  /** The server, and another one. */
  readonly from: number
  readonly to: number
}

const masterOf = (slot: number): number => Math.min(MASTERS - 1, Math.floor(slot / (SLOTS / MASTERS)))

async function ground(): Promise<Ground> {
  const volume = await open(PARTITIONS)
  const keys = new VolumeKeys(volume.settings.name, PARTITIONS)
  const slotOf = (p: number): number => keySlot(keys.partition(p).inodes)
  const all = Array.from({ length: PARTITIONS }, (_, p) => p).filter((p) => p !== ROOT)
  const from = masterOf(slotOf(all[0] ?? 0))
  const [p = 0, q = 0] = all.filter((one) => masterOf(slotOf(one)) === from)
  const meta = await volume.client({ sessionTtlMs: LONG_TTL_MS })
  const near = (await makeDirIn(meta, ROOT, 'near', { partition: p })).ino
  const far = (await makeDirIn(meta, ROOT, 'far', { partition: q })).ino
  const { ino } = await touch(meta, near, 'file')
  await meta.link(ino, far, bytes('link'))
  spy.take('')
  return { volume, meta, keys, near, far, file: ino, from, to: (from + 1) % MASTERS }
}

const slotOf = ({ keys }: Ground, ino: number): number => keySlot(keys.of(ino).inodes)

async function ended(t: Test, { volume }: Ground): Promise<void> {
  await volume.close()
  t.strictSame(await checkVolume(volume), [], 'the volume is whole afterwards')
  await volume.close()
}

/** The slot begins to move: of its keys those go that `goes` says. What the last step of a move does is left to moveSlot(). */
async function begin(
  redis: TestRedis,
  slot: number,
  from: number,
  to: number,
  goes: (key: string) => boolean,
): Promise<void> {
  const [source, target] = await Promise.all([from, to].map((index) => redis.command(index, 'CLUSTER', 'MYID')))
  await redis.command(to, 'CLUSTER', 'SETSLOT', slot, 'IMPORTING', String(source))
  await redis.command(from, 'CLUSTER', 'SETSLOT', slot, 'MIGRATING', String(target))
  const all = await redis.command(from, 'CLUSTER', 'GETKEYSINSLOT', slot, 1_000)
  const keys = (Array.isArray(all) ? all.map(String) : []).filter(goes)
  if (keys.length === 0) return
  const where = ['127.0.0.1', redis.ports[to] ?? 0, '', 0, 5_000, 'AUTH', redis.password, 'KEYS']
  await redis.command(from, 'MIGRATE', ...where, ...keys)
}

t.test('one script where both partitions are on one server, steps where they are not', { timeout }, async (t) => {
  const all = await ground()
  const { meta, near, far, file, from, to } = all
  await meta.unlink(far, bytes('link'))
  t.strictSame(spy.take('tx-whole'), [[0, far]])
  await meta.link(file, far, bytes('link'))
  await redis.moveSlot(slotOf(all, near), from, to)
  // It is known when something is asked there.
  await meta.getattr(near)
  spy.take('')
  await meta.unlink(far, bytes('link'))
  t.strictSame(spy.take('tx-whole'), [])
  await ended(t, all)
})

const MOVES: readonly (readonly [string, (key: string) => boolean])[] = [
  ['nothing has gone yet', () => false],
  ['the names have gone', (key) => key.includes(':d:')],
  ['the inodes have gone', (key) => key.endsWith(':i')],
  ['all keys have gone', () => true],
]

t.test('a slot that is moving is left alone until it has moved', { timeout }, async (t) => {
  for (const which of ['near', 'far', 'both'] as const) {
    for (const [what, goes] of which === 'far' ? MOVES : MOVES.slice(-1)) {
      const all = await ground()
      const { meta, near, far, from, to } = all
      const child = await makeDirIn(meta, near, 'child', { partition: far % PARTITIONS })
      const moving = { near: [near], far: [far], both: [near, far] }[which].map((ino) => slotOf(all, ino))
      for (const slot of moving) await begin(redis, slot, from, to, goes)
      spy.take('')
      let isDone = false
      const removing = outcome(meta.rmdir(near, bytes('child'), undefined, child.ino)).finally(() => (isDone = true))
      if (which === 'far') await until('it was refused', () => spy.ran.length > 0)
      else await pause(100)
      t.equal(isDone, false, `${which}, ${what}: it waits`)
      await Promise.all(moving.map((slot) => redis.moveSlot(slot, from, to)))
      t.equal(await removing, 'ok', `${which}, ${what}: it is done`)
      // Of both, one may have come before the other when it is asked for again.
      if (which !== 'both') t.strictSame(spy.take('tx-whole')[0], [17, 1], `${which}, ${what}: not in one script`)
      t.equal(await outcome(meta.lookup(near, bytes('child'))), 'ENOENT')
      t.equal(await outcome(meta.getattr(child.ino)), 'ENOENT')
      await ended(t, all)
    }
  }
})

t.test('what was done in one script is not done again where the slots have parted since', { timeout }, async (t) => {
  for (const which of ['near', 'far'] as const) {
    const all = await ground()
    const { meta, near, far, file, from, to } = all
    const second = await meta.link(file, near, bytes('second'))
    t.equal(second.nlink, 3)
    spy.take('')
    // The answer of the first copy is lost; the second comes when one of the slots is elsewhere.
    spy.instead.set('tx-whole', async (send): Promise<RedisValue> => {
      await send()
      await redis.moveSlot(slotOf(all, which === 'near' ? near : far), from, to)
      return send()
    })
    await meta.unlink(far, bytes('link'))
    spy.instead.clear()
    t.same(spy.take('tx-whole'), [
      [0, far],
      [0, far],
    ])
    t.equal(spy.ran.filter(({ script }) => script.startsWith('tx-')).length, 0)
    t.equal((await meta.getattr(file)).nlink, 2, `${which}: once`)
    await ended(t, all)
  }
})

t.test('what went step by step is not done again where the slots have met since', { timeout }, async (t) => {
  for (const which of ['near', 'far'] as const) {
    const all = await ground()
    const { meta, near, far, file, from, to } = all
    const moved = slotOf(all, which === 'near' ? near : far)
    // The first copy is on its way while a slot goes; the second is refused, and steps are taken.
    let late: (() => Promise<RedisValue>) | undefined
    spy.instead.set('tx-whole', async (send): Promise<RedisValue> => {
      late = send
      spy.instead.clear()
      await redis.moveSlot(moved, from, to)
      return send()
    })
    await meta.unlink(far, bytes('link'))
    t.strictSame(spy.take('tx-whole'), [[17, 1]])
    await meta.link(file, far, bytes('link'))
    await redis.moveSlot(moved, to, from)
    await late?.()
    // What was made since may have had it forgotten already: it depends on what was sent with what behind the answers.
    const again = spy.take('tx-whole').map(([status]) => status)
    t.ok(again.length === 1 && [17, 6].includes(Number(again[0])), `${which}: it is known or too old: ${again.join()}`)
    t.equal((await meta.getattr(file)).nlink, 2)
    await until('its answer is forgotten', async () => {
      await touch(meta, far, `n${Math.random()}`)
      await late?.()
      return spy.take('tx-whole')[0]?.[0] === 6
    })
    t.equal((await meta.getattr(file)).nlink, 2, `${which}: nor later`)
    await ended(t, all)
  }
})
