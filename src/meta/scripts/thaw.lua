-- include: freeze
-- oom: allowed
-- Ends what freeze.lua began. KEYS: 1 locks. ARGV: 1 who
-- 1 it lasted until now, 0 it ended before: the time was over, or Redis lost it
local held = redis.call('HGET', KEYS[1], 'F')
if not held or string.sub(held, 7) ~= ARGV[1] then return 0 end
redis.call('HDEL', KEYS[1], 'F')
return isfrozen(held) and 1 or 0
