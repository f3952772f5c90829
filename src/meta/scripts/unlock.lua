-- include: inode locks freeze counts mutate filelocks grants
-- oom: allowed
-- KEYS: 9 file locks. ARGV: 7 ino, 8 kind, 9 owner, 10 start, 11 end. 0
local known = before()
if known then return known end
local held, queue = loadlocks(ARGV[7])
held = apply(held, {ARGV[8], 'u', ARGV[10], ARGV[11], tonumber(ARGV[1]), ARGV[9], 0})
held, queue = grantall(ARGV[7], held, queue)
savelocks(ARGV[7], held, queue)
return after({0})
