/** A day with `ringfs up`: what a user does, in the order of doing it. */
import { mkdir, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { randomBytes } from 'node:crypto'
import t from 'tap'
import { Ringfs, eventually, sh } from '../helpers/ringfs.js'

async function localTree(folder: string): Promise<string> {
  const root = join(folder, 'local')
  await mkdir(join(root, 'deep', 'er'), { recursive: true })
  await writeFile(join(root, 'small.txt'), 'hello\n')
  await writeFile(join(root, 'empty'), '')
  await writeFile(join(root, 'deep', 'ünïcode ☂ name'), randomBytes(100_000))
  await writeFile(join(root, 'deep', 'er', 'big'), randomBytes(9_000_000), { mode: 0o600 })
  await symlink('../small.txt', join(root, 'deep', 'link'))
  return root
}

t.test('what is copied into the mount is there after down and up, byte for byte', async (t) => {
  const ringfs = await Ringfs.in(t)
  const local = await localTree(ringfs.folder)
  t.match(await ringfs.ok('up', '--detach'), /^volume ringfs is mounted at .*mnt.*process \d+/)
  const { mountpoint } = ringfs
  await sh('cp', '-a', local, join(mountpoint, 'copied'))
  await sh('sh', '-c', `mkdir ${mountpoint}/tarred && tar cf - -C ${local} . | tar xf - -C ${mountpoint}/tarred`)
  t.equal(await sh('cat', join(mountpoint, 'copied', 'small.txt')), 'hello\n')
  await sh('mv', join(mountpoint, 'copied', 'empty'), join(mountpoint, 'moved'))
  await sh('rm', join(mountpoint, 'moved'))
  await sh('touch', join(mountpoint, 'copied', 'empty'))

  t.match(await ringfs.ok('down'), /unmounted/)
  t.same(ringfs.processes(), [], 'no process is left')
  t.equal(await sh('ls', '-A', mountpoint), '', 'the mount point is an empty folder again')

  await ringfs.ok('up', '--detach')
  await sh('diff', '-r', '--no-dereference', local, join(mountpoint, 'copied'))
  await sh('diff', '-r', '--no-dereference', local, join(mountpoint, 'tarred'))
  t.equal((await sh('stat', '-c', '%a', join(mountpoint, 'copied', 'deep', 'er', 'big'))).trim(), '600')
  await ringfs.ok('down')
})

t.test('up in the foreground says where it mounts, and Ctrl-C unmounts and keeps the data', async (t) => {
  const ringfs = await Ringfs.in(t)
  const up = ringfs.start('up')
  let said = ''
  up.stdout?.on('data', (text: Buffer) => (said += text.toString()))
  await eventually(
    'mounted',
    () => said,
    (text) => text.includes('Ctrl-C unmounts'),
  )
  await sh('sh', '-c', `echo kept > ${ringfs.mountpoint}/file`)
  const ended = new Promise<number | null>((resolve) => up.once('exit', resolve))
  up.kill('SIGINT')
  // As from a terminal through npm: twice.
  up.kill('SIGINT')
  t.equal(await ended, 0)
  t.same(ringfs.processes(), [])
  await ringfs.ok('up', '--detach')
  t.equal(await sh('cat', join(ringfs.mountpoint, 'file')), 'kept\n')
  await ringfs.ok('down', '--data', ringfs.data)
})

t.test('a second up in the same data folder is refused, and the first goes on', async (t) => {
  const ringfs = await Ringfs.in(t)
  await ringfs.ok('up', '--detach')
  for (const words of [['up'], ['up', '--detach'], ['up', join(ringfs.folder, 'elsewhere')]]) {
    const { code, stderr } = await ringfs.run(...words)
    t.equal(code, 82, words.join(' '))
    t.match(stderr, /^ringfs: .*in use by process \d+.*\n$/, 'one line')
  }
  await sh('sh', '-c', `echo on > ${ringfs.mountpoint}/file`)
  t.equal(await ringfs.ok('cat', '/file'), 'on\n')
  await ringfs.ok('down')
  const again = await ringfs.run('down')
  t.equal(again.code, 83, 'nothing runs any more')
})

t.test('what is fixed at the first start cannot be changed by a later one', async (t) => {
  const ringfs = await Ringfs.in(t)
  await ringfs.ok('up', '--detach', '--volume', 'home')
  await ringfs.ok('down')
  const replicas = await ringfs.run('up', '--replicas', '2', '--nodes', '2')
  t.equal(replicas.code, 2)
  t.match(replicas.stderr, /made with --replicas 1,/)
  const volume = await ringfs.run('up', '--volume', 'other')
  t.equal(volume.code, 2)
  t.match(volume.stderr, /holds the volume home/)
  t.same(ringfs.processes(), [], 'a start that fails leaves nothing running')
  t.match(await ringfs.ok('up', '--detach'), /^volume home/, 'and nothing is lost')
  await ringfs.ok('down')
})

t.test('status shows the node, its pid and the session, as text and as JSON', async (t) => {
  const ringfs = await Ringfs.in(t)
  await ringfs.ok('up', '--detach')
  const pid = ringfs.runFile()?.pid
  const status: unknown = JSON.parse(await ringfs.ok('status', '--json'))
  t.match(status, {
    volume: { name: 'ringfs', replicas: 1, writeQuorum: 1 },
    epoch: Number,
    redis: [{ address: String, slots: [[0, 16383]] }],
    nodes: [{ id: String, pid, address: /^unix:/, state: 'up', queueLength: 0, freeBytes: Number }],
    sessions: [{ id: 1, pid }],
  })
  t.match(await ringfs.ok('status', '--data', ringfs.data), new RegExp(`${pid}.* up .*`))
  const metaUrl = ringfs.runFile()?.metaUrl ?? ''
  t.match(await ringfs.ok('status', metaUrl), /volume ringfs/)
  const wrong = await ringfs.run('status', metaUrl.replace(/:[^:@]+@/, ':wrong@'))
  t.equal(wrong.code, 13)
  await ringfs.ok('down')
})
