-- include: inode locks freeze counts mutate
-- oom: allowed
-- ARGV: 7 ino, 8 the data version of which the caller has window 0
-- 0, record, generation, extents of window 0 (or false: he has them, or more than comes along here), body of the file (or nothing)
local known = before('i' .. ARGV[7])
if known then return known end
local n, rec = load(ARGV[7])
if not n then return {ENOENT} end
addopener(ARGV[7])
if n.type ~= FILE or n.dv == tonumber(ARGV[8]) then return after({0, rec, 0, false}) end
if n.win == 1 and n.tk == 0 then return after({0, rec, 0, false}) end
if n.body == 0 then return after({0, rec, 0, n.tk == 1 and n.tail or ''}) end
-- It is not kept for a repetition, which gets no window then and asks for it.
keep({0, rec, 0, false})
return {0, rec, 0, n.tk == 1 and n.tail or '', redis.call('HGET', KEYS[1], 'b' .. ARGV[7])}
