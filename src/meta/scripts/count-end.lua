-- include: freeze counts
-- oom: allowed
-- Nothing is counted any more (lib/counts.lua). KEYS: 1 inodes, 2 locks. ARGV: 1 who. 1
local _, who = readcounting(redis.call('HGET', KEYS[2], 'C'))
if who == ARGV[1] then redis.call('HDEL', KEYS[2], 'C') end
return 1
