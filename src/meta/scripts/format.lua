-- include: inode
-- KEYS: 1 settings, 2 mark of a restore. ARGV: 1 settings. 1 written, 0 a restore is not done, else the settings that are there
local known = redis.call('GET', KEYS[1])
if known then return known end
if redis.call('EXISTS', KEYS[2]) == 1 then return 0 end
redis.call('SET', KEYS[1], ARGV[1])
return 1
