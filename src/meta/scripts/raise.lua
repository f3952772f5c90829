-- Counters that are behind jump: numbers that were given out are not given out again.
-- KEYS: 1 counters. ARGV: for each: field, the highest that is known to be in use, how far beyond it to go on.
-- For each: 1 it was behind, 0 it was not
local reply = {}
for at = 1, #ARGV, 3 do
  local used = tonumber(ARGV[at + 1])
  local isBehind = tonumber(redis.call('HGET', KEYS[1], ARGV[at]) or '0') < used
  if isBehind then redis.call('HSET', KEYS[1], ARGV[at], string.format('%d', used + tonumber(ARGV[at + 2]))) end
  reply[#reply + 1] = isBehind and 1 or 0
end
return reply
