-- oom: allowed
-- Who holds something and is no session is to be cleaned up after once more: that was done, and a server lost it. KEYS: 1 sessions,
-- 2 dead. ARGV: 1 session. 1 | 0 (it is one, or somebody is about to clean up after it)
if redis.call('ZSCORE', KEYS[1], ARGV[1]) or redis.call('ZSCORE', KEYS[2], ARGV[1]) then return 0 end
local t = redis.call('TIME')
redis.call('ZADD', KEYS[2], math.floor(t[1] * 1000 + t[2] / 1000), ARGV[1])
return 1
