-- include: inode locks freeze counts mutate unborn
-- Both directories in this partition. KEYS: 9 names of the old parent, 10 of the new one
-- ARGV: 7 parent, 8 name, 9 hash, 10 new parent, 11 new name, 12 new hash, 13 noReplace, 14 partitions
-- 0, moved ino, 1 if its ctime is still to be set (a directory of another partition), records of both parents, replaced ino or 0
-- 0, moved ino, 0: both are names of it, and nothing was done
-- 2, ino, type, replaced ino, its type: takes a transaction
local known = before()
if known then return known end
local p1, p2, partitions = tonumber(ARGV[7]), tonumber(ARGV[10]), tonumber(ARGV[14])
local d1 = loaddir(ARGV[7])
local d2 = p1 == p2 and d1 or loaddir(ARGV[10])
if not d1 or not d2 then return {ENOENT} end
if d1.type ~= DIR or d2.type ~= DIR then return {ENOTDIR} end
local m, ino, type = find(KEYS[9], ARGV[8], ARGV[9])
local oldm, old, oldtype = find(KEYS[10], ARGV[11], ARGV[12])
local home = p1 % partitions
local far = ino and ino % partitions ~= home
local locks = {'d' .. ARGV[7] .. '/' .. ARGV[8], 'd' .. ARGV[10] .. '/' .. ARGV[11], 'i' .. ARGV[10]}
if ino and not far then locks[#locks + 1] = 'i' .. ino end
if old and old % partitions == home then locks[#locks + 1] = 'i' .. old end
local held = blocked(nil, unpack(locks))
if held then return held end
if not ino then return {ENOENT} end
if old and ARGV[13] == '1' then return {EEXIST} end
if old == ino then return after({0, ino, 0}) end
if old and type == DIR and oldtype ~= DIR then return {ENOTDIR} end
if old and type ~= DIR and oldtype == DIR then return {EISDIR} end
local simple = not old and type == DIR and p1 == p2
if (type == DIR and not simple) or (type ~= DIR and far) or (old and old % partitions ~= home) then
  return {2, ino, type, old or 0, oldtype or 0}
end
local birth = type == DIR and unborn(ino)
if birth then return birth end
local others = recall()
if others then return others end
redis.call('ZREM', KEYS[9], m)
if old then redis.call('ZREM', KEYS[10], oldm) end
redis.call('ZADD', KEYS[10], ARGV[12], member(ARGV[11], ino, type))
local rec1
if p1 == p2 then emit(3, p1, ARGV[8]) else rec1 = touchdir(ARGV[7], d1, 0, ARGV[8]) end
local rec2 = touchdir(ARGV[10], d2, 0, ARGV[11])
if not far then renamed(text(ino)) end
if old then relink(old, load(text(old)), -1) end
return after({0, ino, far and 1 or 0, rec1 or rec2, rec2, old or 0})
