/** The cluster key as its user has it: files, nodes that listen to other machines, a mount, and keys changed under load. */
import { spawn, type ChildProcess } from 'node:child_process'
import { chmod, copyFile, mkdir, readFile, readdir, rename, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { addKey, listKeys, newKeyFile, removeKey } from '../../src/main/key-file.js'
import { freePorts, startRedis } from '../helpers/redis.js'
import { Ringfs, eventually, kill, sh } from '../helpers/ringfs.js'

t.setTimeout(600_000)

const KEY_REQUIRED = 51

t.test('key files are made, listed and changed, and are for their owner alone', async (t) => {
  const ringfs = await Ringfs.in(t)
  const file = join(ringfs.folder, 'ring.key')
  t.match(await ringfs.ok('key', 'new', file), /^key [0-9a-f]{16} is in/)
  t.equal((await stat(file)).mode & 0o777, 0o600)
  const [secret = ''] = (await readFile(file, 'utf8')).split('\n')
  t.ok(secret.length >= 43, '32 random bytes')
  const [old = ''] = listKeys(file)
  t.match(await ringfs.run('key', 'new', file), { code: 2, stderr: /EEXIST/ }, 'nothing is overwritten')
  t.throws(() => removeKey(file, old), { code: 'USAGE', message: /only key/ })

  await ringfs.ok('key', 'add', file)
  const ids = (await ringfs.ok('key', 'list', file)).trim().split('\n')
  t.equal(ids.length, 2)
  t.equal(ids[1], old, 'the new one comes first')
  t.equal((await stat(file)).mode & 0o777, 0o600)
  t.throws(() => removeKey(file, '0123456789abcdef'), { code: 'USAGE', message: /no key/ })
  t.notMatch(await ringfs.ok('key', 'remove', file, old), secret)
  t.same(listKeys(file), [ids[0]])
  t.same(await readdir(ringfs.folder), ['ring.key', 'run'], 'nothing is left beside it')

  await chmod(file, 0o640)
  t.match(await ringfs.run('key', 'list', file), { code: 2, stderr: /chmod 600/ })
  t.match(await ringfs.run('key', 'list', '/dev/null'), {
    code: 2,
    stderr: /in \/dev\/null: give the name of a file$/m,
  })
})

/** A process of ringfs, with what it has printed. */
interface Running {
  readonly child: ChildProcess
  readonly printed: () => string
}

function start(ringfs: Ringfs, env: NodeJS.ProcessEnv, ...words: readonly string[]): Running {
  Object.assign(ringfs.env, env)
  const child = ringfs.start(...words)
  let text = ''
  for (const stream of [child.stdout, child.stderr]) stream?.on('data', (data: Buffer) => (text += data.toString()))
  return { child, printed: () => text }
}

t.test('a cluster beyond loopback: no key, no listening; a wrong key is refused; keys change under load', async (t) => {
  const redis = await startRedis(t)
  const ringfs = await Ringfs.in(t)
  const env = { RINGFS_META: redis.urlText('home') }
  Object.assign(ringfs.env, env)
  await ringfs.ok('format', redis.urlText('home'), '--replicas', '2', '--inline-bytes', '0')
  const ports = await freePorts(2)
  // Each machine has its own copy of the file.
  const keys = await Promise.all(
    ['node1', 'node2', 'client'].map(async (machine) => {
      await mkdir(join(ringfs.folder, machine))
      return join(ringfs.folder, machine, 'ring.key')
    }),
  )
  const [first = '', second = '', client = ''] = keys
  newKeyFile(first)
  for (const file of [second, client]) await copyFile(first, file)
  const nodeWords = (index: number) => [
    ...['node', '--data', join(ringfs.folder, `data${index}`), '--listen', `0.0.0.0:${ports[index]}`],
    ...['--advertise', `127.0.0.1:${ports[index]}`],
  ]

  const refused = await ringfs.run(...nodeWords(0))
  t.match(refused, { code: KEY_REQUIRED, stderr: /without a cluster key.*ringfs key new FILE/ }, 'no key, no listening')

  const nodes = [first, second].map((file, index) => start(ringfs, env, ...nodeWords(index), '--key-file', file))
  for (const node of nodes) await eventually('it listens', node.printed, (text) => text.includes('listens on'))

  const wrong = join(ringfs.folder, 'wrong.key')
  newKeyFile(wrong)
  const withWrong = await ringfs.run('mount', env.RINGFS_META, ringfs.mountpoint, '--key-file', wrong)
  t.match(withWrong, { code: KEY_REQUIRED, stderr: /does not know the cluster key of this side/ })
  t.match(await ringfs.run('ls', '/'), { code: KEY_REQUIRED, stderr: /wants the cluster key/ }, 'and without any')
  for (const words of [['fsck'], ['scrub'], ['scrub', '--now'], ['rebuild', '--dry-run']]) {
    const said = await ringfs.run(...words, '--key-file', wrong)
    t.match(
      said,
      { code: KEY_REQUIRED, stdout: '', stderr: /does not know the cluster key of this side/ },
      words.join(' '),
    )
  }
  t.match(await ringfs.run('fsck'), { code: KEY_REQUIRED, stdout: '', stderr: /wants the cluster key/ })
  t.match(await ringfs.run(...nodeWords(1), '--key-file', wrong), { code: KEY_REQUIRED }, 'a node with a wrong one')
  const refusals = (): string => nodes.map((node) => node.printed()).join('')
  await eventually('the nodes say so, too', refusals, (text) => text.includes('connection refused'))
  await eventually('and why', refusals, (text) => text.includes('which is not in the key file here'))

  await mkdir(ringfs.mountpoint)
  await ringfs.ok('mount', env.RINGFS_META, ringfs.mountpoint, '--key-file', client, '--detach')
  const writer = load(ringfs.mountpoint)
  t.teardown(() => writer.child.kill('SIGKILL'))
  await eventually('it writes', writer.rounds, (rounds) => rounds > 2)

  const [old = ''] = listKeys(client)
  const fresh = addKey(client)
  for (const file of [first, second]) await replace(client, file)
  const sees = (accepts: string) => (text: string) => text.includes('cluster keys changed') && text.includes(accepts)
  for (const node of nodes) await eventually('it has both', node.printed, sees(`["${fresh}","${old}"]`))
  await goOn(writer)
  removeKey(first, old)
  for (const file of [second, client]) await replace(first, file)
  for (const node of nodes) await eventually('it has the new one', node.printed, sees(`["${fresh}"]`))
  await goOn(writer)
  t.match(await ringfs.run('ls', '/', '--key-file', wrong), { code: KEY_REQUIRED })
  t.equal(await ringfs.ok('cat', '/check', '--key-file', client), 'as it was\n')

  const pids = [...nodes.map(({ child }) => child.pid ?? 0), ringfs.runFile()?.pid ?? 0]
  const logs = [...nodes.map((node) => node.printed()), await sh('cat', ...(await logsOf(ringfs)))]
  for (const file of [wrong, client]) t.same(await whoTells((await readFile(file, 'utf8')).trim(), pids, logs), [])

  writer.child.stdin?.end()
  await eventually(
    'the load has ended',
    () => writer.child.exitCode,
    (code) => code !== null,
  )
  t.equal(writer.child.exitCode, 0, writer.printed())
  await ringfs.ok('umount', ringfs.mountpoint)
  for (const { child } of nodes) kill(child.pid ?? 0, 'SIGTERM')
  for (const { child } of nodes)
    await eventually(
      'it has ended',
      () => child.exitCode,
      (code) => code === 0,
    )
})

/** Where a secret can be seen: the arguments and the environment of processes, and logs. */
async function whoTells(secret: string, pids: readonly number[], logs: readonly string[]): Promise<readonly string[]> {
  const places = pids.flatMap((pid) => [`/proc/${pid}/cmdline`, `/proc/${pid}/environ`])
  const texts = await Promise.all(places.map((place) => readFile(place, 'utf8')))
  const seen = [...texts, ...logs].map((text, index) => (text.includes(secret) ? (places[index] ?? 'a log') : ''))
  return seen.filter((place) => place !== '')
}

async function logsOf(ringfs: Ringfs): Promise<readonly string[]> {
  const folder = join(ringfs.env['XDG_STATE_HOME'] ?? '', 'ringfs')
  return (await readdir(folder)).filter((name) => name.endsWith('.log')).map((name) => join(folder, name))
}

/** As a copy from another machine arrives: in one step. */
async function replace(from: string, to: string): Promise<void> {
  await writeFile(`${to}.new`, await readFile(from), { mode: 0o600 })
  await rename(`${to}.new`, to)
}

/** Writes files, reads them back past every cache and compares, until its input ends; fails at the first error. */
const LOAD = `
import hashlib, os, sys, threading
folder = sys.argv[1]
open(folder + '/check', 'w').write('as it was\\n')
ended = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
n = 0
while not ended.is_set():
    name = '%s/file-%d' % (folder, n % 7)
    data = os.urandom(300000)
    with open(name, 'wb') as f:
        f.write(data); f.flush(); os.fsync(f.fileno())
    fd = os.open(name, os.O_RDONLY)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    back = os.read(fd, 1000000)
    os.close(fd)
    assert back == data, 'other bytes in ' + name
    n += 1
    print(n, flush=True)
`

interface Load extends Running {
  readonly rounds: () => number
}

function load(folder: string): Load {
  const child = spawn('python3', ['-c', LOAD, folder], { cwd: '/' })
  let text = ''
  let rounds = 0
  child.stdout.on('data', (data: Buffer) => (rounds = Number(data.toString().trim().split('\n').at(-1))))
  child.stderr.on('data', (data: Buffer) => (text += data.toString()))
  return { child, printed: () => text, rounds: () => rounds }
}

async function goOn(writer: Load): Promise<void> {
  const before = writer.rounds()
  await eventually(
    'the load goes on',
    () => writer.rounds(),
    (rounds) => rounds > before + 3,
  )
}
