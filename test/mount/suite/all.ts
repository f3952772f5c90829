import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import type { Test } from 'tap'
import { within } from '../../helpers/deadline.js'
import { attributes } from './attributes.js'
import { data } from './data.js'
import { names } from './names.js'
import { programs } from './programs.js'

const TEST_TIMEOUT_MS = 120_000

/** Runs every claim in a folder of its own. */
export async function runSuite(t: Test, mountpoint: string): Promise<void> {
  for (const [index, suite] of [...programs, ...data, ...names, ...attributes].entries()) {
    const root = join(mountpoint, `suite-${index}`)
    await within(TEST_TIMEOUT_MS, mkdir(root), 'mkdir')
    await t.test(suite.name, async (t) => within(TEST_TIMEOUT_MS, suite.run(t, root), suite.name))
  }
}
