/** Logs on disks that cannot read all of them. */
import t from 'tap'
import { randomBytes } from 'node:crypto'
import { closeSync, openSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import fc from 'fast-check'
import { PosixError } from '../../../src/base/errno.js'
import { readInto } from '../../../src/chunk/node/chunk-file.js'
import { readAround, type ReadInto } from '../../../src/chunk/node/log-reads.js'
import { failureOf, temporaryFolder } from '../../helpers/chunks.js'
import { propertyRun } from '../../helpers/property.js'

const BLOCK = 4096
const BLOCKS = 300

/** A disk that cannot read these blocks. */
function without(bad: ReadonlySet<number>, code: 'EIO' | 'EACCES' = 'EIO') {
  let tried = 0
  const read: ReadInto = (fd, position, out) => {
    tried++
    for (let at = Math.floor(position / BLOCK) * BLOCK; at < position + out.length; at += BLOCK) {
      if (bad.has(at / BLOCK)) throw new PosixError(code, 'the test')
    }
    return readInto(fd, position, out)
  }
  return { read, tried: () => tried }
}

t.test('whatever the disk cannot read, all the rest is read, and it is told what is missing', (t) => {
  const file = join(temporaryFolder(t), 'log')
  const content = randomBytes(BLOCKS * BLOCK - 1000)
  writeFileSync(file, content)
  const fd = openSync(file, 'r')
  t.teardown(() => closeSync(fd))
  const span = fc.tuple(fc.nat(BLOCKS - 1), fc.integer({ min: 1, max: 150 }))
  fc.assert(
    fc.property(
      fc.array(span, { maxLength: 4 }),
      fc.nat(content.length),
      fc.nat(content.length + 5000),
      (spans, position, lengthBytes) => {
        const bad = new Set(spans.flatMap(([first, count]) => Array.from({ length: count }, (_, i) => first + i)))
        const { read } = without(bad)
        const { bytes, unreadable } = readAround(fd, position, lengthBytes, read)
        const wanted = Buffer.from(content.subarray(position, position + lengthBytes))
        for (const { from, to } of unreadable) {
          wanted.fill(0, from, to)
          const blocks = Array.from({ length: Math.ceil((position + to) / BLOCK) }, (_, block) => block)
          const own = blocks.slice(Math.floor((position + from) / BLOCK))
          // Good ones between bad ones may be passed over.
          if (!bad.has(own[0] ?? -1) || !bad.has(own.at(-1) ?? -1)) return false
        }
        return bytes.equals(wanted)
      },
    ),
    propertyRun(t, 200),
  )
  const { read, tried } = without(new Set(Array.from({ length: BLOCKS }, (_, block) => block)))
  t.same(readAround(fd, 0, content.length, read).unreadable, [{ from: 0, to: content.length }])
  t.ok(tried() < 20, 'a disk that takes seconds for each is not asked for all')
  const few = without(new Set([7, 8, 9, 200]))
  t.same(readAround(fd, 0, content.length, few.read).unreadable, [
    { from: 7 * BLOCK, to: 10 * BLOCK },
    { from: 200 * BLOCK, to: 201 * BLOCK },
  ])
  t.end()
})

t.test('what else the disk says is said', async (t) => {
  const file = join(temporaryFolder(t), 'log')
  writeFileSync(file, Buffer.alloc(BLOCK))
  const fd = openSync(file, 'r')
  t.teardown(() => closeSync(fd))
  const read = async (): Promise<unknown> =>
    await Promise.resolve(readAround(fd, 0, 10, without(new Set([0]), 'EACCES').read))
  t.equal(await failureOf(read()), 'EACCES')
})
