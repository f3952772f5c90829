/**
 * What a cluster of five real nodes (a process each, three replicas, a write quorum of two, a real Redis) does when nodes die, and what
 * a client notices of it:
 *
 *   1. a node is killed while a client writes and reads: its calls before, during and after;
 *   2. a node is killed while nobody writes: time until it is noticed and until its chunks are made up for, bytes moved against the
 *      least possible; it comes back: what it fetches;
 *   3. three of the five are killed at once, and come back: what could be written and read meanwhile, and what was lost.
 *
 *   npm run bench:heal                                   300 chunks of 64 KiB
 *   npm run bench:heal -- --chunks 2000 --kib 256
 *
 * Times are those of the settings of the test cluster (a node is suspect after 2 s, down after 4 s, out after 6 s; the defaults are 4 s,
 * 15 s and 5 min), and of a machine that may have other work: counts and ratios can be compared, seconds hardly.
 */
import { randomBytes } from 'node:crypto'
import { loadavg } from 'node:os'
import { parseArgs } from 'node:util'
import { KIB, MIB } from '../src/base/limits.js'
import type { ChunkRef } from '../src/chunk/contract.js'
import type { Member } from '../src/cluster/contract.js'
import { setSurplusTime } from '../src/cluster/membership.js'
import { startCluster, type ClusterNode, type TestCluster } from '../test/helpers/cluster.js'
import { eventually, sleep } from '../test/helpers/ringfs.js'

const REPLICAS = 3
const PHASE_MS = 6_000
const NOTICE_MS = 120_000
const SURPLUS_MS = 1_000
/** Shorter than the client's own, so that an outage does not stand still. */
const CALL_MS = 5_000
const FIRST_ID = 1_000_000

const { values } = parseArgs({
  options: { chunks: { type: 'string', default: '300' }, kib: { type: 'string', default: '64' } },
})
const CHUNKS = Number(values.chunks)
const CHUNK_BYTES = Number(values.kib) * KIB

function say(what: string, figure: string): void {
  console.log(`${what.padEnd(66)} ${figure}`)
}

function seconds(ms: number): string {
  return `${(ms / 1000).toFixed(1)} s`
}

function mib(bytes: number): string {
  return `${(bytes / MIB).toFixed(2)} MiB`
}

interface Calls {
  readonly writesPerS: number
  readonly readsPerS: number
  readonly longestMs: number
  readonly failedWrites: number
  readonly failedReads: number
}

class Bench {
  readonly #cluster: TestCluster
  readonly #acknowledged: ChunkRef[] = []
  readonly #bytes = randomBytes(CHUNK_BYTES)
  #next = FIRST_ID
  /** By node, the chunks that it had when all was whole. */
  #held = new Map<string, Set<number>>()

  constructor(cluster: TestCluster) {
    this.#cluster = cluster
  }

  async run(): Promise<void> {
    say(
      'load of the machine at the start',
      loadavg()
        .map((one) => one.toFixed(1))
        .join(' '),
    )
    const { redis, settings } = this.#cluster.volume
    await setSurplusTime(redis, settings.name, SURPLUS_MS)
    for (let index = 0; index < CHUNKS; index++) await this.#write()
    await this.#cluster.whole('all copies are there')
    say('five nodes, three replicas; chunks', `${CHUNKS} of ${values.kib} KiB, ${mib(CHUNKS * CHUNK_BYTES)}`)
    await this.#deathUnderLoad()
    await this.#quietDeath()
    await this.#threeOfFive()
  }

  // --- a client

  async #write(): Promise<void> {
    const id = this.#next++
    // Each has contents of its own.
    const head = Buffer.alloc(8)
    head.writeDoubleLE(id)
    const data = [head, this.#bytes.subarray(8)]
    const extents = [{ fileOffset: 0, chunkOffset: 0, lengthBytes: CHUNK_BYTES }]
    const options = { durability: 'quorum', sync: true, deadlineMs: CALL_MS } as const
    this.#acknowledged.push(await this.#cluster.client.write(id, data, { ino: 1, order: id, extents }, options))
  }

  async #read(ref: ChunkRef): Promise<void> {
    const bytes = await this.#cluster.client.read(ref, 0, ref.lengthBytes, { deadlineMs: CALL_MS })
    if (bytes.readDoubleLE(0) !== ref.id) throw new Error(`chunk ${ref.id}: wrong bytes`)
  }

  /** Two that write and two that read, one call after the other, while `work` goes on. */
  async #calls(work: () => Promise<unknown>): Promise<Calls> {
    const done = { writes: 0, reads: 0, failedWrites: 0, failedReads: 0, longestMs: 0 }
    let isOver = false
    const loop = async (kind: 'writes' | 'reads', call: () => Promise<void>): Promise<void> => {
      while (!isOver) {
        const startMs = performance.now()
        try {
          await call()
          done[kind]++
        } catch {
          done[kind === 'writes' ? 'failedWrites' : 'failedReads']++
        }
        done.longestMs = Math.max(done.longestMs, performance.now() - startMs)
      }
    }
    const readOne = (): Promise<void> => {
      const ref = this.#acknowledged[Math.floor(Math.random() * this.#acknowledged.length)]
      return ref === undefined ? Promise.resolve() : this.#read(ref)
    }
    const startMs = performance.now()
    const loops = [loop('writes', () => this.#write()), loop('writes', () => this.#write())]
    loops.push(loop('reads', readOne), loop('reads', readOne))
    await work()
    isOver = true
    await Promise.all(loops)
    const passedS = (performance.now() - startMs) / 1000
    const { writes, reads, ...rest } = done
    return { writesPerS: Math.round(writes / passedS), readsPerS: Math.round(reads / passedS), ...rest }
  }

  #tell(when: string, { writesPerS, readsPerS, longestMs, failedWrites, failedReads }: Calls): void {
    const failed = `${failedWrites} writes and ${failedReads} reads failed`
    say(`  ${when}`, `${writesPerS} writes/s, ${readsPerS} reads/s, longest ${seconds(longestMs)}, ${failed}`)
  }

  // --- 1

  async #deathUnderLoad(): Promise<void> {
    const node = this.#cluster.node(0)
    console.log('1. a node is killed while a client writes and reads')
    this.#tell('before', await this.#calls(() => sleep(PHASE_MS)))
    await node.kill()
    this.#tell('until it is out', await this.#calls(() => this.#until(node, 'is out', (one) => one.isOut === true)))
    this.#tell('while its chunks are made anew', await this.#calls(() => sleep(PHASE_MS)))
    await this.#cluster.whole('without it all is whole')
    this.#tell('after', await this.#calls(() => sleep(PHASE_MS)))
    await node.start()
    await this.#cluster.whole('with it all is whole')
    await this.#nothingLost()
    await this.#exact()
  }

  /** What others kept for the one that was away would be used again: then less is moved than would have to be. */
  async #exact(): Promise<void> {
    const { volume } = this.#cluster
    const copies = async (): Promise<number> => {
      const { members } = await volume.watcher.refresh()
      return members.reduce((sum, { chunks }) => sum + chunks, 0)
    }
    const least = REPLICAS * this.#acknowledged.length
    await eventually('there is no copy too many', copies, (count) => count === least, NOTICE_MS)
  }

  async #until(node: ClusterNode, what: string, is: (member: Member) => boolean): Promise<void> {
    await eventually(
      `the killed node ${what}`,
      () => this.#cluster.member(node),
      (member) => member !== undefined && is(member),
      NOTICE_MS,
    )
  }

  async #nothingLost(): Promise<void> {
    let lost = 0
    for (const ref of this.#acknowledged) await this.#read(ref).catch(() => lost++)
    const holes = await this.#cluster.holes(this.#acknowledged)
    say('  acknowledged, lost, copies that owners lack', `${this.#acknowledged.length}, ${lost}, ${holes.length}`)
  }

  // --- 2

  #note(): void {
    const { ring, view } = this.#cluster.volume.watcher.current()
    this.#held = new Map(view.members.map(({ id }) => [id, new Set<number>()]))
    for (const { id } of this.#acknowledged) {
      for (const owner of ring.owners(id, REPLICAS)) this.#held.get(owner)?.add(id)
    }
  }

  /** Bytes of the copies that owners by the ring of now did not have when it was noted. */
  #leastBytes(): number {
    const { ring } = this.#cluster.volume.watcher.current()
    const lacking = this.#acknowledged.flatMap(({ id }) =>
      ring.owners(id, REPLICAS).filter((owner) => this.#held.get(owner)?.has(id) !== true),
    )
    return lacking.length * CHUNK_BYTES
  }

  async #movedBytes(): Promise<number> {
    // What nodes say is a heartbeat old.
    await sleep(3_000)
    const { members } = await this.#cluster.volume.watcher.refresh()
    return members.reduce((sum, { report }) => sum + (report?.heal.copiedBytes ?? 0), 0)
  }

  async #quietDeath(): Promise<void> {
    console.log('2. a node is killed while nobody writes')
    const node = this.#cluster.node(1)
    this.#note()
    const before = await this.#movedBytes()
    const said = (await this.#cluster.member(node))?.report?.heal.copiedBytes ?? 0
    await node.kill()
    const startMs = performance.now()
    const noticed: readonly [string, (member: Member) => boolean][] = [
      ['suspect', ({ state }) => state === 'suspect' || state === 'down'],
      ['down', ({ state }) => state === 'down'],
      ['out', ({ isOut }) => isOut === true],
    ]
    for (const [what, is] of noticed) {
      await this.#until(node, `is ${what}`, is)
      say(`  ${what} after`, seconds(performance.now() - startMs))
    }
    const outMs = performance.now()
    await this.#cluster.whole('its chunks are made up for')
    say('  its chunks are made up for, after it was out', seconds(performance.now() - outMs))
    const least = this.#leastBytes()
    const moved = (await this.#movedBytes()) - before
    say('  bytes moved, the least possible, ratio', `${mib(moved)}, ${mib(least)}, ${(moved / least).toFixed(3)}`)
    const awayBytes = await this.#movedBytes()
    await node.start()
    await this.#cluster.whole('it is back')
    await this.#exact()
    // A node counts from its start: what it said before its death is in the sum until it says something new.
    const fetched = (await this.#movedBytes()) - (awayBytes - said)
    say('  it comes back: bytes moved', mib(fetched))
    await this.#nothingLost()
  }

  // --- 3

  async #threeOfFive(): Promise<void> {
    console.log('3. three of the five are killed at once, and come back')
    const nodes = [0, 1, 2].map((index) => this.#cluster.node(index))
    const owned = this.#acknowledged.filter(({ id }) => {
      const owners = this.#cluster.volume.watcher.current().ring.owners(id, REPLICAS)
      return owners.every((owner) => nodes.some((node) => node.id === owner))
    })
    await Promise.all(nodes.map((node) => node.kill()))
    this.#tell('while they are away', await this.#calls(() => sleep(PHASE_MS)))
    say('  chunks with all copies on the three', String(owned.length))
    await Promise.all(nodes.map((node) => node.start()))
    await this.#cluster.whole('they are back')
    this.#tell('after', await this.#calls(() => sleep(PHASE_MS)))
    await this.#cluster.whole('all is whole')
    await this.#nothingLost()
  }
}

const cleanups: (() => unknown)[] = []
try {
  const cluster = await startCluster({ teardown: (work) => cleanups.unshift(work) }, 5)
  await new Bench(cluster).run()
} finally {
  for (const work of cleanups) await work()
}
