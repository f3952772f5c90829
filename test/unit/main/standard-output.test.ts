/** What becomes of a command, and of a log, when what is said goes nowhere. */
import { execFileSync, spawnSync } from 'node:child_process'
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t, { type Test } from 'tap'
import { ERROR_CODES } from '../../../src/base/errors.js'

const PROGRAM = fileURLToPath(new URL('../../../src/main/ringfs.js', import.meta.url))
const LOG = new URL('../../../src/base/log.js', import.meta.url).href

function folderOf(t: Test): string {
  const folder = mkdtempSync(join(tmpdir(), 'ringfs-output-'))
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  return folder
}

/** Runs a program of Node with its standard output or error in that file. */
function run(words: readonly string[], to: { readonly out?: string; readonly err?: string }) {
  const [out, err] = [to.out, to.err].map((file) => (file === undefined ? undefined : openSync(file, 'a')))
  const env = { PATH: process.env['PATH'] ?? '', XDG_RUNTIME_DIR: '/nowhere', LANG: 'C.UTF-8' }
  const ended = spawnSync(process.execPath, words, { stdio: ['ignore', out ?? 'pipe', err ?? 'pipe'], env })
  for (const fd of [out, err]) if (fd !== undefined) closeSync(fd)
  return { code: ended.status, out: String(ended.stdout), err: String(ended.stderr) }
}

if (process.platform === 'linux') {
  t.test('to log never fails, and goes on when there is room again', async (t) => {
    const script = `
      const { createLog } = await import(${JSON.stringify(LOG)})
      const log = createLog('info')
      for (let i = 0; i < 1000; i++) log.info({ text: 'x'.repeat(1000) }, 'lost')
      console.log('did it')`
    t.match(run(['--input-type=module', '-e', script], { err: '/dev/full' }), { code: 0, out: 'did it\n' })
  })

  t.test('a failure that cannot be told has its exit code all the same', async (t) => {
    t.equal(run([PROGRAM, 'ls'], { err: '/dev/full' }).code, ERROR_CODES.NOT_RUNNING)
  })

  t.test('what could not be said on standard output is a failure', async (t) => {
    const { code, err } = run([PROGRAM, '--help'], { out: '/dev/full' })
    t.equal(code, 1)
    t.match(err, /^ringfs: standard output: .*no space left on device.*\n$/)
  })
}

if (process.platform === 'linux' && process.getuid?.() === 0) {
  t.test('nor is it taken for said when only its beginning finds room', async (t) => {
    const folder = folderOf(t)
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=4k', 'ringfs-test', folder])
    t.teardown(() => execFileSync('umount', ['-l', folder]))
    const file = join(folder, 'out')
    writeFileSync(file, Buffer.alloc(4000, '.'))
    t.equal(run([PROGRAM, '--help'], { out: file }).code, 1)
    t.equal(readFileSync(file).length, 4096)
  })
}
