/**
 * The process that mounts, for tests: `node mount-child.js DRIVER MOUNTPOINT DELAY_MS [OPTION…]`. It must not be the test's own process, which
 * waits for the mount. Says `mounted` on stdout, unmounts on SIGTERM, and ends when the mount does.
 *
 * A file in the mount whose name begins with `fault-` makes the call on it fail in the way that its name says.
 */
import { createLog } from '../../src/base/log.js'
import { messageOf, RingfsError } from '../../src/base/errors.js'
import type { DriverName } from '../../src/fuse/driver.js'
import { pickDriver } from '../../src/fuse/drivers.js'
import { withDelay, withFaults } from './faulty-vfs.js'
import { MemoryVfs } from './memory-vfs.js'

async function main(driver: DriverName, mountpoint: string, delayMs: number, extra: readonly string[]): Promise<void> {
  const log = createLog('warn')
  const memory = new MemoryVfs()
  const vfs = withFaults(delayMs > 0 ? withDelay(memory, delayMs, Math.random) : memory)
  const options = { mountpoint, fsName: 'ringfs-test', readOnly: false, allowOther: true, extra }
  const mounted = await pickDriver(driver).mount(vfs, options, log)
  process.on('SIGTERM', () => {
    mounted.unmount(false).catch((error: unknown) => process.stdout.write(`${messageOf(error)}\n`))
  })
  // The test has died and nobody will tear this down.
  process.stdin.once('end', () => void mounted.unmount(true).finally(() => process.exit(1)))
  process.stdin.resume().unref()
  process.stdout.write('mounted\n')
  await mounted.ended
  process.stdout.write(`ended with ${memory.openHandles} open handles\n`)
}

function isDriver(name: string | undefined): name is DriverName {
  return name === 'kernel' || name === 'fuse-native'
}

const [driver, mountpoint, delayMs, ...extra] = process.argv.slice(2)
try {
  if (!isDriver(driver) || mountpoint === undefined)
    throw new RingfsError('USAGE', 'mount-child DRIVER MOUNTPOINT DELAY_MS')
  await main(driver, mountpoint, Number(delayMs ?? 0), extra)
} catch (error) {
  process.stdout.write(`${error instanceof RingfsError ? error.code : 'ERROR'}: ${messageOf(error)}\n`)
  process.exitCode = 1
}
