-- oom: allowed
-- Whose restore may write into a partition. KEYS: 1 counters. ARGV: 1 the fence of now, '' for any of a lower number, 2 the new one.
-- 1, or 0: it is another's
local fence = redis.call('HGET', KEYS[1], 'restore')
if fence == ARGV[2] then return 1 end
if ARGV[1] ~= '' then
  if fence ~= ARGV[1] then return 0 end
elseif fence and tonumber(string.match(fence, '^%d+')) >= tonumber(string.match(ARGV[2], '^%d+')) then
  return 0
end
redis.call('HSET', KEYS[1], 'restore', ARGV[2])
return 1
