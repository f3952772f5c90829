-- include: freeze counts bear
-- oom: allowed
-- Makes the inodes of directories of this partition (mkdir.lua, births.ts). Anybody may call it who has seen what makes them;
-- the second time it does nothing. KEYS: 1 inodes, 2 locks, 3 counters, 4 ACLs, 5 reserved numbers. ARGV: ino, what makes it, …
-- 0 | 16 the partition is frozen (freeze.lua): call again
local found = redis.call('HMGET', KEYS[2], 'F', 'C')
if isfrozen(found[1]) then return {16} end
counting = found[2]
for at = 1, #ARGV, 2 do
  local birth = cmsgpack.unpack(ARGV[at + 1])
  bear(KEYS[4], KEYS[5], ARGV[at], birth[2], birth[3], birth[4])
end
return {0}
