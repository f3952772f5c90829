-- include: history
-- oom: allowed
-- KEYS: 1 sessions, 2 who they are, 3 counters. ARGV: 1 lease ms, 2 who (JSON), 3 '1': there is one server, and never another. The new session's id.
-- In one step: when a number is taken, whoever looks finds who it is.
-- An id that somebody has still would make two clients one: each would get the other's replies.
if ARGV[3] ~= '1' and newhistory(KEYS[3]) then
  redis.call('HINCRBY', KEYS[3], 'session', 4096)
  redis.call('HINCRBY', KEYS[3], 'chunkBlock', 1024)
end
local id = redis.call('HINCRBY', KEYS[3], 'session', 1)
local t = redis.call('TIME')
redis.call('ZADD', KEYS[1], math.floor(t[1] * 1000 + t[2] / 1000) + tonumber(ARGV[1]), id)
redis.call('HSET', KEYS[2], id, ARGV[2])
return id
