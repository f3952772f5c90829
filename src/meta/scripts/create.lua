-- include: inode locks freeze counts mutate history newinode acl birth
-- KEYS: 9 names of the parent, 10 ACLs
-- ARGV: 7 parent, 8 name, 9 hash, 10 type, 11 mode, 12 uid, 13 gid, 14 tail kind, 15 tail, 16 exclusive, 17 open, 18 partitions,
-- 19 umask, 20 one server
-- 0, created, ino, record, record of the parent (if created) | 2, ino, type (it exists, in another partition)
local known = before('d' .. ARGV[7] .. '/' .. ARGV[8], 'i' .. ARGV[7])
if known then return known end
local parent, partitions = tonumber(ARGV[7]), tonumber(ARGV[18])
local dir = loaddir(ARGV[7])
if not dir then return {ENOENT} end
if dir.type ~= DIR then return {ENOTDIR} end
local _, old, oldtype = find(KEYS[9], ARGV[8], ARGV[9])
if old then
  if ARGV[16] == '1' then return {EEXIST} end
  if old % partitions ~= parent % partitions then return {2, old, oldtype} end
  local held = blocked(nil, 'i' .. old)
  if held then return held end
  return after({0, 0, old, redis.call('HGET', KEYS[1], old)})
end
local others = recall()
if others then return others end
local type = tonumber(ARGV[10])
local new = {type = type, mode = tonumber(ARGV[11]), uid = tonumber(ARGV[12]), gid = tonumber(ARGV[13]),
  tk = tonumber(ARGV[14]), tail = ARGV[15], umask = tonumber(ARGV[19]), lone = ARGV[20]}
local ino, n = birth(parent, dir, new, KEYS[10], partitions)
redis.call('ZADD', KEYS[9], ARGV[9], member(ARGV[8], ino, type))
local rec, dirrec, key = encode(n), changedir(parent, dir, 0, ARGV[8]), text(ino)
redis.call('HSET', KEYS[1], key, rec, ARGV[7], dirrec)
-- Nobody else can have it open.
if ARGV[17] == '1' then redis.call('HSET', KEYS[6], key, struct.pack('<I4', tonumber(ARGV[1]))) end
return after({0, 1, ino, rec, dirrec})
