-- include: inode freeze counts
-- oom: allowed
-- The counters become what was counted, all of it, with what changed since (lib/counts.lua). KEYS: 1 inodes, 2 locks, 3 counters. ARGV: 1 who
-- 1 | 0: somebody else counts, the time was over, or a change did not come through count()
local v, who = readcounting(redis.call('HGET', KEYS[2], 'C'))
if who ~= ARGV[1] or v[3] < v[2] then return 0 end
local inodes, bytes, inline = countersnow()
if inodes ~= v[7] or bytes ~= v[8] or inline ~= v[9] then return 0 end
redis.call('HSET', KEYS[3], 'inodes', text(v[4]), 'bytes', text(v[5]), 'inline', text(v[6]))
v[7], v[8], v[9] = v[4], v[5], v[6]
savecounting(v, who)
return 1
