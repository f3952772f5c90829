-- A restore begins, or goes on with what an interrupted one has begun. KEYS: 1 settings, 2 mark. ARGV: 1 checksum of the backup,
-- 2 token, 3 the highest number of a fence. Its number: higher than that of each one before; -1: there is a volume, -2: another backup is
-- being restored
if redis.call('EXISTS', KEYS[1]) == 1 then return -1 end
local mark = redis.call('GET', KEYS[2])
local number = tonumber(ARGV[3])
if mark then
  local checksum, before, token = string.match(mark, '^(%x+) ?(%d*) ?(.*)$')
  if checksum ~= ARGV[1] then return -2 end
  before = tonumber(before) or 0
  -- Our own, whose reply was lost on the way.
  if token == ARGV[2] then return before end
  number = math.max(number, before)
end
redis.call('SET', KEYS[2], ARGV[1] .. ' ' .. number + 1 .. ' ' .. ARGV[2])
return number + 1
