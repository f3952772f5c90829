/**
 * The process that mounts, for tests: `node mount-child.js DRIVER MOUNTPOINT`. It must not be the test's own process, which
 * waits for the mount. Says `mounted` on stdout, unmounts on SIGTERM, and ends when the mount does.
 *
 * A file in the mount whose name begins with `fault-` makes the call on it fail in the way that its name says.
 */
import { createLog } from '../../src/base/log.js'
import { messageOf, RingfsError } from '../../src/base/errors.js'
import type { DriverName } from '../../src/fuse/driver.js'
import { pickDriver } from '../../src/fuse/drivers.js'
import { withFaults } from './faulty-vfs.js'
import { MemoryVfs } from './memory-vfs.js'

async function main(driver: DriverName, mountpoint: string, extra: readonly string[]): Promise<void> {
  const log = createLog('warn')
  const vfs = new MemoryVfs()
  const options = { mountpoint, fsName: 'ringfs-test', readOnly: false, allowOther: true, extra }
  const mounted = await pickDriver(driver).mount(withFaults(vfs), options, log)
  process.on('SIGTERM', () => {
    mounted.unmount(false).catch((error: unknown) => process.stdout.write(`${messageOf(error)}\n`))
  })
  process.stdout.write('mounted\n')
  await mounted.ended
  process.stdout.write(`ended with ${vfs.openHandles} open handles\n`)
}

function isDriver(name: string | undefined): name is DriverName {
  return name === 'kernel' || name === 'fuse-native'
}

const [driver, mountpoint, ...extra] = process.argv.slice(2)
try {
  if (!isDriver(driver) || mountpoint === undefined) throw new RingfsError('USAGE', 'mount-child DRIVER MOUNTPOINT')
  await main(driver, mountpoint, extra)
} catch (error) {
  process.stdout.write(`${error instanceof RingfsError ? error.code : 'ERROR'}: ${messageOf(error)}\n`)
  process.exitCode = 1
}
