import t from 'tap'
import { mountTest } from '../helpers/mount.js'
import { runSuite } from './suite/all.js'

t.test('the kernel driver on a VFS in memory', async (t) => {
  const mount = await mountTest(t, { driver: 'kernel' })
  await runSuite(t, mount.mountpoint, 'kernel')
  mount.signal('SIGTERM')
  t.equal(await mount.exited(), 0)
  t.match(mount.output(), /ended with 0 open handles/)
})
