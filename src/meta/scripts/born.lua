-- include: bear freeze
-- oom: allowed
-- Makes the inodes of directories of this partition (mkdir.lua, births.ts). Anybody may call it who has seen what makes them;
-- the second time it does nothing. KEYS: 1 inodes, 2 counters, 3 ACLs, 4 reserved numbers, 5 locks. ARGV: ino, what makes it, …
-- 0 | 16 the partition is frozen (freeze.lua): call again
if isfrozen(redis.call('HGET', KEYS[5], 'F')) then return {16} end
for at = 1, #ARGV, 2 do
  local birth = cmsgpack.unpack(ARGV[at + 1])
  bear(KEYS[1], KEYS[2], KEYS[3], KEYS[4], ARGV[at], birth[2], birth[3], birth[4])
end
return {0}
