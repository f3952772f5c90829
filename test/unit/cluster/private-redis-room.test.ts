/** When a private Redis refuses what adds to it, as its disk gets full and has room again. */
import t from 'tap'
import { silentLog } from '../../../src/base/log.js'
import { GIB, MIB } from '../../../src/base/limits.js'
import type { RedisArg, RedisValue } from '../../../src/cluster/contract.js'
import { RedisRoom, lowOf } from '../../../src/cluster/private-redis-room.js'
import { ManualClock } from '../../helpers/manual-clock.js'

t.setTimeout(300_000)

/** A server with that limit, on a disk of a GiB. */
class Server {
  readonly clock = new ManualClock()
  readonly room: RedisRoom
  limit: string
  freeBytes = GIB
  memoryBytes = 0
  fileBytes = 0
  rewrites = 0
  isRewriting = false
  isAway = false

  constructor(limit: string) {
    this.limit = limit
    this.room = new RedisRoom({
      folder: '/nowhere',
      ask: (command, args) => this.#ask(command, args),
      disk: () => Promise.resolve({ totalBytes: GIB, freeBytes: this.freeBytes }),
      clock: this.clock,
      log: silentLog,
    })
  }

  #ask(command: string, [first, , value]: readonly RedisArg[]): Promise<RedisValue> {
    if (this.isAway) return Promise.reject(new Error('away'))
    if (command === 'INFO') {
      const sizes = `used_memory_dataset:${this.memoryBytes}\r\naof_current_size:${this.fileBytes}\r\n`
      return Promise.resolve(Buffer.from(`${sizes}aof_rewrite_in_progress:${this.isRewriting ? 1 : 0}\r\n`))
    }
    if (command === 'BGREWRITEAOF') this.rewrites++
    else if (first === 'SET') this.limit = String(value)
    return Promise.resolve([Buffer.from('maxmemory'), Buffer.from(this.limit)])
  }

  /** So much is free, for so long. */
  async has(freeBytes: number, forMs = 2_000): Promise<void> {
    this.freeBytes = freeBytes
    await this.clock.pass(forMs)
  }
}

t.test(
  'what adds is refused below half of the reserve of nodes, and on small disks below enough for a moment',
  async (t) => {
    t.equal(lowOf(100 * GIB, 0), GIB / 2)
    t.equal(lowOf(20 * GIB, 0), 20 * GIB * 0.005)
    t.equal(lowOf(GIB, 0), 16 * MIB)
    t.equal(lowOf(100 * MIB, 0), 5 * MIB)
    t.equal(lowOf(GIB, 100 * MIB), 116 * MIB, 'and for a rewrite')
    t.equal(lowOf(300 * MIB, GIB), 115 * MIB)
  },
)

t.test('it refuses while there is little room, and not at each byte the other way', async (t) => {
  const server = new Server('0')
  await server.has(17 * MIB)
  t.equal(server.limit, '0')
  await server.has(15 * MIB)
  t.equal(server.limit, '1')
  await server.has(19 * MIB)
  t.equal(server.limit, '1')
  await server.has(21 * MIB)
  t.equal(server.limit, '0')
  await server.room.close()
})

t.test('a limit of others stays, and what a dead process has left is taken back', async (t) => {
  const own = new Server('5000')
  await own.has(GIB)
  t.equal(own.limit, '5000')
  await own.has(MIB)
  t.equal(own.limit, '1')
  await own.has(GIB)
  t.equal(own.limit, '5000')
  const left = new Server('1')
  await left.has(GIB)
  t.equal(left.limit, '0')
  await Promise.all([own.room.close(), left.room.close()])
})

t.test('a server that does not answer is asked again', async (t) => {
  const server = new Server('0')
  server.isAway = true
  await server.has(MIB)
  server.isAway = false
  await server.has(MIB)
  t.equal(server.limit, '1')
  await server.room.close()
})

t.test('its file is rewritten where that gives room and has room, now and then', async (t) => {
  const server = new Server('0')
  server.memoryBytes = 100 * MIB
  server.fileBytes = 200 * MIB
  await server.has(GIB, 70_000)
  t.equal(server.limit, '0')
  t.equal(server.rewrites, 0, 'not with room')
  await server.has(115 * MIB, 25_000)
  t.equal(server.limit, '1', 'it refuses while a rewrite would have room')
  t.equal(server.rewrites, 1)
  await server.has(115 * MIB, 10_000)
  t.equal(server.rewrites, 2)
  await server.has(105 * MIB, 130_000)
  t.equal(server.rewrites, 2, 'not where it has none')
  server.fileBytes = 110 * MIB
  await server.has(105 * MIB)
  await server.has(115 * MIB, 130_000)
  t.equal(server.rewrites, 2, 'not where it gives none')
  server.memoryBytes = 10 * MIB
  await server.has(15 * MIB, 5_000)
  t.equal(server.rewrites, 3, 'as soon as enough is removed')
  await server.room.close()
})

t.test('the room that is kept for a rewrite may be taken by one', async (t) => {
  const server = new Server('0')
  server.memoryBytes = 100 * MIB
  server.fileBytes = 200 * MIB
  await server.has(120 * MIB, 20_000)
  server.isRewriting = true
  await server.has(30 * MIB, 10_000)
  t.equal(server.limit, '0', 'Redis has begun one by itself')
  await server.has(15 * MIB)
  t.equal(server.limit, '1', 'but not what is kept for removals')
  await server.has(30 * MIB)
  t.equal(server.limit, '1')
  server.isRewriting = false
  await server.has(200 * MIB)
  t.equal(server.limit, '0')
  server.isRewriting = true
  await server.has(30 * MIB)
  server.isRewriting = false
  await server.has(30 * MIB, 500)
  await server.has(120 * MIB)
  t.equal(server.limit, '0', 'it was done, and the file of before is deleted a moment later')
  await server.has(110 * MIB)
  t.equal(server.limit, '1')
  await server.room.close()
})
