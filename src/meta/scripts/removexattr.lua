-- include: inode locks freeze counts mutate acl
-- KEYS: 9 xattrs, 10 ACLs. ARGV: 7 ino, 8 name. 0
local known = before('i' .. ARGV[7])
if known then return known end
local ino = tonumber(ARGV[7])
local n = load(ino)
if not n then return {ENOENT} end
if redis.call('HEXISTS', KEYS[9], ARGV[8]) == 0 then return {-61} end
local others = recall()
if others then return others end
redis.call('HDEL', KEYS[9], ARGV[8])
n.xa = hasxattrs(ino, KEYS[9], KEYS[10])
n.cs, n.cn = sec, nsec
save(ino, n)
emit(1, ino)
return after({0})
