/** What the addon does for files: several on disk at once. */
import { closeSync, fstatSync, futimesSync, openSync, readFileSync } from 'node:fs'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { durableAddon } from '../../../src/base/addon.js'

async function newFolder(t: Test): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'ringfs-addon-'))
  t.teardown(() => rm(folder, { recursive: true, force: true }))
  return folder
}

t.test(
  'writes into several files at once: each is told apart, and what follows a failure in its file is not written',
  async (t) => {
    const folder = await newFolder(t)
    const names = ['one', 'two'].map((name) => join(folder, name))
    for (const name of names) await writeFile(name, Buffer.alloc(100, '.'))
    const [one = -1, two = -1] = names.map((name) => openSync(name, 'r+'))
    const readOnly = openSync(names[0] ?? '', 'r')
    t.teardown(() => [one, two, readOnly].forEach((fd) => closeSync(fd)))
    const addon = durableAddon()
    if (addon === null) throw new Error('no addon')
    const results = new Int32Array(5).fill(-1)
    const texts = [
      ['a', 'b', 'cd'],
      ['ef', '', ''],
      ['gh', 'i', 'j'],
      ['kl', 'mn', ''],
      ['op', 'qr', ''],
    ]
    const parts = texts.flat().map((text) => Buffer.from(text))
    addon.writeDurably(
      Int32Array.of(one, one, two, readOnly, readOnly),
      Float64Array.of(10, 50, 98, 0, 20),
      parts,
      results,
    )
    const [, , , bad, behind] = results
    t.same([...results.subarray(0, 3)], [0, 0, 0])
    t.ok((bad ?? 0) > 0 && behind === bad)
    const text = names.map((name) => readFileSync(name, 'latin1'))
    t.equal(text[0], `${'.'.repeat(10)}abcd${'.'.repeat(36)}ef${'.'.repeat(48)}`)
    t.equal(text[1], `${'.'.repeat(98)}ghij`)
    t.throws(() => addon.writeDurably(Int32Array.of(one), Float64Array.of(0), [], results), {
      message: /^writeDurably: /,
    })
    t.throws(() => addon.writeDurably(Int32Array.of(one), new Float64Array(0), parts, results))
    addon.writeDurably(new Int32Array(0), new Float64Array(0), [], results)
  },
)

t.test('files are flushed together, each is told apart', async (t) => {
  const folder = await newFolder(t)
  await writeFile(join(folder, 'file'), 'x')
  const [file, other, place] = [join(folder, 'file'), '/dev/null', folder].map((name) => openSync(name, 'r'))
  if (file === undefined || other === undefined || place === undefined) throw new Error('three files')
  t.teardown(() => [file, other, place].forEach((fd) => closeSync(fd)))
  const addon = durableAddon()
  if (addon === null) throw new Error('no addon')
  const results = new Int32Array(2)
  futimesSync(place, 1, 1)
  t.equal(addon.flushTogether(Int32Array.of(file, other), place, results), 0)
  t.ok(
    fstatSync(place).mtimeMs > 1000,
    'a change of its own goes to disk, so that a journal that was given up before is found',
  )
  t.equal(results[0], 0)
  t.ok((results[1] ?? 0) > 0, 'a device that cannot be flushed')
  t.ok(addon.flushTogether(Int32Array.of(file), 1_000_000, results) > 0, 'no such folder')
  t.throws(() => addon.flushTogether(Int32Array.of(file), place, new Int32Array(0)))
})
