-- What the rights to a change were judged by, as the first of its arguments, if it rests on any: seen uid gid mode (-1 for one of the
-- last two: any).
-- Invariant: it is made of an inode that is so, or not at all.
local SEEN = 4

-- Whether the inode is another's by now: who asks for the change judges anew.
local function isothers(n, at)
  if ARGV[at] ~= 'seen' then return false end
  local gid, mode = tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3])
  return n.uid ~= tonumber(ARGV[at + 1]) or (gid >= 0 and n.gid ~= gid) or (mode >= 0 and n.mode ~= mode)
end

-- Attributes of inode ARGV[7] but for its size, as setattr changes them: arguments from `at` on, seen first, then
-- mode v | uid v | gid v | drop 1 | atime sec nsec | mtime sec nsec. With lib/acl.lua and lib/privileges.lua; `acls`, `xattrs`: keys.
-- The record is saved by the caller.
local function setattributes(n, at, acls, xattrs)
  if ARGV[at] == 'seen' then at = at + SEEN end
  local owner, mode, drop = false, false, false
  while at <= #ARGV do
    local what, v = ARGV[at], tonumber(ARGV[at + 1])
    at = at + 2
    if what == 'mode' then n.mode, mode = v, true
    elseif what == 'uid' then n.uid, owner = v, true
    elseif what == 'gid' then n.gid, owner = v, true
    elseif what == 'drop' then drop = true
    elseif what == 'atime' then n.as, n.an, at = v, tonumber(ARGV[at]), at + 1
    elseif what == 'mtime' then n.ms, n.mn, at = v, tonumber(ARGV[at]), at + 1
    end
  end
  -- chown(2): a new owner does not inherit the right to become the old one
  if (owner and n.type ~= DIR) or (drop and n.type == FILE) then
    if not mode then dropsetid(n) end
    dropcapabilities(n, xattrs)
  end
  local acl = mode and n.xa == 1 and redis.call('HGET', acls, 'a' .. ARGV[7])
  if acl then redis.call('HSET', acls, 'a' .. ARGV[7], chmodacl(acl, n.mode)) end
  n.cs, n.cn = sec, nsec
end
