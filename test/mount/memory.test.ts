import t from 'tap'
import { mountTest } from '../helpers/mount.js'
import { runSuite } from './suite/all.js'

t.setTimeout(600_000)

t.test('fuse-native on a VFS in memory', async (t) => {
  const mount = await mountTest(t)
  await runSuite(t, mount.mountpoint, 'fuse-native')
  mount.signal('SIGTERM')
  t.equal(await mount.exited(), 0)
  t.match(mount.output(), /ended with 0 open handles/)
})
