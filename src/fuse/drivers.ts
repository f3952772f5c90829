/** The drivers there are, by name. */
import type { DriverName, FuseDriver } from './driver.js'
import { FuseNativeDriver } from './fuse-native/driver.js'
import { KernelDriver } from './kernel/driver.js'

const DEFAULT_DRIVER: DriverName = 'kernel'

/** What it needs is loaded when it mounts: DRIVER_MISSING then. */
export function pickDriver(name: DriverName = DEFAULT_DRIVER): FuseDriver {
  return name === 'fuse-native' ? new FuseNativeDriver() : new KernelDriver()
}
