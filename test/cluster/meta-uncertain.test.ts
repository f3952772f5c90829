/**
 * Changes whose outcome their own client does not know. The fault: no answer comes before the deadline, and the request runs
 * before that, later, or never.
 */
import t, { type Test } from 'tap'
import { RingfsError } from '../../src/base/errors.js'
import { silentLog } from '../../src/base/log.js'
import type { RedisStore } from '../../src/cluster/contract.js'
import { openMeta } from '../../src/meta/engine.js'
import { ROOT, bytes, listen, outcome, touch, until, volumesOn } from '../helpers/meta.js'
import { connectPatiently, startRedis } from '../helpers/redis.js'

const redis = await startRedis(t)
const open = volumesOn(t, redis)

type When = 'before' | 'later' | 'never'

/** Loses the answers of one script. */
class Silent {
  when: When | undefined
  /** Runs what was held up. */
  late: () => Promise<unknown> = () => Promise.resolve()

  wrap(store: RedisStore, name: string): RedisStore {
    const run: RedisStore['run'] = async (script, keys, args, options) => {
      const { when } = this
      if (when === undefined || script.name !== name) return store.run(script, keys, args, options)
      if (when === 'before') await store.run(script, keys, args, options)
      if (when === 'later') this.late = () => store.run(script, keys, args, options)
      throw new RingfsError('REDIS_UNREACHABLE', 'no answer came in time')
    }
    return new Proxy(store, {
      get: (target, property) => {
        if (property === 'run') return run
        const value: unknown = Reflect.get(target, property)
        return typeof value === 'function' ? (value.bind(target) as unknown) : value
      },
    })
  }
}

async function ground(t: Pick<Test, 'teardown'>) {
  const volume = await open()
  const store = await connectPatiently(redis.url('any'))
  const silent = new Silent()
  const meta = await openMeta(silent.wrap(store, 'setattr'), volume.settings, { log: silentLog })
  t.teardown(async () => {
    await meta.shutdown()
    await store.close()
  })
  await until('it is coherent', () => meta.coherent)
  const { ino } = await touch(meta, ROOT, 'file')
  return { meta, silent, ino, events: listen(meta), volume }
}

const code = async (work: Promise<unknown>): Promise<string> =>
  outcome(work).catch((error: unknown) => (error instanceof RingfsError ? error.code : String(error)))

for (const when of ['before', 'never'] as const) {
  t.test(`a change whose answer is lost leaves nothing cached (it ran: ${when})`, { timeout: 300_000 }, async (t) => {
    const { meta, silent, ino, events } = await ground(t)
    silent.when = when
    t.equal(await code(meta.setattr(ino, { mode: 0o600 })), 'REDIS_UNREACHABLE')
    t.strictSame(
      events.map(({ kind }) => kind),
      ['lost', 'back'],
    )
    t.ok(meta.coherent)
  })
}

t.test('what runs after its client has given up is told to it as to anybody', { timeout: 300_000 }, async (t) => {
  const { meta, silent, ino, events } = await ground(t)
  silent.when = 'later'
  t.equal(await code(meta.setattr(ino, { mode: 0o600 })), 'REDIS_UNREACHABLE')
  silent.when = undefined
  events.length = 0
  t.match(await meta.getattr(ino), { mode: 0o644 })
  await silent.late()
  await until('it hears of it', () => events.some((event) => event.kind === 'attr' && event.ino === ino))
  t.match(await meta.getattr(ino), { mode: 0o600 })
})

t.test(
  'after another change of the partition it cannot run any more, and own changes are not heard',
  { timeout: 300_000 },
  async (t) => {
    const { meta, silent, ino, events } = await ground(t)
    silent.when = 'later'
    t.equal(await code(meta.setattr(ino, { mode: 0o600 })), 'REDIS_UNREACHABLE')
    silent.when = undefined
    await meta.setattr(ino, { uid: 7 })
    await meta.caughtUp()
    await until('all is certain again', async () => {
      await meta.caughtUp()
      events.length = 0
      await meta.setattr(ino, { gid: 8 })
      await meta.caughtUp()
      return events.length === 0
    })
    await silent.late()
    await meta.caughtUp()
    t.strictSame(events, [])
    t.match(await meta.getattr(ino), { mode: 0o644, uid: 7, gid: 8 })
    t.equal(await code(meta.lookup(ROOT, bytes('file'))), 'ok')
  },
)
