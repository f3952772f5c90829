-- oom: allowed
-- Sessions of processes that have ended are marked dead, if they are still those that were looked at: from here they cannot
-- be renewed. KEYS: 1 sessions, 2 who they are, 3 dead. ARGV: session, who (JSON), …
-- Those of them that are to be cleaned up; another client may be at it already.
local t = redis.call('TIME')
local now = math.floor(t[1] * 1000 + t[2] / 1000)
local gone = {}
for at = 1, #ARGV, 2 do
  if redis.call('HGET', KEYS[2], ARGV[at]) == ARGV[at + 1] then
    redis.call('ZREM', KEYS[1], ARGV[at])
    redis.call('ZADD', KEYS[3], 'NX', now, ARGV[at])
    gone[#gone + 1] = ARGV[at]
  end
end
return gone
