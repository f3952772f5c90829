-- oom: allowed
-- What a restore has written for the whole volume goes. KEYS: 1 what goes, 2 mark. ARGV: 1 the mark. 1, or 0: it is another's
if redis.call('GET', KEYS[2]) ~= ARGV[1] then return 0 end
redis.call('UNLINK', KEYS[1])
return 1
