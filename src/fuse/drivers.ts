/** The drivers there are, by name. */
import { RingfsError } from '../base/errors.js'
import type { DriverName, FuseDriver } from './driver.js'
import { FuseNativeDriver } from './fuse-native/driver.js'

export const DEFAULT_DRIVER: DriverName = 'fuse-native'

/** Errors: RingfsError DRIVER_MISSING. */
export function pickDriver(name: DriverName = DEFAULT_DRIVER): FuseDriver {
  if (name === 'fuse-native') return new FuseNativeDriver()
  throw new RingfsError('DRIVER_MISSING', `this version has no driver '${name}': use --driver fuse-native`)
}
