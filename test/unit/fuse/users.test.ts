import { readlinkSync } from 'node:fs'
import t from 'tap'
import { mountOn } from '../../../src/fuse/mounts.js'
import { namespacesWith, type MountUser } from '../../../src/fuse/users.js'
import { isRoot, tmpfs } from '../../helpers/disks.js'

function isHere({ pid }: MountUser): boolean {
  try {
    return readlinkSync(`/proc/${pid}/ns/mnt`) === readlinkSync('/proc/self/ns/mnt')
  } catch {
    // It has ended meanwhile.
    return false
  }
}

t.test('a mount that was given the number of an unmounted one is no copy of it', { skip: !isRoot }, async (t) => {
  const mount = await mountOn(tmpfs(t, 1 << 20))
  const device = mount?.device ?? ''
  t.equal((await namespacesWith(device)).filter(isHere).length, 1)
  // Another test may have its own namespace meanwhile, with a copy of all mounts.
  t.same((await namespacesWith(device, ({ id }) => id !== mount?.id)).filter(isHere), [])
})
