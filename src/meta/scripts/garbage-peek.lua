-- Garbage older than ARGV[1] ms, at most ARGV[2] entries, and inodes whose keys are to be freed.
-- KEYS: 1 garbage, 2 zombies. {entry, …}, {ino, …}, length of the garbage
local t = redis.call('TIME')
local limit = math.floor(t[1] * 1000 + t[2] / 1000) - tonumber(ARGV[1])
local old = {}
for _, e in ipairs(redis.call('LRANGE', KEYS[1], 0, tonumber(ARGV[2]) - 1)) do
  if struct.unpack('<I6', e) > limit then break end
  old[#old + 1] = e
end
local zombies = redis.call('HSCAN', KEYS[2], 0, 'COUNT', 16)[2]
local inos = {}
for i = 1, #zombies, 2 do inos[#inos + 1] = tonumber(zombies[i]) end
return {old, inos, redis.call('LLEN', KEYS[1])}
