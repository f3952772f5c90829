/**
 * Bodies that nobody has changed for a while, for who moves them into chunks: vfs/body-mover.ts.
 *
 * They are found by looking at fields of the inodes by chance, in partitions by the bytes of their bodies. So nothing is remembered of any file,
 * nor how far one has come; and as long as bodies are a part of the inodes worth mentioning, which they are where there is no room for more,
 * that finds them as quickly as reading all would.
 */
import { messageOf } from '../base/errors.js'
import { invariant } from '../base/invariant.js'
import { arrayOf, numberOf } from '../cluster/reply.js'
import type { RedisArg, RedisValue } from '../cluster/contract.js'
import type { Blocks } from './blocks.js'
import type { Bodies } from './bodies.js'
import type { Core } from './core.js'
import type { BodyMove, OldBodies, OldBody } from './inline-contract.js'
import { decodeBody, decodeInode, encodeExtents } from './records.js'
import { SCRIPTS } from './scripts.js'

const LEASE_MS = 60_000
const RENEW_MS = LEASE_MS / 4
/** Looked at, and answered, by one script: a fraction of a millisecond of Redis. */
const FIELDS = 256
const FOUND_BYTES = 256 * 1024
const VALUES = 3

export class OldBodyStore implements OldBodies {
  readonly #core: Core
  readonly #bodies: Bodies
  readonly #blocks: Blocks
  #claimedMs = -Infinity

  constructor(core: Core, bodies: Bodies, blocks: Blocks) {
    this.#core = core
    this.#bodies = bodies
    this.#blocks = blocks
  }

  get usedBytes(): number {
    return this.#bodies.usedBytes
  }

  get budgetBytes(): number {
    return this.#core.options.settings.inlineBudgetBytes
  }

  count(): Promise<number> {
    return this.#bodies.count()
  }

  async claim(): Promise<boolean> {
    const { clock } = this.#core.options
    const nowMs = clock.monotonicMs()
    if (nowMs - this.#claimedMs < RENEW_MS) return true
    const args = [this.#core.session.id, LEASE_MS]
    const isOurs = (await this.#core.run(SCRIPTS.janitor, [this.#core.keys.wide('bodies')], args)) === 1
    this.#claimedMs = isOurs ? nowMs : -Infinity
    return isOurs
  }

  async find(restMs: number): Promise<readonly OldBody[]> {
    const p = this.#pick()
    const { inodes, locks, open } = this.#core.keys.partition(p)
    const args = [this.#core.session.id, Math.ceil(restMs / 1000), FIELDS, FOUND_BYTES]
    const found = arrayOf(await this.#core.run(SCRIPTS.oldBodies, [inodes, locks, open], args), 'old-bodies')
    const bodies: OldBody[] = []
    for (let at = 0; at + VALUES <= found.length; at += VALUES) bodies.push(...this.#read(found.slice(at, at + VALUES)))
    return bodies
  }

  async move(moves: readonly BodyMove[]): Promise<readonly boolean[]> {
    const [first] = moves
    if (first === undefined) return []
    const { keys } = this.#core
    const p = keys.home(first.ino)
    invariant(
      moves.every(({ ino }) => keys.home(ino) === p),
      'bodies that are moved together are of one partition',
    )
    await this.#blocks.check(moves.flatMap(({ extents }) => extents))
    const partition = keys.partition(p)
    const reply = await this.#core.change(
      SCRIPTS.moveBodies,
      p,
      moves.flatMap(({ ino }) => [partition.extents(ino, 0), partition.windows(ino)]),
      moves.flatMap(({ ino, version, extents }): RedisArg[] => [ino, version, encodeExtents(extents, 0)]),
    )
    this.#bodies.counted(p, reply.number(2))
    const moved = reply.buffer(1).toString('latin1')
    return moves.map((_, at) => moved[at] === '1')
  }

  /** A partition, the likelier the more bytes of bodies it has. */
  #pick(): number {
    const { counts } = this.#bodies
    const all = counts.reduce((sum, bytes) => sum + Math.max(0, bytes), 0)
    let left = this.#core.options.random() * all
    const at = counts.findIndex((bytes) => (left -= Math.max(0, bytes)) < 0)
    return Math.max(0, at)
  }

  /** One that is damaged stays as it is: who reads it is told. */
  #read([number = null, record = null, body = null]: readonly RedisValue[]): OldBody[] {
    const ino = numberOf(number, 'old-bodies')
    invariant(Buffer.isBuffer(record) && Buffer.isBuffer(body), 'records and bodies are strings')
    try {
      const { dataVersion: version, ctime } = decodeInode(ino, record).attr
      return [{ ino, version, ctime, body: body.length === 0 ? undefined : decodeBody(ino, body) }]
    } catch (error) {
      this.#core.options.log.debug({ ino, error: messageOf(error) }, 'a small file cannot be read')
      return []
    }
  }
}
