-- oom: allowed
-- A lease of lease.ts begins. KEYS: 1 lease. ARGV: 1 token, 2 ms. 1, or 0: another one has it
local holder = redis.call('GET', KEYS[1])
-- Our own, whose reply was lost on the way.
if holder then return holder == ARGV[1] and 1 or 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
