-- include: inode
-- KEYS: 1 settings. ARGV: 1 settings. 1 written, else the settings that are there
local known = redis.call('GET', KEYS[1])
if known then return known end
redis.call('SET', KEYS[1], ARGV[1])
return 1
