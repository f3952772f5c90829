/** A backup that is whole gets its name. */
import t, { type Test } from 'tap'
import { existsSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { link } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { place } from '../../../src/meta/backup/place.js'
import { failureOf } from '../../helpers/chunks.js'

function files(t: Test): { folder: string; temporary: string; file: string } {
  const folder = mkdtempSync(join(tmpdir(), 'ringfs-place-'))
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  const temporary = join(folder, 'backup.new')
  writeFileSync(temporary, 'new')
  return { folder, temporary, file: join(folder, 'backup') }
}

const refused =
  (code: string): typeof link =>
  () =>
    Promise.reject(Object.assign(new Error(code), { code }))

for (const [what, linkFile] of [
  ['with links', link],
  ['without links', refused('EPERM')],
  ['without links, as some say', refused('ENOTSUP')],
] as const) {
  t.test(`${what} it gets a name that is free, and replaces nothing unless it may`, async (t) => {
    const { folder, temporary, file } = files(t)
    await place(temporary, file, false, linkFile)
    t.strictSame(readdirSync(folder), ['backup'])
    writeFileSync(temporary, 'newer')
    t.equal(await failureOf(place(temporary, file, false, linkFile)), 'USAGE')
    t.equal(readFileSync(file, 'utf8'), 'new')
    t.ok(existsSync(temporary))
    await place(temporary, file, true, linkFile)
    t.equal(readFileSync(file, 'utf8'), 'newer')
    t.strictSame(readdirSync(folder), ['backup'])
  })
}

t.test('a link whose answer was lost is a link', async (t) => {
  const { folder, temporary, file } = files(t)
  await place(temporary, file, false, async (...names) => {
    await link(...names)
    await link(...names)
  })
  t.strictSame(readdirSync(folder), ['backup'])
})

t.test('what a disk says otherwise is told', async (t) => {
  const { temporary, file } = files(t)
  await t.rejects(place(temporary, file, false, refused('ENOSPC')), { code: 'ENOSPC' })
  t.notOk(existsSync(file))
})
