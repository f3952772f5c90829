/** A client listens to the partitions that it uses: on a real Redis. */
import t, { type Test } from 'tap'
import type { RedisStore, Subscription } from '../../src/cluster/contract.js'
import type { MetaEvent, MetaStore } from '../../src/meta/contract.js'
import { VolumeKeys } from '../../src/meta/keys.js'
import { ROOT, claim, coherent, listen, makeDirIn, touch, until, volumesOn } from '../helpers/meta.js'
import type { MetaVolume } from '../helpers/meta.js'
import { PassedRedis } from '../helpers/passed-redis.js'
import { startRedis } from '../helpers/redis.js'

t.setTimeout(300_000)

/** What is not used is ignored soon. */
const SOON = { listenMs: 200 }
/** What is used stays heard for as long as a test takes. */
const LATE = { listenMs: 1e9 }
const P = 3

/** What is asked of the subscription waits while it is held. */
class HeldRedis extends PassedRedis {
  static gate: Promise<void> | undefined

  override async subscribe(...args: Parameters<RedisStore['subscribe']>): Promise<Subscription> {
    const inner = await super.subscribe(...args)
    const listen = async (channel: string): Promise<void> => {
      await HeldRedis.gate
      await inner.listen(channel)
    }
    return {
      listen,
      ignore: (channel) => inner.ignore(channel),
      caughtUp: () => inner.caughtUp(),
      close: () => inner.close(),
    }
  }
}

const redis = await startRedis(t)
const open = volumesOn(t, redis, (store) => new HeldRedis(store))

/** How many clients Redis sends the messages of partition P to. */
async function listeners({ settings }: MetaVolume): Promise<number> {
  const { channel } = new VolumeKeys(settings.name, settings.partitions).partition(P)
  const reply = await redis.command(0, 'PUBSUB', 'SHARDNUMSUB', channel)
  return Array.isArray(reply) ? Number(reply[1]) : -1
}

/** From now on it is never ignored. */
function use(t: Pick<Test, 'teardown'>, meta: MetaStore, ino: number): void {
  const timer = setInterval(() => meta.hears(ino), SOON.listenMs / 20)
  t.teardown(() => clearInterval(timer))
}

function names(events: readonly MetaEvent[]): string[] {
  return events.flatMap((event) => (event.kind === 'entry' ? [event.name.toString()] : []))
}

claim(
  t,
  open,
  'who keeps nothing of a partition is sent nothing of it, and hears all from when he asks',
  async (t, volume) => {
    const [a, b] = [await volume.client(LATE), await volume.client(SOON)]
    await coherent(a, b)
    const heard = listen(b)
    const dir = await makeDirIn(a, ROOT, 'dir', { partition: P })
    await until('it is ignored', async () => (await listeners(volume)) === 1)
    t.notOk(b.hears(dir.ino))
    t.ok(b.coherent)
    t.ok(b.partitionsHeard < volume.settings.partitions)
    await touch(a, dir.ino, 'unheard')
    await b.caughtUp()
    t.strictSame(
      names(heard).filter((name) => name === 'unheard'),
      [],
    )

    use(t, b, dir.ino)
    const found = await b.lookup(dir.ino, Buffer.from('unheard'))
    t.equal(found.type, 'file', 'what is asked is answered from now')
    t.ok(b.hears(dir.ino))
    t.equal(await listeners(volume), 2)
    const kinds = heard.flatMap((event) => ('partitions' in event && event.partitions.has(P) ? [event.kind] : []))
    t.strictSame(kinds, ['ignored', 'heard'])
    await touch(a, dir.ino, 'heard')
    await b.caughtUp()
    t.ok(names(heard).includes('heard'))
    await new Promise((resolve) => setTimeout(resolve, 5 * SOON.listenMs))
    t.ok(b.hears(dir.ino), 'each look is a use')
  },
)

claim(t, open, 'a partition stays heard while a file in it is open', async (t, volume) => {
  const [a, b] = [await volume.client(LATE), await volume.client(SOON)]
  await coherent(a, b)
  const dir = await makeDirIn(a, ROOT, 'dir', { partition: P })
  const { ino } = await touch(a, dir.ino, 'file')
  await b.open(ino, { truncate: false })
  const heard = listen(b)
  await until('others are ignored', () => b.partitionsHeard < volume.settings.partitions / 2)
  await new Promise((resolve) => setTimeout(resolve, 5 * SOON.listenMs))
  t.equal(await listeners(volume), 2)
  await a.setattr(ino, { mode: 0o600 })
  await b.caughtUp()
  t.ok(heard.some((event) => event.kind === 'attr' && event.ino === ino))
  b.close(ino)
  await until('it is ignored', async () => (await listeners(volume)) === 1)
})

claim(t, open, 'a lock that is waited for is granted by a message, whatever was ignored before', async (t, volume) => {
  const [a, b] = [await volume.client(LATE), await volume.client(SOON)]
  await coherent(a, b)
  const dir = await makeDirIn(a, ROOT, 'dir', { partition: P })
  const { ino } = await touch(a, dir.ino, 'file')
  const lock = (owner: string) => ({ kind: 'flock', type: 'write', start: 0n, end: 2n ** 63n, owner, pid: 1 }) as const
  await a.setlk(ino, lock('a'), { wait: false })
  await until('it is ignored', async () => (await listeners(volume)) === 1)
  const events = listen(b)
  const taken = b.setlk(ino, lock('b'), { wait: true })
  await until('it is heard', () => events.some(({ kind }) => kind === 'heard'))
  await new Promise((resolve) => setTimeout(resolve, 5 * SOON.listenMs))
  t.equal(await listeners(volume), 2, 'for as long as it takes')
  const { start, end } = lock('a')
  await a.unlock(ino, { kind: 'flock', owner: 'a', start, end })
  t.equal((await taken).ino, ino)
})

claim(t, open, 'who missed messages hears what he used since, too', async (t, volume) => {
  const [a, b] = [await volume.client(LATE), await volume.client(SOON)]
  await coherent(a, b)
  const dir = await makeDirIn(a, ROOT, 'dir', { partition: P })
  await until('it is ignored', async () => (await listeners(volume)) === 1)
  await redis.command(0, 'CLIENT', 'KILL', 'TYPE', 'pubsub')
  use(t, b, dir.ino)
  await b.getattr(dir.ino)
  await until('it is coherent and heard', () => b.coherent && b.hears(dir.ino))
  const heard = listen(b)
  await touch(a, dir.ino, 'new')
  await b.caughtUp()
  await until('it is told', () => names(heard).includes('new'))
  t.ok(b.hears(dir.ino))
})

claim(t, open, 'nothing is asked of a partition, nor changed there, before it is heard', async (t, volume) => {
  const [a, b] = [await volume.client(LATE), await volume.client(SOON)]
  await coherent(a, b)
  const dir = await makeDirIn(a, ROOT, 'dir', { partition: P })
  const { ino } = await touch(a, dir.ino, 'file')
  for (const ask of [
    () => b.open(ino, { truncate: false }).then(() => b.close(ino)),
    () => b.getattr(ino),
    () => b.unlink(dir.ino, Buffer.from('file')),
  ]) {
    await until('it is ignored', async () => (await listeners(volume)) === 1)
    let letGo = (): void => undefined
    HeldRedis.gate = new Promise((resolve) => (letGo = resolve))
    let isAnswered = false
    const answer = ask().then(() => (isAnswered = true))
    await new Promise((resolve) => setTimeout(resolve, 50))
    t.notOk(isAnswered)
    letGo()
    await answer
    HeldRedis.gate = undefined
  }
})
