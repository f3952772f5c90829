/** ACLs for tests, written as setfacl(1) has them: `u::rwx,u:1000:r-x,g::r-x,m::rwx,o::---`. */
import fc from 'fast-check'
import { ACL_TAG, aclName, decodeAcl, encodeAcl, type AclEntry } from '../../src/base/acl.js'

export const ACCESS = aclName('access')
export const DEFAULT = aclName('default')

const LETTERS = ['r', 'w', 'x']

function tagOf(letter: string, isNamed: boolean): number {
  if (letter === 'u') return isNamed ? ACL_TAG.user : ACL_TAG.userObj
  if (letter === 'g') return isNamed ? ACL_TAG.group : ACL_TAG.groupObj
  return letter === 'm' ? ACL_TAG.mask : ACL_TAG.other
}

/** In the order given: what Linux refuses can be written, too. */
export function aclOf(text: string): Buffer {
  return encodeAcl(
    text.split(',').map((entry): AclEntry => {
      const [letter = '', id = '', permissions = ''] = entry.split(':')
      const bits = LETTERS.reduce((sum, one, at) => sum + (permissions[at] === one ? 4 >> at : 0), 0)
      return { tag: tagOf(letter, id !== ''), permissions: bits, id: Number(id) }
    }),
  )
}

/** The other way round. */
export function textOf(acl: Buffer): string {
  return decodeAcl(acl)
    .map(({ tag, permissions, id }) => {
      const isNamed = tag === ACL_TAG.user || tag === ACL_TAG.group
      const letter = tag <= ACL_TAG.user ? 'u' : tag <= ACL_TAG.group ? 'g' : tag === ACL_TAG.mask ? 'm' : 'o'
      const bits = LETTERS.map((one, at) => ((permissions & (4 >> at)) === 0 ? '-' : one)).join('')
      return `${letter}:${isNamed ? id : ''}:${bits}`
    })
    .join(',')
}

const permissions = fc.constantFrom('---', 'r--', '-w-', '--x', 'rw-', 'r-x', '-wx', 'rwx')
const named = fc.uniqueArray(fc.tuple(fc.constantFrom(1000, 1001, 65534), permissions), {
  maxLength: 2,
  selector: ([id]) => id,
})

/** Valid ACLs, as text: some say no more than a mode. */
export const anyAcl: fc.Arbitrary<string> = fc
  .record({
    user: permissions,
    users: named,
    group: permissions,
    groups: named,
    mask: fc.option(permissions),
    other: permissions,
  })
  .map(({ user, users, group, groups, mask, other }) => {
    const needsMask = users.length + groups.length > 0
    const list = (letter: string, some: readonly (readonly [number, string])[]): string[] =>
      [...some].sort((a, b) => a[0] - b[0]).map(([id, bits]) => `${letter}:${id}:${bits}`)
    const masks = mask !== null ? [`m::${mask}`] : needsMask ? ['m::rwx'] : []
    return [`u::${user}`, ...list('u', users), `g::${group}`, ...list('g', groups), ...masks, `o::${other}`].join(',')
  })
