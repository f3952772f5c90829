import t from 'tap'
import { mountTest } from '../helpers/mount.js'
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { names } from './suite/names.js'

t.setTimeout(600_000)

for (const driver of ['kernel', 'fuse-native'] as const) {
  t.test(`names hold on a VFS whose calls overtake each other: ${driver}`, async (t) => {
    const mount = await mountTest(t, { driver, delayMs: 3 })
    const suites = names.filter(
      ({ name, kernelOnly }) => !name.includes('2,000') && (driver === 'kernel' || !kernelOnly),
    )
    for (const [index, suite] of suites.entries()) {
      const root = join(mount.mountpoint, `suite-${index}`)
      await mkdir(root)
      await t.test(suite.name, (t) => suite.run(t, root))
    }
  })
}
