-- oom: allowed
-- Decisions that nobody will ask for. KEYS: 1 decisions. ARGV: 1 tx or session. (With a dot: one transaction.)
if string.find(ARGV[1], '.', 1, true) then return redis.call('HDEL', KEYS[1], ARGV[1]) end
local prefix, count = ARGV[1] .. '.', 0
for _, tx in ipairs(redis.call('HKEYS', KEYS[1])) do
  if string.sub(tx, 1, #prefix) == prefix then count = count + redis.call('HDEL', KEYS[1], tx) end
end
return count
