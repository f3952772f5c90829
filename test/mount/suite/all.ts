import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import type { Test } from 'tap'
import type { DriverName } from '../../../src/fuse/driver.js'
import { within } from '../../helpers/deadline.js'
import { acls } from './acl.js'
import { attributes } from './attributes.js'
import { rawBytes } from './bytes.js'
import { data } from './data.js'
import { exchanges } from './exchanges.js'
import { names } from './names.js'
import { programs } from './programs.js'
import { ranges } from './ranges.js'
import type { Suite } from './suite.js'
import { syscalls } from './syscalls.js'
import { times } from './times.js'
import { tmpfiles } from './tmpfiles.js'

const TEST_TIMEOUT_MS = 300_000

const SUITES: readonly Suite[] = [
  ...programs,
  ...data,
  ...names,
  ...rawBytes,
  ...exchanges,
  ...attributes,
  ...times,
  ...tmpfiles,
  ...acls,
  ...ranges,
  ...syscalls,
]

/** What people do: for a way through the system whose parts have the whole suite elsewhere. */
export const EVERYDAY: readonly Suite[] = [...programs, ...data, ...names]

/** Runs every claim in a folder of its own. */
export async function runSuite(t: Test, mountpoint: string, driver: DriverName, suites = SUITES): Promise<void> {
  const claims = suites.filter(({ kernelOnly }) => driver === 'kernel' || kernelOnly !== true)
  for (const [index, suite] of claims.entries()) {
    const root = join(mountpoint, `suite-${index}`)
    await within(TEST_TIMEOUT_MS, mkdir(root), 'mkdir')
    await t.test(suite.name, async (t) => within(TEST_TIMEOUT_MS, suite.run(t, root), suite.name))
  }
}
