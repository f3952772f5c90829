import { execFileSync, spawn, spawnSync, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import {
  chownSync,
  lstatSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { systemProcesses } from '../../../src/base/processes.js'
import { addKey, listKeys, newKeyFile, removeKey } from '../../../src/main/key-file.js'

t.test('a changed key file stays whose it was, and where a symlink leads', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'ringfs-keys-'))
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  const [file, link] = [join(folder, 'key'), join(folder, 'link')]
  const first = newKeyFile(file)
  const isRoot = process.getuid?.() === 0
  if (isRoot) chownSync(file, 1234, 5678)
  symlinkSync('key', link)
  const second = addKey(link)
  t.same(listKeys(file), [second, first])
  removeKey(link, first)
  t.same(listKeys(file), [second])
  t.ok(lstatSync(link).isSymbolicLink())
  const { uid, gid, mode } = statSync(file)
  t.equal(mode & 0o777, 0o600)
  if (isRoot) t.same([uid, gid], [1234, 5678])
  t.same(readdirSync(folder).sort(), ['key', 'link'])
})

t.test('a key that was prepared beside the file stays', (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'ringfs-keys-'))
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  const file = join(folder, 'key')
  const first = newKeyFile(file)
  const prepared = newKeyFile(`${file}.new`)
  addKey(file)
  removeKey(file, first)
  t.throws(() => removeKey(file, first), { code: 'USAGE' })
  t.same(listKeys(`${file}.new`), [prepared])
  t.same(readdirSync(folder), ['key', 'key.new'])
  t.end()
})

const MODULE = new URL('../../../src/main/key-file.js', import.meta.url).href

/** Source of a process that calls `name` with `file`. */
function calling(name: string, file: string): string {
  return `import { ${name} } from ${JSON.stringify(MODULE)}; console.log(${name}(${JSON.stringify(file)}))`
}

t.test('of keys that are added at once none is lost', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'ringfs-keys-'))
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  const file = join(folder, 'key')
  const first = newKeyFile(file)
  // Somebody's change is under way, and ends when all of them have begun.
  writeFileSync(`${file}.lock`, '')
  const other = newKeyFile(`${file}.new`)
  writeFileSync(`${file}.new`, readFileSync(file), { flag: 'a' })
  const args = ['--input-type=module', '-e', `console.log('ready'); ${calling('addKey', file)}`]
  const children = Array.from({ length: 4 }, () =>
    spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] }),
  )
  const texts = children.map(() => '')
  children.forEach((child, at) =>
    child.stdout.on('data', (data: Buffer) => (texts[at] = `${texts[at] ?? ''}${String(data)}`)),
  )
  const exits = children.map((child) => once(child, 'close'))
  await Promise.all(children.map((child) => once(child.stdout, 'data')))
  renameSync(`${file}.new`, file)
  rmSync(`${file}.lock`)
  t.same(
    (await Promise.all(exits)).map(([code]: unknown[]) => code),
    [0, 0, 0, 0],
  )
  const added = texts.map((text) => text.trim().split('\n')[1])
  t.same([...listKeys(file)].sort(), [first, other, ...added].sort())
  t.same(readdirSync(folder), ['key'])
})

t.test('a change that does not fit on the disk leaves the file as it was, and no secret beside it', (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'ringfs-keys-'))
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  const file = join(folder, 'key')
  const first = newKeyFile(file)
  for (const [name, path] of [
    ['addKey', file],
    ['newKeyFile', join(folder, 'other')],
  ] as const) {
    const script = 'ulimit -f 0; exec "$0" --input-type=module -e "$1"'
    const { status, stderr } = spawnSync('sh', ['-c', script, process.execPath, calling(name, path)], {
      encoding: 'utf8',
    })
    t.not(status, 0)
    t.match(stderr, /EFBIG/)
    t.same(readdirSync(folder), ['key'])
  }
  t.same(listKeys(file), [first])
  t.end()
})

t.test('a lock of which nothing is certain is named, and not taken away', (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'ringfs-keys-'))
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  const file = join(folder, 'key')
  const first = newKeyFile(file)
  for (const left of ['', JSON.stringify(systemProcesses.self())]) {
    writeFileSync(`${file}.lock`, left)
    t.throws(() => addKey(file), { code: 'USAGE', message: /remove .*key\.lock$/ })
    t.same(readdirSync(folder).sort(), ['key', 'key.lock'])
  }
  t.same(listKeys(file), [first])
  t.end()
})

t.test('where the right to remove a lock was left, it is named too', (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'ringfs-keys-'))
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  const file = join(folder, 'key')
  const first = newKeyFile(file)
  // This pid, before this process had it.
  writeFileSync(`${file}.lock`, JSON.stringify({ ...systemProcesses.self(), start: '1' }))
  writeFileSync(`${file}.lock.left`, '')
  t.throws(() => addKey(file), { code: 'USAGE', message: /remove .*key\.lock\.left and .*key\.lock$/ })
  rmSync(`${file}.lock.left`)
  t.same(listKeys(file), [first])
  const second = addKey(file)
  t.same(listKeys(file), [second, first])
  t.end()
})

/** A change that has begun, and waits in its midst for `goOn`. */
async function begunChange(
  t: Test,
  folder: string,
): Promise<{ file: string; child: ChildProcess; goOn: () => void; ended: Promise<string> }> {
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  const [file, secret] = [join(folder, 'key'), 'x'.repeat(43)]
  execFileSync('mkfifo', ['-m', '600', file])
  const feed = (): void => {
    const feeder = spawn('sh', ['-c', 'echo "$0" > "$1"', secret, file], { stdio: 'ignore' })
    t.teardown(() => feeder.kill('SIGKILL'))
  }
  const args = ['--input-type=module', '-e', calling('addKey', file)]
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'ignore', 'pipe'] })
  t.teardown(() => child.kill('SIGKILL'))
  let text = ''
  child.stderr.on('data', (data: Buffer) => (text += String(data)))
  const ended = once(child, 'close').then(() => text)
  // It looks at the file once before it has the lock.
  feed()
  const untilMs = performance.now() + 60_000
  while (!readdirSync(folder).includes('.key.ringfs-key')) {
    if (performance.now() > untilMs) throw new Error(`no change has begun: ${text}`)
    await delay(10)
  }
  return { file, child, goOn: feed, ended }
}

if (process.platform === 'linux') {
  t.test('what a killed change has left the next one removes', async (t) => {
    const folder = mkdtempSync(join(tmpdir(), 'ringfs-keys-'))
    const { file, child, ended } = await begunChange(t, folder)
    child.kill('SIGKILL')
    await ended
    t.same(readdirSync(folder).sort(), ['.key.ringfs-key', 'key', 'key.lock'])
    rmSync(file)
    const first = newKeyFile(file)
    const second = addKey(file)
    t.same(listKeys(file), [second, first])
    t.same(readdirSync(folder), ['key'])
  })

  t.test('a change whose lock was taken away changes nothing, and leaves those of the next one', async (t) => {
    const folder = mkdtempSync(join(tmpdir(), 'ringfs-keys-'))
    const { file, goOn, ended } = await begunChange(t, folder)
    const others = ['key.lock', '.key.ringfs-key'].map((name) => join(folder, name))
    for (const other of others) {
      rmSync(other)
      writeFileSync(other, 'of another one')
    }
    goOn()
    t.match(await ended, /key\.lock was removed: nothing is changed/)
    t.ok(lstatSync(file).isFIFO())
    for (const other of others) t.equal(readFileSync(other, 'utf8'), 'of another one')
  })
}
