-- oom: allowed
-- The numbers that a session reserved and did not use. KEYS: 1 reserved numbers. ARGV: 1 session. 1
local all = redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
  if all[i + 1] == ARGV[1] then redis.call('HDEL', KEYS[1], all[i]) end
end
return 1
