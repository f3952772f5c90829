/** Memory that is used again: what a burst needed does not stay for ever. */
import t from 'tap'
import { readFileSync } from 'node:fs'
import { FreeList, releasePages } from '../../../src/base/free-list.js'
import { KIB, MIB } from '../../../src/base/limits.js'
import { pageAlignedMemory } from '../../../src/base/shared-memory.js'
import { ManualClock } from '../../helpers/manual-clock.js'

const LOOK_MS = 10_000

class Ground {
  readonly clock = new ManualClock()
  readonly #released: Buffer[] = []
  readonly free: FreeList<Buffer>

  constructor(keepBytes: number) {
    const release = (memory: Buffer | SharedArrayBuffer): void => {
      if (Buffer.isBuffer(memory)) this.#released.push(memory)
    }
    this.free = new FreeList({ keepBytes, clock: this.clock, release })
  }

  /** Names of those that were let go since the last question. */
  released(): string {
    return this.#released
      .splice(0)
      .map((one) => one.toString())
      .join(' ')
  }

  give(...names: readonly string[]): void {
    for (const name of names) this.free.give(4, Buffer.from(name))
  }

  take(): string | undefined {
    return this.free.take(4)?.toString()
  }
}

t.test('what is given back is used again, by size, and kept up to a limit', async (t) => {
  const all = new Ground(10)
  t.equal(all.take(), undefined)
  all.give('a', 'b')
  t.equal(all.released(), '')
  all.give('c')
  t.equal(all.released(), 'c', 'too much')
  t.equal(all.free.freeBytes, 8)
  t.equal(all.free.take(2), undefined, 'of another size')
  t.equal(all.take(), 'b')
  t.equal(all.take(), 'a')
  t.equal(all.take(), undefined)
  t.equal(all.free.freeBytes, 0)
})

t.test('what nobody has needed between two looks has no pages any more, and is there all the same', async (t) => {
  const all = new Ground(100)
  all.give('a', 'b', 'c', 'd')
  await all.clock.pass(LOOK_MS)
  t.equal(all.released(), '', 'it has been there for less than a look')
  t.equal(all.take(), 'd')
  all.give('d')
  await all.clock.pass(LOOK_MS)
  t.equal(all.released(), 'a b c')
  await all.clock.pass(LOOK_MS)
  t.equal(all.released(), 'd', 'each once')
  await all.clock.pass(10 * LOOK_MS)
  t.equal(all.released(), '')
  t.equal(all.free.freeBytes, 16)
  t.equal(all.take(), 'd')
  t.equal(all.take(), 'c')
  all.give('e')
  await all.clock.pass(2 * LOOK_MS)
  t.equal(all.released(), 'e', 'it is looked at again, and what has none is left alone')
})

t.test('what has no pages makes room for what is in use, of whatever size', async (t) => {
  const all = new Ground(16)
  all.give('a', 'b', 'c', 'd')
  await all.clock.pass(2 * LOOK_MS)
  t.equal(all.released(), 'a b c d')
  const others = ['e', 'f'].map((one) => Buffer.from(one))
  for (const other of others) all.free.give(6, other)
  t.equal(all.released(), '', 'kept')
  t.equal(all.free.freeBytes, 16)
  t.equal(all.free.take(6), others[1])
  t.equal(all.take(), 'd', 'and only as many have gone as had to')
  t.equal(all.take(), undefined)
})

t.test('pages that are let go are not counted for this process, and are there again when they are used', async (t) => {
  const residentKib = (): number => Number(/^RssAnon:\s+(\d+)/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1])
  const memory = pageAlignedMemory(64 * MIB)
  const bytes = Buffer.from(memory).fill(1)
  const before = residentKib()
  releasePages(memory)
  t.ok(before - residentKib() > 50 * KIB)
  t.equal(bytes[12_345], 0)
  bytes.fill(2)
  t.ok(bytes.every((one) => one === 2))
  t.doesNotThrow(() => releasePages(Buffer.alloc(10)), 'less than a page')
})
