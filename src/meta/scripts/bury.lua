-- oom: allowed
-- Empty records of chunks that are deleted go. KEYS: 1 holders of chunks. ARGV: chunk ids. 1
for _, id in ipairs(ARGV) do
  if redis.call('HGET', KEYS[1], id) == '' then redis.call('HDEL', KEYS[1], id) end
end
return 1
