-- oom: allowed
-- Blocks whose session is over are closed, without a grace period: from here on nobody commits chunks of them.
-- KEYS: 1 blocks, 2 sessions, 3 dead ones. ARGV: blocks. For each: 1 nobody commits chunks of it (one that nobody knows is none's), 2 its session
-- lives, 0 it may be over: it was not renewed in time, or is being cleaned up after
local t = redis.call('TIME')
local now = math.floor(t[1] * 1000 + t[2] / 1000)
local reply = {}
for at, block in ipairs(ARGV) do
  local session = string.match(redis.call('HGET', KEYS[1], block) or '', '^%d+')
  local untilMs = session and redis.call('ZSCORE', KEYS[2], session)
  if untilMs then reply[at] = tonumber(untilMs) > now and 2 or 0
  elseif session and redis.call('ZSCORE', KEYS[3], session) then reply[at] = 0
  else
    if session then redis.call('HSET', KEYS[1], block, 'closed') end
    reply[at] = 1
  end
end
return reply
