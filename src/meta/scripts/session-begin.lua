-- oom: allowed
-- KEYS: 1 sessions, 2 who they are, 3 counters. ARGV: 1 lease ms, 2 who (JSON). The new session's id.
-- In one step: when a number is taken, whoever looks finds who it is.
local id = redis.call('HINCRBY', KEYS[3], 'session', 1)
local t = redis.call('TIME')
redis.call('ZADD', KEYS[1], math.floor(t[1] * 1000 + t[2] / 1000) + tonumber(ARGV[1]), id)
redis.call('HSET', KEYS[2], id, ARGV[2])
return id
