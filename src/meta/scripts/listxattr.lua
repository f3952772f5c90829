-- include: inode locks read
-- KEYS: 3 xattrs. ARGV: 2 ino. 0, {name, ...}
if redis.call('HEXISTS', KEYS[1], ARGV[2]) == 0 then return {ENOENT} end
return {0, redis.call('HKEYS', KEYS[3])}
