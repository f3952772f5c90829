#!lua flags=allow-oom
-- KEYS[1] stream; ARGV: Redis time in ms that the caller was told last (who was told none says a very late one), entry behind which to
-- look ('-': from the first) -> {Redis time in ms, how many were put right, entry behind which to go on; '': there are no more}
-- Idle time is counted by the clock of Redis. When that was set back (or a replica with another clock was promoted), what was delivered
-- before lies in the future, and would be idle again only when the clock has caught up: it counts as delivered now. So each is taken over
-- after the idle time at the latest.
local PAGE = 500
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if now >= tonumber(ARGV[1]) or redis.call('EXISTS', KEYS[1]) == 0 then return {now, 0, ''} end
redis.pcall('XGROUP', 'CREATE', KEYS[1], 'r', '0', 'MKSTREAM')
local ahead = 0
local pending = redis.call('XPENDING', KEYS[1], 'r', ARGV[2], '+', PAGE)
for _, entry in ipairs(pending) do
  -- Redis shows what is ahead as idle for 0.
  if entry[3] <= 0 then
    redis.call('XCLAIM', KEYS[1], 'r', entry[2], 0, entry[1], 'IDLE', 0, 'JUSTID')
    ahead = ahead + 1
  end
end
return {now, ahead, #pending == PAGE and '(' .. pending[PAGE][1] or ''}
