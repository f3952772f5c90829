-- include: inode
-- oom: allowed
-- KEYS: 1 decisions. ARGV: 1 tx, 2 1 to abort what is undecided. 'C' | 'A' | 'P' (undecided)
local known = redis.call('HGET', KEYS[1], ARGV[1])
if known then return known end
if ARGV[2] == '1' then
  redis.call('HSET', KEYS[1], ARGV[1], 'A')
  return 'A'
end
return 'P'
