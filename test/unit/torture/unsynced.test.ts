/** What torture accepts of a file after a crash: all that may be there, and nothing else. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { patternByte } from '../../torture/pattern.js'
import { Unsynced } from '../../torture/unsynced.js'

const OLD = Buffer.from('0123456789')

function pattern(seed: number, length: number): Buffer {
  return Buffer.from(Array.from({ length }, (_, index) => patternByte(seed, index)))
}

/** `complaint` of a file that was promised as OLD, went through `states`, is `now` for the oracle and `found` on the mount. */
async function judged(t: Test, states: (file: Unsynced) => void, now: Buffer, found: Buffer): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'ringfs-unsynced-'))
  t.teardown(() => rm(folder, { recursive: true }))
  const [oracle, mount] = [join(folder, 'oracle'), join(folder, 'mount')]
  await writeFile(oracle, OLD)
  const unsynced = await Unsynced.of(oracle, folder)
  states(unsynced)
  await Promise.all([writeFile(oracle, now), writeFile(mount, found)])
  return (await unsynced.complaint(mount, oracle)) ?? 'fine'
}

t.test('a write that was not promised may be there, in part, or not at all', async (t) => {
  const write = (file: Unsynced): void => file.wrote({ offset: 8, lengthBytes: 4, seed: 7 })
  const now = Buffer.concat([OLD.subarray(0, 8), pattern(7, 4)])
  t.equal(await judged(t, write, now, now), 'fine')
  t.equal(await judged(t, write, now, OLD), 'fine')
  t.equal(await judged(t, write, now, now.subarray(0, 11)), 'fine')
})

t.test('a write that was overwritten by a later one may have stayed', async (t) => {
  const writes = (file: Unsynced): void => {
    file.wrote({ offset: 0, lengthBytes: 4, seed: 7 })
    file.wrote({ offset: 0, lengthBytes: 4, seed: 9 })
  }
  const now = Buffer.concat([pattern(9, 4), OLD.subarray(4)])
  t.equal(await judged(t, writes, now, Buffer.concat([pattern(7, 4), OLD.subarray(4)])), 'fine')
})

t.test('what was promised must be there', async (t) => {
  const write = (file: Unsynced): void => file.wrote({ offset: 8, lengthBytes: 2, seed: 7 })
  const now = Buffer.concat([OLD.subarray(0, 8), pattern(7, 2)])
  t.match(await judged(t, write, now, OLD.subarray(0, 9)), /its size is 9/)
  const zeroed = Buffer.from(now)
  zeroed[3] = 0
  t.match(await judged(t, write, now, zeroed), /byte 3 is 0/)
  const moved = Buffer.concat([pattern(7, 2), now.subarray(2)])
  t.match(await judged(t, write, now, moved), /byte 0 is/)
})

t.test('what nobody wrote must not be there', async (t) => {
  const write = (file: Unsynced): void => file.wrote({ offset: 0, lengthBytes: 2, seed: 7 })
  const now = Buffer.concat([pattern(7, 2), OLD.subarray(2)])
  const strange = Buffer.from(now)
  strange[1] = 0
  t.match(await judged(t, write, now, strange), /byte 1 is 0/)
  t.match(await judged(t, write, now, Buffer.concat([now, OLD])), /its size is 20/)
})

t.test('a truncation under way leaves the old size, the new one, or one between', async (t) => {
  const cut = (file: Unsynced): void => file.cut(4)
  t.equal(await judged(t, cut, OLD.subarray(0, 4), OLD), 'fine')
  t.equal(await judged(t, cut, OLD.subarray(0, 4), OLD.subarray(0, 4)), 'fine')
  t.match(await judged(t, cut, OLD.subarray(0, 4), OLD.subarray(0, 3)), /its size is 3/)
})
