-- include: freeze counts
-- oom: allowed
-- The inodes of a partition are counted from now on (lib/counts.lua), in the place of whoever did. A copy that comes late begins nothing anew.
-- KEYS: 1 inodes, 2 locks, 3 counters. ARGV: 1 who, 2 partitions, 3 home, 4 for so many ms. The newest ino that there may be
local v, who = readcounting(redis.call('HGET', KEYS[2], 'C'))
if who == ARGV[1] then return v[2] end
local last = tonumber(redis.call('HGET', KEYS[3], 'n') or '0')
local newest = last * tonumber(ARGV[2]) + tonumber(ARGV[3])
local inodes, bytes, inline = countersnow()
savecounting({nowms() + tonumber(ARGV[4]), newest, 0, 0, 0, 0, inodes, bytes, inline}, ARGV[1])
return newest
