/** ACLs as bytes: what is valid, and what it says of a mode. */
import fc from 'fast-check'
import t from 'tap'
import { PosixError } from '../../../src/base/errno.js'
import { aclKind, aclName, parseAcl } from '../../../src/base/acl.js'
import { aclOf, anyAcl, textOf } from '../../helpers/acls.js'

t.test('an ACL is read as the mode that it stands for', (t) => {
  const read = (text: string): unknown[] => {
    const acl = parseAcl(aclOf(text))
    return [acl?.permissions.toString(8), acl?.isMinimal]
  }
  t.same(read('u::rwx,g::r-x,o::--x'), ['751', true])
  t.same(read('u::rw-,g::rwx,m::r--,o::---'), ['640', false])
  t.same(read('u::rw-,u:5:rwx,g::---,g:6:-w-,m::-wx,o::r--'), ['634', false])
  t.equal(parseAcl(Buffer.alloc(0)), null)
  t.equal(parseAcl(Buffer.from([2, 0, 0, 0])), null, 'without entries it is none')
  t.end()
})

t.test('random ACLs come through unchanged, however their unused ids were set', () => {
  fc.assert(
    fc.property(anyAcl, fc.nat(0xffff), (text, id) => {
      const bytes = aclOf(text)
      bytes.writeUInt32LE(id, 4 + 4)
      const acl = parseAcl(bytes)
      return acl !== null && textOf(acl.bytes) === text && acl.bytes.equals(aclOf(text))
    }),
  )
  return Promise.resolve()
})

t.test('random bytes are refused with an errno or are a valid ACL', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 60 }), (random) => {
      const bytes = Buffer.concat([Buffer.from([2, 0, 0, 0]), random])
      try {
        const acl = parseAcl(bytes)
        return acl === null || parseAcl(acl.bytes)?.permissions === acl.permissions
      } catch (error) {
        return error instanceof PosixError && error.code === 'EINVAL'
      }
    }),
  )
  return Promise.resolve()
})

t.test('names of ACLs are told from other names', (t) => {
  t.same([aclKind(aclName('access')), aclKind(aclName('default'))], ['access', 'default'])
  t.equal(aclKind(Buffer.from('user.posix_acl_access')), null)
  t.throws(() => aclKind(Buffer.from('system.nfs4_acl')), { code: 'EOPNOTSUPP' })
  t.end()
})
