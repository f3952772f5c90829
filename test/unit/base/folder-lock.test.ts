import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { isLocked, lockFolder } from '../../../src/base/folder-lock.js'

async function temporaryFolder(t: { teardown(fn: () => Promise<void>): void }): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'ringfs-unit-'))
  t.teardown(() => rm(folder, { recursive: true, force: true }))
  return folder
}

t.test('a folder is locked by one at a time, and free after release', async (t) => {
  const folder = await temporaryFolder(t)
  const lock = await lockFolder(folder, 'test')
  await t.rejects(lockFolder(folder, 'test'), {
    code: 'ALREADY_RUNNING',
    message: new RegExp(`process ${process.pid}`),
  })
  t.ok(await isLocked(folder, 'test'))
  await (await lockFolder(folder, 'other')).release()
  await lock.release()
  t.notOk(await isLocked(folder, 'test'))
})
