import { spawn } from 'node:child_process'
import { once } from 'node:events'
import t from 'tap'
import { CAP_CHOWN, CAP_FOWNER, hasCapability, isCapable, isMapped } from '../../../src/fuse/kernel/capabilities.js'

t.test('capabilities are those in effect, as proc(5) tells them', async (t) => {
  const status =
    'Name:\tsh\nCapInh:\t0000000000000000\nCapPrm:\t000001ffffffffff\nCapEff:\t0000000000000008\nCapBnd:\t0000\n'
  t.equal(isCapable(status, CAP_FOWNER), true)
  t.equal(isCapable(status, CAP_CHOWN), false)
  t.equal(isCapable('Name:\tsh\n', CAP_CHOWN), true, 'what is not told is not denied')
  t.equal(await hasCapability(0, CAP_FOWNER, { uid: 0 }), true, 'nor is who cannot be seen')
})

t.test('over whom: what is mapped into the user namespace of the thread', async (t) => {
  const map = '         0       1000          1\n         1     100000      65536\n'
  for (const [id, expected] of [
    [1000, true],
    [0, false],
    [999, false],
    [1001, false],
    [100_000, true],
    [165_535, true],
    [165_536, false],
  ] as const) {
    t.equal(isMapped(map, id), expected, String(id))
  }
  t.equal(isMapped('', 0), false)
  const own = { uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 }
  // Whoever makes a namespace has all capabilities in it: over himself.
  const child = spawn('unshare', ['-Ur', 'sh', '-c', 'echo; exec sleep 60'], { stdio: ['ignore', 'pipe', 'inherit'] })
  t.teardown(() => child.kill('SIGKILL'))
  await once(child.stdout, 'data')
  const pid = child.pid ?? 0
  t.equal(await hasCapability(pid, CAP_FOWNER, { uid: own.uid }), true)
  t.equal(await hasCapability(pid, CAP_CHOWN, own), true)
  t.equal(await hasCapability(pid, CAP_FOWNER, { uid: own.uid + 1 }), false)
  t.equal(await hasCapability(pid, CAP_CHOWN, { ...own, gid: own.gid + 1 }), false)
})
