-- oom: allowed
-- KEYS: 1 lease. ARGV: 1 tx
if redis.call('HGET', KEYS[1], 'tx') == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
