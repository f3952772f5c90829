/** No secret is to be seen in the list of processes, in an environment that ringfs made, or in a log. */
import { createHash } from 'node:crypto'
import { mkdir, readFile, readdir, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { PARTITIONS_DEFAULT } from '../../src/base/limits.js'
import { formatMetaUrl } from '../../src/cluster/url.js'
import { makeAuthority } from '../helpers/certificates.js'
import { startRedis } from '../helpers/redis.js'
import { Ringfs, eventually, sh } from '../helpers/ringfs.js'

t.setTimeout(600_000)

/** Processes of ringfs in whose arguments or environment the text stands. */
async function whoShows(ringfs: Ringfs, text: string): Promise<readonly string[]> {
  const places = ringfs.processes().flatMap((pid) => [`/proc/${pid}/cmdline`, `/proc/${pid}/environ`])
  const texts = await Promise.all(places.map((place) => readFile(place, 'latin1').catch(() => '')))
  return places.filter((_, index) => texts[index]?.includes(text))
}

/** What others than the owner can get at, there and below. */
async function openToOthers(place: string): Promise<readonly string[]> {
  return (await sh('find', place, '!', '-type', 'l', '-perm', '/077')).split('\n').filter((line) => line !== '')
}

t.test('the password of up is with nobody but its files', async (t) => {
  const ringfs = await Ringfs.in(t)
  await ringfs.ok('up', '--detach', '--nodes', '2', '--log-level', 'debug')
  const state = await readFile(join(ringfs.data, 'redis', 'ringfs-redis.json'), 'utf8')
  const password = /"password":"([^"]+)"/.exec(state)?.[1] ?? ''
  t.ok(password.length > 20)
  t.ok(ringfs.processes().length >= 4, 'up, Redis and two nodes')
  t.same(await whoShows(ringfs, password), [])
  const again = join(ringfs.folder, 'again')
  await mkdir(again)
  await ringfs.ok('mount', ringfs.data, again, '--detach')
  await sh('sh', '-c', `echo hello > ${again}/a && cmp ${again}/a ${ringfs.mountpoint}/a`)
  t.same(await whoShows(ringfs, password), [], 'a second mount neither')
  t.notOk((await readFile(join(ringfs.data, 'log'), 'utf8')).includes(password))
  t.equal((await stat(ringfs.data)).mode & 0o777, 0o700, 'and what is below it, for nobody else')
  t.same(await openToOthers(join(ringfs.data, 'nodes')), [])
  await ringfs.ok('umount', again)
  await ringfs.ok('down')
})

t.test('a node and a mount over TLS, as an ACL user, with passwords in files', async (t) => {
  const ringfs = await Ringfs.in(t)
  const authority = await makeAuthority(ringfs.folder)
  const password = 'the password of ann'
  const passwordFile = join(ringfs.folder, 'redis.pw')
  await writeFile(passwordFile, `${password}\n`, { mode: 0o600 })
  const docs = await readFile(new URL('../../../docs/operations.md', import.meta.url), 'utf8')
  const rule = docs.split('\n').find((line) => line.trim().startsWith('user ringfs on ')) ?? ''
  const config = [rule.trim().replace('>PASSWORD', `"#${sha256(password)}"`)]
  const redis = await startRedis(t, { tls: authority, config })
  const { hosts, tls } = redis.url('home')
  const meta = formatMetaUrl({ hosts, volume: 'home', ...(tls && { tls }), user: 'ringfs', passwordFile })
  t.match(meta, /^rediss:\/\/ringfs:@.*password-file=/)

  await ringfs.ok('format', meta)
  const node = ringfs.start('node', '--meta', meta, '--data', join(ringfs.folder, 'data'), '--listen', '127.0.0.1:0')
  let printed = ''
  for (const stream of [node.stdout, node.stderr]) stream?.on('data', (data: Buffer) => (printed += data.toString()))
  await eventually(
    'it listens',
    () => printed,
    (text) => text.includes('listens on'),
  )
  await mkdir(ringfs.mountpoint)
  await ringfs.ok('mount', meta, ringfs.mountpoint, '--detach')
  const dir = ringfs.mountpoint
  await sh('sh', '-ec', `mkdir ${dir}/d && head -c 3000000 /dev/urandom > ${dir}/d/a && sync ${dir}/d/a`)
  await sh('sh', '-ec', `cp ${dir}/d/a ${dir}/b && mv ${dir}/b ${dir}/d/c && ln ${dir}/d/c ${dir}/e`)
  await sh('sh', '-ec', `cmp ${dir}/d/a ${dir}/e && rm ${dir}/d/a && flock ${dir}/e true && ls -l ${dir} ${dir}/d`)
  t.match(await ringfs.ok('status', meta), /home/)
  await ringfs.ok('get', meta, '/e', join(ringfs.folder, 'e'))
  await sh('cmp', join(ringfs.folder, 'e'), join(dir, 'e'))
  // What an operator does needs no more rights.
  const backup = join(ringfs.folder, 'backup')
  const asked = ['fsck --repair', 'scrub --now', 'rebuild', 'node settings --limit 0', 'rebalance', `backup ${backup}`]
  const { env } = ringfs
  env['RINGFS_META'] = meta
  for (const words of asked) t.match(await ringfs.run(...words.split(' ')), { code: 0 }, words)
  t.match(await ringfs.run('restore', backup, meta), { code: 21 }, 'the volume is there')
  delete env['RINGFS_META']

  t.same(await whoShows(ringfs, password), [])
  t.same(await openToOthers(join(ringfs.folder, 'data')), [], 'chunks are for their node alone')
  t.same(await openToOthers(backup), [], 'a backup has small files')
  const logs = join(ringfs.env['XDG_STATE_HOME'] ?? '', 'ringfs')
  t.same(await openToOthers(logs), [])
  const names = (await readdir(logs)).filter((name) => name.endsWith('.log'))
  const texts = await Promise.all(names.map((name) => readFile(join(logs, name), 'utf8')))
  t.notOk([printed, ...texts].join('').includes(password), 'nor in a log')
  await ringfs.ok('umount', dir)
  node.kill('SIGTERM')
  await eventually(
    'it has ended',
    () => node.exitCode,
    (code) => code === 0,
  )
  // As an interrupted restore leaves it.
  await redis.command(0, 'DEL', '{home}:m:settings')
  await redis.command(0, 'SET', '{home}:m:restore', `abc 1 token ${PARTITIONS_DEFAULT} 0`)
  t.match(await ringfs.run('restore', '--abandon', meta, meta), { code: 2 }, 'it takes no file')
  t.match(await ringfs.run('restore', '--abandon', meta), { code: 0, stdout: /is given up: the name is free/ })
  for (const key of ['{home}:m:restore', '{home.1}:i']) t.equal(await redis.command(0, 'EXISTS', key), 0)
  await ringfs.ok('format', meta)
  t.notMatch(printed, /NOPERM|"level":(50|60)/)
})

function sha256(text: string): string {
  return createHash('sha256').update(text).digest('hex')
}
