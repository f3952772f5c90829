-- oom: allowed
-- The giver is remembered: a copy of his taking that comes late must not take it again. KEYS: 1 lease. ARGV: 1 tx
if redis.call('HGET', KEYS[1], 'tx') ~= ARGV[1] then return 0 end
redis.call('HDEL', KEYS[1], 'tx', 'cp', 'until')
redis.call('HSET', KEYS[1], 'gave', ARGV[1])
return 1
