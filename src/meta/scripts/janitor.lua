-- oom: allowed
-- KEYS: 1 lease of the janitor. ARGV: 1 who, 2 ms. 1 mine, 0 another's
local held = redis.call('GET', KEYS[1])
if held and held ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
