-- oom: allowed
-- Sessions whose lease ran out ARGV[1] ms ago or earlier are marked dead: from here they cannot be renewed.
-- Nobody is, unless it is ARGV[2] now, give or take ARGV[3] ms: a replica that was promoted may have another clock.
-- KEYS: 1 sessions, 2 who they are, 3 dead. All dead sessions that still are to be cleaned up.
local t = redis.call('TIME')
local now = math.floor(t[1] * 1000 + t[2] / 1000)
local isSteady = math.abs(now - tonumber(ARGV[2])) <= tonumber(ARGV[3])
for _, s in ipairs(isSteady and redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now - tonumber(ARGV[1]), 'LIMIT', 0, 64) or {}) do
  redis.call('ZREM', KEYS[1], s)
  redis.call('ZADD', KEYS[3], now, s)
end
return redis.call('ZRANGE', KEYS[3], 0, 63)
