-- include: inode locks read
-- ARGV: 2 ino. 0, record
local held = blocked(pending, 'i' .. ARGV[2])
if held then return held end
local rec = redis.call('HGET', KEYS[1], ARGV[2])
if not rec then return {ENOENT} end
return {0, rec}
