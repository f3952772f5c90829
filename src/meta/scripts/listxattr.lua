-- include: inode locks read
-- KEYS: 3 xattrs, 4 ACLs. ARGV: 2 ino. 0, {name, ...}, 1 if it has an access ACL, 1 if a default ACL
if redis.call('HEXISTS', KEYS[1], ARGV[2]) == 0 then return {ENOENT} end
local acls = redis.call('HMGET', KEYS[4], 'a' .. ARGV[2], 'd' .. ARGV[2])
return {0, redis.call('HKEYS', KEYS[3]), acls[1] and 1 or 0, acls[2] and 1 or 0}
