-- oom: allowed
-- Blocks whose session is gone are noted, and closed when that was a grace period ago: from here on nobody commits chunks of them.
-- KEYS: 1 blocks, 2 sessions, 3 dead ones. ARGV: 1 grace ms, 2… blocks. Those that are closed
local t = redis.call('TIME')
local now = math.floor(t[1] * 1000 + t[2] / 1000)
local closed = {}
for at = 2, #ARGV do
  local block = ARGV[at]
  local value = redis.call('HGET', KEYS[1], block) or ''
  local session, since = string.match(value, '^(%d+) ?(%d*)$')
  if value == 'closed' then closed[#closed + 1] = block
  elseif session and not redis.call('ZSCORE', KEYS[2], session) and not redis.call('ZSCORE', KEYS[3], session) then
    if since == '' then redis.call('HSET', KEYS[1], block, session .. ' ' .. string.format('%d', now))
    elseif now - tonumber(since) >= tonumber(ARGV[1]) then
      redis.call('HSET', KEYS[1], block, 'closed')
      closed[#closed + 1] = block
    end
  end
end
return closed
