-- oom: allowed
-- KEYS: 1 sessions, 2 who they are, 3 dead. ARGV: 1 session, 2 lease ms, 3 who (JSON, or '' to keep)
-- 1 renewed, 0 the session is dead
if redis.call('ZSCORE', KEYS[3], ARGV[1]) then return 0 end
if ARGV[3] == '' and not redis.call('ZSCORE', KEYS[1], ARGV[1]) then return 0 end
local t = redis.call('TIME')
redis.call('ZADD', KEYS[1], math.floor(t[1] * 1000 + t[2] / 1000) + tonumber(ARGV[2]), ARGV[1])
if ARGV[3] ~= '' then redis.call('HSET', KEYS[2], ARGV[1], ARGV[3]) end
return 1
