/** One volume and several mounts, drivers and users of it. */
import { mkdir, readFile, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { formatMetaUrl } from '../../src/cluster/url.js'
import { until } from '../helpers/meta.js'
import { startRedis } from '../helpers/redis.js'
import { Ringfs, kill, sh } from '../helpers/ringfs.js'

t.test('umount ends the up whose mount it is', async (t) => {
  const ringfs = await Ringfs.in(t)
  await ringfs.ok('up', '--detach')
  await sh('sh', '-c', `echo there > ${ringfs.mountpoint}/file`)
  t.match(await ringfs.ok('umount', 'mnt'), /is unmounted/)
  t.same(ringfs.processes(), [])
  const again = await ringfs.run('umount', 'mnt')
  t.equal(again.code, 83)
  await ringfs.ok('up', '--detach')
  t.equal(await ringfs.ok('cat', '/file'), 'there\n')
  await ringfs.ok('down')
})

t.test('umount says so when the process could not write everything', async (t) => {
  const ringfs = await Ringfs.in(t)
  await ringfs.ok('up', '--detach')
  const { pid, startedAt } = ringfs.runFile() ?? {}
  const word = join(ringfs.env['XDG_RUNTIME_DIR'] ?? '', 'ringfs', `${pid}.word`)
  // As the process leaves it (leaveWord).
  await writeFile(word, JSON.stringify({ startedAt, text: 'no node took it' }), { mode: 0o600 })
  t.match(await ringfs.run('umount', 'mnt'), {
    code: 1,
    stderr: /mnt is unmounted, but not everything may be written: no node took it$/m,
  })
  await t.rejects(stat(word), { code: 'ENOENT' }, 'the word is taken')
  await ringfs.ok('up', '--detach')
  t.equal((await ringfs.run('umount', 'mnt')).code, 0, 'that of an earlier process is not told')
})

t.test('a volume of an up can be mounted a second time, and both see each other', async (t) => {
  const ringfs = await Ringfs.in(t)
  await ringfs.ok('up', '--detach')
  const metaUrl = ringfs.runFile()?.metaUrl ?? ''
  const second = join(ringfs.folder, 'second')
  await mkdir(second)
  const { stdout } = await ringfs.run('mount', metaUrl, second, '--detach')
  t.match(stdout, /volume ringfs is mounted at .*second/)
  await sh('sh', '-c', `echo one > ${ringfs.mountpoint}/file`)
  t.equal(await sh('cat', join(second, 'file')), 'one\n')
  await sh('sh', '-c', `echo two > ${second}/file`)
  t.equal(await sh('cat', join(ringfs.mountpoint, 'file')), 'two\n')
  t.match(JSON.parse(await ringfs.ok('status', '--json')), { sessions: [{}, {}] })
  t.match(await ringfs.ok('umount', second), /is unmounted/)
  await ringfs.ok('down')
  // Who asked for the unmount does not wait for the end of the process that had mounted.
  await until('all its processes have ended', () => ringfs.processes().length === 0)
})

t.test('who mounts before there are nodes is told so; node takes the META_URL as mount does', async (t) => {
  const ringfs = await Ringfs.in(t)
  const redis = await startRedis(t)
  const url = formatMetaUrl(redis.url('early'))
  await ringfs.ok('format', url)
  await mkdir(ringfs.mountpoint)
  const early = await ringfs.run('mount', url, ringfs.mountpoint, '--detach')
  t.equal(early.code, 0)
  t.match(early.stderr, /^ringfs: warning: no chunk node is up: .*\n$/)
  const logFile = /log in ([^;]+);/.exec(early.stdout)?.[1] ?? ''
  t.match(await readFile(logFile, 'utf8'), /no chunk node is up/)
  await ringfs.ok('umount', ringfs.mountpoint)
  t.equal(
    (await ringfs.run('mount', url, ringfs.mountpoint, '--detach', '-o', 'ro')).stderr,
    '',
    'who only reads is not',
  )
  await ringfs.ok('umount', ringfs.mountpoint)

  const node = ringfs.start('node', url, '--data', join(ringfs.folder, 'node'), '--listen', '127.0.0.1:0')
  let printed = ''
  node.stdout?.on('data', (data: Buffer) => (printed += data.toString()))
  await until('the node listens', () => printed.includes('listens on'))
  await until('it is up', async () => (await ringfs.ok('status', url)).includes(' up '))
  t.equal((await ringfs.run('mount', url, ringfs.mountpoint, '--detach')).stderr, '')
  await ringfs.ok('umount', ringfs.mountpoint)
  kill(node.pid ?? 0, 'SIGTERM')
})

t.test('the driver fuse-native mounts the same volume', async (t) => {
  const ringfs = await Ringfs.in(t)
  await ringfs.ok('up', '--detach')
  await sh('sh', '-c', `echo same > ${ringfs.mountpoint}/file`)
  await ringfs.ok('down')
  await ringfs.ok('up', '--detach', '--driver', 'fuse-native')
  t.equal(await sh('cat', join(ringfs.mountpoint, 'file')), 'same\n')
  await sh('sh', '-c', `echo more >> ${ringfs.mountpoint}/file`)
  await ringfs.ok('down')
  t.same(ringfs.processes(), [])
  await ringfs.ok('up', '--detach')
  t.equal(await sh('cat', join(ringfs.mountpoint, 'file')), 'same\nmore\n')
  await ringfs.ok('down')
})

t.test('the password of the private Redis is in no argument and in no file that others can read', async (t) => {
  const ringfs = await Ringfs.in(t)
  await ringfs.ok('up', '--detach', '--nodes', '2')
  const password = /:([^:@/]+)@/.exec(ringfs.runFile()?.metaUrl ?? '')?.[1] ?? ''
  t.ok(password.length >= 16)
  for (const pid of ringfs.processes()) {
    t.notMatch(await readFile(`/proc/${pid}/cmdline`, 'latin1'), password)
  }
  const open = await sh('find', ringfs.data, join(ringfs.folder, 'run'), '-perm', '/077', '-not', '-type', 'l')
  // Inside folders that are closed to others nothing else matters.
  t.equal((await sh('stat', '-c', '%a', ringfs.data)).trim(), '700')
  t.notMatch(open, /\.json/)
  await ringfs.ok('down')
})
