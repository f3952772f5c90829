-- oom: allowed
-- A restore begins, or goes on with what an interrupted one has begun. KEYS: 1 settings, 2 mark. ARGV: 1 checksum of the backup,
-- 2 token, 3 the highest number of a fence, 4 the mark as it was seen, or ''. Its number: higher than that of each one before; -1: there is a
-- volume, -2: another backup is being restored, -3: somebody has claimed since
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
-- A copy of a claim that comes late is none: who claimed behind it goes on.
if (mark or '') ~= ARGV[4] then return -3 end
redis.call('SET', KEYS[2], ARGV[1] .. ' ' .. number + 1 .. ' ' .. ARGV[2])
return number + 1
