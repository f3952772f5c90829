-- include: inode locks freeze counts mutate
-- oom: allowed
-- KEYS: 9 names of the parent. ARGV: 7 parent, 8 name, 9 hash, 10 partitions
-- 0, ino, record left, record of the parent | 2, ino, type (in another partition)
local known = before()
if known then return known end
local parent, partitions = tonumber(ARGV[7]), tonumber(ARGV[10])
local dir = loaddir(ARGV[7])
if not dir then return {ENOENT} end
if dir.type ~= DIR then return {ENOTDIR} end
local m, ino, type = find(KEYS[9], ARGV[8], ARGV[9])
local locks = {'d' .. ARGV[7] .. '/' .. ARGV[8]}
if ino and type ~= DIR and ino % partitions == parent % partitions then locks[2] = 'i' .. text(ino) end
local held = blocked(nil, unpack(locks))
if held then return held end
if not ino then return {ENOENT} end
if type == DIR then return {EISDIR} end
if ino % partitions ~= parent % partitions then return {2, ino, type} end
local others = recall()
if others then return others end
redis.call('ZREM', KEYS[9], m)
local dirrec = touchdir(ARGV[7], dir, 0, ARGV[8])
return after({0, ino, relink(ino, load(text(ino)), -1), dirrec})
