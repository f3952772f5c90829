-- include: freeze
-- oom: allowed
-- Garbage older than ARGV[1] ms, at most ARGV[2] entries and about ARGV[3] bytes, and inodes whose keys are to be freed.
-- KEYS: 1 garbage, 2 zombies, 3 locks. {entry, …}, {ino, …}: none in a freeze
-- Where no moment of a backup is noted (freeze.lua) there may have been one until now, by an older program, or of what was restored.
local t = redis.call('TIME')
redis.call('HSETNX', KEYS[3], 'B', string.format('%.0f', t[1] * 1000000 + t[2]))
if isfrozen(redis.call('HGET', KEYS[3], 'F')) then return {{}, {}} end
local limit = nowms() - tonumber(ARGV[1])
local old, bytes = {}, 0
while #old < tonumber(ARGV[2]) and bytes < tonumber(ARGV[3]) do
  local e = redis.call('LINDEX', KEYS[1], #old)
  if not e or struct.unpack('<I6', e) > limit then break end
  old[#old + 1] = e
  bytes = bytes + #e
end
local inos = {}
for i, ino in ipairs(redis.call('HRANDFIELD', KEYS[2], 16)) do inos[i] = tonumber(ino) end
return {old, inos}
