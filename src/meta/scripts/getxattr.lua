-- include: inode locks read
-- KEYS: 3 xattrs. ARGV: 2 ino, 3 name. 0, value
if redis.call('HEXISTS', KEYS[1], ARGV[2]) == 0 then return {ENOENT} end
local value = redis.call('HGET', KEYS[3], ARGV[3])
if not value then return {-61} end
return {0, value}
