import t from 'tap'
import { CAP_CHOWN, CAP_FOWNER, hasCapability, isCapable } from '../../../src/fuse/kernel/capabilities.js'

t.test('capabilities are those in effect, as proc(5) tells them', async (t) => {
  const status =
    'Name:\tsh\nCapInh:\t0000000000000000\nCapPrm:\t000001ffffffffff\nCapEff:\t0000000000000008\nCapBnd:\t0000\n'
  t.equal(isCapable(status, CAP_FOWNER), true)
  t.equal(isCapable(status, CAP_CHOWN), false)
  t.equal(isCapable('Name:\tsh\n', CAP_CHOWN), true, 'what is not told is not denied')
  t.equal(await hasCapability(0, CAP_FOWNER), true, 'nor is who cannot be seen')
})
