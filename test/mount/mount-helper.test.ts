/** `mount -t ringfs` and lines of /etc/fstab: sources, options, exit codes. In a mount namespace of its own. */
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { newMachine, runFileOf, source, stopRedis } from '../helpers/machine.js'
import { Ringfs, eventually, kill } from '../helpers/ringfs.js'
import { System } from '../helpers/system.js'

t.setTimeout(600_000)

t.test('mount -t ringfs takes a data folder or a URL, and lines of fstab, and the password is nowhere', async (t) => {
  const { ringfs, system, data, a, b } = await newMachine(t)
  await system.okRingfs('down')
  t.match(await system.ok('mount', '-v', '-t', 'ringfs', data, a, '-o', 'noatime,nosuid'), /is mounted at/)
  t.match(await system.mounted(a), { source: data, type: 'fuse.ringfs' })
  for (const option of ['rw', 'noatime', 'nosuid', 'allow_other']) {
    t.ok((await system.mounted(a))?.options.includes(option), option)
  }
  await system.ok('sh', '-c', 'echo hello > "$0/file"', a)

  const { url, passwordFile, password } = await source(ringfs)
  const fstab = join(ringfs.folder, 'fstab')
  const options = `ro,dirsync,password-file=${passwordFile},_netdev,nofail,x-systemd.mount-timeout=90`
  await writeFile(fstab, `${url} ${b} ringfs ${options} 0 0\n`)
  await system.ok('mount', '-a', '-T', fstab)
  t.match(await system.mounted(b), { source: url, type: 'fuse.ringfs' })
  t.same((await system.mounted(b))?.options.slice(0, 2), ['ro', 'dirsync'])
  t.equal(await system.ok('cat', join(b, 'file')), 'hello\n')
  t.match(await system.ok('df', b), url)
  t.match(await system.ok('mount', '-a', '-v', '-T', fstab), /already mounted/, 'by its source')

  const status: unknown = JSON.parse(await system.okRingfs('status', '--json', '--data', data))
  t.match(status, {
    mounts: [
      { mountpoint: a, readOnly: false, isMounted: true },
      { mountpoint: b, readOnly: true },
    ],
  })
  for (const pid of ringfs.processes()) {
    t.notMatch(await readFile(`/proc/${pid}/cmdline`, 'latin1'), password)
  }
  const { pid } = runFileOf(ringfs, b)
  await system.ok('umount', b)
  await eventually(
    'the end of its process',
    () => ringfs.processes(),
    (pids) => !pids.includes(pid),
  )
  await system.ok('umount', a)
  await eventually(
    'the end of the up',
    () => ringfs.runFiles(),
    (runs) => runs.length === 0,
  )
})

t.test('mount.ringfs has the exit codes of mount(8), and one line that says why', async (t) => {
  const ringfs = await Ringfs.in(t)
  const system = await System.of(t, ringfs)
  await system.okRingfs('install-mount-helper')
  const a = await system.folder('a')
  const nobody = 'redis://127.0.0.1:1/home'
  const open = join(ringfs.folder, 'open')
  await writeFile(open, 'secret', { mode: 0o644 })
  const refused: readonly (readonly [readonly string[], number, RegExp])[] = [
    [[nobody, a, '-o', 'colour=red'], 1, /unknown mount option 'colour'/],
    [[nobody, a, '-o', 'driver=horse'], 1, /kernel, fuse-native/],
    [['redis://:pw@127.0.0.1:1/home', a], 1, /password-file/],
    [['redis://127.0.0.1:1', a], 1, /names no volume/],
    [[nobody, a, '-o', `password-file=${open}`], 1, /chmod 600/],
    [[join(ringfs.folder, 'none'), a], 32, /no data folder/],
    [[nobody, join(ringfs.folder, 'none')], 32, /does not exist/],
    [[nobody, a], 32, /cannot be reached/],
    [[nobody, a, '-o', 'nofail'], 0, /cannot be reached/],
  ]
  for (const [words, code, text] of refused) {
    const ran = await system.run('mount', '-t', 'ringfs', ...words)
    t.equal(ran.code, code, `${words.join(' ')}: exit code`)
    t.match(ran.stderr, text, words.join(' '))
    t.match(ran.stderr, /^mount\.ringfs: [^\n]+\n$/, 'one line')
  }
  const fake = await system.run('mount', '-f', '-s', '-v', '-t', 'ringfs', nobody, a, '-o', 'colour=red,ro')
  t.match(fake, { code: 0, stdout: /would be mounted/ }, 'fake and sloppy')
  t.match(await system.run('/sbin/mount.ringfs', nobody), { code: 1, stderr: /usage/ })
  t.match(await system.run('/sbin/mount.ringfs', nobody, a, '-x'), { code: 1, stderr: /usage/ })
  t.equal(await system.mounted(a), undefined)
  t.match(await system.okRingfs('install-mount-helper', '--remove'), /removed/)
  t.not((await system.run('ls', '/sbin/mount.ringfs')).code, 0)
})

t.test('a Redis that answers a little later is waited for, as long as retry says', async (t) => {
  const { ringfs, system, b } = await newMachine(t)
  const { url, passwordFile } = await source(ringfs)
  const redis = stopRedis(t, ringfs)
  const options = `password-file=${passwordFile},retry=1`
  const mounting = system.run('mount', '-t', 'ringfs', url, b, '-o', options)
  const log = join(ringfs.folder, `run/ringfs/ringfs-${b.slice(1).replaceAll('/', '-')}.log`)
  const said = () => readFile(log, 'utf8').catch(() => '')
  await eventually('a first attempt that failed', said, (text) => text.includes('Redis is waited for'))
  kill(redis, 'SIGCONT')
  t.match(await mounting, { code: 0, stderr: '' })
  t.equal((await system.mounted(b))?.source, url)
})

t.test('a read-only mount refuses every change with EROFS and can be read; remount changes ro and rw', async (t) => {
  const { ringfs, system, a, b } = await newMachine(t)
  await system.ok('sh', '-c', 'echo contents > "$0/file"; mkdir "$0/folder"; setfattr -n user.a -v 1 "$0/file"', a)
  await system.ok('touch', '-a', '-d', '2001-01-01', join(a, 'file'))
  const { url, passwordFile } = await source(ringfs)
  const file = join(b, 'file')
  const changes = [
    ['touch', join(b, 'new')],
    ['touch', '-a', file],
    ['mkdir', join(b, 'new')],
    ['mknod', join(b, 'new'), 'p'],
    ['ln', '-s', 'target', join(b, 'new')],
    ['ln', file, join(b, 'new')],
    ['rm', '-f', file],
    ['rmdir', join(b, 'folder')],
    ['mv', file, join(b, 'new')],
    ['chmod', '600', file],
    ['chown', '1', file],
    ['truncate', '-s', '0', file],
    ['sh', '-c', 'echo more >> "$0"', file],
    ['setfattr', '-n', 'user.a', '-v', '2', file],
    ['setfattr', '-x', 'user.a', file],
  ] as const
  await system.ok('mount', '-t', 'ringfs', url, b, '-o', `ro,strictatime,password-file=${passwordFile}`)
  for (const words of changes) {
    t.match(await system.run(...words), { code: /[^0]/, stderr: /[Rr]ead-only file system/ }, words.join(' '))
  }
  t.equal(await system.ok('cat', file), 'contents\n')
  t.match(await system.ok('getfattr', '--absolute-names', '-n', 'user.a', file), /user\.a="1"/)
  t.match(await system.ok('stat', '-c', '%x', join(a, 'file')), /^2001-01-01/, 'reading left the access time alone')
  t.match(await system.run('mount', '-o', 'remount,rw', b), { code: 32, stderr: /mounted read-only/ })

  await system.ok('mount', '-o', 'remount,ro', a)
  t.ok((await system.mounted(a))?.options.includes('ro'))
  t.match(await system.run('touch', join(a, 'file')), { code: 1, stderr: /Read-only/ })
  await system.ok('mount', '-o', 'remount,rw', a)
  await system.ok('touch', join(a, 'file'))
  t.match(await system.run('mount', '-o', 'remount,noatime', a), { code: 32, stderr: /unmount and mount anew/ })
})

t.test('with -o sync a write is seen elsewhere before the file is closed', async (t) => {
  const { ringfs, system, a, b } = await newMachine(t, '-o', 'sync')
  const { url, passwordFile } = await source(ringfs)
  await system.ok('mount', '-t', 'ringfs', url, b, '-o', `password-file=${passwordFile}`)
  // A program that writes, looks through the other mount, and closes only then.
  const script = 'exec 3>"$0/file"; echo one >&3; exec cat "$1/file"'
  t.equal(await system.ok('sh', '-c', script, a, b), 'one\n')
})

t.test('a log that nobody may write to is told before anything is mounted', async (t) => {
  const { ringfs, system, b } = await newMachine(t)
  const { url, passwordFile } = await source(ringfs)
  const options = `password-file=${passwordFile},log-file=${join(passwordFile, 'log')}`
  t.match(await system.run('mount', '-t', 'ringfs', url, b, '-o', options), {
    code: 1,
    stderr: /log .* cannot be written/,
  })
  t.equal(await system.mounted(b), undefined)
})
