-- include: freeze
-- oom: allowed
-- Nothing of the partition changes until the time is over, or thaw.lua ends it. The moment is noted (field B, microseconds; never an
-- earlier one than before). KEYS: 1 locks. ARGV: 1 who, 2 ms, at most an hour
-- 1 it is so, 0 somebody else has it now. The field F: u48 end in ms, who.
local held = redis.call('HGET', KEYS[1], 'F')
if isfrozen(held) and string.sub(held, 7) ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'F', struct.pack('<I6', nowms() + tonumber(ARGV[2])) .. ARGV[1])
local t = redis.call('TIME')
local last = tonumber(redis.call('HGET', KEYS[1], 'B') or '0')
redis.call('HSET', KEYS[1], 'B', string.format('%.0f', math.max(last, t[1] * 1000000 + t[2])))
return 1
