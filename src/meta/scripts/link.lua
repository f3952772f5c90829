-- include: inode locks freeze counts mutate
-- Only where inode and directory share the partition. KEYS: 9 names. ARGV: 7 parent, 8 name, 9 hash, 10 ino
-- 0, record, record of the parent
local known = before('d' .. ARGV[7] .. '/' .. ARGV[8], 'i' .. ARGV[7], 'i' .. ARGV[10])
if known then return known end
local parent, ino = tonumber(ARGV[7]), tonumber(ARGV[10])
local dir, n = loaddir(ARGV[7]), load(ARGV[10])
if not dir or not n or (n.nlink == 0 and n.tmp == 0) then return {ENOENT} end
if dir.type ~= DIR then return {ENOTDIR} end
if n.type == DIR then return {-1} end
if find(KEYS[9], ARGV[8], ARGV[9]) then return {EEXIST} end
if n.nlink >= LINK_MAX then return {EMLINK} end
local others = recall()
if others then return others end
redis.call('ZADD', KEYS[9], ARGV[9], member(ARGV[8], ino, n.type))
local dirrec = touchdir(ARGV[7], dir, 0, ARGV[8])
return after({0, relink(ino, n, 1), dirrec})
