-- A record of a backup is written while the restore is the caller's. KEYS: 1 what is written, 2 counters of the partition, or the
-- mark. ARGV: 1 whose it is: the fence, or '', 2 or the mark, 3 a command, or the length that a list has before, 4… its arguments.
-- 1, or 0: it is another's
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
-- What an interrupted restore has left goes, and what this very call wrote, if its reply was lost on the way.
if length == 0 then
  redis.call('DEL', KEYS[1])
else
  redis.call('LTRIM', KEYS[1], 0, length - 1)
end
redis.call('RPUSH', KEYS[1], unpack(ARGV, 4))
return 1
