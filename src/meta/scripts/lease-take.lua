-- oom: allowed
-- The volume-wide lease for moving directories. KEYS: 1 lease, 2 counters
-- ARGV: 1 tx, 2 its commit partition, 3 ms, 4 tx of a holder that ran out and was made unable to commit (or '')
-- {1, token} | {0, holder tx, its commit partition, ms that it has left}
local t = redis.call('TIME')
local now = math.floor(t[1] * 1000 + t[2] / 1000)
local held = redis.call('HMGET', KEYS[1], 'tx', 'cp', 'until', 'gave')
-- a copy of a request that was answered: nobody reads this
if held[4] == ARGV[1] then return {1, 0} end
if held[1] and held[1] ~= ARGV[1] then
  local left = tonumber(held[3]) - now
  if left > 0 or held[1] ~= ARGV[4] then return {0, held[1], tonumber(held[2]), left} end
end
local token = redis.call('HINCRBY', KEYS[2], 'token', 1)
redis.call('HSET', KEYS[1], 'tx', ARGV[1], 'cp', ARGV[2], 'until', now + tonumber(ARGV[3]), 'token', token)
return {1, token}
