-- include: inode locks read
-- ESTALE: there is no such directory
-- KEYS: 3 names of the parent. ARGV: 2 parent, 3 name, 4 hash, 5 partitions
-- 0, ino, type, record (or false: it lives in another partition)
local parent = tonumber(ARGV[2])
local held = blocked(pending, 'd' .. ARGV[2] .. '/' .. ARGV[3])
if held then return held end
local _, ino, type = find(KEYS[3], ARGV[3], ARGV[4])
if not ino then
  local dir = load(parent)
  if not dir then return {ESTALE} end
  if dir.type ~= DIR then return {ENOTDIR} end
  return {ENOENT}
end
local partitions = tonumber(ARGV[5])
if ino % partitions ~= parent % partitions then return {0, ino, type, false} end
held = blocked(pending, 'i' .. ino)
if held then return held end
return {0, ino, type, redis.call('HGET', KEYS[1], ino)}
