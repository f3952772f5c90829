/** Changes of attributes as scripts take them (scripts/lib/attributes.lua). */
import type { Clock } from '../base/clock.js'
import type { RedisArg } from '../cluster/contract.js'
import type { AttrChange, Seen } from './contract.js'

const ANY = -1

/** What a change rests on, which comes before all that is changed. */
export function seenArgs(seen: Seen | undefined): RedisArg[] {
  return seen === undefined ? [] : ['seen', seen.uid, seen.gid ?? ANY, seen.mode ?? ANY]
}

/** All but the size, which is a script of its own. */
export function attributeArgs(change: AttrChange, clock: Clock): RedisArg[] {
  const args = seenArgs(change.seen)
  if (change.mode !== undefined) args.push('mode', change.mode & 0o7777)
  if (change.uid !== undefined) args.push('uid', change.uid)
  if (change.gid !== undefined) args.push('gid', change.gid)
  for (const which of ['atime', 'mtime'] as const) {
    const time = change[which]
    if (time === undefined) continue
    const { sec, nsec } = time === 'now' ? clock.now() : time
    args.push(which, sec, nsec)
  }
  if (change.dropPrivileges === true) args.push('drop', 1)
  return args
}
