-- include: inode locks freeze counts mutate
-- oom: allowed
-- ARGV: 7 session whose openings end, then inos. 0
local known = before()
if known then return known end
for at = 8, #ARGV do dropopener(tonumber(ARGV[at]), tonumber(ARGV[7])) end
return after({0})
