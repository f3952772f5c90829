-- include: inode locks freeze counts mutate extents body
-- The body of a file goes: extents that read the same come in its place, below those that there are.
-- KEYS: 9 extents of window 0, 10 windows. ARGV: 7 ino, 8 data version, 9 extents. 0, record | 3 the file was changed
local known = before()
if known then return known end
local ino, extents = tonumber(ARGV[7]), ARGV[9]
local n = load(ino)
if not n then return {ENOENT} end
if n.body == 0 or n.dv ~= tonumber(ARGV[8]) then return {3} end
local others = recall()
if others then return others end
return after({0, spillbody(ino, n, extents, KEYS[9], KEYS[10])})
