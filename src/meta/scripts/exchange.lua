-- include: inode locks freeze counts mutate unborn
-- renameat2(2), RENAME_EXCHANGE: two names trade what they name. Both directories in this partition.
-- KEYS: 9 names of the first parent, 10 of the second
-- ARGV: 7 parent, 8 name, 9 hash, 10 second parent, 11 its name, 12 hash, 13 partitions
-- 0, what the names meant, … (inodes of other partitions whose ctime is still to be set: directories) | 2: takes a transaction
local known = before('d' .. ARGV[7] .. '/' .. ARGV[8], 'd' .. ARGV[10] .. '/' .. ARGV[11], 'i' .. ARGV[7], 'i' .. ARGV[10])
if known then return known end
local p1, p2, partitions = tonumber(ARGV[7]), tonumber(ARGV[10]), tonumber(ARGV[13])
local d1, d2 = loaddir(ARGV[7]), loaddir(ARGV[10])
if not d1 or not d2 then return {ENOENT} end
if d1.type ~= DIR or d2.type ~= DIR then return {ENOTDIR} end
local m1, ino1, type1 = find(KEYS[9], ARGV[8], ARGV[9])
local m2, ino2, type2 = find(KEYS[10], ARGV[11], ARGV[12])
if not ino1 or not ino2 then return {ENOENT} end
if ino1 == ino2 then return after({0, ino1, ino2}) end
-- A directory that gets another parent changes itself and both parents, and may build a loop.
if p1 ~= p2 and (type1 == DIR or type2 == DIR) then return {2} end
local reply, near, home = {0, ino1, ino2}, {}, p1 % partitions
for i, ino in ipairs({ino1, ino2}) do
  if ino % partitions == home then
    local held = blocked(nil, 'i' .. ino)
    if held then return held end
    near[#near + 1] = ino
  elseif (i == 1 and type1 or type2) == DIR then
    local birth = unborn(ino)
    if birth then return birth end
    reply[#reply + 1] = ino
  else
    return {2}
  end
end
local others = recall()
if others then return others end
redis.call('ZREM', KEYS[9], m1)
redis.call('ZREM', KEYS[10], m2)
redis.call('ZADD', KEYS[9], ARGV[9], member(ARGV[8], ino2, type2))
redis.call('ZADD', KEYS[10], ARGV[12], member(ARGV[11], ino1, type1))
touchdir(ARGV[7], d1, 0, ARGV[8])
if p1 == p2 then d2 = d1 end
touchdir(ARGV[10], d2, 0, ARGV[11])
for _, ino in ipairs(near) do renamed(text(ino)) end
return after(reply)
