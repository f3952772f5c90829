-- oom: allowed
-- Sessions whose lease ran out ARGV[1] ms ago or earlier are marked dead: from here they cannot be renewed.
-- Nobody is, unless it is ARGV[2] now, give or take ARGV[3] ms: a replica that was promoted may have another clock.
-- Who is ahead by more than ARGV[4] ms, the longest lease, was renewed before the clock was set back: he has that long from now on. Who
-- lives says so himself at his next renewal.
-- KEYS: 1 sessions, 2 who they are, 3 dead. All dead sessions that still are to be cleaned up.
local t = redis.call('TIME')
local now = math.floor(t[1] * 1000 + t[2] / 1000)
local isSteady = math.abs(now - tonumber(ARGV[2])) <= tonumber(ARGV[3])
local latest = now + tonumber(ARGV[4])
if isSteady then
  for _, s in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. latest, '+inf', 'LIMIT', 0, 64)) do
    redis.call('ZADD', KEYS[1], latest, s)
  end
end
for _, s in ipairs(isSteady and redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now - tonumber(ARGV[1]), 'LIMIT', 0, 64) or {}) do
  redis.call('ZREM', KEYS[1], s)
  redis.call('ZADD', KEYS[3], now, s)
end
return redis.call('ZRANGE', KEYS[3], 0, 63)
