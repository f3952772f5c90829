-- include: freeze
-- oom: allowed
-- What was counted while the partition was frozen (freeze.lua), if it still is: afterwards it may be another number.
-- KEYS: 1 counters, 2 locks. ARGV: 1 who froze it, 2 inodes, 3 bytes, 4 inline. 1, or 0: the freeze is over
local held = redis.call('HGET', KEYS[2], 'F')
if not held or string.sub(held, 7) ~= ARGV[1] or not isfrozen(held) then return 0 end
redis.call('HSET', KEYS[1], 'inodes', ARGV[2], 'bytes', ARGV[3], 'inline', ARGV[4])
return 1
