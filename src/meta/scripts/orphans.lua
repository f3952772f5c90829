-- oom: allowed
-- Notes orphans: when they were first seen, and the newest session of then. KEYS: 1 orphans, 2 counters, 3 sessions, 4 dead ones
-- ARGV: 1 grace ms, 2… chunks. Those whose grace is over, and of whose time no session is left.
local t = redis.call('TIME')
local now = math.floor(t[1] * 1000 + t[2] / 1000)
local newest = redis.call('HGET', KEYS[2], 'session') or '0'
local oldest
for _, key in ipairs({KEYS[3], KEYS[4]}) do
  for _, session in ipairs(redis.call('ZRANGE', key, 0, -1)) do
    if not oldest or tonumber(session) < oldest then oldest = tonumber(session) end
  end
end
local ripe = {}
for at = 2, #ARGV do
  local noted = redis.call('HGET', KEYS[1], ARGV[at])
  if not noted then redis.call('HSET', KEYS[1], ARGV[at], string.format('%d', now) .. ' ' .. newest)
  else
    local since, session = string.match(noted, '^(%d+) (%d+)$')
    if now - tonumber(since) >= tonumber(ARGV[1]) and (not oldest or oldest > tonumber(session)) then
      ripe[#ripe + 1] = ARGV[at]
    end
  end
end
return ripe
