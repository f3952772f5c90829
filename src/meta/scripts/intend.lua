-- include: inode locks freeze counts mutate
-- What the janitor is to look at after the grace period, whatever becomes of who asked. ARGV: 7 ino, 8… window, extents
-- 0, record (false: no such inode)
local known = before()
if known then return known end
for at = 8, #ARGV, 2 do claim(1, tonumber(ARGV[7]), tonumber(ARGV[at]), ARGV[at + 1]) end
return after({0, redis.call('HGET', KEYS[1], ARGV[7])})
