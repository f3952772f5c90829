/** The whole system, as `ringfs up` starts it: Redis, three chunk nodes in processes of their own, and the mount. */
import { spawn } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { mkdir, mkdtemp, open, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t, { type Test } from 'tap'
import { z } from 'zod'
import { MIB } from '../../src/base/limits.js'
import type { DriverName } from '../../src/fuse/driver.js'
import { mountOn } from '../../src/fuse/mounts.js'
import { sha256 } from '../helpers/fs-ops.js'
import { type MountProcess, newMountpoint, sh, startMount } from '../helpers/mount.js'
import { EVERYDAY, runSuite } from './suite/all.js'

t.setTimeout(600_000)

const statusSchema = z.object({ nodes: z.array(z.object({ pid: z.int().positive() })) })
const COPY_MIB = 64
const PROGRAM = fileURLToPath(new URL('../../src/main/ringfs.js', import.meta.url))

async function newDataFolder(t: Test): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'ringfs-up-'))
  t.teardown(() => rm(folder, { recursive: true, force: true, maxRetries: 50, retryDelay: 100 }))
  return folder
}

async function up(t: Test, data: string, mountpoint: string, driver: DriverName): Promise<MountProcess> {
  const options = ['--data', data, '--nodes', '3', '--replicas', '3', '--driver', driver]
  const command: [string, ...string[]] = [process.execPath, PROGRAM, 'up', mountpoint, ...options]
  return startMount(t, { command, mountpoint, ready: / is mounted at / })
}

async function down(t: Test, mount: MountProcess): Promise<void> {
  mount.signal('SIGTERM')
  t.equal(await mount.exited(), 0, mount.output())
  t.equal(await mountOn(mount.mountpoint), undefined)
}

/** Of the chunk nodes that are up. */
async function nodePids(data: string): Promise<readonly number[]> {
  const status = await sh(process.execPath, PROGRAM, 'status', '--json', '--data', data)
  return statusSchema.parse(JSON.parse(status)).nodes.map(({ pid }) => pid)
}

// One volume for all of them: each start takes three seconds of CPU.
t.test('three nodes and Redis', async (t) => {
  const [data, mountpoint] = [await newDataFolder(t), await newMountpoint(t)]
  const numbers = join(mountpoint, 'numbers')
  const first = await up(t, data, mountpoint, 'kernel')

  await t.test('kernel', (t) => runSuite(t, mountpoint, 'kernel'))

  await t.test('a node killed in the middle of a copy loses nothing, and the copy goes on', async (t) => {
    const [victim] = await nodePids(data)
    if (victim === undefined) throw new Error('no node')
    const hash = createHash('sha256')
    const file = await open(join(mountpoint, 'copy'), 'w')
    for (let piece = 0; piece < COPY_MIB; piece++) {
      const bytes = randomBytes(MIB)
      hash.update(bytes)
      await file.write(bytes)
      if (piece === COPY_MIB / 2) process.kill(victim, 'SIGKILL')
    }
    await file.sync()
    await file.close()
    t.equal(await sha256(join(mountpoint, 'copy')), hash.digest('hex'))
  })

  await sh('sh', '-c', 'seq 1 200000 > "$0" && sync "$0"', numbers)
  const before = await sha256(numbers)
  first.signal('SIGKILL')
  await first.exited()
  const second = await up(t, data, mountpoint, 'kernel')

  await t.test('after kill -9 of everything but Redis, a new start serves what was synced', async (t) => {
    t.equal(await sha256(numbers), before)
  })

  await sh('sh', '-c', 'mkdir "$0/dir" && seq 1 200001 > "$0/dir/numbers"', mountpoint)
  const unmounted = await sha256(join(mountpoint, 'dir/numbers'))
  await writeFile(join(mountpoint, 'last'), 'written just before the end')
  await down(t, second)
  const third = await up(t, data, mountpoint, 'fuse-native')

  await t.test('what was written is there after an unmount and a new start', async (t) => {
    t.equal(await sha256(join(mountpoint, 'dir/numbers')), unmounted)
    t.equal(await sh('cat', join(mountpoint, 'last')), 'written just before the end')
  })

  // The driver has the whole suite on the VFS in vfs.test.ts, and the VFS on nodes and Redis above.
  await t.test('fuse-native', async (t) => {
    const folder = join(mountpoint, 'fuse-native')
    await mkdir(folder)
    await runSuite(t, folder, 'fuse-native', EVERYDAY)
  })
  await down(t, third)
})

for (const driver of ['kernel', 'fuse-native'] as const) {
  t.test(`a mount of ${driver} that another mount namespace holds is ended all the same`, async (t) => {
    const [data, mountpoint] = [await newDataFolder(t), await newMountpoint(t)]
    const mount = await up(t, data, mountpoint, driver)
    await writeFile(join(mountpoint, 'kept'), 'kept')
    // It holds this mount only: those of tests that run beside this one would wait for it, too.
    const others = `awk '$3 ~ /^fuse/ && $2 != "${mountpoint}" { print $2 }' /proc/self/mounts`
    const command = `for other in $(${others}); do umount -l "$other"; done; echo held; exec sleep 300`
    const holder = spawn('unshare', ['-m', '--propagation', 'private', 'sh', '-c', command], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    t.teardown(() => holder.kill('SIGKILL'))
    await once(holder.stdout, 'data')
    await down(t, mount)
    const again = await up(t, data, mountpoint, driver)
    t.equal(await sh('cat', join(mountpoint, 'kept')), 'kept')
    await down(t, again)
  })
}
