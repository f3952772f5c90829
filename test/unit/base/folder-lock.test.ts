import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { isLocked, lockFolder, lockName } from '../../../src/base/folder-lock.js'

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

t.test('a name is locked by one at a time, too', async (t) => {
  const name = `test-${process.pid}`
  const taken = (holder: string): string => `${holder} has it`
  const lock = await lockName(name, taken)
  await t.rejects(lockName(name, taken), { code: 'ALREADY_RUNNING', message: `process ${process.pid} has it` })
  await (await lockName(`${name}-other`, taken)).release()
  await lock.release()
  await (await lockName(name, taken)).release()
})
