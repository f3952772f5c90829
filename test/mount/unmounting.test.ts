/** How a mount ends: umount, signals, the death of its process. In a mount namespace of its own. */
import { once } from 'node:events'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { newMachine, runFileOf, source, stopRedis } from '../helpers/machine.js'
import { eventually, kill, sleep } from '../helpers/ringfs.js'

t.setTimeout(600_000)

/** A signal that comes sooner is taken for the same wish. */
const NEXT_WISH_MS = 2_000

t.test('a killed mount is taken over by the next mount -t ringfs, with what was synced', async (t) => {
  const { ringfs, system, data, a, b } = await newMachine(t)
  const { url, passwordFile } = await source(ringfs)
  const again = ['mount', '-t', 'ringfs', url, b, '-o', `password-file=${passwordFile}`] as const
  await system.ok(...again)
  await system.ok('sh', '-c', 'echo synced > "$0/file"; sync "$0/file"', b)
  for (const [mountpoint, words] of [
    [b, again],
    [a, ['mount', '-t', 'ringfs', data, a]],
  ] as const) {
    kill(runFileOf(ringfs, mountpoint).pid)
    await eventually(
      'the death of the mount',
      () => system.run('ls', mountpoint),
      ({ code }) => code !== 0,
    )
    t.match(await system.run('ls', mountpoint), { stderr: /not connected/ })
    await system.ok(...words)
    t.equal(await system.ok('cat', join(mountpoint, 'file')), 'synced\n')
    t.equal((await system.ok('grep', '-c', ` ${mountpoint} `, '/proc/mounts')).trim(), '1', 'the dead one is gone')
  }
})

t.test('a busy mount is not unmounted, and ringfs umount says by whom; lazily it goes on for them', async (t) => {
  const { ringfs, system, data, a } = await newMachine(t)
  const { pid } = runFileOf(ringfs, a)
  const script = 'exec 3>"$0/file"; echo open; sleep 1; while ! [ -e "$1" ]; do sleep 0.1; done; echo late >&3'
  const go = join(ringfs.folder, 'go')
  const user = system.start(t, 'sh', '-c', script, a, go)
  if (user.stdout === null) throw new Error('no output')
  await once(user.stdout, 'data')
  t.match(await system.run('umount', a), { code: 32, stderr: /target is busy/ })
  const busy = await system.ringfs('umount', a)
  t.equal(busy.code, 31)
  t.match(busy.stderr, new RegExp(`in use by .*sh \\(pid ${user.pid ?? 0}\\).*--lazy`))
  t.match(await system.okRingfs('umount', '--lazy', a), /unmounted/)
  t.equal(await system.mounted(a), undefined)
  t.ok(ringfs.processes().includes(pid), 'it is served to who uses it')
  const closed = once(user, 'close')
  await writeFile(go, '')
  await closed
  await eventually(
    'the end of the process',
    () => ringfs.processes(),
    (pids) => !pids.includes(pid),
  )
  await system.ok('mount', '-t', 'ringfs', data, a)
  t.equal(await system.ok('cat', join(a, 'file')), 'late\n')
  t.match(await system.ringfs('umount', ringfs.folder), { code: 83, stderr: /no ringfs is mounted/ })
  t.match(await system.ringfs('umount', '/proc'), { code: 83, stderr: /no ringfs is mounted/ })
})

t.test('SIGTERM writes what is buffered and unmounts, also while the mount is in use', async (t) => {
  const { ringfs, system, a, b } = await newMachine(t)
  const { url, passwordFile } = await source(ringfs)
  await system.ok('mount', '-t', 'ringfs', url, b, '-o', `password-file=${passwordFile}`)
  const { pid } = runFileOf(ringfs, b)
  const user = system.start(t, 'sh', '-c', 'exec 3>"$0/file"; echo buffered >&3; echo open; exec sleep 100', b)
  if (user.stdout === null) throw new Error('no output')
  await once(user.stdout, 'data')
  kill(pid, 'SIGTERM')
  await eventually(
    'the end of the process',
    () => ringfs.processes(),
    (pids) => !pids.includes(pid),
  )
  t.equal(await system.mounted(b), undefined)
  t.equal(await system.ok('cat', join(a, 'file')), 'buffered\n')
})

t.test('umount -f while it is in use ends the process, and leaves no dead mount', async (t) => {
  const { ringfs, system, b } = await newMachine(t)
  const { url, passwordFile } = await source(ringfs)
  for (const driver of ['kernel', 'fuse-native']) {
    await system.ok('mount', '-t', 'ringfs', url, b, '-o', `password-file=${passwordFile},driver=${driver}`)
    const { pid } = runFileOf(ringfs, b)
    const user = system.start(t, 'sh', '-c', 'exec 3>"$0/file"; echo open; exec sleep 100', b)
    if (user.stdout === null) throw new Error('no output')
    await once(user.stdout, 'data')
    t.match(await system.run('umount', '--force', b), { code: 32, stderr: /target is busy/ })
    await eventually(
      'the end of the process',
      () => ringfs.processes(),
      (pids) => !pids.includes(pid),
    )
    t.equal(await system.mounted(b), undefined, driver)
    user.kill('SIGKILL')
  }
})

t.test('a second signal ends a process that is stuck, and leaves no dead mount', async (t) => {
  const { ringfs, system, b } = await newMachine(t)
  const { url, passwordFile } = await source(ringfs)
  await system.ok('mount', '-t', 'ringfs', url, b, '-o', `password-file=${passwordFile}`)
  const user = system.start(t, 'sh', '-c', 'exec 3>"$0/file"; echo lost >&3; echo open; exec sleep 100', b)
  if (user.stdout === null) throw new Error('no output')
  await once(user.stdout, 'data')
  stopRedis(t, ringfs)
  const { pid } = runFileOf(ringfs, b)
  kill(pid, 'SIGTERM')
  await sleep(NEXT_WISH_MS)
  t.ok(ringfs.processes().includes(pid), 'it waits for Redis')
  // When the process has seen the first one, only it knows: so once more, as a user would.
  const impatience = async (): Promise<readonly number[]> => {
    kill(pid, 'SIGTERM')
    await sleep(NEXT_WISH_MS)
    return ringfs.processes()
  }
  await eventually('the end of the process', impatience, (pids) => !pids.includes(pid))
  await eventually(
    'the unmount',
    () => system.mounted(b),
    (mount) => mount === undefined,
  )
})

t.test('a process that is ended at once leaves the mount alone that has taken the place of its own', async (t) => {
  const { ringfs, system, b } = await newMachine(t)
  const { url, passwordFile } = await source(ringfs)
  const mount = ['mount', '-t', 'ringfs', url, b, '-o', `password-file=${passwordFile}`] as const
  await system.ok(...mount)
  const { pid } = runFileOf(ringfs, b)
  const user = system.start(t, 'sh', '-c', 'exec 3>"$0/file"; echo lost >&3; echo open; exec sleep 100', b)
  if (user.stdout === null) throw new Error('no output')
  await once(user.stdout, 'data')
  await system.ok('umount', '--lazy', b)
  await system.ok(...mount)
  const before = await system.mounted(b)
  t.ok(before)
  stopRedis(t, ringfs)
  kill(pid, 'SIGTERM')
  const impatience = async (): Promise<readonly number[]> => {
    await sleep(NEXT_WISH_MS)
    kill(pid, 'SIGTERM')
    return ringfs.processes()
  }
  await eventually('the end of the process', impatience, (pids) => !pids.includes(pid))
  await sleep(NEXT_WISH_MS)
  t.same(await system.mounted(b), before)
})

t.test('ringfs umount does not wait for another mount namespace that has a copy, and names it', async (t) => {
  const { ringfs, system, a } = await newMachine(t)
  const words = ['unshare', '-m', '--propagation', 'private', 'sh', '-c', 'echo held; exec sleep 100']
  const holder = system.start(t, ...words)
  if (holder.stdout === null) throw new Error('no output')
  await once(holder.stdout, 'data')
  await eventually(
    'the shell is sleep(1)',
    () => ringfs.nameOf(holder.pid ?? 0),
    (name) => name === 'sleep',
  )
  const said = await system.okRingfs('umount', a)
  t.match(said, new RegExp(`unmounted here; .*another mount namespace.*sleep \\(pid ${holder.pid ?? 0}\\)`))
  t.equal(await system.mounted(a), undefined)
  holder.kill('SIGKILL')
  await eventually(
    'the end of the up',
    () => ringfs.runFiles(),
    (runs) => runs.length === 0,
  )
})
