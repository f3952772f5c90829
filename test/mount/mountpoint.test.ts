import { mkdir, open, readFile, readdir, rename, rmdir, symlink, unlink, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import t, { type Test } from 'tap'
import { silentLog } from '../../src/base/log.js'
import { KernelDriver } from '../../src/fuse/kernel/driver.js'
import { loadAddon, type FuseAddon } from '../../src/fuse/kernel/addon.js'
import { prepareMountpoint } from '../../src/fuse/mountpoint.js'
import { mountOn, readMounts } from '../../src/fuse/mounts.js'
import { unmountPath } from '../../src/fuse/unmount.js'
import { within } from '../helpers/deadline.js'
import { FAULT_REJECTS, FAULT_THROWS } from '../helpers/faulty-vfs.js'
import { outcome, readAt } from '../helpers/fs-ops.js'
import { MemoryVfs } from '../helpers/memory-vfs.js'
import { mountTest, newMountpoint, sh } from '../helpers/mount.js'

const DEADLINE_MS = 90_000

t.setTimeout(600_000)

/** A folder beside a mount point. */
async function newFolder(t: Test): Promise<string> {
  return dirname(await newMountpoint(t))
}

/** Until the kernel has it so. */
async function until(condition: () => Promise<boolean>, what: string): Promise<void> {
  const wait = async (): Promise<void> => {
    while (!(await condition())) await new Promise((resolve) => setTimeout(resolve, 20))
  }
  await within(DEADLINE_MS, wait(), what)
}

t.test('a mount point that cannot be one is refused, and says why', async (t) => {
  const folder = await newFolder(t)
  const at = (name: string) => join(folder, name)
  t.teardown(() => Promise.all([unlink(at('file')), unlink(at('mnt/inside'))]))
  await writeFile(at('file'), '')
  await writeFile(at('mnt/inside'), '')
  await t.rejects(prepareMountpoint(at('none'), silentLog), {
    code: 'MOUNTPOINT_BAD',
    message: /does not exist.*mkdir/,
  })
  await t.rejects(prepareMountpoint(at('none/below'), silentLog), { code: 'MOUNTPOINT_BAD' })
  await t.rejects(prepareMountpoint(at('file'), silentLog), { code: 'MOUNTPOINT_BAD', message: /not a folder/ })
  await t.rejects(prepareMountpoint(at('mnt'), silentLog), { code: 'MOUNTPOINT_BAD', message: /not empty.*inside/ })
  await t.rejects(prepareMountpoint('/proc', silentLog), { code: 'MOUNTPOINT_BUSY', message: /already mounted/ })
})

t.test('a mount through a symbolic link is on the folder behind it', async (t) => {
  const mountpoint = await newMountpoint(t)
  const link = `${mountpoint}.link`
  await symlink('mnt', link)
  t.teardown(() => unlink(link))
  t.equal(await prepareMountpoint(link, silentLog), mountpoint)
  await mountTest(t, { mountpoint: link })
  t.equal((await mountOn(mountpoint))?.fsType, 'fuse.ringfs')
  await t.rejects(prepareMountpoint(link, silentLog), { code: 'MOUNTPOINT_BUSY' })
})

t.test('what is mounted already is not mounted over, and goes on', async (t) => {
  const first = await mountTest(t)
  await writeFile(join(first.mountpoint, 'file'), 'first')
  await t.rejects(mountTest(t, { mountpoint: first.mountpoint }), /MOUNTPOINT_BUSY: .* already mounted/)
  t.equal(await readFile(join(first.mountpoint, 'file'), 'utf8'), 'first')
})

for (const before of ['nothing', 'a dead mount']) {
  t.test(
    `of two mounts on a folder at the same moment, with ${before} on it, one goes on and knows itself`,
    async (t) => {
      const mountpoint = before === 'nothing' ? await newMountpoint(t) : await deadMount(t)
      const options = { mountpoint, fsName: 'ringfs-test', readOnly: false, allowOther: true, extra: [] }
      const mounting = [0, 1].map(() => new KernelDriver().mount(new MemoryVfs(), options, silentLog))
      const done = await within(DEADLINE_MS, Promise.allSettled(mounting), 'both')
      const mounted = done.flatMap((one) => (one.status === 'fulfilled' ? [one.value] : []))
      t.teardown(() => Promise.all(mounted.map((one) => one.unmount(true))))
      t.match(
        done.flatMap((one): unknown[] => (one.status === 'rejected' ? [one.reason] : [])),
        [{ code: 'MOUNTPOINT_BUSY', message: /already mounted/ }],
      )
      t.same(await mountsOf(mountpoint), [mounted[0]?.device])
      t.type(mounted[0]?.device, 'string')
      await within(DEADLINE_MS, mounted[0]?.unmount(false) ?? Promise.resolve(), 'the unmount')
      t.same(await mountsOf(mountpoint), [])
    },
  )
}

async function deadMount(t: Test): Promise<string> {
  const mount = await mountTest(t)
  mount.signal('SIGKILL')
  await mount.exited()
  return mount.mountpoint
}

async function mountsOf(mountpoint: string): Promise<readonly string[]> {
  return (await readMounts()).filter((mount) => mount.mountpoint === mountpoint).map(({ device }) => device)
}

t.test('SIGTERM unmounts and ends the process', async (t) => {
  const mount = await mountTest(t)
  await writeFile(join(mount.mountpoint, 'file'), 'x')
  mount.signal('SIGTERM')
  t.equal(await mount.exited(), 0)
  t.match(mount.output(), /ended with 0 open handles/)
  t.equal(await mountOn(mount.mountpoint), undefined)
  t.same(await readdir(mount.mountpoint), [])
})

t.test('while it is in use it is not unmounted, and says so', async (t) => {
  const mount = await mountTest(t)
  const file = await open(join(mount.mountpoint, 'file'), 'w+')
  mount.signal('SIGTERM')
  await until(async () => /in use/.test(mount.output()), 'the answer that it is in use')
  await file.write('still there')
  t.equal((await readAt(file, 0, 20)).toString(), 'still there')
  await file.close()
  mount.signal('SIGTERM')
  t.equal(await mount.exited(), 0)
})

t.test('an umount by anyone ends the process', async (t) => {
  const mount = await mountTest(t)
  await sh('umount', mount.mountpoint)
  t.equal(await mount.exited(), 0)
})

t.test('after a lazy umount who has a file open goes on with it, and then the process ends', async (t) => {
  const mount = await mountTest(t)
  const file = await open(join(mount.mountpoint, 'file'), 'w+')
  await unmountPath(mount.mountpoint, true)
  t.equal(await mountOn(mount.mountpoint), undefined)
  await file.write('late')
  t.equal((await readAt(file, 0, 20)).toString(), 'late')
  await file.close()
  t.equal(await mount.exited(), 0)
  t.match(mount.output(), /ended with 0 open handles/)
})

t.test('a killed mount can be mounted over again at once', async (t) => {
  const killed = await mountTest(t)
  await writeFile(join(killed.mountpoint, 'file'), 'x')
  killed.signal('SIGKILL')
  await killed.exited()
  t.equal(await outcome(() => readdir(killed.mountpoint)), 'ENOTCONN')
  const next = await mountTest(t, { mountpoint: killed.mountpoint })
  t.same(await readdir(next.mountpoint), [], 'served by the new process')
  next.signal('SIGTERM')
  t.equal(await next.exited(), 0)
  t.equal(await mountOn(next.mountpoint), undefined, 'the dead one is gone as well')
})

t.test('a mount that does not answer is left alone', async (t) => {
  const stopped = await mountTest(t)
  stopped.signal('SIGSTOP')
  t.teardown(() => stopped.signal('SIGCONT'))
  const message = /does not answer/
  await t.rejects(prepareMountpoint(stopped.mountpoint, silentLog), { code: 'MOUNTPOINT_BUSY', message })
})

t.test('a handler that throws is EIO and a log line, and the mount lives', async (t) => {
  const mount = await mountTest(t)
  const at = (name: string) => join(mount.mountpoint, name)
  t.equal(await outcome(() => mkdir(at(FAULT_THROWS))), 'EIO')
  t.equal(await outcome(() => mkdir(at(FAULT_REJECTS))), 'EIO')
  await mkdir(at('good'))
  t.same(await readdir(mount.mountpoint), ['good'])
  t.match(mount.output(), /"operation":"mkdir","error":"thrown for a test"/)
})

t.test('a folder whose removed file is still open cannot be removed until it is closed', async (t) => {
  const mount = await mountTest(t)
  const folder = join(mount.mountpoint, 'folder')
  await mkdir(folder)
  await mkdir(`${folder}2`)
  const file = await open(join(folder, 'file'), 'w+')
  await unlink(join(folder, 'file'))
  t.equal(await outcome(() => rmdir(folder)), 'EBUSY')
  t.equal(await outcome(() => rename(`${folder}2`, folder)), 'EBUSY')
  await file.write('kept')
  t.equal((await readAt(file, 0, 20)).toString(), 'kept')
  await file.close()
  await until(async () => (await outcome(() => rmdir(folder))) === 'ok', 'the removal')
})

t.test('names that are not UTF-8 are refused with EILSEQ', async (t) => {
  const mount = await mountTest(t)
  const bad = Buffer.concat([Buffer.from(`${mount.mountpoint}/bad`), Buffer.from([0xff, 0xfe])])
  t.equal(await outcome(() => writeFile(bad, '')), 'EILSEQ')
  t.equal(await outcome(() => mkdir(bad)), 'EILSEQ')
  t.equal(await outcome(() => symlink(bad, join(mount.mountpoint, 'link'))), 'EILSEQ')
  t.same(await readdir(mount.mountpoint), [])
})

t.test('a mount that fails half way leaves nothing behind', async (t) => {
  const mountpoint = await newMountpoint(t)
  await t.rejects(mountTest(t, { mountpoint, extra: ['nonsense'] }), /MOUNT_FAILED/)
  t.equal(await mountOn(mountpoint), undefined)
  t.same(await readdir(mountpoint), [])
})

t.test(
  'a kernel that speaks an older protocol is a mount that fails, at once, and leaves nothing behind',
  async (t) => {
    const mountpoint = await newMountpoint(t)
    const addon = loadAddon()
    const older: FuseAddon = {
      ...addon,
      read: (fd, buffer, spin, wait, underWay, onRequest) =>
        addon.read(fd, buffer, spin, wait, underWay, (length) => {
          // The minor version that the kernel says it has, in fuse_init_in behind the header.
          buffer.writeUInt32LE(23, 44)
          return onRequest(length)
        }),
    }
    const options = { mountpoint, fsName: 'ringfs-test', readOnly: false, allowOther: true, extra: [] }
    const mounting = new KernelDriver(() => older).mount(new MemoryVfs(), options, silentLog)
    const failure = { code: 'MOUNT_FAILED', message: /older FUSE protocol .*fuse-native/ }
    await t.rejects(within(DEADLINE_MS, mounting, 'the refusal'), failure)
    t.equal(await mountOn(mountpoint), undefined)
    t.same(await readdir(mountpoint), [])
  },
)

t.test('further options are passed through', async (t) => {
  const mount = await mountTest(t, { extra: ['ro', 'noexec'] })
  t.equal(await outcome(() => writeFile(join(mount.mountpoint, 'file'), '')), 'EROFS')
  t.match(await sh('findmnt', '-no', 'OPTIONS', mount.mountpoint), /noexec/)
})

t.test('root raises how far the kernel reads ahead on a mount of the kernel driver', async (t) => {
  const { mountpoint } = await mountTest(t, { driver: 'kernel' })
  const device = (await mountOn(mountpoint))?.device ?? ''
  const readAheadKib = async () => Number(await readFile(`/sys/class/bdi/${device}/read_ahead_kb`, 'utf8'))
  await until(async () => (await readAheadKib()) > 128, 'the read-ahead')
  t.ok((await readAheadKib()) >= 1024)
})
