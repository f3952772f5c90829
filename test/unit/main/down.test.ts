/** `ringfs down`: what it says of how an `up` has ended. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, readdirSync, rmSync, utimesSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { silentLog } from '../../../src/base/log.js'
import { startOf } from '../../../src/base/processes.js'
import { runDown } from '../../../src/main/down.js'
import { leaveWord, takeWord } from '../../../src/main/runfiles.js'

const RUNFILES = new URL('../../../src/main/runfiles.js', import.meta.url).href

function folder(t: Pick<Test, 'teardown'>): string {
  const path = mkdtempSync(join(tmpdir(), 'ringfs-down-'))
  t.teardown(() => rmSync(path, { recursive: true, force: true }))
  return path
}

/** A process with a run file as of an `up`, which ends at SIGTERM; `last`: what it does before. */
async function running(t: Pick<Test, 'teardown'>, runFolder: string, dataDir: string, last: string): Promise<void> {
  const content = { volume: 'v', metaUrl: '', dataDir, mountpoint: '/nowhere/mnt', socket: '' }
  const script = `import { leaveWord, writeRunFile } from ${JSON.stringify(RUNFILES)}
    const remove = writeRunFile(${JSON.stringify(runFolder)}, ${JSON.stringify(content)})
    process.on('SIGTERM', () => { remove(); ${last}; process.exit() })
    setInterval(() => undefined, 1000)
    process.stdout.write('ready')`
  const child = spawn(process.execPath, ['--input-type=module', '-e', script], { stdio: ['ignore', 'pipe', 'inherit'] })
  t.teardown(() => child.kill('SIGKILL'))
  await once(child.stdout, 'data')
}

t.test('down says so when the up that it has ended could not write everything', async (t) => {
  const [run, data] = [join(folder(t), 'run'), folder(t)]
  const options = { dataDir: null, runFolder: run, log: silentLog }
  await running(t, run, data, '')
  t.match(await runDown(options), /is unmounted; the data stay in/)
  await running(t, run, data, `leaveWord(${JSON.stringify(run)}, 'no node took it')`)
  await t.rejects(runDown(options), { code: 'EIO', message: /is unmounted, but not everything .*: no node took it$/ })
  t.same(readdirSync(run), [], 'the word is taken')
})

t.test('the word of a process is taken once, and not for that of another with its number', async (t) => {
  const run = folder(t)
  const self = { pid: process.pid, startedAt: startOf(process.pid) }
  t.equal(takeWord(run, self), undefined)
  leaveWord(run, 'what')
  t.equal(takeWord(run, { ...self, startedAt: '1' }), undefined)
  t.equal(takeWord(run, self), 'what')
  t.equal(takeWord(run, self), undefined)
})

t.test('words that nobody took are removed by the next one', async (t) => {
  const run = folder(t)
  const old = join(run, '1.word')
  writeFileSync(old, '{}')
  leaveWord(run, 'what')
  t.ok(existsSync(old))
  utimesSync(old, 1, 1)
  leaveWord(run, 'what')
  t.notOk(existsSync(old))
})

t.test('where no word can be left the process ends all the same', async (t) => {
  t.doesNotThrow(() => leaveWord(join(folder(t), 'none'), 'what'))
})
