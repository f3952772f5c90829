-- oom: allowed
-- KEYS: 1 sessions, 2 counters, 3 dead. ARGV: 1 session, 2 lease ms
-- 0 the session is dead; else it is renewed: {the newest session of the volume, Redis's time in ms}
if redis.call('ZSCORE', KEYS[3], ARGV[1]) then return 0 end
local t = redis.call('TIME')
local now = math.floor(t[1] * 1000 + t[2] / 1000)
if not redis.call('ZSCORE', KEYS[1], ARGV[1]) then
  -- Its beginning was lost with a server. What it holds in the partitions is not: somebody has to clean up after it.
  redis.call('ZADD', KEYS[3], now, ARGV[1])
  return 0
end
redis.call('ZADD', KEYS[1], now + tonumber(ARGV[2]), ARGV[1])
return {tonumber(redis.call('HGET', KEYS[2], 'session')), now}
