-- oom: allowed
-- Blocks of a session that others have ended go to the next one of the same process, if nobody has closed them.
-- KEYS: 1 blocks. ARGV: 1 old session, 2 new one, 3… blocks. For each: 1 it is ours, 0 it is closed
local reply = {}
for at = 3, #ARGV do
  local owner = redis.call('HGET', KEYS[1], ARGV[at])
  local isOurs = owner and (string.match(owner, '^%d+') == ARGV[1] or string.match(owner, '^%d+') == ARGV[2])
  if isOurs then redis.call('HSET', KEYS[1], ARGV[at], ARGV[2]) end
  reply[#reply + 1] = isOurs and 1 or 0
end
return reply
