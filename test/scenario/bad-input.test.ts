/** What bad input gets: one line that says what to do, an exit code of its own, and nothing half-made. */
import { mkdir, readFile, readdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { startRedis } from '../helpers/redis.js'
import { PROGRAM, Ringfs, runIn, sh } from '../helpers/ringfs.js'

async function refused(t: Test, ringfs: Ringfs, words: readonly string[], code: number, text: RegExp): Promise<void> {
  const ran = await ringfs.run(...words)
  const what = words.join(' ').slice(0, 80)
  t.equal(ran.code, code, `${what}: exit code`)
  t.match(ran.stderr, text, `${what}: what it says`)
  t.match(ran.stderr, /^ringfs: [^\n]+\n$/, `${what}: one line`)
  t.notMatch(ran.stderr, / {4}at /, `${what}: no stack`)
}

t.test('arguments that make no sense are refused with exit code 2', async (t) => {
  const ringfs = await Ringfs.in(t)
  await refused(t, ringfs, ['fly'], 2, /unknown command 'fly'/)
  await refused(t, ringfs, ['up', '--wings'], 2, /unknown option '--wings'/)
  await refused(t, ringfs, ['up', '--nodes', 'many'], 2, /whole number/)
  await refused(t, ringfs, ['up', '--replicas', '3'], 2, /add --nodes 3/)
  await refused(t, ringfs, ['up', '--driver', 'horse'], 2, /kernel, fuse-native/)
  await refused(t, ringfs, ['format', 'http://localhost/x'], 2, /redis:\/\//)
  await refused(t, ringfs, ['format', 'redis://localhost:1'], 2, /names no volume/)
  await refused(t, ringfs, ['node', '--data', 'd', '--listen', 'localhost:0'], 2, /--meta/)
  const start = ['node', '--meta', 'redis://localhost:1/v', '--data', 'd', '--listen', 'localhost:0']
  await refused(t, ringfs, [...start, '--forget', 'e'], 2, /e: chunks.*would be lost; --force/)
  await refused(t, ringfs, ['rebuild', '--min-age', '4.9', 'redis://localhost:1/v'], 2, /about to commit.*--force/)
  await refused(t, ringfs, ['rebuild', '--min-age', '4.9', '--force', 'redis://localhost:1/v'], 10, /localhost:1/)
  await refused(t, ringfs, ['scrub', '--limit', '1M', 'redis://localhost:1/v'], 2, /--now/)
  await refused(t, ringfs, ['scrub', '--now', '--stop', 'redis://localhost:1/v'], 2, /one of them/)
  const backup = (file: string) => ['backup', '--force', file, 'redis://localhost:1/v']
  await refused(t, ringfs, backup('/dev/null'), 2, /is there and is no file/)
  await refused(t, ringfs, backup('missing/file'), 2, /missing is no folder/)
  const none = await ringfs.run()
  t.equal(none.code, 2)
  t.match(none.stderr, /Usage: ringfs/)
  t.same(ringfs.processes(), [])
})

t.test('an argument that is not UTF-8 is refused, and nothing is made by another name', async (t) => {
  const ringfs = await Ringfs.in(t)
  const raw = `exec "$0" "$1" up "$(printf 'bad\\377')" --detach`
  const { code, stderr } = await runIn(ringfs.folder, 'sh', ['-c', raw, process.execPath, PROGRAM], ringfs.env)
  t.equal(code, 2)
  t.match(stderr, /^ringfs: bad\uFFFD is not UTF-8: .*\n$/)
  t.same(await readdir(ringfs.folder), ['run'])
  await refused(t, ringfs, ['ls', '/\uFFFD', '--data', 'none'], 83, /none is not a data folder/)
})

t.test('a folder below which the system makes none is refused, and not tried for ever', async (t) => {
  const ringfs = await Ringfs.in(t)
  await refused(t, ringfs, ['up', '/proc/none/mnt'], 30, /none\/mnt cannot be made: ENOENT/)
  await refused(t, ringfs, ['up', '--data', '/proc/none/data'], 2, /data cannot be a data folder.*ENOENT/)
  await refused(t, ringfs, ['redis-cluster', 'up', '/proc/none'], 2, /cannot be a folder for a Redis Cluster.*ENOENT/)
})

t.test('every command has help with examples, and help succeeds', async (t) => {
  const ringfs = await Ringfs.in(t)
  const commands = [
    'up',
    'down',
    'format',
    'node',
    'mount',
    'umount',
    'status',
    'install-mount-helper',
    'fsck',
    'scrub',
    'backup',
    'restore',
    'rebuild',
    'rebalance',
    'redis-cluster',
    'key',
    'stats',
    'bench',
    'systemd',
  ]
  for (const command of [...commands, 'put', 'get', 'ls', 'cat', 'rm', 'mkdir', 'mv', 'stat', 'df']) {
    const { code, stdout } = await ringfs.run(command, '--help')
    t.equal(code, 0, command)
    t.match(stdout, /Usage: ringfs/, command)
    t.notMatch(stdout, /default: (\[\]|""|false|undefined)/, `${command} names no default that is nothing`)
  }
  const drain = await ringfs.ok('node', 'drain', '--help')
  t.match(drain, /--no-wait.*--key-file.*Examples/s)
  t.notMatch(drain, /--listen/, 'an option of another command')
  t.match(await ringfs.ok('--help'), /Examples/)
  t.match(await ringfs.ok('--version'), /^\d+\.\d+\.\d+\n$/)
})

t.test('without anything that runs, commands say how to start it', async (t) => {
  const ringfs = await Ringfs.in(t)
  for (const words of [['status'], ['ls'], ['df'], ['put', '/etc/hostname', '/x']]) {
    await refused(t, ringfs, words, 83, /ringfs up/)
  }
  await refused(t, ringfs, ['down'], 83, /no ringfs up runs/)
  await refused(t, ringfs, ['ls', '--data', 'nowhere'], 83, /not a data folder/)
})

t.test('a Redis that cannot be reached, would forget, or has no such volume is refused', async (t) => {
  const ringfs = await Ringfs.in(t)
  await refused(t, ringfs, ['status', 'redis://127.0.0.1:1/home'], 10, /127\.0\.0\.1:1/)
  const forgetful = await startRedis(t, { config: ['appendonly no'] })
  await refused(t, ringfs, ['format', forgetful.urlText('home')], 11, /append/i)
  const redis = await startRedis(t)
  const url = redis.urlText('home')
  await refused(t, ringfs, ['status', url], 20, /ringfs format/)
  await refused(t, ringfs, ['mount', url, ringfs.folder], 20, /ringfs format/)
  const made = await ringfs.ok('format', url, '--replicas', '3')
  t.match(made, /3 replicas, write quorum 2.*metadata on the Redis masters alone/)
  await refused(t, ringfs, ['format', redis.urlText('bad'), '--meta-sync', 'never'], 2, /always/)
  await refused(t, ringfs, ['format', url], 21, /exists already/)
  await refused(t, ringfs, ['format', redis.urlText('bad'), '--write-quorum', '2'], 2, /bad setting: the write quorum/)
  await refused(t, ringfs, ['format', redis.urlText('bad'), '--chunk-size', '5M'], 2, /chunk-size.*64K to 4M/)
  const lonely = await ringfs.run('format', redis.urlText('lonely'), '--meta-replicas', '1')
  t.match(lonely, { code: 0, stderr: /^ringfs: warning: a Redis master has no replica now: until each has 1, / })
  await refused(t, ringfs, ['restore', 'none', redis.urlText('bad')], 2, /none cannot be read: no such file/)
  await refused(t, ringfs, ['restore', ringfs.folder, redis.urlText('bad')], 2, /is a folder/)
})

t.test('a mount point that is a file, not empty or taken is refused, and nothing runs afterwards', async (t) => {
  const ringfs = await Ringfs.in(t)
  const file = join(ringfs.folder, 'file')
  await writeFile(file, '')
  await refused(t, ringfs, ['up', file], 30, /not a folder/)
  const full = join(ringfs.folder, 'full')
  await mkdir(full)
  await writeFile(join(full, 'mine'), 'keep')
  await refused(t, ringfs, ['up', full], 30, /not empty/)
  t.equal(await readFile(join(full, 'mine'), 'utf8'), 'keep')
  await refused(t, ringfs, ['up', join(file, 'below')], 30, /cannot be made/)
  await refused(t, ringfs, ['up', '--detach', full], 30, /not empty/)
  await refused(t, ringfs, ['up', '--nodes', '1', '--replicas', '3'], 2, /add --nodes 3/)
  await refused(t, ringfs, ['umount', 'none'], 30, /none does not exist: ringfs status shows/)
  t.same(
    (await readdir(ringfs.folder)).sort(),
    ['file', 'full', 'run'],
    'neither a data folder nor a mount point is made',
  )
  t.same(ringfs.processes(), [])
  await ringfs.ok('up', '--detach')
  await refused(t, ringfs, ['up', 'mnt', '--data', 'other-data'], 31, /already mounted/)
  await ringfs.ok('down')
})

t.test('a further data folder is given up only by force, however many replicas there are', async (t) => {
  const ringfs = await Ringfs.in(t)
  const further = join(ringfs.folder, 'further')
  const words = ['up', '--detach', '--data', ringfs.data]
  await ringfs.ok(...words, '--nodes', '2', '--replicas', '2', '--data', further)
  await ringfs.ok('down')
  await refused(t, ringfs, [...words, '--forget', join(ringfs.folder, 'no')], 2, /not a further data folder/)
  await refused(t, ringfs, [...words, '--forget', further], 2, /every node.*would be missing.*copy the folder.*--force/)
  t.match(await readFile(join(ringfs.data, 'up.json'), 'utf8'), further, 'it is used by the next start')
  await ringfs.ok(...words, '--forget', further, '--force')
  for (const node of ['1', '2']) {
    const identity = await readFile(join(ringfs.data, 'nodes', node, 'ringfs-node.json'), 'utf8')
    t.match(JSON.parse(identity), { set: { disks: { length: 1 }, forgotten: { length: 1 } } }, 'it is not missed')
  }
  t.match(await readFile(join(ringfs.data, 'up.json'), 'utf8'), /"more": \[\]/)
  await ringfs.ok('down')
})

t.test('a data folder that is no folder, somebody else’s, damaged, or of another volume is refused', async (t) => {
  const ringfs = await Ringfs.in(t)
  const file = join(ringfs.folder, 'file')
  await writeFile(file, '')
  await refused(t, ringfs, ['up', '--data', file], 2, /data folder/)
  const other = join(ringfs.folder, 'home')
  await mkdir(other)
  await writeFile(join(other, 'letter.txt'), 'dear')
  await refused(t, ringfs, ['up', '--data', other], 2, /letter\.txt/)
  await ringfs.ok('up', '--detach')
  await ringfs.ok('down')
  await rm(join(ringfs.data, 'redis'), { recursive: true })
  await refused(t, ringfs, ['up'], 23, /metadata of volume ringfs is gone/)
  await writeFile(join(ringfs.data, 'up.json'), '{"format":99,"volume":"ringfs","nodes":1}')
  await refused(t, ringfs, ['up'], 22, /newer/)
  await writeFile(join(ringfs.data, 'up.json'), 'nonsense')
  await refused(t, ringfs, ['up'], 23, /damaged/)
  t.same(ringfs.processes(), [])
})

t.test('a node refuses the data folder of another volume, and one that another node has open', async (t) => {
  const ringfs = await Ringfs.in(t)
  const redis = await startRedis(t)
  const [one, two] = [redis.urlText('one'), redis.urlText('two')]
  await ringfs.ok('format', one)
  await ringfs.ok('format', two)
  const words = (url: string): string[] => ['node', '--meta', url, '--data', 'chunks', '--listen', '127.0.0.1:0']
  const node = ringfs.start(...words(one))
  await new Promise((resolve) => node.stdout?.once('data', resolve))
  await refused(t, ringfs, words(one), 82, /stop that first/)
  const copied = join(ringfs.folder, 'copied')
  await sh('cp', '-a', join(ringfs.folder, 'chunks'), copied)
  const twin = ['node', '--meta', one, '--data', copied, '--listen', '127.0.0.1:0']
  await refused(t, ringfs, [...twin, '--log-level', 'silent'], 40, /identity|claimed/i)
  const ended = new Promise<number | null>((resolve) => node.once('exit', resolve))
  node.kill('SIGTERM')
  t.equal(await ended, 0)
  await refused(t, ringfs, [...words(two), '--log-level', 'silent'], 41, /belongs to volume/)
  await refused(t, ringfs, ['node', '--meta', one, '--data', 'x', '--listen', '0.0.0.0:0'], 2, /--advertise/)
  const open = ['node', '--meta', one, '--data', 'y', '--listen', '0.0.0.0:0', '--advertise', '127.0.0.1:9']
  await refused(t, ringfs, [...open, '--log-level', 'silent'], 51, /key/)
})

t.test('names and paths that are too long, and missing ones, are refused with what is wrong', async (t) => {
  const ringfs = await Ringfs.in(t)
  await ringfs.ok('up', '--detach')
  const long = 'n'.repeat(256)
  await refused(t, ringfs, ['mkdir', `/${long}`], 1, /too long/)
  await refused(t, ringfs, ['stat', `/${'d/'.repeat(2048)}x`], 1, /too long/)
  await refused(t, ringfs, ['cat', '/missing'], 1, /\/missing: .*no such file/)
  await ringfs.ok('mkdir', `/${'n'.repeat(255)}`)
  await refused(t, ringfs, ['rm', `/${'n'.repeat(255)}`], 1, /directory/)
  const shell = await runIn('/', 'mkdir', [join(ringfs.mountpoint, long)])
  t.match(shell.stderr, /File name too long/)
  const bytes = await runIn('/', 'sh', [
    '-c',
    `touch "$(printf '${ringfs.mountpoint}/caf\\351')" && ls ${ringfs.mountpoint}`,
  ])
  t.equal(bytes.code, 0, 'a name that is not UTF-8 is a name')
  await ringfs.ok('down')
})
