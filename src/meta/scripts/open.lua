-- include: inode locks mutate
-- oom: allowed
-- KEYS: 9 extents of window 0. ARGV: 7 ino
-- 0, record, generation, extents of window 0 (or false: more than comes along here)
local known = before()
if known then return known end
local ino = tonumber(ARGV[7])
local held = blocked(nil, 'i' .. ARGV[7])
if held then return held end
local n, rec = load(ino)
if not n then return {ENOENT} end
addopener(ino)
if n.type ~= FILE then return after({0, rec, 0, false}) end
if n.tk == 1 then return after({0, rec, 0, n.tail}) end
if n.win == 0 then return after({0, rec, 0, ''}) end
return after({0, rec, 0, false})
