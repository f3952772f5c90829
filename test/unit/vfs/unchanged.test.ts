/** chown(2) and chmod(2) to what is there already, just after it was made so. */
import t from 'tap'
import type { AttrChange } from '../../../src/meta/contract.js'
import { CALLER, codeOf, fixture, make } from '../../helpers/vfs-fixture.js'
import { FastClock } from '../../helpers/vfs-clock.js'

t.test('what changes nothing asks nobody under a delegation, within one tick of the last change', async (st) => {
  const clock = new FastClock()
  const { vfs, meta } = fixture(st, { clock, vfsClock: clock })
  const { ino, handle } = await make(vfs, 'f')
  const asks = async (change: AttrChange, isHeld = true): Promise<boolean> => {
    meta.held = () => false
    await vfs.setattr(CALLER, ino, { mtime: 'now' })
    meta.calls.clear()
    meta.held = () => isHeld
    await vfs.setattr(CALLER, ino, change)
    return meta.calls.has('setattr')
  }
  const { uid, gid, mode } = await vfs.getattr(CALLER, ino)
  st.notOk(await asks({ uid, gid }))
  st.notOk(await asks({ mode }))
  st.notOk(await asks({ uid, gid, dropPrivileges: true }), 'there is nothing to drop')
  st.notOk(await asks({ mode, seen: { uid, gid, mode } }))
  st.ok(await asks({ uid, gid }, false), 'others may have changed it')
  st.ok(await asks({ uid: uid + 1, gid }))
  st.ok(await asks({ mode: mode - 0o100 }))
  st.ok(await asks({ mtime: { sec: 1, nsec: 2 } }))
  await vfs.setattr(CALLER, ino, { mode: 0o4755 })
  st.ok(await asks({ uid: uid + 1, gid }), 'set-id bits go with any owner')
  st.equal((await vfs.getattr(CALLER, ino)).mode, 0o755)
  await vfs.setxattr(ino, Buffer.from('user.a'), Buffer.from('b'), 0)
  st.ok(await asks({ mode: 0o755 }), 'attributes may hang on the mode')
  await vfs.release(handle)
})

t.test('a change that rests on an owner of before is not taken for one that changes nothing', async (st) => {
  const clock = new FastClock()
  const { vfs, meta } = fixture(st, { clock, vfsClock: clock })
  const { ino, handle } = await make(vfs, 'f')
  const { uid, gid, mode } = await vfs.setattr(CALLER, ino, { mode: 0o600 })
  meta.held = () => true
  for (const seen of [
    { uid: uid + 1, gid },
    { uid, gid: gid + 1 },
    { uid, gid, mode: 0o640 },
  ]) {
    st.equal(await codeOf(vfs.setattr(CALLER, ino, { mode, seen })), 'EPERM')
  }
  await vfs.release(handle)
})

t.test('later the change is made, for its time', async (st) => {
  const clock = new FastClock()
  const { vfs, meta } = fixture(st, { clock, vfsClock: clock })
  const { ino, handle } = await make(vfs, 'f')
  const { uid, gid, ctime } = await vfs.setattr(CALLER, ino, { mode: 0o600 })
  meta.held = () => true
  await clock.sleep(5)
  const later = await vfs.setattr(CALLER, ino, { uid, gid })
  st.ok(later.ctime.sec > ctime.sec || later.ctime.nsec > ctime.nsec)
  await vfs.release(handle)
})
