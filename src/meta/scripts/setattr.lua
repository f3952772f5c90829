-- include: inode locks mutate acl privileges
-- KEYS: 9 ACLs, 10 xattrs
-- ARGV: 7 ino, then pairs: mode v | uid v | gid v | drop 1 | atime sec nsec | mtime sec nsec. 0, record
local known = before('i' .. ARGV[7])
if known then return known end
local ino = tonumber(ARGV[7])
local n = load(ino)
if not n then return {ENOENT} end
local at, owner, mode, drop = 8, false, false, false
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
local others = recall()
if others then return others end
-- chown(2): a new owner does not inherit the right to become the old one
if (owner and n.type ~= DIR) or (drop and n.type == FILE) then
  if not mode then dropsetid(n) end
  dropcapabilities(n, KEYS[10])
end
local acl = mode and n.xa == 1 and redis.call('HGET', KEYS[9], 'a' .. ARGV[7])
if acl then redis.call('HSET', KEYS[9], 'a' .. ARGV[7], chmodacl(acl, n.mode)) end
n.cs, n.cn = sec, nsec
emit(1, ino)
return after({0, save(ino, n)})
