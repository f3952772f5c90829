/** The drivers on the real VFS, whose metadata and chunks are in memory. */
import t from 'tap'
import type { DriverName } from '../../src/fuse/driver.js'
import { mountTest } from '../helpers/mount.js'
import { runSuite } from './suite/all.js'

t.setTimeout(600_000)

const DRIVERS: readonly DriverName[] = ['fuse-native', 'kernel']

for (const driver of DRIVERS) {
  t.test(`${driver} on the real VFS`, async (t) => {
    const mount = await mountTest(t, { driver, backend: 'vfs' })
    await runSuite(t, mount.mountpoint, driver)
    mount.signal('SIGTERM')
    t.equal(await mount.exited(), 0)
    t.match(mount.output(), /ended with 0 open handles/)
  })
}
