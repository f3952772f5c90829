-- include: inode locks freeze counts mutate privileges extents
-- Extents that name chunks of another window are added, if the file is what it was (clone.ts says why that is enough).
-- KEYS: 9 windows, 10… extents of the windows in ARGV, at last xattrs
-- ARGV: 7 ino, 8 data version, 9 allocated delta, 10 mtime sec, 11 nsec, 12 clear suid, 13 least size, 14… window, extents
-- 0, record | 3 the file was changed
local known = before()
if known then return known end
local ino = tonumber(ARGV[7])
local n = load(ino)
if not n then return {ENOENT} end
if n.type ~= FILE then return {EINVAL} end
if n.dv ~= tonumber(ARGV[8]) then return {3} end
for at = 14, #ARGV, 2 do
  -- A hole over a body would be lost with a compaction.
  if ARGV[at] == '0' and n.body == 1 then return {3} end
end
local others = recall()
if others then return others end
for at = 14, #ARGV, 2 do
  addextents(n, tonumber(ARGV[at]), KEYS[10 + (at - 14) / 2], KEYS[9], ARGV[at + 1])
end
if tonumber(ARGV[13]) > n.size then n.size = tonumber(ARGV[13]) end
account(ino, n, tonumber(ARGV[9]))
written(n, ARGV[10], ARGV[11], ARGV[12], KEYS[#KEYS])
emit(2, ino)
return after({0, save(ino, n)})
