/** Mounting as a user without any rights, through fusermount3, which hands the descriptor over. */
import { chown, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { Ringfs } from '../helpers/ringfs.js'
import { System, type User } from '../helpers/system.js'

t.setTimeout(600_000)

// nobody and daemon of every Debian: fusermount3 wants a user that /etc/passwd knows.
const USER: User = { uid: 65_534, gid: 65_534 }
const STRANGER: User = { uid: 1, gid: 1 }

interface Place {
  readonly system: System
  readonly mountpoint: string
  readonly data: string
  /** Words that run ringfs, and what it is mounted with. */
  readonly ringfs: (...words: readonly string[]) => readonly string[]
}

async function newPlace(t: Test): Promise<Place> {
  const own = await Ringfs.in(t)
  const system = await System.of(t, own)
  await system.folder(`run-${USER.uid}`, USER)
  await system.ok('chmod', '700', join(own.folder, `run-${USER.uid}`))
  const mountpoint = await system.folder('mine', USER)
  const data = await system.folder('data', USER)
  return { system, mountpoint, data, ringfs: (...words) => [process.execPath, system.program, ...words] }
}

t.test('a user without rights mounts with either driver, and what is made there is his', async (t) => {
  const { system, mountpoint, data, ringfs } = await newPlace(t)
  for (const driver of ['kernel', 'fuse-native']) {
    await system.okAs(
      USER,
      ...ringfs('up', mountpoint, '--data', data, '--detach', '--driver', driver, '-o', 'noatime'),
    )
    const { type, options = [] } = (await system.mounted(mountpoint)) ?? {}
    t.equal(type, 'fuse.ringfs', driver)
    for (const option of ['nosuid', 'nodev', 'noatime', `user_id=${USER.uid}`]) t.ok(options.includes(option), option)
    t.notOk(options.includes('allow_other'))

    const file = join(mountpoint, driver)
    await system.okAs(USER, 'sh', '-c', 'umask 027; echo mine > "$0"', file)
    t.equal(await system.okAs(USER, 'stat', '-c', '%u %g %a', file), `${USER.uid} ${USER.gid} 640\n`)
    await system.okAs(USER, 'chmod', '0', file)
    t.match(await system.runAs(USER, 'cat', file), { stderr: /Permission denied/ }, 'the kernel checks the rights')
    await system.okAs(USER, 'chmod', '600', file)
    t.equal(await system.okAs(USER, 'cat', file), 'mine\n')
    t.match(await system.runAs(USER, 'chown', String(STRANGER.uid), file), { stderr: /not permitted/ })
    t.match(await system.runAs(STRANGER, 'ls', mountpoint), { stderr: /Permission denied/ }, 'others see nothing')
    t.match(await system.okAs(USER, ...ringfs('umount', mountpoint)), /is unmounted/)
    t.equal(await system.mounted(mountpoint), undefined)
  }
})

t.test('a data folder of another user is told from one that is none', async (t) => {
  const { system, mountpoint, data, ringfs } = await newPlace(t)
  const foreign = await system.folder('foreign', STRANGER)
  await system.ok('chmod', '700', foreign)
  const advice = /cannot be .*EACCES.*: run this as the user whose folder it is/
  for (const words of [['ls'], ['down'], ['up', mountpoint], ['up', mountpoint, '--data', data]]) {
    const ran = await system.runAs(USER, ...ringfs(...words, '--data', foreign))
    t.match(ran, { code: 2, stderr: advice }, words.join(' '))
  }
})

t.test('allow_other is refused unless /etc/fuse.conf has user_allow_other, and says so', async (t) => {
  const { system, mountpoint, data, ringfs } = await newPlace(t)
  const up = ringfs('up', mountpoint, '--data', data, '--detach', '-o', 'allow_other')
  const refused = await system.runAs(USER, ...up)
  t.equal(refused.code, 32)
  t.match(refused.stderr, /^ringfs: [^\n]*user_allow_other[^\n]*\/etc\/fuse\.conf[^\n]*\n$/)
  t.equal(await system.mounted(mountpoint), undefined)

  const conf = join(data, 'fuse.conf')
  await writeFile(conf, 'user_allow_other\n')
  await system.ok('mount', '--bind', conf, '/etc/fuse.conf')
  await system.okAs(USER, ...up)
  await system.okAs(USER, 'chmod', '777', mountpoint)
  const file = join(mountpoint, 'theirs')
  await system.okAs(STRANGER, 'touch', file)
  t.equal(await system.ok('stat', '-c', '%u %g', file), `${STRANGER.uid} ${STRANGER.gid}\n`, 'the caller is known')
  await system.okAs(USER, ...ringfs('down'))
})

t.test('a folder of somebody else is not mounted on, and says why', async (t) => {
  const { system, data, ringfs } = await newPlace(t)
  const foreign = await system.folder('foreign')
  const refused = await system.runAs(USER, ...ringfs('up', foreign, '--data', data))
  t.equal(refused.code, 32)
  t.match(refused.stderr, /^ringfs: [^\n]*foreign cannot be mounted: fusermount3: [^\n]*\n$/)
})

t.test('mount -t ringfs works for a user whom a line of fstab allows it', async (t) => {
  const { system, mountpoint, data, ringfs } = await newPlace(t)
  await system.okRingfs('install-mount-helper')
  await system.okAs(USER, ...ringfs('up', mountpoint, '--data', data, '--detach'))
  await system.okAs(USER, ...ringfs('down'))
  const fstab = join(data, 'fstab')
  await writeFile(fstab, `${data} ${mountpoint} ringfs user,noauto 0 0\n`)
  await chown(fstab, 0, 0)
  await system.ok('mount', '--bind', fstab, '/etc/fstab')
  await system.okAs(USER, 'mount', mountpoint)
  t.equal((await system.mounted(mountpoint))?.source, data)
  await system.okAs(USER, 'touch', join(mountpoint, 'file'))
  await system.okAs(USER, ...ringfs('umount', mountpoint))
})
