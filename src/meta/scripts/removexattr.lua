-- include: inode locks mutate acl
-- KEYS: 9 xattrs, 10 ACLs. ARGV: 7 ino, 8 name. 0
local known = before()
if known then return known end
local ino = tonumber(ARGV[7])
local n = load(ino)
if not n then return {ENOENT} end
local held = blocked(nil, 'i' .. ARGV[7])
if held then return held end
if redis.call('HDEL', KEYS[9], ARGV[8]) == 0 then return {-61} end
n.xa = hasxattrs(ino, KEYS[9], KEYS[10])
n.cs, n.cn = sec, nsec
save(ino, n)
emit(1, ino)
return after({0})
