import t from 'tap'
import { mountTest } from '../helpers/mount.js'
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { names } from './suite/names.js'

t.setTimeout(600_000)

t.test('names hold on a VFS whose calls overtake each other', async (t) => {
  const mount = await mountTest(t, { delayMs: 3 })
  for (const [index, suite] of names.filter(({ name }) => !name.includes('2,000')).entries()) {
    const root = join(mount.mountpoint, `suite-${index}`)
    await mkdir(root)
    await t.test(suite.name, (t) => suite.run(t, root))
  }
})
