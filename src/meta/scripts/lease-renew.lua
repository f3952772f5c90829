-- oom: allowed
-- A lease of lease.ts goes on. KEYS: 1 lease. ARGV: 1 token, 2 ms. 1, or 0: it is another's, or nobody's
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
