/** The drivers on the real VFS and the real metadata. */
import t from 'tap'
import type { DriverName } from '../../src/fuse/driver.js'
import { mountTest } from '../helpers/mount.js'
import { startRedis } from '../helpers/redis.js'
import { runSuite } from './suite/all.js'

t.setTimeout(600_000)

const DRIVERS: readonly DriverName[] = ['fuse-native', 'kernel']

for (const driver of DRIVERS) {
  t.test(`${driver} on metadata in Redis`, async (t) => {
    const redis = await startRedis(t)
    const mount = await mountTest(t, { driver, backend: redis.urlText('mounted') })
    await runSuite(t, mount.mountpoint, driver)
    mount.signal('SIGTERM')
    t.equal(await mount.exited(), 0)
    t.match(mount.output(), /ended with everything closed/)
  })
}
