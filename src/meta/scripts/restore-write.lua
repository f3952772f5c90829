-- A record of a backup is written while the restore is the caller's. KEYS: 1 what is written, 2 counters of the partition, or the
-- mark. ARGV: 1 whose it is: the fence, or '', 2 or the mark, 3 a command, or the length that a list has before, 4… its arguments.
-- 1, or 0: it is another's, or what is before it in a list is not there
local isOurs
if ARGV[1] ~= '' then
  isOurs = redis.call('HGET', KEYS[2], 'restore') == ARGV[1]
else
  isOurs = redis.call('GET', KEYS[2]) == ARGV[2]
end
if not isOurs then return 0 end
local length = tonumber(ARGV[3])
if not length then
  redis.call(ARGV[3], KEYS[1], unpack(ARGV, 4))
  return 1
end
-- It only grows: what is there is this backup's, also what an interrupted restore has left, and this very call may have run, before others
-- that came behind it. What is before it may be gone: a server that does not know all has another's place.
local has = redis.call('LLEN', KEYS[1])
if has < length then return 0 end
if has >= length + #ARGV - 3 then return 1 end
if has > length then redis.call('LTRIM', KEYS[1], 0, length - 1) end
redis.call('RPUSH', KEYS[1], unpack(ARGV, 4))
return 1
