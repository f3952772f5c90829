import t from 'tap'
import { fork } from 'node:child_process'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { replaceFile } from '../../../src/chunk/node/files.js'
import { openNodeFolders } from '../../../src/chunk/node/node-folders.js'
import { VOLUME, failureOf, temporaryFolder } from '../../helpers/chunks.js'
import { isRoot, tmpfs } from '../../helpers/disks.js'

const OTHER = '11111111-2222-4333-8444-555555555555'
const HOLDER = fileURLToPath(new URL('../../helpers/folder-holder.js', import.meta.url))

t.test('a folder keeps its node id over restarts and moves', async (t) => {
  const folder = join(temporaryFolder(t), 'deep', 'data')
  const first = await openNodeFolders([folder], VOLUME)
  t.match(first.nodeId, /^[0-9a-f-]{36}$/)
  await first.close()
  const second = await openNodeFolders([folder], VOLUME)
  t.equal(second.nodeId, first.nodeId)
  await second.close()
})

t.test('a folder of another volume is refused, naming both', async (t) => {
  const folder = temporaryFolder(t)
  await (await openNodeFolders([folder], OTHER)).close()
  await t.rejects(openNodeFolders([folder], VOLUME), {
    code: 'NODE_WRONG_VOLUME',
    message: new RegExp(`${OTHER}.*${VOLUME}`),
  })
  await (await openNodeFolders([folder], OTHER)).close()
})

t.test('newer formats, damage, foreign folders and files are refused, and not touched', async (t) => {
  const folder = temporaryFolder(t)
  const identity = join(folder, 'ringfs-node.json')
  for (const [text, code] of [
    ['{"format":3,"whatever":true}', 'VOLUME_NEWER'],
    ['{"format":1}', 'VOLUME_CORRUPT'],
    ['not json', 'VOLUME_CORRUPT'],
    ['', 'VOLUME_CORRUPT'],
  ] as const) {
    writeFileSync(identity, text)
    t.equal(await failureOf(openNodeFolders([folder], VOLUME)), code)
  }
  const foreign = temporaryFolder(t)
  writeFileSync(join(foreign, 'thesis.tex'), 'do not lose')
  t.equal(await failureOf(openNodeFolders([foreign], VOLUME)), 'USAGE')
  t.equal(await failureOf(openNodeFolders([join(foreign, 'thesis.tex')], VOLUME)), 'USAGE')
  const fresh = temporaryFolder(t)
  mkdirSync(join(fresh, 'lost+found'))
  await (await openNodeFolders([fresh], VOLUME)).close()
})

t.test('a folder below which the system makes none is refused, and not tried for ever', async (t) => {
  await t.rejects(openNodeFolders(['/proc/none/data'], VOLUME), {
    code: 'USAGE',
    message: /\/proc\/none\/data cannot be made.*ENOENT/,
  })
})

t.test('two openings of one folder: the second is refused', async (t) => {
  const folder = temporaryFolder(t)
  const open = await openNodeFolders([folder], VOLUME)
  await t.rejects(openNodeFolders([folder], VOLUME), {
    code: 'ALREADY_RUNNING',
    message: new RegExp(`${process.pid}`),
  })
  await open.close()
  await (await openNodeFolders([folder], VOLUME)).close()
  const many = await Promise.allSettled(Array.from({ length: 5 }, () => openNodeFolders([folder], VOLUME)))
  t.equal(many.filter(({ status }) => status === 'fulfilled').length, 1)
  for (const result of many) if (result.status === 'fulfilled') await result.value.close()
})

t.test('a killed process holds nothing', { timeout: 300_000 }, async (t) => {
  const folder = temporaryFolder(t)
  const child = fork(HOLDER, [folder], { execArgv: [], stdio: 'ignore' })
  t.teardown(() => child.kill('SIGKILL'))
  await new Promise((resolve) => child.once('message', resolve))
  t.equal(await failureOf(openNodeFolders([folder], VOLUME)), 'ALREADY_RUNNING')
  child.kill('SIGKILL')
  await new Promise((resolve) => child.once('exit', resolve))
  await (await openNodeFolders([folder], VOLUME)).close()
})

t.test('a file that is replaced on a disk that gets full is as it was', { skip: !isRoot }, (t) => {
  const page = 4096
  const file = join(tmpfs(t, 2 * page), 'file')
  writeFileSync(file, 'before')
  t.throws(() => replaceFile(file, 'x'.repeat(page + 1)), { code: 'ENOSPC' })
  t.equal(readFileSync(file, 'utf8'), 'before')
  t.end()
})
