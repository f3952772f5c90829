/**
 * Sessions whose process has ended are ended at once by whoever is on the same machine. The processes are made up here, and all
 * leases are longer than the test: what is given back is not given back by a lease. Real ones: mount/dead-neighbours.test.ts.
 */
import t from 'tap'
import type { ProcessId, Processes } from '../../src/base/processes.js'
import { areNeighbours } from '../../src/base/processes.js'
import type { MetaStore } from '../../src/meta/contract.js'
import { listSessions } from '../../src/meta/format.js'
import { record, trying, Waiting, whole } from '../helpers/locks.js'
import {
  ROOT,
  bytes,
  claim,
  makeDir,
  makeDirIn,
  outcome,
  pause,
  touch,
  until,
  volumesOn,
  type MetaVolume,
} from '../helpers/meta.js'
import { startRedis } from '../helpers/redis.js'

const redis = await startRedis(t)
const open = volumesOn(t, redis)

/** Longer than a process looks around for neighbours that ended. */
const LOOKED_MS = 2_500

/** A machine of made up processes. */
class Machine {
  readonly #ended = new Set<number>()
  readonly #boot: string
  #pids = 100

  constructor(boot = 'b') {
    this.#boot = boot
  }

  /** As the next process sees it. */
  next(change: Partial<ProcessId> = {}): Processes & { readonly end: () => void } {
    const own = { boot: this.#boot, pidns: 'pid:[1]', timens: '', pid: this.#pids++, start: '5', ...change }
    return {
      self: () => own,
      hasEnded: (other) => areNeighbours(own, other) && this.#ended.has(other.pid),
      end: () => this.#ended.add(own.pid),
    }
  }
}

const NAMELESS: Processes = { self: () => null, hasEnded: () => true }

/** A client that holds locks, has a file without a name open, and is then cut off. Its process ends if it has one. */
async function deadClient(volume: MetaVolume, processes: Processes & { end?: () => void }): Promise<number> {
  const dead = await volume.client({ processes })
  const { ino } = await touch(dead, ROOT, 'f')
  await dead.setlk(ino, record('write', '1'), { wait: false })
  await dead.setlk(ino, whole('write', '2'), { wait: false })
  const { ino: nameless } = await touch(dead, ROOT, 'nameless')
  await dead.open(nameless, { truncate: false })
  await dead.unlink(ROOT, bytes('nameless'))
  volume.cut(dead)
  processes.end?.()
  return ino
}

async function holdsNothing(t: Tap, client: MetaStore, ino: number): Promise<void> {
  t.equal(await trying(client, ino, record('write', '1')), 'ok')
  t.equal(await trying(client, ino, whole('write', '2')), 'ok')
  t.equal((await client.usage()).inodes, 2, 'the file without a name is gone')
}

type Tap = Pick<typeof t, 'equal'>

claim(
  t,
  open,
  'who opens the volume on the same machine finds nothing held by a process that has ended',
  async (t, volume) => {
    const machine = new Machine()
    const ino = await deadClient(volume, machine.next())
    const next = await volume.client({ processes: machine.next() })
    t.equal((await listSessions(volume.redis, volume.settings.name)).length, 1)
    await holdsNothing(t, next, ino)
  },
)

claim(t, open, 'several who open it at once all find nothing held', async (t, volume) => {
  const machine = new Machine()
  const inos = [await deadClient(volume, machine.next())]
  const clients = await Promise.all(
    Array.from({ length: 4 }, async () => {
      const client = await volume.client({ processes: machine.next() })
      const outcomes = await Promise.all(inos.map((ino) => trying(client, ino, record('read', '1'))))
      t.strictSame(outcomes, ['ok'])
      return client
    }),
  )
  t.equal(clients.length, 4)
  t.equal((await listSessions(volume.redis, volume.settings.name)).length, 4)
})

claim(
  t,
  open,
  'who waits for a lock gets it when its holder ends, whichever of the two came first',
  async (t, volume) => {
    const machine = new Machine()
    // A lease of 8 s is renewed each 2 s: so it hears of those that came after it.
    const old = await volume.client({ processes: machine.next(), sessionTtlMs: 8_000 })
    const process = machine.next()
    const ino = await deadClient(volume, { ...process, end: () => undefined })
    const young = await volume.client({ processes: machine.next() })
    const waiting = [new Waiting(old, ino, record('read', '1')), new Waiting(young, ino, whole('write', '1'))]
    await pause(LOOKED_MS)
    t.strictSame(
      waiting.map(({ result }) => result),
      [undefined, undefined],
    )
    process.end()
    t.strictSame(await Promise.all(waiting.map(({ done }) => done)), ['ok', 'ok'])
  },
)

claim(t, open, 'a cleaning that was begun and not finished is finished by the next', async (t, volume) => {
  const machine = new Machine()
  const ino = await deadClient(volume, machine.next())
  const { name } = volume.settings
  const [dead] = await listSessions(volume.redis, name)
  await volume.redis.call('ZREM', `{${name}}:m:s`, String(dead?.id))
  await volume.redis.call('ZADD', `{${name}}:m:dead`, 1, String(dead?.id))
  const next = await volume.client({ processes: machine.next() })
  await holdsNothing(t, next, ino)
})

claim(t, open, 'a change across partitions that the dead one had prepared is undone at once', async (t, volume) => {
  const machine = new Machine()
  const process = machine.next()
  let halt = false
  let isHalted = false
  const dead = await volume.client({
    processes: process,
    intentTimeoutMs: 600_000,
    onStep: (step) => {
      if (!halt || !step.includes('prepared')) return Promise.resolve()
      isHalted = true
      return new Promise(() => undefined)
    },
  })
  const from = await makeDir(dead, ROOT, 'from')
  const to = await makeDirIn(dead, ROOT, 'to', { not: from.ino % dead.settings.partitions })
  await makeDir(dead, from.ino, 'x')
  halt = true
  void dead.rename(from.ino, bytes('x'), to.ino, bytes('y'), {}).catch(() => undefined)
  await until('it has prepared something', () => isHalted)
  volume.cut(dead)
  process.end()
  const next = await volume.client({ processes: machine.next(), intentTimeoutMs: 600_000 })
  t.equal(await outcome(next.rename(from.ino, bytes('x'), ROOT, bytes('z'), {})), 'ok')
  t.equal(await outcome(next.lookup(to.ino, bytes('y'))), 'ENOENT')
})

claim(t, open, 'what the dead one sent and comes late is refused', async (t, volume) => {
  const machine = new Machine()
  const process = machine.next()
  const dead = await volume.client({ processes: process })
  process.end()
  await volume.client({ processes: machine.next() })
  t.equal(await outcome(touch(dead, ROOT, 'late')), 'EIO')
})

claim(t, open, 'what refuses it goes within hours, however many die', async (t, volume) => {
  const machine = new Machine()
  const { name, partitions } = volume.settings
  const dead: number[] = []
  for (let i = 0; i < 3; i++) {
    const process = machine.next()
    const client = await volume.client({ processes: process })
    dead.push(client.sessionId)
    volume.cut(client)
    process.end()
  }
  await volume.client({ processes: machine.next() })
  for (const session of dead) {
    for (let p = 0; p < partitions; p++) {
      const left = Number(await volume.redis.call('TTL', `{${name}.${p}}:r:${session}`))
      t.ok(left > 600 && left <= 4 * 3_600, `${left} s`)
    }
  }
})

/** As claim(), but the volume is not whole afterwards: the dead one's lease has not run out. */
function stillHeld(name: string, body: (volume: MetaVolume) => Promise<{ ino: number; next: MetaStore }>): void {
  void t.test(name, { timeout: 300_000 }, async (t) => {
    const { ino, next } = await body(await open())
    await pause(LOOKED_MS)
    t.equal(await trying(next, ino, record('write', '1')), 'EAGAIN')
    t.equal(await trying(next, ino, whole('write', '2')), 'EAGAIN')
  })
}

/** To whom all others seem to have ended. */
function grim(): Processes {
  const own = new Machine().next({ pid: 99 })
  return { self: () => own.self(), hasEnded: ({ pid }) => pid !== 99 }
}

for (const [what, make] of [
  ['another machine', () => new Machine('other').next()],
  ['another pid namespace', () => new Machine().next({ pidns: 'pid:[2]' })],
  ['another time namespace', () => new Machine().next({ timens: 'time:[2]' })],
  ['a place that cannot be named', () => NAMELESS],
] as const) {
  stillHeld(`of ${what} the lease decides`, async (volume) => {
    const ino = await deadClient(volume, make())
    return { ino, next: await volume.client({ processes: grim() }) }
  })
}

stillHeld('who cannot name itself ends nobody', async (volume) => {
  const ino = await deadClient(volume, new Machine().next())
  return { ino, next: await volume.client({ processes: NAMELESS }) }
})

stillHeld('who is to change nothing leaves the dead to others', async (volume) => {
  const machine = new Machine()
  const ino = await deadClient(volume, machine.next())
  return { ino, next: await volume.client({ processes: machine.next(), reaps: false }) }
})
