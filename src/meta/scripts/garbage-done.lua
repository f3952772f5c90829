-- include: freeze
-- oom: allowed
-- The chunks of the first ARGV[2] entries are deleted. ARGV[1] is the first of them: if it is not the first any more,
-- another janitor was quicker, and nothing is done; nor in a freeze: who reads the list by pages would miss some. KEYS: 1 garbage, 2 locks.
-- Entries taken off
if isfrozen(redis.call('HGET', KEYS[2], 'F')) or redis.call('LINDEX', KEYS[1], 0) ~= ARGV[1] then return 0 end
redis.call('LTRIM', KEYS[1], ARGV[2], -1)
return tonumber(ARGV[2])
