import t from 'tap'
import { errnoName, errnoOf, PosixError } from '../../../src/base/errno.js'
import { ERROR_CODES, hasCode, messageOf, RingfsError } from '../../../src/base/errors.js'

t.test('every error code has an exit code of its own that a shell can tell from a signal', async (t) => {
  const codes = Object.values(ERROR_CODES)
  t.equal(new Set(codes).size, codes.length)
  t.ok(codes.every((code) => code >= 2 && code < 126))
})

t.test('an error of an operation answers its exit code and is told by its code', async (t) => {
  const error = new RingfsError('VOLUME_MISSING', 'no volume here')
  t.equal(error.exitCode, ERROR_CODES.VOLUME_MISSING)
  t.ok(hasCode(error, 'VOLUME_MISSING'))
  t.notOk(hasCode(new Error('VOLUME_MISSING'), 'VOLUME_MISSING'))
})

t.test('anything thrown has an errno and a text', async (t) => {
  t.equal(errnoOf(new PosixError('ENOENT')), 2)
  t.equal(errnoOf('what'), 5)
  t.equal(errnoName(28), 'ENOSPC')
  t.equal(errnoName(12345), 'EIO')
  t.equal(messageOf('what'), 'what')
  t.equal(messageOf(new Error('text')), 'text')
})
